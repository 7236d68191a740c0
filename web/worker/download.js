// A worker that fetches one model from an address that the visitor typed. It is the only script of the page that may ask another origin (its own
// content security policy says so, see internal/policy), so it is handed an address and nothing else, and ended when it is done.
//
//   store.download {url, path, bytes?, sha256?}   progress events, then {path, bytes, fetched}
//   task.stop {id}                                stops that one; what has arrived stays and is gone on from
//   resources                                     the browser's log of what this worker asked for

import { CodedError, describe } from "./errors.js";
import { download, temporary, writing } from "./store.js";

/** @type {Map<number, AbortController>} */
const running = new Map();

self.onmessage = async (/** @type {MessageEvent<import("./types.js").Request>} */ { data: { id, method, params = {} } }) => {
  /** @param {any} m */
  const post = (m) => self.postMessage({ id, ...m });
  try {
    post({ result: await dispatch(id, method, params, (event) => post({ event })) });
  } catch (e) {
    post({ error: describe(e) });
  } finally {
    running.delete(id);
  }
};

/** @param {number} id @param {string} method @param {any} params @param {import("./types.js").Emit} emit @returns {Promise<any>} */
async function dispatch(id, method, params, emit) {
  switch (method) {
    case "store.download": {
      // Without storage this worker's files are its own.
      if (await temporary()) throw new CodedError("storage_denied", "This browser gives the page no storage to download another site's model into. Save the file on this device and pick it here instead.");
      const abort = new AbortController();
      running.set(id, abort);
      let last = 0;
      return writing(() => download(params, (e) => {
        const now = performance.now();
        if (now - last < 100 && e.done !== e.total) return;
        last = now;
        emit(e);
      }, abort.signal, true));
    }
    case "task.stop":
      running.get(Number(params.id))?.abort();
      return {};
    case "resources":
      return performance.getEntriesByType("resource").map((e) => ({ name: e.name, bytes: /** @type {PerformanceResourceTiming} */ (e).encodedBodySize }));
  }
  throw new CodedError("invalid_params", `${method} is no method of this worker`);
}
