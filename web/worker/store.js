// The page's private storage (OPFS): models/<file>, data/<file>, runs/<id>/<files>. Whatever arrives is written to <name>.part, flushed, checked
// and then renamed, so a file under its own name is whole. Names from outside are checked here, once.

import { CodedError } from "./errors.js";
import { MemoryFolder } from "./memory.js";
import { Sha256 } from "./sha256.js";

const CHUNK = 1 << 20;
const SEGMENT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * Splits "/models/a.gguf" into checked parts: a known folder, then plain file names. There is no way to write "..".
 * @param {string} path
 * @returns {string[]}
 */
export function parts(path) {
  const p = String(path).split("/");
  if (p.shift() !== "" || !["models", "data", "runs"].includes(p[0]) || p.length < 2 || p.length > 5 || !p.every((s) => SEGMENT.test(s))) {
    throw new CodedError("invalid_params", `${JSON.stringify(String(path).slice(0, 200))} is no path in this page's storage`);
  }
  return p;
}

/** @type {Promise<{dir: FileSystemDirectoryHandle, why: string}> | null} */
let opened = null;

/** The root folder: OPFS or, where the browser does not give it (why says so), one in memory. */
async function open() {
  opened ??= (async () => {
    try {
      if (!("createSyncAccessHandle" in FileSystemFileHandle.prototype)) throw new TypeError("no synchronous access to files");
      return { dir: await navigator.storage.getDirectory(), why: "" };
    } catch (e) {
      return { dir: /** @type {any} */ (new MemoryFolder()), why: String(e) };
    }
  })();
  return opened;
}

/** Why what is stored goes with this tab, or nothing if it stays. @returns {Promise<string>} */
export async function temporary() {
  return (await open()).why;
}

/** @param {string[]} p @param {boolean} create @returns {Promise<FileSystemDirectoryHandle>} */
async function folder(p, create) {
  let { dir } = await open();
  for (const s of p) dir = await dir.getDirectoryHandle(s, { create });
  return dir;
}

/** @param {string} path @param {boolean} [create] @returns {Promise<FileSystemFileHandle>} */
export async function fileHandle(path, create = false) {
  const p = parts(path);
  const name = /** @type {string} */ (p.pop());
  return (await folder(p, create)).getFileHandle(name, { create });
}

const PATIENCE = 5000; // milliseconds

/**
 * Opens a file for synchronous access. A busy machine's Chromium has been seen not to answer at all, ever, where asking again gets an answer at once.
 * @param {FileSystemFileHandle} file @param {{mode?: string}} [options] @returns {Promise<FileSystemSyncAccessHandle>}
 */
export async function openSync(file, options) {
  /** @type {Promise<FileSystemSyncAccessHandle>[]} */
  const asked = [];
  while (asked.length < 5) {
    asked.push(/** @type {any} */ (file).createSyncAccessHandle(options));
    /** @type {any} */
    let timer;
    const late = new Promise((/** @type {(v: null) => void} */ resolve) => { timer = setTimeout(resolve, PATIENCE, null); });
    // The first to succeed; when all have failed, the first one's error: a later one may have met an earlier one's lock.
    const any = Promise.any(asked).catch((e) => { throw e.errors[0]; });
    try {
      const handle = await Promise.race([any, late]);
      if (!handle) continue;
      for (const p of asked) p.then((h) => { if (h !== handle) h.close(); }, () => {}); // what comes after all is not kept locked
      return handle;
    } finally {
      clearTimeout(timer);
    }
  }
  throw new CodedError("failed", "The browser does not open this page's storage. Reload the page; what is stored is kept.");
}

/** @param {string} path @returns {Promise<File|null>} */
async function fileOrNull(path) {
  try {
    return await (await fileHandle(path)).getFile();
  } catch (e) {
    if (/** @type {any} */ (e)?.name === "NotFoundError") return null;
    throw e;
  }
}

/** A stored file for the page to save. @param {string} path @returns {Promise<File>} */
export async function file(path) {
  const f = /** @type {any} */ (await (await fileHandle(path)).getFile());
  return f instanceof File ? f : f.file();
}

/** @param {string} path Renames path.part to path, replacing what was there. */
export async function commit(path) {
  const part = await fileHandle(path + ".part");
  // move() is in every browser that has OPFS sync handles, but not yet in TypeScript's library.
  await /** @type {any} */ (part).move(parts(path).pop());
}

