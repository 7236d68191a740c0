// The dedicated worker behind the page: {id, method, params} in; {id, event}*, then {id, result} or {id, error} out.
//
//   boot {threads, memoryLimit}          loads kernels.wasm and tabtune.wasm; answers the module's hello and {shared, ...memory}
//   store.list | about | write | read | file | remove | close | download | import    the page's private storage, see store.js
//   resources                            the browser's log of what this worker asked for: [{name, bytes}]
//   memory                               bytes of the wasm memories
//   <name>.start {...}                   a task of the module, driven here: its events, then its value. train.start with runtime, the address
//                                        of an ExecuTorch build on this origin, has that run the programs (stock.js)
//   task.throttle {id, share}            the task works for this share of the time (0.1 to 1) and leaves the processor to others for the rest
//   task.pause | task.resume | task.stop {id}   for the request with that id; a stopped one answers {"stopped": true}
//   run.release {run}                    gives back the lock of a run
//   anything else                        a method of the module
//
// Between two pieces of a task the worker returns to its event loop, so that these messages get in.

import { Engine } from "./engine.js";
import { canShare } from "./device.js";
import { CodedError, describe } from "./errors.js";
import { StockBuild } from "./stock.js";
import * as store from "./store.js";
import { carryOut } from "../engine/stock.js";

performance.setResourceTimingBufferSize?.(5000);

/** @type {Engine | null} */
let engine = null;

/** @typedef {{paused: boolean, abort: AbortController, wake: (() => void) | null, share: number}} Control */
/** @type {Map<number, Control>} */
const running = new Map();

// A message to oneself comes back after those already waiting; a timer would be clamped to 4 ms, and to 1 s in a hidden tab.
const ticker = new MessageChannel();
/** @type {(() => void)[]} */
const ticks = [];
ticker.port1.onmessage = () => ticks.shift()?.();
const tick = () => new Promise((/** @type {(v?: any) => void} */ r) => {
  ticks.push(r);
  ticker.port2.postMessage(0);
});

self.onmessage = async (/** @type {MessageEvent<import("./types.js").Request>} */ { data }) => {
  const { id, method, params = {} } = data ?? {};
  /** @param {any} m @param {Transferable[]} [transfer] */
  const post = (m, transfer = []) => self.postMessage({ id, ...m }, { transfer });
  try {
    const result = await dispatch(id, String(method), params, (event) => post({ event }));
    post({ result }, result?.bytes instanceof Uint8Array ? [result.bytes.buffer] : []);
  } catch (e) {
    post({ error: describe(e) });
  }
};

/** @param {number} id @param {string} method @param {any} params @param {import("./types.js").Emit} emit @returns {Promise<any>} */
async function dispatch(id, method, params, emit) {
  switch (method) {
    case "boot":
      return boot(params);
    case "resources":
      return performance.getEntriesByType("resource").map((e) => ({ name: e.name, bytes: /** @type {PerformanceResourceTiming} */ (e).encodedBodySize }));
    case "memory":
      return need().memory();
    case "run.release":
      engine?.files.releaseRun(String(params.run));
      return {};
    case "task.pause":
    case "task.resume":
    case "task.stop":
      return control(method, Number(params.id));
    case "task.throttle":
      return throttleTask(Number(params.id), Number(params.share));
    case "store.list":
      return store.list();
    case "store.read":
      return { bytes: await store.readWhole(params.path) };
    case "store.file":
      return { file: await store.file(params.path) };
    case "store.write":
      await store.writeWhole(params.path, params.bytes instanceof Uint8Array ? params.bytes : new TextEncoder().encode(String(params.text)));
      return {};
    case "store.close":
      engine?.files.close(params.path);
      return {};
    case "store.remove":
      engine?.files.close(params.path);
      await store.remove(params.path);
      return {};
    case "store.persist":
      return { persisted: (await /** @type {any} */ (navigator.storage)?.persist?.()) ?? false };
    case "store.about":
      return about(String(params.path));
    case "store.download":
      return withControl(id, (c) => store.writing(() => store.download(params, throttle(emit), c.abort.signal)));
    case "store.import":
      engine?.files.close(params.path);
      return withControl(id, (c) => store.writing(() => store.importFile(params, throttle(emit), c.abort.signal)));
  }
  if (method.endsWith(".start")) return withControl(id, (c) => runTask(method, params, emit, c));
  const e = need();
  await e.files.prepare(params);
  const result = e.call(method, params);
  await e.files.persist();
  return result;
}

/** What a stored model file says of itself. It is left open or closed as it was. @param {string} path */
async function about(path) {
  const e = need();
  const before = e.files.isOpen(path);
  await e.files.prepare({ path });
  try {
    return e.call("model.about", { path });
  } finally {
    if (!before) e.files.close(path);
  }
}

/** @param {any} params */
async function boot(params) {
  if (engine) throw new CodedError("busy", "The engine is already running.");
  [engine] = await Promise.all([Engine.open(params, new URL("../", import.meta.url).href), store.sweep()]);
  return { ...engine.call("hello", {}), shared: canShare(), memory: engine.memory() };
}

