// The 4x8 tile of the integer matrix products: pairs of neighbours of k of an activation row, repeated
// in all four lanes, times the same pairs of 8 output channels. Each lane is the sum of one output, so nothing
// has to be added across lanes. It reads activations in the layout of gemm_i16.h (two pairs of rows) and a
// panel of 8 channels, int16, [k8/2][8][2].
//
// gemm_tile chooses between it and the 2x4 tile; integer sums are exact, so both give the same bits.
// Measured for the tile alone (GOP/s, Chromium 156, one thread, K=576): 4x8 87; 5x8 89; 3x12 86; 6x8, which spills, 60;
// 2x4 70 to 84. vpmaddwd and vpaddd from registers, without loads: 116. Unrolling and other orders of the same
// instructions change nothing, or spill. In wazero 4x8 has 22 where 2x4 has 38.
#pragma once

#include "gemm_i16.h"

// tt_splats says which tile to use.
extern int32_t tt_splats;

// tt_interleave writes 8 elements of k of 4 channels into their half of a panel.
TT_INLINE void tt_interleave(int16_t *panel, v128_t v0, v128_t v1, v128_t v2, v128_t v3) {
  v128_t t0 = wasm_i32x4_shuffle(v0, v1, 0, 4, 1, 5), t1 = wasm_i32x4_shuffle(v2, v3, 0, 4, 1, 5);
  v128_t t2 = wasm_i32x4_shuffle(v0, v1, 2, 6, 3, 7), t3 = wasm_i32x4_shuffle(v2, v3, 2, 6, 3, 7);
  wasm_v128_store(panel, wasm_i32x4_shuffle(t0, t1, 0, 1, 4, 5));
  wasm_v128_store(panel + 16, wasm_i32x4_shuffle(t0, t1, 2, 3, 6, 7));
  wasm_v128_store(panel + 32, wasm_i32x4_shuffle(t2, t3, 0, 1, 4, 5));
  wasm_v128_store(panel + 48, wasm_i32x4_shuffle(t2, t3, 2, 3, 6, 7));
}

// tt_splat4 returns the sums of two pairs of rows, the second at a2, against a panel: row r's are out[2r] and
// out[2r+1]. The loop must stay one: unrolled, the compiler gathers the additions of a sum and keeps 24 vectors alive.
TT_INLINE void tt_splat4(const int16_t *a, const int16_t *a2, const int16_t *b, int32_t k8, v128_t out[8]) {
  v128_t c00 = wasm_i32x4_const_splat(0), c01 = c00, c10 = c00, c11 = c00;
  v128_t c20 = c00, c21 = c00, c30 = c00, c31 = c00;
  const int16_t *end = b + k8 * 8;
  do {
    const int16_t *stop = b + 64;
#pragma clang loop unroll(disable)
    do {
      v128_t b0 = wasm_v128_load(b), b1 = wasm_v128_load(b + 8);
      v128_t x = wasm_v128_load32_splat(a);
      c00 = tt_mac(c00, x, b0), c01 = tt_mac(c01, x, b1);
      x = wasm_v128_load32_splat(a + 8);
      c10 = tt_mac(c10, x, b0), c11 = tt_mac(c11, x, b1);
      x = wasm_v128_load32_splat(a2);
      c20 = tt_mac(c20, x, b0), c21 = tt_mac(c21, x, b1);
      x = wasm_v128_load32_splat(a2 + 8);
      c30 = tt_mac(c30, x, b0), c31 = tt_mac(c31, x, b1);
      a += 2, a2 += 2, b += 16;
    } while (b != stop);
    a += 8, a2 += 8;
  } while (b != end);
  out[0] = c00, out[1] = c01, out[2] = c10, out[3] = c11;
  out[4] = c20, out[5] = c21, out[6] = c30, out[7] = c31;
}

// tt_splat1 is tt_splat4 for one row, 8 of every `hop` elements.
TT_INLINE void tt_splat1(const int16_t *a, int32_t hop, const int16_t *b, int32_t k8, v128_t out[2]) {
  v128_t c0 = wasm_i32x4_const_splat(0), c1 = c0;
  for (const int16_t *end = b + k8 * 8; b != end; a += hop, b += 64) {
    for (int32_t p = 0; p < 4; p++) {
      v128_t x = wasm_v128_load32_splat(a + p * 2);
      c0 = tt_mac(c0, x, wasm_v128_load(b + p * 16));
      c1 = tt_mac(c1, x, wasm_v128_load(b + p * 16 + 8));
    }
  }
  out[0] = c0, out[1] = c1;
}