/** @param {string} path @param {Uint8Array} data Writes a whole file: new file, flush, rename. */
export async function writeWhole(path, data) {
  const h = await openSync(await fileHandle(path + ".part", true));
  try {
    h.truncate(0);
    if (h.write(data, { at: 0 }) !== data.length) throw new DOMException("short write", "QuotaExceededError");
    h.flush();
  } finally {
    h.close();
  }
  await commit(path);
}

/** @param {string} path @returns {Promise<Uint8Array>} */
export async function readWhole(path) {
  const f = await fileOrNull(path);
  if (!f) throw new CodedError("not_found", `${path} is not in this page's storage`);
  return new Uint8Array(await f.arrayBuffer());
}

/**
 * Lists everything stored, with sizes.
 * @returns {Promise<{files: {path: string, bytes: number, modified: number}[], usage: number, quota: number, persisted: boolean, temporary: string}>} temporary: see temporary()
 */
export async function list() {
  /** @type {{path: string, bytes: number, modified: number}[]} */
  const files = [];
  /** @param {FileSystemDirectoryHandle} dir @param {string} at */
  const walk = async (dir, at) => {
    for await (const [name, h] of dir.entries()) {
      try {
        if (h.kind === "directory") await walk(/** @type {FileSystemDirectoryHandle} */ (h), `${at}/${name}`);
        else {
          const f = await /** @type {FileSystemFileHandle} */ (h).getFile();
          files.push({ path: `${at}/${name}`, bytes: f.size, modified: f.lastModified });
        }
      } catch (e) { // another tab has renamed or deleted it meanwhile
        if (/** @type {any} */ (e)?.name !== "NotFoundError") throw e;
      }
    }
  };
  const { dir, why } = await open();
  await walk(dir, "");
  if (why) return { files, usage: files.reduce((n, f) => n + f.bytes, 0), quota: 0, persisted: false, temporary: why };
  const { usage = 0, quota = 0 } = (await navigator.storage.estimate?.()) ?? {};
  return { files, usage, quota, persisted: (await navigator.storage.persisted?.()) ?? false, temporary: "" };
}

/** @param {string} path Removes a file, with what is kept beside a model, or a run's folder; nothing happens when it is not there. */
export async function remove(path) {
  const p = parts(path);
  const name = /** @type {string} */ (p.pop());
  for (const n of p[0] === "models" ? [name, `${name}.known`] : [name]) {
    try {
      await (await folder(p, false)).removeEntry(n, { recursive: true });
    } catch (e) {
      if (/** @type {any} */ (e)?.name !== "NotFoundError") throw e;
    }
  }
}

/** @typedef {{bytes: number, fingerprint: string, sha256: string}} Known what opening a model said of its file */

/** @param {any} k @returns {k is Known} */
function isKnown(k) {
  return Number.isSafeInteger(k?.bytes) && /^[0-9a-f]{16}$/.test(k.fingerprint) && /^[0-9a-f]{64}$/.test(k.sha256);
}

/**
 * What the last opening of a stored model said of its file, so that the next need not compute its SHA-256. The module compares the fingerprint of
 * all bytes, so a record that is lost, damaged or of another file costs that time and nothing else.
 * @param {string} path @returns {Promise<Known|null>}
 */
export async function known(path) {
  try {
    const f = await fileOrNull(`${path}.known`);
    const k = f && f.size < 1000 ? JSON.parse(await f.text()) : null;
    return isKnown(k) ? { bytes: k.bytes, fingerprint: k.fingerprint, sha256: k.sha256 } : null;
  } catch {
    return null;
  }
}

/** Keeps such a record beside the model. Without room for it, or while another tab writes it, there is none. @param {string} path @param {any} k */
export async function remember(path, k) {
  if (!isKnown(k)) return;
  try {
    await writeWhole(`${path}.known`, new TextEncoder().encode(JSON.stringify({ bytes: k.bytes, fingerprint: k.fingerprint, sha256: k.sha256 })));
  } catch (e) {
    console.warn(`no record of ${path}: ${e}`);
  }
}

// Who writes a model shares this lock, so that no other tab takes the pieces for those of a closed one.
const WRITING = "tabtune models";

