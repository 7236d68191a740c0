// Device memory: kernels.wasm with its memory and threads.

import { CodedError } from "./errors.js";

const PAGE = 65536;
const MAX_THREADS = 32;
// The stacks, the scratch areas and the data of kernels.wasm fit below this; the module asks for less than it at the start.
const INITIAL_PAGES = 512;

/** Whether this page may share memory between threads. */
export function canShare() {
  return typeof SharedArrayBuffer !== "undefined" && self.crossOriginIsolated === true;
}

/**
 * The largest memory that the browser grants, at most `limit` bytes. A maximum only reserves addresses; phones refuse 4 GiB of them.
 * @param {number} limit @param {boolean} shared
 * @returns {{memory: WebAssembly.Memory, bytes: number}}
 */
export function reserve(limit, shared) {
  let why;
  for (let pages = Math.min(65536, Math.floor(limit / PAGE)); pages >= INITIAL_PAGES; pages = Math.floor(pages * 0.75)) {
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: pages, shared }), bytes: pages * PAGE };
    } catch (e) {
      why = e;
    }
  }
  throw new CodedError("out_of_memory", "The browser refuses the memory that training needs. Close other tabs or programs and try again.", String(why));
}

export class Device {
  /**
   * @param {{threads: number, memoryLimit: number, base: string}} config
   * @param {(message: string) => void} onCrash called when a thread dies later on
   * @returns {Promise<Device>}
   */
  static async open({ threads, memoryLimit, base }, onCrash) {
    const shared = canShare();
    const module = await compile(new URL(shared ? "kernels.wasm" : "kernels_single.wasm", base));
    const { memory, bytes } = reserve(memoryLimit, shared);
    const instance = await WebAssembly.instantiate(module, { env: { memory } });
    const exports = /** @type {import("./types.js").KernelExports} */ (instance.exports);
    exports.gemm_tile?.(1); // the tile that a browser's compiler is fastest with: engine/kernel/c/gemm_splat.h
    const d = new Device(exports, memory, bytes);
    if (shared) await d.#spawn(module, Math.max(1, Math.min(threads, MAX_THREADS)), onCrash);
    return d;
  }

  /** @param {import("./types.js").KernelExports} exports @param {WebAssembly.Memory} memory @param {number} limit */
  constructor(exports, memory, limit) {
    this.exports = exports;
    this.memory = memory;
    this.limit = limit;
    this.threads = 1;
  }

  /** @param {WebAssembly.Module} module @param {number} n @param {(message: string) => void} onCrash */
  async #spawn(module, n, onCrash) {
    const { worker_stack, threads_set } = this.exports;
    if (!worker_stack || !threads_set) return;
    const starts = [];
    for (let tid = 1; tid < n; tid++) {
      const stack = worker_stack(tid);
      starts.push(new Promise((/** @type {(v?: any) => void} */ resolve, reject) => {
        const w = new Worker(new URL("kernel-worker.js", import.meta.url), { type: "module", name: `tabtune kernel ${tid}` });
        w.onmessage = ({ data }) => (data.failed ? reject(new Error(data.failed)) : resolve());
        w.onerror = (e) => {
          const message = e.message || "a kernel thread could not be started";
          reject(new Error(message));
          onCrash(message);
        };
        w.postMessage({ module, memory: this.memory, tid, stack });
      }));
    }
    await Promise.all(starts);
    threads_set(n);
    this.threads = n;
  }

  /** Bytes of device memory in use by the browser now. */
  get bytes() {
    return this.memory.buffer.byteLength;
  }
}

/** @param {URL} url @returns {Promise<WebAssembly.Module>} */
export async function compile(url) {
  const res = await fetch(url);
  if (!res.ok) throw new CodedError("network", `${url.pathname.split("/").pop()} could not be loaded: the server answers ${res.status}. Reload the page.`);
  // A server that does not know the type of .wasm files must not stop the page.
  if (res.headers.get("Content-Type")?.startsWith("application/wasm")) return WebAssembly.compileStreaming(res);
  return WebAssembly.compile(await res.arrayBuffer());
}
