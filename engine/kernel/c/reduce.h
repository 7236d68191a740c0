// Sums and extremes of a row of floats in one fixed order.
//
// A sum runs in sixteen lanes over blocks of 1024 elements; the lanes of a block are added as
// ((0 + 1) + (2 + 3)) of the four vectors and then as sum_lanes does, and the blocks' totals are added in
// double. So the error of a long sum stays at the level of a block's.
#pragma once

#include "math.h"
#include "tt.h"

#define SUM_BLOCK 1024

// ROW_SUM defines a function that sums EXPR over a row, where x is four elements; a part row is
// filled up with `fill`, for which EXPR must give zero.
#define ROW_SUM(NAME, EXPR, ...)                                    \
  TT_INLINE double NAME(const float *p, int32_t n, ##__VA_ARGS__) { \
    double total = 0;                                               \
    for (int32_t from = 0; from < n; from += SUM_BLOCK) {           \
      int32_t stop = tt_min32(n, from + SUM_BLOCK), i = from;       \
      v128_t s0 = F4(0.0f), s1 = s0, s2 = s0, s3 = s0, x;           \
      for (; i + 16 <= stop; i += 16) {                             \
        x = wasm_v128_load(p + i);                                  \
        s0 = ADD(s0, EXPR);                                         \
        x = wasm_v128_load(p + i + 4);                              \
        s1 = ADD(s1, EXPR);                                         \
        x = wasm_v128_load(p + i + 8);                              \
        s2 = ADD(s2, EXPR);                                         \
        x = wasm_v128_load(p + i + 12);                             \
        s3 = ADD(s3, EXPR);                                         \
      }                                                             \
      for (; i + 4 <= stop; i += 4) {                               \
        x = wasm_v128_load(p + i);                                  \
        s0 = ADD(s0, EXPR);                                         \
      }                                                             \
      float s = sum_lanes(ADD(ADD(s0, s1), ADD(s2, s3)));           \
      for (; i < stop; i++) {                                       \
        x = wasm_f32x4_splat(p[i]);                                 \
        s += wasm_f32x4_extract_lane(EXPR, 0);                      \
      }                                                             \
      total += (double)s;                                           \
    }                                                               \
    return total;                                                   \
  }

ROW_SUM(row_sum, x)
ROW_SUM(row_sum_squares, MUL(x, x))
ROW_SUM(row_sum_deviations, MUL(SUB(x, mean), SUB(x, mean)), v128_t mean)
ROW_SUM(row_sum_exp, exp_f32x4(SUB(x, top)), v128_t top)

// row_max and row_min propagate NaN; n is at least 1.
TT_INLINE float row_max(const float *p, int32_t n) {
  v128_t m = wasm_f32x4_splat(p[0]);
  int32_t i = 0;
  for (; i + 4 <= n; i += 4) {
    m = wasm_f32x4_max(m, wasm_v128_load(p + i));
  }
  for (; i < n; i++) {
    m = wasm_f32x4_max(m, wasm_f32x4_splat(p[i]));
  }
  return max_lanes(m);
}

TT_INLINE float row_min(const float *p, int32_t n) {
  v128_t m = wasm_f32x4_splat(p[0]);
  int32_t i = 0;
  for (; i + 4 <= n; i += 4) {
    m = wasm_f32x4_min(m, wasm_v128_load(p + i));
  }
  for (; i < n; i++) {
    m = wasm_f32x4_min(m, wasm_f32x4_splat(p[i]));
  }
  return min_lanes(m);
}
