// Module of the JavaScript API: a program, its methods and their calls. Names, argument order and errors are those of the stock ExecuTorch wasm
// bindings (extension/wasm in its repository); what goes beyond them is named in engine.d.ts.

import { readAll } from "./platform.js";
import { EngineError } from "./runtime.js";
import { BindingError, Tensor } from "./tensor.js";
import { Tag, TagValue, arrayOf, scalarType } from "./types.js";

/** Numbers of the stock runtime's errors (runtime/core/error.h) by this module's codes. @type {Record<string, number>} */
const numbers = {
  invalid_state: 0x02, not_supported: 0x10, invalid_argument: 0x12, invalid_params: 0x12, operator_missing: 0x14, not_found: 0x22,
  out_of_memory: 0x21, invalid_program: 0x23, invalid_external_data: 0x24,
};

/** An error as the stock bindings word it, with what went wrong behind it. @param {string} what @param {any} e */
function failure(what, e) {
  const n = e instanceof EngineError ? numbers[e.code] ?? 0x01 : 0x22;
  const error = new Error(`${what}, error: 0x${n.toString(16)}: ${e?.message ?? e}`, { cause: e });
  return Object.assign(error, { code: n });
}

/** @param {any} v @returns {any} an input of program.inputs */
function toInput(v) {
  if (v === undefined) throw new TypeError("Value cannot be undefined");
  if (v === null) return { tag: "None" };
  switch (typeof v) {
    case "number": return { tag: "Double", value: String(v) };
    case "boolean": return { tag: "Bool", value: String(v) };
    case "bigint": return { tag: "Int", value: String(v) };
    case "object":
      if (!(v instanceof Tensor)) throw new Error(`Received non-tensor object: ${JSON.stringify(v)}`);
      return { tag: "Tensor", dtype: v.scalarType.value, sizes: v.sizes, order: v.dimOrder };
  }
  throw new TypeError(`Unsupported JavaScript type: ${typeof v}`);
}

/** @param {any} t @returns {any} */
const tensorInfo = (t) => t === null ? undefined : {
  sizes: t.sizes ?? [], dimOrder: t.order, scalarType: scalarType(t.dtype), isMemoryPlanned: t.planned, nbytes: t.bytes, nBytes: t.bytes, name: t.name, isDynamic: t.dynamic,
};

/** @param {string[]} names @returns {TagValue[]} */
const tagsOf = (names) => names.map((n) => /** @type {any} */ (Tag)[n]);

/** What ran and how long it took, since startProfile. */
class Profile {
  /** @param {any} rows @param {number} dropped @param {string} trace */
  constructor(rows, dropped, trace) {
    this.rows = rows;
    this.dropped = dropped;
    this.trace = trace;
  }

  /** The rows as text, the longest time first. */
  table() {
    const head = ["ms", "share", "calls", "read MB", "written MB", "by", "operator"];
    const lines = [head, ...this.rows.map((/** @type {any} */ r) => [(r.seconds * 1e3).toFixed(3), `${(r.share * 100).toFixed(1)}%`, `${r.calls}`,
      (r.read / 1e6).toFixed(3), (r.written / 1e6).toFixed(3), r.by, `${r.method}: ${r.operator}`])];
    const width = head.map((_, i) => Math.max(...lines.map((l) => l[i].length)));
    return lines.map((l) => l.map((/** @type {string} */ cell, /** @type {number} */ i) => (i === head.length - 1 ? cell : cell.padStart(width[i]))).join("  ") + "\n").join("");
  }
}

/** An ETDump, the stock runtime's profile file. */
class ETDumpResult {
  /** @type {Uint8Array | null} */ #buffer;

  /** @param {Uint8Array} buffer */
  constructor(buffer) {
    this.#buffer = buffer;
  }

