// Runs ExecuTorch programs, in a browser and in Node, with the names of the stock ExecuTorch wasm bindings: see engine.d.ts and docs/ENGINE_API.md.
//
//   import { open } from "./engine.js";
//   const et = await open();
//   const module = await et.Module.loadAsync("model.pte");
//   const [y] = module.forward([et.Tensor.ones([1, 3])]);
//
// After open, and but for loadAsync, every call is synchronous and runs in this thread.

import { moduleOn } from "./module.js";
import { Runtime, EngineError } from "./runtime.js";
import { Tensor, BindingError } from "./tensor.js";
import { ScalarType, Tag } from "./types.js";

export { Tensor, ScalarType, Tag, BindingError, EngineError };

/** @param {import("./engine.js").OpenOptions} [options] @returns {Promise<import("./engine.js").ExecuTorch>} */
export async function open(options) {
  const rt = await Runtime.open(options ?? {});
  return Object.freeze({
    Module: moduleOn(rt), Tensor, ScalarType, Tag,
    FS: Object.freeze({
      writeFile: (/** @type {string} */ name, /** @type {any} */ data) => void rt.files.named.set(String(name), typeof data === "string" ? new TextEncoder().encode(data) : new Uint8Array(data)),
      readFile: (/** @type {string} */ name) => {
        const data = rt.files.named.get(String(name));
        if (!data) throw new Error(`${name}: no such file`);
        return data.slice();
      },
      unlink: (/** @type {string} */ name) => {
        if (!rt.files.named.delete(String(name))) throw new Error(`${name}: no such file`);
      },
    }),
    get threads() {
      return rt.threads;
    },
    memory: () => rt.memory(),
    close: () => rt.close(),
  });
}