/** @template T @param {() => Promise<T>} f @returns {Promise<T>} */
export async function writing(f) {
  return await navigator.locks.request(WRITING, { mode: "shared" }, f);
}

/** Deletes what a closed tab left of a model and nothing can go on from: pieces of an import or an export, and the notes of a download that is whole. */
export async function sweep() {
  await navigator.locks.request(WRITING, { ifAvailable: true }, async (lock) => {
    if (!lock) return; // one is being written now
    const names = new Set((await list()).files.filter((f) => f.path.startsWith("/models/")).map((f) => f.path));
    for (const path of names) {
      const of = path.replace(/\.(part|etag|url)$/, "");
      const goesOn = path.endsWith(".part") ? names.has(`${of}.etag`) || names.has(`${of}.url`) : !names.has(of);
      if (of !== path && !goesOn) await remove(path);
    }
  });
}

/**
 * @param {string} path
 * @param {import("./types.js").Emit} emit progress events of phase "check"
 * @param {AbortSignal} [signal]
 * @returns {Promise<string>}
 */
export async function sha256(path, emit, signal) {
  const f = await (await fileHandle(path)).getFile();
  const hash = new Sha256();
  for (let at = 0; at < f.size; at += CHUNK) {
    signal?.throwIfAborted();
    hash.update(new Uint8Array(await f.slice(at, at + CHUNK).arrayBuffer()));
    emit({ type: "progress", phase: "check", done: Math.min(at + CHUNK, f.size), total: f.size });
  }
  return hash.hex();
}

/** @param {number} bytes Says before the first byte is written when there is no room. */
async function needRoom(bytes) {
  if (await temporary()) return; // memory has no quota to ask for
  const { usage = 0, quota = Infinity } = (await navigator.storage.estimate?.()) ?? {};
  if (usage + bytes > quota) {
    const mb = (/** @type {number} */ n) => `${Math.ceil(n / 1e6)} MB`;
    throw new CodedError("quota", `This needs ${mb(bytes)} of storage and the browser leaves this page ${mb(Math.max(0, quota - usage))}. Delete a stored model or run, or free disk space, and try again.`);
  }
}

/**
 * Downloads a file of this page's own origin, or with anyOrigin of another. A broken download goes on where it stopped (Range, If-Range with the ETag), also after a
 * reload. With sha256 the bytes are checked before the file gets its name.
 * @param {{url: string, path: string, bytes?: number, sha256?: string}} p
 * @param {import("./types.js").Emit} emit
 * @param {AbortSignal} signal
 * @param {boolean} [anyOrigin]
 * @returns {Promise<{path: string, bytes: number, fetched: number}>} fetched: bytes that crossed the network now
 */
