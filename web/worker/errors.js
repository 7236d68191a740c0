// Errors that reach the page carry a code to act on and a sentence to show.

/** An error with a code. */
export class CodedError extends Error {
  /** @param {string} code @param {string} message @param {string} [detail] */
  constructor(code, message, detail) {
    super(message);
    this.code = code;
    this.detail = detail;
  }
}

/**
 * Makes the error part of a response from whatever was thrown.
 * @param {any} e
 * @returns {import("./types.js").Failure}
 */
export function describe(e) {
  if (e instanceof CodedError) return { code: e.code, message: e.message, detail: e.detail };
  switch (e?.name) {
    case "QuotaExceededError":
      return { code: "quota", message: "The browser's storage for this page is full. Delete a stored model or run, or free disk space, and try again." };
    case "NoModificationAllowedError":
      return { code: "locked", message: "This file is in use by another tab of this page. Close that tab and try again." };
    case "NotFoundError":
      return { code: "not_found", message: "A stored file is missing. Load the model and the data again." };
    case "SecurityError":
    case "NotAllowedError":
      return { code: "storage_denied", message: "The browser denies this page its private storage (private window, or site data blocked). Allow site data for this page and reload." };
    case "AbortError":
      return { code: "stopped", message: "Stopped." };
  }
  return { code: "failed", message: String(e?.message ?? e) };
}
