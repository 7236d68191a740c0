// Conversions between f32 and int8, and elementwise operations of int8, as XNNPACK defines them.
#include "tt.h"

#define GRAIN 16384

typedef struct {
  void *y;
  const void *a, *b;
  float scale;
  int32_t am, bm, bias, shift, zero;
} map_args;

TT_INLINE v128_t to_int(v128_t x, v128_t by) {
  return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_mul(x, by)));
}

// eight returns round(x * by) + zero of p[0..8) as int16, saturated.
TT_INLINE v128_t eight(const float *p, v128_t by, v128_t zero) {
  v128_t v = wasm_i16x8_narrow_i32x4(to_int(wasm_v128_load(p), by), to_int(wasm_v128_load(p + 4), by));
  return wasm_i16x8_add_sat(v, zero);
}

static TT_NOINLINE void quantize(int8_t *y, const float *x, float inverse, int32_t zero, int32_t n) {
  v128_t by = wasm_f32x4_splat(inverse), z = wasm_i16x8_splat((int16_t)zero);
  int32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    v128_t v = eight(x + i, by, z);
    wasm_v128_store64_lane(y + i, wasm_i8x16_narrow_i16x8(v, v), 0);
  }
  if (i < n) {
    float rest[8] = {0};
    int8_t out[16];
    for (int32_t j = i; j < n; j++) {
      rest[j - i] = x[j];
    }
    v128_t v = eight(rest, by, z);
    wasm_v128_store(out, wasm_i8x16_narrow_i16x8(v, v));
    for (int32_t j = i; j < n; j++) {
      y[j] = out[j - i];
    }
  }
}

static void quantize_body(const void *args, int32_t begin, int32_t end) {
  const map_args *g = args;
  quantize((int8_t *)g->y + begin, (const float *)g->a + begin, g->scale, g->zero, end - begin);
}

void i8_quantize(void *y, void *x, float inverse, int32_t zero, int32_t n) {
  map_args g = {y, x, 0, inverse, 0, 0, 0, 0, zero};
  parallel_for(quantize_body, &g, n, GRAIN);
}

typedef struct {
  int8_t *y;
  float *scale;
  int32_t *zero;
  const float *x;
  int32_t k;
} rows_args;

// A row's range is widened to include 0; the zero point is rounded from the end whose error is smaller.
static void rows_body(const void *args, int32_t begin, int32_t end) {
  const rows_args *g = args;
  for (int32_t r = begin; r < end; r++) {
    const float *x = g->x + (size_t)r * (size_t)g->k;
    v128_t lo4 = wasm_f32x4_const_splat(0), hi4 = lo4;
    int32_t i = 0;
    for (; i + 4 <= g->k; i += 4) {
      v128_t v = wasm_v128_load(x + i);
      lo4 = wasm_f32x4_pmin(lo4, v), hi4 = wasm_f32x4_pmax(hi4, v);
    }
    float l[4], h[4], lo = 0, hi = 0;
    wasm_v128_store(l, lo4);
    wasm_v128_store(h, hi4);
    for (int32_t j = 0; j < 4; j++) {
      lo = l[j] < lo ? l[j] : lo, hi = h[j] > hi ? h[j] : hi;
    }
    for (; i < g->k; i++) {
      lo = x[i] < lo ? x[i] : lo, hi = x[i] > hi ? x[i] : hi;
    }
    float scale = lo == hi ? 1.0f : 255.0f / (hi - lo);
    float below = lo * scale, above = hi * scale;
    float zero = (-128.0f + below) + (127.0f + above) > 0 ? -128.0f - below : 127.0f - above;
    zero = zero < -128.0f ? -128.0f : zero;
    zero = zero > 127.0f ? 127.0f : zero;
    g->zero[r] = wasm_i32x4_extract_lane(wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_splat(zero))), 0);
    g->scale[r] = 1.0f / scale;
    quantize(g->y + (size_t)r * (size_t)g->k, x, scale, g->zero[r], g->k);
  }
}

void i8_quantize_rows(void *y, void *scale, void *zero, void *x, int32_t m, int32_t k) {
  rows_args g = {y, scale, zero, x, k};
  parallel_for(rows_body, &g, m, 1 + 20000 / (k + 1));
}