export async function download(p, emit, signal, anyOrigin = false) {
  const url = new URL(p.url, new URL("../", import.meta.url)); // as the page would read it
  const own = url.origin === self.location.origin;
  if (anyOrigin ? !/^https?:$/.test(url.protocol) : url.origin !== self.location.origin) throw new CodedError("invalid_params", "Downloads come from this page's own address only; save the file and pick it instead.");
  const have = await fileOrNull(p.path);
  if (have && (p.bytes === undefined || have.size === p.bytes)) return { path: p.path, bytes: have.size, fetched: 0 };

  const name = p.path.split("/").pop();
  const tagPath = p.path + ".etag";
  const part = await fileHandle(p.path + ".part", true);
  const tagFile = await fileOrNull(tagPath);
  const tag = tagFile ? await tagFile.text() : "";
  const h = await openSync(part);
  let fetched = 0;
  let size = 0;
  try {
    let at = tag ? h.getSize() : 0;
    if (p.bytes !== undefined && at > p.bytes) at = 0;
    if (p.bytes === undefined || at < p.bytes) {
      if (p.bytes !== undefined) await needRoom(p.bytes - at);
      /** @type {Record<string, string>} */
      // Other origins need not allow If-Range; there the answer's own tag is compared.
      const headers = at > 0 ? { Range: `bytes=${at}-`, ...(own ? { "If-Range": tag } : {}) } : {};
      let res;
      try {
        res = await fetch(url, { headers, signal, credentials: own ? "same-origin" : "omit", referrerPolicy: "no-referrer" });
        if (at > 0 && (res.status === 416 || (res.status === 206 && !own && res.headers.get("ETag") !== tag))) {
          await res.body?.cancel();
          res = await fetch(url, { signal, credentials: own ? "same-origin" : "omit", referrerPolicy: "no-referrer" });
        }
      } catch (e) {
        signal.throwIfAborted();
        throw new CodedError("network", `${name} could not be downloaded: the server does not answer${own ? "" : ", or does not let pages of other addresses read the file"}. Try again; the download goes on where it stopped.`, String(e));
      }
      if (!res.ok || !res.body) throw new CodedError("network", `${name} could not be downloaded: the server answers ${res.status} ${res.statusText}. Pick the file from this device instead.`);
      if (res.status !== 206) at = 0;
      h.truncate(at);
      const etag = res.headers.get("ETag") ?? "";
      if (etag && !etag.startsWith("W/")) await writeWhole(tagPath, new TextEncoder().encode(etag));
      const length = Number(res.headers.get("Content-Length")) || 0;
      const total = p.bytes ?? at + length;
      if (p.bytes === undefined && length > 0) await needRoom(length);
      const reader = res.body.getReader();
      let flushed = at;
      for (;;) {
        let chunk;
        try {
          chunk = await reader.read();
        } catch (e) {
          h.flush();
          signal.throwIfAborted();
          throw new CodedError("network", `The connection broke while ${name} was downloading. Try again; the download goes on where it stopped.`, String(e));
        }
        if (chunk.done) break;
        if (p.bytes !== undefined && at + chunk.value.length > p.bytes) throw new CodedError("corrupt", `${name} is longer than the ${p.bytes} bytes it should have.`);
        if (h.write(chunk.value, { at }) !== chunk.value.length) throw new DOMException("short write", "QuotaExceededError");
        at += chunk.value.length;
        fetched += chunk.value.length;
        if (at - flushed >= 8 * CHUNK) {
          h.flush();
          flushed = at;
        }
        emit({ type: "progress", phase: "download", done: at, total });
      }
      h.flush();
      if (p.bytes !== undefined && at < p.bytes) throw new CodedError("network", `The connection broke while ${name} was downloading. Try again; the download goes on where it stopped.`);
    }
    size = h.getSize();
  } finally {
    const empty = h.getSize() === 0;
    h.close();
    if (empty) await remove(p.path + ".part"); // nothing came
  }
  if (p.sha256) {
    const got = await sha256(p.path + ".part", emit, signal);
    if (got !== p.sha256) {
      await remove(p.path + ".part");
      await remove(tagPath);
      throw new CodedError("corrupt", `${name} did not arrive intact and was deleted. Download it again.`, `sha256 ${got}, expected ${p.sha256}`);
    }
  }
  if (p.path.endsWith(".gguf")) {
    const magic = await (await (await fileHandle(p.path + ".part")).getFile()).slice(0, 4).text();
    if (magic !== "GGUF") {
      await remove(p.path + ".part");
      await remove(tagPath);
      throw new CodedError("corrupt", `${url.host} sent something else than a model under this address, perhaps a page that asks to sign in. Check the address, or save the file and pick it from this device.`, `the ${size} bytes begin with ${JSON.stringify(magic)}, a GGUF file with "GGUF"`);
    }
  }
  await commit(p.path);
  await remove(tagPath);
  return { path: p.path, bytes: size, fetched };
}

/**
 * Copies a picked file into storage, a piece at a time.
 * @param {{file: Blob, path: string}} p
 * @param {import("./types.js").Emit} emit
 * @param {AbortSignal} signal
 * @returns {Promise<{path: string, bytes: number}>}
 */
export async function importFile(p, emit, signal) {
  if (!(p.file instanceof Blob)) throw new CodedError("invalid_params", "store.import: no file given");
  await needRoom(p.file.size);
  const h = await openSync(await fileHandle(p.path + ".part", true));
  try {
    h.truncate(0);
    for (let at = 0; at < p.file.size; at += 4 * CHUNK) {
      signal.throwIfAborted();
      const piece = new Uint8Array(await p.file.slice(at, at + 4 * CHUNK).arrayBuffer());
      if (h.write(piece, { at }) !== piece.length) throw new DOMException("short write", "QuotaExceededError");
      emit({ type: "progress", phase: "import", done: at + piece.length, total: p.file.size });
    }
    h.flush();
  } finally {
    h.close();
  }
  await commit(p.path);
  return { path: p.path, bytes: p.file.size };
}
