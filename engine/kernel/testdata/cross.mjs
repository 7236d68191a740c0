// Runs a fixed list of kernels in node's engine and prints one checksum each; cross_test.go does the same in wazero.
import { readFileSync } from "node:fs";

const memory = new WebAssembly.Memory({ initial: 1024, maximum: 65536 });
const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports;
const base = (kernels.heap_base() + 63) & ~63;
const words = new Uint32Array(memory.buffer);
const n = 1 << 20;

// FNV-1a over words; NaN counts as one value, since WebAssembly leaves its sign and payload open.
function checksum(address, count) {
  let h = 2166136261;
  for (let i = 0; i < count; i++) {
    let w = words[address / 4 + i];
    if ((w & 0x7fffffff) > 0x7f800000) w = 0x7fc00000;
    h = Math.imul(h ^ w, 16777619);
  }
  return h >>> 0;
}

for (let i = 0; i < n; i++) words[base / 4 + i] = Math.imul(i, 4093);
const out = base + 8 * n;
for (let op = 0; op <= 21; op++) {
  kernels.f32_unary(op, out, base, n);
  console.log(`unary ${op} ${checksum(out, n)}`);
}
kernels.zo_noise(0, out, 77n, 5n, n);
console.log(`noise ${checksum(out, n)}`);
const to = out + 4 * n;
kernels.f32_attention(to, 576, out, 576, out, 192, out + 4096, 192, 8, 67, 9, 3, 64, 0.125, 1);
console.log(`attention ${checksum(to, 8 * 67 * 576)}`);
kernels.f32_softmax(0, to, 1021, out, 1021, 1021, 1021, 1);
console.log(`softmax ${checksum(to, 1021 * 1021)}`);
kernels.f32_rmsnorm(to, 1021, out, 1021, out, 1e-5, 1021, 1021);
console.log(`rmsnorm ${checksum(to, 1021 * 1021)}`);
kernels.f32_scalar(6, to, out, 2.7, 1, 1, n);
console.log(`pow ${checksum(to, n)}`);
const [q, sx, sums, halves] = [to + 8 * n, to + 12 * n, to + 13 * n, to + 14 * n];
const [m, cols, k] = [257, 131, 576];
kernels.f32_gemm_nt(to, out, out + 65536, 0, m, cols, k, k, k, cols, 0.3, 0);
console.log(`f32_gemm ${checksum(to, m * cols)}`);
kernels.i16_quantize_rows(q, sx, sums, out, m, k, k);
kernels.i8_gemm(to, q, sx, base, out, 0, m, cols, k, k, cols, 0);
console.log(`i8_gemm ${checksum(to, m * cols)}`);
kernels.mem_set(halves, 0x2c, BigInt((cols * k) / 16));
kernels.q4_gemm(to, q, sx, sums, base, halves, halves, 0, m, cols, k, cols, 0);
console.log(`q4_gemm ${checksum(to, m * cols)}`);
