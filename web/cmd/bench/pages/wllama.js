// llama.cpp in the browser: a prompt read, and tokens written.

import { Wllama } from "/peers/node_modules/@wllama/wllama/esm/index.js";

let wllama;
let prompt;

export async function open({ threads, url, tokens }) {
  wllama = new Wllama({ default: "/peers/node_modules/@wllama/wllama/esm/wasm/wllama.wasm" }, { suppressNativeLog: true });
  const blob = await (await fetch(url)).blob();
  await wllama.loadModel([blob], { n_threads: threads, n_ctx: 2 * tokens, n_batch: tokens, n_gpu_layers: 0 });
  prompt = Array.from({ length: tokens }, (_, i) => ["film", "plot", "actor", "scene", "music"][(i * 7919) % 5]).join(" ");
  return { threads: wllama.getNumThreads(), multi: wllama.isMultithread() };
}

/** Reads the prompt and writes n tokens, from an empty cache. Answers llama.cpp's own timings. */
export async function turn({ n, salt }) {
  const r = await wllama.createCompletion({ prompt: `${salt} ${prompt}`, max_tokens: n, temperature: 0, cache_prompt: false, ignore_eos: true });
  return { timings: r.timings, usage: r.usage };
}
