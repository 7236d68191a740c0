// tabtune.wasm and kernels.wasm in this thread, linked to each other, and calls of the module's methods.

import { ConsoleStdout, File, OpenFile, WASI } from "../worker/wasi/index.js";
import { Files } from "./files.js";
import { canThread, fileSystem, readAll, startThread, threadCount } from "./platform.js";

const PAGE = 65536;
const INITIAL_PAGES = 512; // kernels.wasm asks for fewer
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** An error of the module, with the code that it has there. */
export class EngineError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "EngineError";
    this.code = code;
  }
}

/** The largest memory that is granted, up to limit bytes. @param {number} limit @param {boolean} shared */
function reserve(limit, shared) {
  let why;
  for (let pages = Math.min(PAGE, Math.floor(limit / PAGE)); pages >= INITIAL_PAGES; pages = Math.floor(pages * 0.75)) {
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: pages, shared }), bytes: pages * PAGE };
    } catch (e) {
      why = e;
    }
  }
  throw new EngineError("out_of_memory", `no memory of ${limit} bytes or less could be reserved, and at least ${INITIAL_PAGES * PAGE} are needed: ${why}`);
}

export class Runtime {
  /** @type {Error | null} why nothing works any more */
  dead = null;
  /** @type {string[]} the module's last messages */
  log = [];
  threads = 1;
  limit = 0;
  /** @type {any} */ #kernels = null;
  /** @type {any} */ #module = null;
  /** @type {WebAssembly.Memory} */ #memory = /** @type {any} */ (null);
  /** @type {(() => void)[]} */ #stops = [];

  /** @param {Files} files */
  constructor(files) {
    this.files = files;
  }

  /**
   * @param {import("./engine.js").OpenOptions} options
   * @returns {Promise<Runtime>}
   */
  static async open({ threads, memoryLimit = 2 ** 32, base = new URL("../", import.meta.url), onProgress, signal } = {}) {
    const r = new Runtime(new Files(await fileSystem()));
    const root = new URL(String(base), import.meta.url);
    const count = canThread() ? await threadCount(threads) : 1;
    const threaded = count > 1;
    const names = [threaded ? "kernels.wasm" : "kernels_single.wasm", "tabtune.wasm"];
    /** @type {[number, number][]} */
    const progress = names.map(() => [0, 0]);
    const [kernels, module] = await Promise.all(names.map(async (name, i) => {
      const bytes = await readAll(new URL(name, root), (done, total) => {
        progress[i] = [done, total];
        onProgress?.({ phase: "engine", done: progress[0][0] + progress[1][0], total: progress.every((p) => p[1] > 0) ? progress[0][1] + progress[1][1] : 0 });
      }, signal);
      return WebAssembly.compile(/** @type {any} */ (bytes));
    }));
    try {
      await r.#startKernels(kernels, count, threaded, memoryLimit);
      await r.#startModule(module);
    } catch (e) {
      r.close();
      throw e;
    }
    return r;
  }

  /** @param {WebAssembly.Module} module @param {number} n @param {boolean} shared @param {number} limit */
  async #startKernels(module, n, shared, limit) {
    const { memory, bytes } = reserve(limit, shared);
    this.#memory = memory;
    this.limit = bytes;
    this.#kernels = (await WebAssembly.instantiate(module, { env: { memory } })).exports;
    this.#kernels.gemm_tile?.(1); // the tile that V8 and other browser compilers are fastest with: engine/kernel/c/gemm_splat.h
    if (!shared) return;
    const url = new URL("thread.js", import.meta.url);
    const crash = (/** @type {string} */ why) => {
      this.dead ??= new EngineError("crashed", `a kernel thread has ended: ${why}`);
    };
    const starts = [];
    for (let tid = 1; tid < n; tid++) starts.push(startThread(url, { module, memory, tid, stack: this.#kernels.worker_stack(tid) }, crash));
    const started = await Promise.allSettled(starts);
    for (const s of started) if (s.status === "fulfilled") this.#stops.push(s.value);
    for (const s of started) if (s.status === "rejected") throw s.reason;
    this.#kernels.threads_set(n);
    this.threads = n;
  }

  /** @param {WebAssembly.Module} module */
  async #startModule(module) {
    const line = (/** @type {string} */ s) => {
      this.log.push(s);
      if (this.log.length > 60) this.log.shift();
    };
    const wasi = new WASI(["tabtune"], [], [
      new OpenFile(new File(new Uint8Array(0))), ConsoleStdout.lineBuffered(line), ConsoleStdout.lineBuffered(line), this.files.files, this.files.out,
    ], { debug: false });
    const instance = await WebAssembly.instantiate(module, {
      wasi_snapshot_preview1: /** @type {any} */ (wasi.wasiImport),
      kernels: this.#kernels,
      dev: {
        write: (/** @type {number} */ dst, /** @type {number} */ src, /** @type {number} */ n) => this.device(dst, n).set(this.#go(src, n)),
        read: (/** @type {number} */ dst, /** @type {number} */ src, /** @type {number} */ n) => this.#go(dst, n).set(this.device(src, n)),
        limit: () => BigInt(this.limit),
        threads: () => this.threads,
      },
    });
    this.#module = instance.exports;
    this.#guard(() => wasi.initialize(/** @type {any} */ (instance)));
  }

  /** @param {number} at @param {number} n */
  #go(at, n) {
    return new Uint8Array(this.#module.memory.buffer, at >>> 0, n >>> 0);
  }

  /** n bytes of the kernels' memory, valid until the next call. @param {number} at @param {number} n */
  device(at, n) {
    return new Uint8Array(this.#memory.buffer, at >>> 0, n >>> 0);
  }

  /** Bytes that the two memories take now. */
  memory() {
    return { device: this.#memory.buffer.byteLength, module: this.#module.memory.buffer.byteLength, limit: this.limit };
  }

  /** @template T @param {() => T} f @returns {T} A trap or an exit is the module's end. */
  #guard(f) {
    if (this.dead) throw this.dead;
    try {
      return f();
    } catch (e) {
      const log = this.log.slice(-20).join("\n");
      const what = `${/** @type {any} */ (e)?.message ?? e}`;
      const memory = /out of memory|cannot allocate memory/i.test(log + what);
      this.dead = new EngineError(memory ? "out_of_memory" : "crashed", `the engine has stopped: ${what}${log && `\n${log}`}`);
      throw this.dead;
    }
  }

  /** @param {string} method @param {any} params @returns {any} */
  call(method, params) {
    const request = encoder.encode(JSON.stringify({ method, params }));
    const text = this.#guard(() => {
      const p = this.#module.tt_alloc(request.length);
      if (p === 0) throw new Error(`a request of ${request.length} bytes is too large`);
      this.#go(p, request.length).set(request);
      const r = BigInt.asUintN(64, this.#module.tt_call(p, request.length));
      this.#module.tt_free(p);
      return decoder.decode(this.#go(Number(r >> 32n), Number(r & 0xffffffffn)));
    });
    const { result, error } = JSON.parse(text);
    if (error) throw new EngineError(String(error.code), String(error.message));
    return result;
  }

  /** Ends the threads and lets go of all memory. */
  close() {
    this.dead ??= new EngineError("closed", "the engine is closed");
    this.#kernels?.threads_stop?.();
    for (const stop of this.#stops) stop();
    this.#stops = [];
    this.#kernels = null;
  }
}
