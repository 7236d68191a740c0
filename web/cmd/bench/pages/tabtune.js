// Tabtune's own worker, spoken to as the page does.

let worker;
let last = 0;
const pending = new Map();

/** @param {string} method @param {any} params */
function call(method, params) {
  const id = ++last;
  worker.postMessage({ id, method, params });
  return new Promise((resolve, reject) => pending.set(id, { resolve, reject }));
}

/** Boots a worker with the model at an address of this origin. Times are in ms. */
export async function open({ threads, url, file, bytes, dtype, window: tokens }) {
  const began = performance.now();
  worker = new Worker("/worker/worker.js", { type: "module" });
  /** @type {Record<string, number>} when each phase of the model's opening was last heard of */
  const phases = {};
  worker.onmessage = ({ data: { id, event, result, error } }) => {
    if (result === undefined && error === undefined) {
      if (event?.phase) phases[event.phase] = performance.now() - began;
      return;
    }
    const p = pending.get(id);
    pending.delete(id);
    if (error) p.reject(new Error(`${error.code}: ${error.message} ${error.detail ?? ""}`));
    else p.resolve(result);
  };
  worker.onerror = (e) => { for (const p of pending.values()) p.reject(new Error(e.message)); };
  await call("boot", { threads });
  const booted = performance.now();
  await call("store.download", { url, path: `/models/${file}`, bytes });
  const stored = performance.now();
  const info = await call("model.open.start", { path: `/models/${file}`, dtype, window: tokens });
  const opened = performance.now();
  return { boot: booted - began, download: stored - booted, open: opened - stored, phases, info, memory: await call("memory") };
}

/** One call of the worker: {method, params}. */
export async function turn({ method, params }) {
  const began = performance.now();
  const result = await call(method, params);
  return { ms: performance.now() - began, result };
}

/** Ends the worker and opens the stored model in a new one. */
export async function reopen(params) {
  worker.terminate();
  pending.clear();
  return open(params);
}
