// tabtune.wasm in this worker: WASI, its imports, and calls.

import { WASI, ConsoleStdout, File, OpenFile, WASIProcExit } from "./wasi/index.js";
import { CodedError } from "./errors.js";
import { Device, compile } from "./device.js";
import { Files } from "./files.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: false });

export class Engine {
  files = new Files();
  /** @type {CodedError | null} set once the module is beyond use */
  dead = null;
  /** @type {string[]} the last lines of standard error */
  log = [];
  /** @type {Uint8Array} */ #goView = new Uint8Array(0);
  /** @type {Uint8Array} */ #devView = new Uint8Array(0);

  /**
   * @param {{threads?: number, memoryLimit?: number}} config
   * @param {string} base where the .wasm files are
   */
  static async open({ threads = 1, memoryLimit = 2 ** 32 }, base) {
    const e = new Engine();
    const [device, module] = await Promise.all([
      Device.open({ threads, memoryLimit, base }, (why) => { e.dead ??= crash(why); }),
      compile(new URL("tabtune.wasm", base)),
    ]);
    e.device = device;
    await e.#start(module);
    return e;
  }

  /** @type {Device} */ // set by open
  device = /** @type {any} */ (null);
  /** @type {import("./types.js").ReactorExports} */
  exports = /** @type {any} */ (null);

  /** @param {WebAssembly.Module} module */
  async #start(module) {
    const line = (/** @type {string} */ s) => {
      this.log.push(s);
      if (this.log.length > 60) this.log.shift();
    };
    const wasi = new WASI(["tabtune"], [], [
      new OpenFile(new File(new Uint8Array(0))),
      ConsoleStdout.lineBuffered(line),
      ConsoleStdout.lineBuffered(line),
      this.files.models, this.files.data, this.files.runsDir, this.files.scratch,
    ], { debug: false });
    const { device } = this;
    const instance = await WebAssembly.instantiate(module, {
      wasi_snapshot_preview1: /** @type {any} */ (wasi.wasiImport),
      kernels: /** @type {any} */ (device.exports),
      dev: {
        write: (/** @type {number} */ dst, /** @type {number} */ src, /** @type {number} */ n) => {
          this.#dev(dst, n).set(this.#go(src, n), dst >>> 0);
        },
        read: (/** @type {number} */ dst, /** @type {number} */ src, /** @type {number} */ n) => {
          const from = src >>> 0;
          this.#go(dst, n).set(this.#dev(src, n).subarray(from, from + (n >>> 0)));
        },
        limit: () => BigInt(device.limit),
        threads: () => device.threads,
      },
    });
    this.exports = /** @type {any} */ (instance.exports);
    try {
      wasi.initialize(/** @type {any} */ (instance));
    } catch (e) {
      throw this.#fatal(e);
    }
  }

  /** A view of n bytes of Go's memory; it moves when it grows. @param {number} at @param {number} n */
  #go(at, n) {
    const { buffer } = this.exports.memory;
    if (this.#goView.buffer !== buffer) this.#goView = new Uint8Array(buffer);
    return this.#goView.subarray(at >>> 0, (at >>> 0) + (n >>> 0));
  }

  /** A view of all device memory, at least up to at + n. @param {number} at @param {number} n */
  #dev(at, n) {
    if (this.#devView.byteLength < (at >>> 0) + (n >>> 0)) this.#devView = new Uint8Array(this.device.memory.buffer);
    return this.#devView;
  }

  /**
   * One request to the module. It does not wait for anything: files that it names were opened by files.prepare.
   * @param {string} method @param {any} params
   * @returns {any}
   */
  call(method, params) {
    if (this.dead) throw this.dead;
    const request = encoder.encode(JSON.stringify({ method, params }));
    /** @type {string} */
    let text;
    try {
      const { tt_alloc, tt_free, tt_call } = this.exports;
      const p = tt_alloc(request.length);
      this.#go(p, request.length).set(request);
      const r = BigInt.asUintN(64, tt_call(p, request.length));
      text = decoder.decode(this.#go(Number(r >> 32n), Number(r & 0xffffffffn)));
      tt_free(p);
    } catch (e) {
      throw this.#fatal(e);
    }
    const { result, error } = JSON.parse(text);
    if (error) throw new CodedError(String(error.code), String(error.message));
    return result;
  }

  /** n bytes of device memory, valid until the next call. @param {number} at @param {number} n */
  deviceBytes(at, n) {
    return this.#dev(at, n).subarray(at >>> 0, (at >>> 0) + (n >>> 0));
  }

  /** What the browser holds for this worker's wasm memories, in bytes. */
  memory() {
    return { device: this.device.bytes, module: this.exports.memory.buffer.byteLength, limit: this.device.limit, threads: this.device.threads };
  }

  /** @param {any} e A trap or an exit ends the module: nothing of its state can be trusted. @returns {CodedError} */
  #fatal(e) {
    const log = this.log.slice(-20).join("\n");
    const what = e instanceof WASIProcExit ? `exit code ${e.code}` : String(e?.message ?? e);
    if (/out of memory|cannot allocate memory|Out of memory/i.test(log + what)) {
      this.dead = new CodedError("out_of_memory", "The browser ran out of memory for this run. Choose a smaller batch, fewer queries or fewer layers, close other tabs, and start again; a run that was saved goes on from its last step.", `${what}\n${log}`);
    } else {
      this.dead = crash(`${what}\n${log}`);
    }
    return this.dead;
  }
}

/** @param {string} detail */
function crash(detail) {
  return new CodedError("crashed", "The training engine stopped unexpectedly. Restart it; a run that was saved goes on from its last step.", detail);
}
