// onnxruntime-web on the trunk.

import * as ort from "/peers/node_modules/onnxruntime-web/dist/ort.min.mjs";

let session;
let feeds;

export async function open({ threads, url, rows, tokens, vocab }) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = "/peers/node_modules/onnxruntime-web/dist/";
  session = await ort.InferenceSession.create(url, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const ids = BigInt64Array.from({ length: rows * tokens }, (_, i) => BigInt((i * 7919) % vocab));
  feeds = { ids: new ort.Tensor("int64", ids, [rows, tokens]) };
  const out = await session.run(feeds);
  return { dims: out[session.outputNames[0]].dims };
}

/** Runs for about so many seconds; answers each run's milliseconds. */
export async function turn({ seconds }) {
  const ms = [];
  const end = performance.now() + 1000 * seconds;
  while (ms.length < 2 || performance.now() < end) {
    const began = performance.now();
    const out = await session.run(feeds);
    ms.push(performance.now() - began);
    for (const name of session.outputNames) out[name].dispose();
  }
  return { ms };
}
