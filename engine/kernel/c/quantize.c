// Activations to integers of TT_ACTIVATION_MAX at most, laid out for the integer matrix products (gemm_i16.h).
#include "gemm_i16.h"
#include "quant.h"

typedef struct {
  int16_t *q;
  float *scale;
  int32_t *sums;
  const float *x;
  int32_t m, k, k8, ldx;
} quantize_args;

static void row(const quantize_args *g, int32_t r) {
  const float *x = g->x + (size_t)r * (size_t)g->ldx;
  int32_t height = (r | 1) < g->m ? 2 : 1;
  int16_t *q = g->q + (size_t)(r & ~1) * (size_t)g->k8 + (r & 1) * 8;
  float top = tt_absmax(x, g->k);
  float inverse = top > 0 ? (float)TT_ACTIVATION_MAX / top : 0;
  // For a top below about 2.4e-35 the inverse overflows: such a row is zero for all that follows.
  if (inverse > 3.0e38f) {
    inverse = 0;
  }
  g->scale[r] = top / (float)TT_ACTIVATION_MAX;
  v128_t by = wasm_f32x4_splat(inverse);
  v128_t group = wasm_i32x4_const_splat(0);
  const v128_t ones = wasm_i16x8_const_splat(1);
  int32_t *sums = g->sums ? g->sums + (size_t)r * (size_t)((g->k + 31) / 32) : 0;
  for (int32_t i = 0; i < g->k8; i += 8) {
    v128_t lo, hi;
    if (i + 8 <= g->k) {
      lo = wasm_v128_load(x + i);
      hi = wasm_v128_load(x + i + 4);
    } else {
      float rest[8] = {0};
      for (int32_t j = 0; i + j < g->k; j++) {
        rest[j] = x[i + j];
      }
      lo = wasm_v128_load(rest);
      hi = wasm_v128_load(rest + 4);
    }
    lo = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_mul(lo, by)));
    hi = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_mul(hi, by)));
    v128_t v = wasm_i16x8_narrow_i32x4(lo, hi);
    wasm_v128_store(q, v);
    q += height * 8;
    if (sums) {
      group = tt_mac(group, v, ones);
      if ((i & 24) == 24 || i + 8 == g->k8) {
        v128_t s = tt_sum4_i32(group, group, group, group);
        *sums++ = wasm_i32x4_extract_lane(s, 0);
        group = wasm_i32x4_const_splat(0);
      }
    }
  }
}

static void body(const void *args, int32_t begin, int32_t end) {
  for (int32_t r = begin; r < end; r++) {
    row(args, r);
  }
}

void i16_quantize_rows(void *q, void *scale, void *sums, void *x, int32_t m, int32_t k, int32_t ldx) {
  quantize_args g = {q, scale, sums, x, m, k, tt_round8(k), ldx};
  parallel_for(body, &g, m, 1 + 30000 / (k + 1));
}
