// One more thread of kernels.wasm: the same module over the same memory, on a stack of its own, parked in worker_main for good.
// It never reads another message; ending the worker that started it ends it.

self.onmessage = async (/** @type {MessageEvent} */ { data: { module, memory, tid, stack } }) => {
  try {
    const instance = await WebAssembly.instantiate(/** @type {WebAssembly.Module} */ (module), { env: { memory } });
    const e = /** @type {import("./types.js").KernelExports} */ (instance.exports);
    if (!e.worker_main) throw new Error("kernels.wasm has no worker_main");
    e.__stack_pointer.value = stack;
    self.postMessage({ ready: tid });
    e.worker_main(tid);
  } catch (err) {
    self.postMessage({ failed: String(/** @type {any} */ (err)?.message ?? err) });
  }
};
