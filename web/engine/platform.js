// What differs between Node and a browser: loading files, starting threads, and whether this thread may wait.

/** @type {any} */
const process = /** @type {any} */ (globalThis).process;

/** Whether this is Node (or what calls itself so). */
export const isNode = typeof process?.versions?.node === "string";

/** A module of Node's own. The name is put together so that bundlers for the web do not look for it. @param {string} name @returns {Promise<any>} */
export const nodeModule = (name) => import(/* @vite-ignore */ `node:${name}`);

/** The synchronous file system of Node, null elsewhere. @returns {Promise<any>} */
export async function fileSystem() {
  return isNode ? nodeModule("fs") : null;
}

/**
 * Whether threads may share memory and this one may wait for others. A page's main thread may not wait: there the kernels run in it alone.
 */
export function canThread() {
  if (typeof SharedArrayBuffer === "undefined") return false;
  if (isNode) return true;
  return globalThis.crossOriginIsolated === true && typeof (/** @type {any} */ (globalThis).WorkerGlobalScope) !== "undefined";
}

/** How many threads to use: as many as wanted, else one a processor. @param {number | undefined} wanted @returns {Promise<number>} */
export async function threadCount(wanted) {
  const have = isNode ? (await nodeModule("os")).availableParallelism() : navigator.hardwareConcurrency;
  return Math.min(32, Math.max(1, Math.trunc(wanted ?? have) || 1));
}

/**
 * Reads a URL's or a Blob's bytes; progress(done, total) is called as they come, total is 0 if nobody knows it.
 * @param {URL | Blob} source @param {((done: number, total: number) => void) | undefined} progress @param {AbortSignal} [signal]
 * @returns {Promise<Uint8Array>}
 */
export async function readAll(source, progress, signal) {
  signal?.throwIfAborted();
  if (source instanceof URL && source.protocol === "file:" && isNode) {
    const fs = await nodeModule("fs");
    const data = await fs.promises.readFile(source, { signal });
    progress?.(data.length, data.length);
    return new Uint8Array(data.buffer, data.byteOffset, data.length);
  }
  /** @type {ReadableStream<Uint8Array>} */
  let body;
  let total;
  if (source instanceof URL) {
    const res = await fetch(source, { signal });
    if (!res.ok || !res.body) throw new Error(`${source.href} could not be loaded: the server answers ${res.status} ${res.statusText}`);
    body = res.body;
    // With a content coding the length is that of the coded bytes.
    total = res.headers.get("Content-Encoding") ? 0 : Number(res.headers.get("Content-Length")) || 0;
  } else {
    body = source.stream();
    total = source.size;
  }
  const reader = body.getReader();
  let data = new Uint8Array(Math.max(total, 1 << 16));
  let done = 0;
  for (;;) {
    signal?.throwIfAborted();
    const part = await reader.read();
    if (part.done) break;
    if (done + part.value.length > data.length) {
      const more = new Uint8Array(Math.max(2 * data.length, done + part.value.length));
      more.set(data.subarray(0, done));
      data = more;
    }
    data.set(part.value, done);
    done += part.value.length;
    progress?.(done, Math.max(total, done));
  }
  return data.subarray(0, done);
}

/**
 * Starts a module as a thread, hands it a message, and waits for its first answer, {ready} or {failed}.
 * @param {URL} url @param {any} message @param {(why: string) => void} onCrash when it ends later on
 * @returns {Promise<() => void>} what ends it
 */
export async function startThread(url, message, onCrash) {
  if (isNode) {
    const { Worker: NodeWorker } = await nodeModule("worker_threads");
    const w = new NodeWorker(url, { workerData: message });
    w.on("error", (/** @type {any} */ e) => onCrash(String(e?.message ?? e)));
    const first = await new Promise((resolve) => {
      w.once("message", resolve);
      w.once("error", (/** @type {any} */ e) => resolve({ failed: String(e?.message ?? e) }));
    });
    w.unref(); // parked threads do not keep the process alive
    if (first.failed) throw new Error(first.failed);
    return () => void w.terminate();
  }
  const w = new Worker(url, { type: "module", name: "executorch kernel" });
  const first = await new Promise((resolve) => {
    w.onmessage = ({ data }) => resolve(data);
    w.onerror = (e) => {
      resolve({ failed: e.message || "a kernel thread could not be started" });
      onCrash(e.message || "a kernel thread has died");
    };
    w.postMessage(message);
  });
  if (first.failed) throw new Error(first.failed);
  return () => w.terminate();
}
