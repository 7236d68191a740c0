// A run's programs on a stock ExecuTorch wasm build: carries out the "runtime" events of a training task (wasm/session/runtime.go) with the documented
// bindings alone (Module.load, execute, delete; Tensor.fromArray, data, sizes, delete; ScalarType.Float and Long), so that any object that has
// them will do: the build that a user brings, or what engine.js opens.

/**
 * @typedef {{address: number, bytes: number, dtype: number, sizes: number[]}} HostTensor
 * @typedef {{type: "runtime", call: number, op: "load" | "execute", path?: string, method?: string, inputs?: HostTensor[], output?: HostTensor}} RuntimeEvent
 */

const FLOAT = 6;
const LONG = 4;

export class StockRuntime {
  /** @type {any} */ #et;
  /** @type {any} */ #module = null;

  /** @param {any} et the bindings */
  constructor(et) {
    for (const name of ["Module", "Tensor", "ScalarType"]) {
      if (!et?.[name]) throw new TypeError(`this is no ExecuTorch build with JavaScript bindings: it has no ${name}`);
    }
    this.#et = et;
  }

  /** Loads a program, in place of the one before. @param {Uint8Array} bytes */
  load(bytes) {
    this.close();
    const m = this.#et.Module.load(bytes);
    try {
      for (const name of m.getMethods().filter((/** @type {string} */ n) => !n.startsWith("get_"))) m.loadMethod(name);
    } catch (e) {
      m.delete();
      throw e;
    }
    this.#module = m;
  }

  /**
   * Runs a method on copies of the inputs' bytes and returns the bytes of its one output.
   * @param {string} method @param {{dtype: number, sizes: number[], data: Uint8Array}[]} inputs @param {{dtype: number, sizes: number[]}} output what it has to be
   * @returns {Uint8Array}
   */
  execute(method, inputs, output) {
    if (!this.#module) throw new Error("no program is loaded");
    /** @type {any[]} */
    const tensors = [];
    /** @type {any[]} */
    let outputs = [];
    try {
      for (const { dtype, sizes, data } of inputs) tensors.push(this.#tensor(dtype, sizes, data));
      outputs = this.#module.execute(method, tensors);
      const y = outputs[0];
      const sizes = [...(y?.sizes ?? [])];
      if (outputs.length !== 1 || y?.scalarType?.value !== output.dtype || sizes.join() !== output.sizes.join()) {
        throw new Error(`${outputs.length} outputs, the first ${y?.scalarType?.name}[${sizes}]; expected one of type ${output.dtype} and sizes [${output.sizes}]`);
      }
      const view = y.data;
      return new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
    } finally {
      for (const t of [...tensors, ...outputs]) t?.delete?.();
    }
  }

  /** @param {number} dtype @param {number[]} sizes @param {Uint8Array} data */
  #tensor(dtype, sizes, data) {
    const { Tensor, ScalarType } = this.#et;
    const whole = data.slice().buffer; // aligned, and not the shared memory that the bindings may refuse
    if (dtype === FLOAT) return Tensor.fromArray(sizes, new Float32Array(whole), ScalarType.Float);
    if (dtype === LONG) return Tensor.fromArray(sizes, new BigInt64Array(whole), ScalarType.Long);
    throw new TypeError(`tensors of type ${dtype} are not among those of the bindings`);
  }

  /** Lets go of the program. */
  close() {
    this.#module?.delete();
    this.#module = null;
  }
}

/**
 * Carries out one event and returns the parameters of runtime.answer. run does it in this thread or asks another one.
 * @param {RuntimeEvent} event
 * @param {{load: (bytes: Uint8Array) => void | Promise<void>, execute: (method: string, inputs: {dtype: number, sizes: number[], data: Uint8Array}[], output: {dtype: number, sizes: number[]}) => Uint8Array | Promise<Uint8Array>}} runtime
 * @param {{device: (address: number, bytes: number) => Uint8Array, program: (path: string) => Uint8Array}} host views of device memory, and the module's files
 * @returns {Promise<{call: number, error: string}>}
 */
export async function carryOut(event, runtime, host) {
  try {
    if (event.op === "load") await runtime.load(host.program(event.path ?? ""));
    else {
      const inputs = (event.inputs ?? []).map((t) => ({ dtype: t.dtype, sizes: t.sizes, data: host.device(t.address, t.bytes).slice() }));
      const want = /** @type {HostTensor} */ (event.output);
      const out = await runtime.execute(event.method ?? "", inputs, want);
      if (out.length !== want.bytes) throw new Error(`an output of ${out.length} bytes, expected ${want.bytes}`);
      host.device(want.address, want.bytes).set(out);
    }
    return { call: event.call, error: "" };
  } catch (e) {
    return { call: event.call, error: String(/** @type {any} */ (e)?.message ?? e) || "failed" };
  }
}
