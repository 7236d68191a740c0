// Matrix products of kernels.wasm under node, whose V8 is Chromium's: GOP/s at 1 and more threads.
//   node engine/kernel/bench/bench.mjs [threads] [kernel] [rows] [tile]
// tile is gemm_tile's: 1, the browsers', or 0.
// rows (1024) may be lowered on a busy machine, so that a run fits a time slice.
// Prints the best of many runs, since other programs only ever add time.
import { readFileSync } from "node:fs";
import { Worker, isMainThread, workerData } from "node:worker_threads";

const start = (module, memory) => new WebAssembly.Instance(module, { env: { memory } }).exports;

if (!isMainThread) {
  const { module, memory, tid, stack } = workerData;
  const kernels = start(module, memory);
  kernels.__stack_pointer.value = stack;
  kernels.worker_main(tid);
} else {
  const threads = Number(process.argv[2] ?? 2);
  const only = process.argv[3] ?? "";
  const rows = Number(process.argv[4] ?? 1024);
  const tile = Number(process.argv[5] ?? 1);
  const module = new WebAssembly.Module(readFileSync(new URL("../kernels.wasm", import.meta.url)));
  const memory = new WebAssembly.Memory({ initial: 2048, maximum: 65535, shared: true });
  const kernels = start(module, memory);
  kernels.gemm_tile(tile);
  kernels.threads_set(threads); // before heap_base: makes room for their scratch areas
  kernels.threads_set(1);
  for (let tid = 1; tid < threads; tid++) {
    new Worker(new URL(import.meta.url), { workerData: { module, memory, tid, stack: kernels.worker_stack(tid) } });
  }
  let top = (kernels.heap_base() + 63) & ~63;
  const alloc = (n) => {
    const a = top;
    top = (top + n + 63) & ~63;
    return a;
  };
  const random = (Type, n, f) => {
    const a = alloc(n * Type.BYTES_PER_ELEMENT);
    new Type(memory.buffer, a, n).forEach((_, i, v) => (v[i] = f()));
    return a;
  };
  const real = () => Math.random() * 2 - 1;
  const byte = () => Math.floor(Math.random() * 256) - 128;
  // Like a model's: the largest of a row is 127, most are far smaller.
  const weight = () => Math.max(-127, Math.min(127, Math.round((real() + real() + real()) * 30)));
  const cases = {
    i8(m, n, k) {
      const [x, w, sw] = [random(Float32Array, m * k, real), random(Int8Array, n * k, weight), random(Float32Array, n, real)];
      const [q, sx, y] = [alloc(m * k * 2), alloc(m * 4), alloc(m * n * 4)];
      return () => {
        kernels.i16_quantize_rows(q, sx, 0, x, m, k, k);
        kernels.i8_gemm(y, q, sx, w, sw, 0, m, n, k, k, n, 0);
      };
    },
    f32(m, n, k) {
      const [x, w, y] = [random(Float32Array, m * k, real), random(Float32Array, n * k, real), alloc(m * n * 4)];
      return () => kernels.f32_gemm_nt(y, x, w, 0, m, n, k, k, k, n, 1, 0);
    },
    q4(m, n, k) {
      const half = () => Math.floor(Math.random() * 0x5000);
      const [x, w] = [random(Float32Array, m * k, real), random(Uint8Array, (n * k) / 2, byte)];
      const [d, low] = [random(Uint16Array, (n * k) / 32, half), random(Uint16Array, (n * k) / 32, half)];
      const [q, sx, sums, y] = [alloc(m * k * 2), alloc(m * 4), alloc((m * k) / 8), alloc(m * n * 4)];
      return () => {
        kernels.i16_quantize_rows(q, sx, sums, x, m, k, k);
        kernels.q4_gemm(y, q, sx, sums, w, d, low, 0, m, n, k, n, 0);
      };
    },
  };
  const shapes = [[rows, 576, 576], [rows, 192, 576], [rows, 1536, 576], [rows, 576, 1536], [8, 1536, 576], [1, 1536, 576]];
  for (const [name, prepare] of Object.entries(cases)) {
    if (!name.includes(only)) continue;
    for (const [m, n, k] of shapes) {
      const base = top;
      const run = prepare(m, n, k);
      const row = [];
      for (let t = 1; t <= threads; t++) {
        kernels.threads_set(t);
        let best = Infinity;
        const until = performance.now() + 1500;
        const reps = Math.max(1, Math.floor(5e7 / (m * n * k)));
        for (let i = 0; i < 10 || performance.now() < until; i++) {
          const from = performance.now();
          for (let j = 0; j < reps; j++) run();
          best = Math.min(best, (performance.now() - from) / reps);
        }
        row.push(`${t} threads ${((2 * m * n * k) / best / 1e6).toFixed(1)}`);
      }
      console.log(`${name} ${m}x${n}x${k}: ${row.join(", ")} GOP/s`);
      top = base;
    }
  }
  process.exit(0);
}
