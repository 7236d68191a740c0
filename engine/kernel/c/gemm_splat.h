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

// tt_splat_run is tt_splat4 up to the panel's end (gemm_splat.c).
void tt_splat_run(const int16_t *a, const int16_t *a2, const int16_t *b, const int16_t *end, v128_t *out);

// tt_splat4 returns the sums of two pairs of rows, the second at a2, against a panel: row r's are out[2r] and
// out[2r+1].
TT_INLINE void tt_splat4(const int16_t *a, const int16_t *a2, const int16_t *b, int32_t k8, v128_t out[8]) {
  tt_splat_run(a, a2, b, b + k8 * 8, out);
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