/** @returns {Engine} */
function need() {
  if (!engine) throw new CodedError("failed", "The engine is not running yet.");
  return engine;
}

/** @template T @param {number} id @param {(c: Control) => Promise<T>} f @returns {Promise<T>} */
async function withControl(id, f) {
  /** @type {Control} */
  const c = { paused: false, abort: new AbortController(), wake: null, share: 1 };
  running.set(id, c);
  try {
    return await f(c);
  } finally {
    running.delete(id);
  }
}

/** @param {number} id @param {number} share */
function throttleTask(id, share) {
  const c = running.get(id);
  if (!c) throw new CodedError("unknown_task", "That task has ended.");
  if (!(share >= 0.1 && share <= 1)) throw new CodedError("invalid_params", "task.throttle: share is not from 0.1 to 1");
  c.share = share;
  return {};
}

/** @param {string} method @param {number} id */
function control(method, id) {
  const c = running.get(id);
  if (!c) throw new CodedError("unknown_task", "That task has ended.");
  if (method === "task.stop") c.abort.abort();
  else c.paused = method === "task.pause";
  c.wake?.();
  return {};
}

/** @param {string} method @param {any} params @param {import("./types.js").Emit} emit @param {Control} c @returns {Promise<any>} */
async function runTask(method, params, emit, c) {
  const e = need();
  if (method === "train.start" && params.runtime) {
    let stock;
    try {
      stock = await StockBuild.open(String(params.runtime), c.abort.signal);
    } catch (e) {
      if (c.abort.signal.aborted) return { stopped: true };
      throw e;
    }
    try {
      const own = { ...params, runtime: "/scratch/program.pte" };
      await e.files.prepare(own);
      return await drive(e, method, own, emit, c, stock);
    } finally {
      stock.close();
    }
  }
  if (method === "model.open.start") {
    await e.files.prepare(params);
    const path = String(params.path);
    const known = await store.known(path);
    const info = await drive(e, method, { ...params, known }, emit, c, null);
    if (info?.fingerprint && (info.fingerprint !== known?.fingerprint || info.sha256 !== known?.sha256)) {
      await store.remember(path, { bytes: info.fileBytes, fingerprint: info.fingerprint, sha256: info.sha256 });
    }
    return info;
  }
  if (method !== "export.start" || !String(params.path).startsWith("/models/")) {
    await e.files.prepare(params);
    return drive(e, method, params, emit, c, null);
  }
  // A merged model is as large as a model: it is written to storage directly, everything else goes through the run's folder in memory.
  await e.files.prepare({ ...params, path: "" });
  return store.writing(async () => {
    const finish = await e.files.output(params.path);
    let ok = false;
    try {
      const value = await drive(e, method, params, emit, c, null);
      ok = !value?.stopped;
      return value;
    } finally {
      await finish(ok);
    }
  });
}

/**
 * @param {Engine} e @param {string} method @param {any} params @param {import("./types.js").Emit} emit @param {Control} c
 * @param {StockBuild | null} stock
 * @returns {Promise<any>}
 */
async function drive(e, method, params, emit, c, stock) {
  const { task } = e.call(method, params);
  for (;;) {
    await tick();
    if (c.abort.signal.aborted) {
      e.call("task.stop", { task });
      await e.files.persist();
      return { stopped: true };
    }
    if (c.paused) {
      emit({ type: "paused" });
      await new Promise((/** @type {(v?: any) => void} */ r) => { c.wake = r; });
      c.wake = null;
      if (!c.abort.signal.aborted && !c.paused) emit({ type: "resumed" });
      continue;
    }
    const began = performance.now();
    const { event, done, value } = e.call("task.next", { task });
    let worked = performance.now() - began;
    await e.files.persist();
    if (event?.type === "runtime" && stock) {
      const answer = await carryOut(event, stock, { device: (at, n) => e.deviceBytes(at, n), program: (path) => e.files.take(path) });
      if (c.abort.signal.aborted) continue; // the error that this made is none of the run's
      e.call("runtime.answer", answer);
      worked = performance.now() - began;
    } else if (event !== undefined) emit(event);
    if (done) return value;
    if (c.share < 1) await rest(c, worked * (1 / c.share - 1)); // what was done is stored and told by now
  }
}

/** Leaves the processor alone for a while; stopping and pausing cut it short. @param {Control} c @param {number} ms */
async function rest(c, ms) {
  await new Promise((/** @type {(v?: any) => void} */ done) => {
    const timer = setTimeout(done, ms);
    c.wake = () => {
      clearTimeout(timer);
      done();
    };
  });
  c.wake = null;
}

/** At most ten progress events a second, and the last one. @param {import("./types.js").Emit} emit @returns {import("./types.js").Emit} */
function throttle(emit) {
  let last = 0;
  return (event) => {
    const now = performance.now();
    if (now - last < 100 && event.done !== event.total) return;
    last = now;
    emit(event);
  };
}