static void dequantize_body(const void *args, int32_t begin, int32_t end) {
  const map_args *g = args;
  const int8_t *x = g->a;
  float *y = g->y;
  v128_t zero = wasm_i16x8_splat((int16_t)g->zero), by = wasm_f32x4_splat(g->scale);
  int32_t i = begin;
  for (; i + 8 <= end; i += 8) {
    v128_t v = wasm_i16x8_sub(wasm_i16x8_load8x8(x + i), zero);
    wasm_v128_store(y + i, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(v)), by));
    wasm_v128_store(y + i + 4, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(v)), by));
  }
  for (; i < end; i++) {
    y[i] = (float)(x[i] - g->zero) * g->scale;
  }
}

void i8_dequantize(void *y, void *x, float scale, int32_t zero, int32_t n) {
  map_args g = {y, x, 0, scale, 0, 0, 0, 0, zero};
  parallel_for(dequantize_body, &g, n, GRAIN);
}

static void lookup_body(const void *args, int32_t begin, int32_t end) {
  const map_args *g = args;
  const uint8_t *x = g->a, *table = g->b;
  uint8_t *y = g->y;
  for (int32_t i = begin; i < end; i++) {
    y[i] = table[x[i]];
  }
}

void u8_lookup(void *y, void *x, void *table, int32_t n) {
  map_args g = {y, x, table, 0, 0, 0, 0, 0, 0};
  parallel_for(lookup_body, &g, n, GRAIN);
}

TT_INLINE v128_t add4(const map_args *g, v128_t a, v128_t b) {
  v128_t s = wasm_i32x4_add(wasm_i32x4_splat(g->bias), wasm_i32x4_mul(a, wasm_i32x4_splat(g->am)));
  return wasm_i32x4_shr(wasm_i32x4_add(s, wasm_i32x4_mul(b, wasm_i32x4_splat(g->bm))), (uint32_t)g->shift);
}

TT_INLINE v128_t mul4(const map_args *g, v128_t a, v128_t b) {
  v128_t p = wasm_i32x4_mul(wasm_i32x4_sub(a, wasm_i32x4_splat(g->am)), wasm_i32x4_sub(b, wasm_i32x4_splat(g->bm)));
  return to_int(wasm_f32x4_convert_i32x4(p), wasm_f32x4_splat(g->scale));
}

#define BINARY(name, four)                                                                     \
  static void name##_body(const void *args, int32_t begin, int32_t end) {                      \
    const map_args *g = args;                                                                  \
    v128_t zero = wasm_i16x8_splat((int16_t)g->zero);                                          \
    for (int32_t i = begin; i < end; i += 8) {                                                 \
      int8_t pa[8] = {0}, pb[8] = {0}, out[16];                                                \
      const int8_t *a = (const int8_t *)g->a + i, *b = (const int8_t *)g->b + i;               \
      int32_t left = tt_min32(8, end - i);                                                     \
      if (left < 8) {                                                                          \
        for (int32_t j = 0; j < left; j++) {                                                   \
          pa[j] = a[j], pb[j] = b[j];                                                          \
        }                                                                                      \
        a = pa, b = pb;                                                                        \
      }                                                                                        \
      v128_t va = wasm_i16x8_load8x8(a), vb = wasm_i16x8_load8x8(b);                           \
      v128_t lo = four(g, wasm_i32x4_extend_low_i16x8(va), wasm_i32x4_extend_low_i16x8(vb));   \
      v128_t hi = four(g, wasm_i32x4_extend_high_i16x8(va), wasm_i32x4_extend_high_i16x8(vb)); \
      v128_t v = wasm_i16x8_add_sat(wasm_i16x8_narrow_i32x4(lo, hi), zero);                    \
      v = wasm_i8x16_narrow_i16x8(v, v);                                                       \
      int8_t *y = (int8_t *)g->y + i;                                                          \
      if (left == 8) {                                                                         \
        wasm_v128_store64_lane(y, v, 0);                                                       \
        continue;                                                                              \
      }                                                                                        \
      wasm_v128_store(out, v);                                                                 \
      for (int32_t j = 0; j < left; j++) {                                                     \
        y[j] = out[j];                                                                         \
      }                                                                                        \
    }                                                                                          \
  }

BINARY(add, add4)
BINARY(mul, mul4)

void qs8_add(void *y, void *a, void *b, int32_t bias, int32_t am, int32_t bm, int32_t shift, int32_t zero, int32_t n) {
  map_args g = {y, a, b, 0, am, bm, bias, shift, zero};
  parallel_for(add_body, &g, n, GRAIN);
}

void qs8_mul(void *y, void *a, void *b, int32_t az, int32_t bz, float scale, int32_t zero, int32_t n) {
  map_args g = {y, a, b, scale, az, bz, 0, 0, zero};
  parallel_for(mul_body, &g, n, GRAIN);
}
