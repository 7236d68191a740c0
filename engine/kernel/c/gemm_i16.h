// What the integer matrix products share: the layout of quantised activations and the tile.
//
// Activations: int16 in +-TT_ACTIVATION_MAX, written by i16_quantize_rows. Rows come in pairs, and a pair
// is interleaved by 8 elements of k: [k8/8][2][8] with k8 = k rounded up to 8, zeros in the padding.
// The last row of an odd number of rows stands alone: [k8/8][1][8]. A matrix takes m*k8 elements and
// row pair p starts at element p*2*k8. One tile then reads two streams, both with constant offsets:
// wazero checks the bounds of a load unless an earlier one off the same base has covered it, and
// that made half of the time with row-major operands.
//
// Weights: a panel of 4 output channels, int16, [k8/8][4][8], unpacked in scratch memory.
//
// The 2x4 tile keeps a vector of four partial sums for each output and adds them up at the end.
// i32x4.dot_i16x8_s multiplies 8 pairs and adds neighbours. A sum of TT_EXACT_K products is exact in int32, and
// so is one of any length over weights whose magnitudes add up to TT_EXACT_WEIGHTS at most; other sums are put
// together from runs of TT_EXACT_K in double, where they are exact too. So each is rounded once, whoever made it.
//
// Measured (GOP/s, Chromium 156 / wazero 1.12, one thread, K=576): 2x4 rows, 2 steps unrolled
// 69 / 38; 4x8 splatted pairs 77 / 22; 4x4 rows 53 / 14; 1x8 rows 59 / 27. wazero spills from about
// 13 live vectors on, which rules out what is best in a browser: gemm_splat.h has that tile.
#pragma once

#include "tt.h"

// 32767 * 128 * 512 is just below 2^31. See RATIONALE.md.
#define TT_ACTIVATION_MAX 32767
#define TT_EXACT_K 512
#define TT_EXACT_WEIGHTS (INT32_MAX / TT_ACTIVATION_MAX)

TT_INLINE int32_t tt_round8(int32_t k) { return (k + 7) & ~7; }

// tt_sum4 returns [sum(a), sum(b), sum(c), sum(d)] of the four lanes of each.
TT_INLINE v128_t tt_sum4_i32(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t ab = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  v128_t cd = wasm_i32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_i32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5), wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}

// tt_sum4_f32 is the same in float: ((lane 0 + lane 2) + (lane 1 + lane 3)) of each.
TT_INLINE v128_t tt_sum4_f32(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t ab = wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  v128_t cd = wasm_f32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_f32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5), wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}

TT_INLINE v128_t tt_mac(v128_t sum, v128_t a, v128_t b) { return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(a, b)); }

// tt_store_row writes out[0..3] = ((f * sx) * sw + bias) (+ out), only the first `cols` of them when
// fewer than 4 columns are left. sw and bias point at the column's entry; bias may be null.
TT_INLINE void tt_store_row(float *out, v128_t f, float sx, const float *sw, const float *bias, int32_t cols,
                            int32_t accumulate) {
  f = wasm_f32x4_mul(f, wasm_f32x4_splat(sx));
  if (cols >= 4) {
    if (sw) {
      f = wasm_f32x4_mul(f, wasm_v128_load(sw));
    }
    if (bias) {
      f = wasm_f32x4_add(f, wasm_v128_load(bias));
    }
    if (accumulate) {
      f = wasm_f32x4_add(f, wasm_v128_load(out));
    }
    wasm_v128_store(out, f);
    return;
  }
  float v[4];
  wasm_v128_store(v, f);
  for (int32_t j = 0; j < cols; j++) {
    float y = sw ? v[j] * sw[j] : v[j];
    if (bias) {
      y += bias[j];
    }
    out[j] = accumulate ? y + out[j] : y;
  }
}