  get buffer() {
    if (!this.#buffer) throw new BindingError("Cannot use deleted object of type ETDumpResult");
    return this.#buffer;
  }

  delete() {
    if (!this.#buffer) throw new BindingError("ETDumpResult instance already deleted");
    this.#buffer = null;
  }
}

/** @param {any} data @returns {string | Uint8Array} */
function programData(data) {
  if (data === null || data === undefined) throw new TypeError("Data cannot be null or undefined");
  if (typeof data === "string" || data instanceof Uint8Array) return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  throw new TypeError(`Unsupported data type: ${typeof data}`);
}

/** The class Module on a runtime. @param {import("./runtime.js").Runtime} rt */
export function moduleOn(rt) {
  return class Module {
    #source;
    #data;
    /** @type {string[]} */ #paths = [];
    #program = 0;
    /** @type {string[]} */ #methods = [];
    #profiling = false;
    #deleted = false;

    /** Not for callers: Module.load makes modules. @param {string | Uint8Array} source @param {(string | Uint8Array)[]} data */
    constructor(source, data) {
      this.#source = source;
      this.#data = data;
    }

    /** @param {any} data @param {any} [external] */
    static load(data, external = []) {
      return new Module(programData(data), (Array.isArray(external) ? external : [external]).map(programData));
    }

    /** @param {any} source @param {import("./engine.js").LoadOptions} [options] */
    static async loadAsync(source, { data = [], methods = [], onProgress, signal } = {}) {
      const fetchOne = async (/** @type {any} */ from, /** @type {"program" | "data"} */ phase) => {
        if (typeof from === "string" && !rt.files.named.has(from) && typeof location !== "undefined") from = new URL(from, location.href);
        if (!(from instanceof URL) && !(from instanceof Blob)) return programData(from);
        return readAll(from, (done, total) => onProgress?.({ phase, done, total }), signal);
      };
      const program = await fetchOne(source, "program");
      const external = [];
      for (const d of Array.isArray(data) ? data : [data]) external.push(await fetchOne(d, "data"));
      const m = Module.load(program, external);
      try {
        m.getMethods();
        for (const name of methods) m.loadMethod(name);
      } catch (e) {
        m.delete();
        throw e;
      }
      return m;
    }

    /** Opens the program at the first use, as the stock runtime does. @param {string} what for the error's message */
    #open(what) {
      if (this.#deleted) throw new BindingError("Cannot use deleted object of type Module");
      if (this.#program) return this.#program;
      try {
        this.#paths = [];
        for (const d of [this.#source, ...this.#data]) this.#paths.push(rt.files.mount(d));
        const r = rt.call("program.open", { path: this.#paths[0], data: this.#paths.slice(1) });
        this.#program = r.program;
        this.#methods = r.methods;
        if (this.#profiling) rt.call("program.observe", { program: r.program, on: true });
        return this.#program;
      } catch (e) {
        this.#release();
        throw failure(what, e);
      }
    }

    #release() {
      for (const p of this.#paths) rt.files.release(p);
      this.#paths = [];
    }

    getMethods() {
      this.#open("Failed to get methods");
      return [...this.#methods];
    }

    /** @param {string} method */
    loadMethod(method) {
      const what = `Failed to load method ${method}`;
      const program = this.#open(what);
      try {
        rt.call("program.load", { program, method: String(method) });
      } catch (e) {
        throw failure(what, e);
      }
    }

    /** @param {string} method @returns {any} */
    getMethodMeta(method) {
      const what = `Failed to get method meta for ${method}`;
      const program = this.#open(what);
      let m;
      try {
        m = rt.call("program.meta", { program, method: String(method) });
      } catch (e) {
        throw failure(what, e);
      }
      return {
        name: m.name, inputTags: tagsOf(m.inputTags), inputTensorMeta: m.inputs.map(tensorInfo), outputTags: tagsOf(m.outputTags), outputTensorMeta: m.outputs.map(tensorInfo),
        attributeTensorMeta: m.attributes.map(tensorInfo), memoryPlannedBufferSizes: m.planned, backends: m.backends, numInstructions: m.instructions,
      };
    }

    /** @param {string} method */
    getMethodMetadata(method) {
      return this.getMethodMeta(method);
    }

    /** @param {string} method @param {any} inputs one value or an array of them */
    execute(method, inputs) {
      const list = Array.isArray(inputs) ? inputs : [inputs];
      const request = list.map(toInput);
      const what = `Failed to execute method ${method}`;
      const program = this.#open(what);
      let outputs;
      try {
        const call = { program, method: String(method) };
        const { places } = rt.call("program.inputs", { ...call, inputs: request });
        list.forEach((v, i) => {
          if (!(v instanceof Tensor) || places[i].bytes === 0) return;
          const from = new Uint8Array(v.data.buffer, v.data.byteOffset, v.data.byteLength);
          rt.device(places[i].address, places[i].bytes).set(from);
        });
        outputs = rt.call("program.execute", call).outputs;
      } catch (e) {
        throw failure(what, e);
      }
      return outputs.map((/** @type {any} */ o) => {
        switch (o.tag) {
          case "None": return null;
          case "Int": return BigInt(o.value);
          case "Double": return Number(o.value);
          case "Bool": return o.value === "true";
          case "Tensor": {
            const type = scalarType(o.dtype);
            const bytes = rt.device(o.place.address, o.place.bytes).slice(); // a copy: the next call reuses the memory
            return new Tensor(o.sizes ?? [], new (arrayOf(type))(bytes.buffer), type, o.order);
          }
        }
        throw new TypeError(`Unsupported EValue type: ${o.tag}`);
      });
    }

    /** @param {any} inputs */
    forward(inputs) {
      return this.execute("forward", inputs);
    }

    startProfile() {
      const program = this.#open("Failed to start a profile");
      rt.call("program.observe", { program, on: true });
      this.#profiling = true;
    }

    stopProfile() {
      if (this.#program) rt.call("program.observe", { program: this.#program, on: false });
      this.#profiling = false;
    }

    profile() {
      const program = this.#observed();
      const { rows, dropped } = rt.call("program.profile", { program, trace: "/out/trace.json" });
      return new Profile(rows, dropped, new TextDecoder().decode(rt.files.take("trace.json")));
    }

    etdump() {
      const program = this.#observed();
      rt.call("program.profile", { program, etdump: "/out/profile.etdp" });
      return new ETDumpResult(rt.files.take("profile.etdp"));
    }

    #observed() {
      if (!this.#profiling) throw new Error("nothing is recorded: call startProfile() first");
      return this.#open("Failed to read the profile");
    }

    delete() {
      if (this.#deleted) throw new BindingError("Module instance already deleted");
      this.#deleted = true;
      if (this.#program && !rt.dead) rt.call("program.close", { program: this.#program });
      this.#release();
    }
  };
}
