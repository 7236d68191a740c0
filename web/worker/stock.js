// The stock ExecuTorch build that the user brings, in a worker of its own: its script may be of either kind that Emscripten makes, and it may end
// without ending the training engine.

import { CodedError } from "./errors.js";

const OPEN_MS = 60_000;

export class StockBuild {
  #worker;
  #signal;
  /** @type {Map<number, {resolve: (v: any) => void, reject: (e: Error) => void}>} */
  #waiting = new Map();
  #last = 0;

  /**
   * Starts a build, which has a minute to say that it is ready: a script that is no build never does.
   * @param {string} address of the build's script, on this page's own origin
   * @param {AbortSignal} signal ends what is waited for, then and later
   * @returns {Promise<StockBuild>}
   */
  static async open(address, signal) {
    let url;
    try {
      url = new URL(address, new URL("../", import.meta.url));
    } catch {
      throw new CodedError("invalid_params", `Runtime: ${JSON.stringify(address)} is no address.`);
    }
    if (url.origin !== self.location.origin || !/\.m?js$/.test(url.pathname)) {
      throw new CodedError("invalid_params", "Runtime: give the address of executorch.js (or .mjs) on this page's own server, with its .wasm beside it.");
    }
    const b = new StockBuild(signal);
    const late = setTimeout(() => b.#fail(new Error(`it is not ready after ${OPEN_MS / 1000} s; is it an ExecuTorch build?`)), OPEN_MS);
    try {
      await b.#ask("open", { url: url.href });
    } catch (e) {
      b.close();
      signal.throwIfAborted();
      throw new CodedError("runtime", `The ExecuTorch build at ${url.pathname} could not be started: ${/** @type {any} */ (e)?.message ?? e}`);
    } finally {
      clearTimeout(late);
    }
    return b;
  }

  /** @param {AbortSignal} signal */
  constructor(signal) {
    this.#signal = signal;
    signal.addEventListener("abort", this.#abort);
    this.#worker = new Worker(new URL("stock-worker.js", import.meta.url), { name: "executorch" });
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const w = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) w?.resolve(result);
      else w?.reject(new Error(error));
    };
    this.#worker.onerror = (e) => this.#fail(new Error(e.message || "its script could not be loaded"));
  }

  #abort = () => this.#fail(this.#signal.reason);

  /** @param {Error} why */
  #fail(why) {
    for (const w of this.#waiting.values()) w.reject(why);
    this.#waiting.clear();
  }

  /** @param {string} op @param {any} params @param {Transferable[]} [transfer] @returns {Promise<any>} */
  #ask(op, params, transfer = []) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#signal.throwIfAborted();
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, op, ...params }, transfer);
    });
  }

  /** @param {Uint8Array} bytes */
  load(bytes) {
    return this.#ask("load", { bytes });
  }

  /** @param {string} method @param {{dtype: number, sizes: number[], data: Uint8Array}[]} inputs @param {{dtype: number, sizes: number[]}} output */
  execute(method, inputs, output) {
    return this.#ask("execute", { method, inputs, output }, inputs.map((t) => t.data.buffer));
  }

  close() {
    this.#signal.removeEventListener("abort", this.#abort);
    this.#worker.terminate();
  }
}
