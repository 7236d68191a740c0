// One more thread of kernels.wasm, in a Web Worker or a Node worker: the same module over the same memory on a stack of its own, parked in
// worker_main until threads_stop, or until whoever started it ends it.

import { isNode, nodeModule } from "./platform.js";

/** @param {{module: WebAssembly.Module, memory: WebAssembly.Memory, tid: number, stack: number}} job @param {(answer: any) => void} answer */
async function serve({ module, memory, tid, stack }, answer) {
  try {
    const { exports } = /** @type {{exports: any}} */ (await WebAssembly.instantiate(module, { env: { memory } }));
    exports.__stack_pointer.value = stack;
    answer({ ready: tid });
    exports.worker_main(tid);
  } catch (e) {
    answer({ failed: String(/** @type {any} */ (e)?.message ?? e) });
  }
}

if (isNode) {
  const { parentPort, workerData } = await nodeModule("worker_threads");
  await serve(workerData, (a) => parentPort.postMessage(a));
} else {
  self.onmessage = ({ data }) => void serve(data, (a) => self.postMessage(a));
}
