// Rows of weights as model files store them (code/, enum stored_type) to the formats that programs read: dequantised
// and quantised again in one go, in device memory. The results are the bits of package lora's converters.
#include "ops.h"
#include "quant.h"

typedef struct {
  int32_t type;
  uint8_t *w;
  float *scale;
  uint16_t *d, *minimum;
  const uint8_t *src;
  int32_t first, k, half;
  _Atomic int32_t *bad;  // set where a value is not finite
} stored_args;

// target is where row `first + i` of the file goes. llama.cpp has the rows of q and k as (head, i, side) where the
// rotate-half form has (head, side, i); half is half the rows of a head, or 0 where rows stay in place.
TT_INLINE size_t target(const stored_args *g, int32_t i) {
  int32_t row = g->first + i;
  if (g->half) {
    int32_t r = row % (2 * g->half);
    row += (r & 1) * g->half + r / 2 - r;
  }
  return (size_t)row;
}

// What a block of each type has: values, and bytes.
static const struct {
  uint16_t values, bytes;
} blocks[] = {
    [STORED_F32] = {1, 4},      [STORED_F16] = {1, 2},      [STORED_BF16] = {1, 2},     [STORED_Q8_0] = {32, 34},
    [STORED_Q4_0] = {32, 18},   [STORED_Q4_1] = {32, 20},   [STORED_Q5_0] = {32, 22},   [STORED_Q5_1] = {32, 24},
    [STORED_Q4_K] = {256, 144}, [STORED_Q5_K] = {256, 176}, [STORED_Q6_K] = {256, 210},
};

TT_INLINE size_t row_bytes(int32_t type, int32_t k) { return (size_t)k / blocks[type].values * blocks[type].bytes; }

TT_INLINE uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

// widen stores 16 signed bytes as d * byte.
TT_INLINE void widen(float *y, v128_t v, v128_t d) {
  v128_t lo = wasm_i16x8_extend_low_i8x16(v), hi = wasm_i16x8_extend_high_i8x16(v);
  v128_t q[4] = {wasm_i32x4_extend_low_i16x8(lo), wasm_i32x4_extend_high_i16x8(lo), wasm_i32x4_extend_low_i16x8(hi),
                 wasm_i32x4_extend_high_i16x8(hi)};
  for (int32_t i = 0; i < 4; i++) {
    wasm_v128_store(y + i * 4, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(q[i]), d));
  }
}

// fifth_bits are bytes 16 where the bits of n, from the lowest up, are 1.
TT_INLINE v128_t fifth_bits(uint32_t n) {
  v128_t each = wasm_i8x16_const(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  v128_t v = wasm_i8x16_shuffle(wasm_i32x4_splat((int32_t)n), wasm_i32x4_splat(0), 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1,
                                1, 1, 1, 1);
  return wasm_v128_and(wasm_i8x16_eq(wasm_v128_and(v, each), each), wasm_i8x16_const_splat(16));
}

// Q5_0: f16 d, u32 of fifth bits (bit j for value j), 16 bytes as Q4_0; d * (q - 16). Q5_1: f16 minimum behind d; d * q
// + minimum.
static void dequantize_q5(float *y, const uint8_t *b, int32_t type, int32_t k) {
  int32_t head = type == STORED_Q5_0 ? 2 : 4;
  for (int32_t i = 0; i < k; i += 32, b += head + 20) {
    v128_t d = wasm_f32x4_splat(tt_half(u16(b))), v = wasm_v128_load(b + head + 4);
    v128_t lo = wasm_v128_or(tt_low_nibbles(v), fifth_bits(u16(b + head)));
    v128_t hi = wasm_v128_or(tt_high_nibbles(v), fifth_bits(u16(b + head + 2)));
    if (type == STORED_Q5_0) {
      v128_t middle = wasm_i8x16_const_splat(16);
      widen(y + i, wasm_i8x16_sub(lo, middle), d);
      widen(y + i + 16, wasm_i8x16_sub(hi, middle), d);
    } else {
      v128_t minimum = wasm_f32x4_splat(tt_half(u16(b + 2)));
      tt_expand_nibbles(y + i, lo, d, minimum);
      tt_expand_nibbles(y + i + 16, hi, d, minimum);
    }
  }
}

// Q4_K: f16 d and dmin, 12 bytes with eight 6-bit pairs (scale, min), 128 bytes of nibbles: 32 bytes are 64 values, the
// low nibbles first; (d scale) q - dmin min. Q5_K: 32 bytes of fifth bits before the nibbles: bit g of byte i for value
// 32 g + i.
static void dequantize_k(float *y, const uint8_t *b, int32_t type, int32_t k) {
  int32_t fifth = type == STORED_Q5_K ? 32 : 0;
  for (int32_t at = 0; at < k; at += 256, b += 144 + fifth) {
    float d = tt_half(u16(b)), dmin = tt_half(u16(b + 2));
    const uint8_t *s = b + 4, *high = b + 16, *q = b + 16 + fifth;
    for (int32_t g = 0; g < 8; g++) {
      int32_t scale = s[g] & 63, low = s[g + 4] & 63;
      if (g >= 4) {
        scale = (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
        low = s[g + 4] >> 4 | s[g] >> 6 << 4;
      }
      v128_t by = wasm_f32x4_splat(d * (float)scale), minimum = wasm_f32x4_splat(-(dmin * (float)low));
      for (int32_t i = 0; i < 32; i += 16) {
        v128_t v = wasm_v128_load(q + g / 2 * 32 + i);
        v = g & 1 ? tt_high_nibbles(v) : tt_low_nibbles(v);
        if (fifth) {
          v128_t bit = wasm_v128_and(wasm_u8x16_shr(wasm_v128_load(high + i), (uint32_t)g), wasm_i8x16_const_splat(1));
          v = wasm_v128_or(v, wasm_i8x16_shl(bit, 4));
        }
        tt_expand_nibbles(y + at + g * 32 + i, v, by, minimum);
      }
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 of upper pairs of bits, 16 int8 scales, f16 d; (d scale)(q - 32), a scale for 16
// values. Each half of 128 values has 64 bytes of nibbles and 32 of pairs.
static void dequantize_q6_k(float *y, const uint8_t *b, int32_t k) {
  for (int32_t at = 0; at < k; at += 256, b += 210) {
    float d = tt_half(u16(b + 208));
    for (int32_t n = 0; n < 16; n++) {
      int32_t half = n / 8, quarter = n % 8 / 2, i = n % 2 * 16;
      v128_t v = wasm_v128_load(b + 64 * half + quarter % 2 * 32 + i);
      v = quarter / 2 ? tt_high_nibbles(v) : tt_low_nibbles(v);
      v128_t pair = wasm_u8x16_shr(wasm_v128_load(b + 128 + 32 * half + i), (uint32_t)(2 * quarter));
      v = wasm_v128_or(v, wasm_i8x16_shl(wasm_v128_and(pair, wasm_i8x16_const_splat(3)), 4));
      float scale = d * (float)(int8_t)b[192 + n];
      widen(y + at + 16 * n, wasm_i8x16_sub(v, wasm_i8x16_const_splat(32)), wasm_f32x4_splat(scale));
    }
  }
}

// dequantize writes a row's k values to y.
static void dequantize(float *y, const uint8_t *b, int32_t type, int32_t k) {
  int32_t i = 0;
  switch (type) {
    case STORED_F32:
      memcpy(y, b, (size_t)k * 4);
      return;
    case STORED_F16:
    case STORED_BF16:
      for (; i + 4 <= k; i += 4) {
        v128_t h = wasm_u32x4_load16x4(b + 2 * i);
        wasm_v128_store(y + i, type == STORED_F16 ? tt_half4(h) : wasm_i32x4_shl(h, 16));
      }
      for (; i < k; i++) {
        union {
          uint32_t bits;
          float f;
        } u = {(uint32_t)u16(b + 2 * i) << 16};
        y[i] = type == STORED_F16 ? tt_half(u16(b + 2 * i)) : u.f;
      }
      return;
    case STORED_Q8_0:
      for (; i < k; i += 32, b += 34) {
        v128_t d = wasm_f32x4_splat(tt_half(u16(b)));
        widen(y + i, wasm_v128_load(b + 2), d);
        widen(y + i + 16, wasm_v128_load(b + 18), d);
      }
      return;
    case STORED_Q4_0:
      for (; i < k; i += 32, b += 18) {
        v128_t d = wasm_f32x4_splat(tt_half(u16(b))), v = wasm_v128_load(b + 2), eight = wasm_i8x16_const_splat(8);
        widen(y + i, wasm_i8x16_sub(tt_low_nibbles(v), eight), d);
        widen(y + i + 16, wasm_i8x16_sub(tt_high_nibbles(v), eight), d);
      }
      return;
    case STORED_Q5_0:
    case STORED_Q5_1:
      dequantize_q5(y, b, type, k);
      return;
    case STORED_Q4_K:
    case STORED_Q5_K:
      dequantize_k(y, b, type, k);
      return;
    case STORED_Q6_K:
      dequantize_q6_k(y, b, k);
      return;
    default:
      for (; i < k; i += 32, b += 20) {
        v128_t d = wasm_f32x4_splat(tt_half(u16(b))), minimum = wasm_f32x4_splat(tt_half(u16(b + 2))),
               v = wasm_v128_load(b + 4);
        tt_expand_nibbles(y + i, tt_low_nibbles(v), d, minimum);
        tt_expand_nibbles(y + i + 16, tt_high_nibbles(v), d, minimum);
      }
  }
}

TT_INLINE int finite(float f) { return f - f == 0; }

static void f32_body(const void *args, int32_t begin, int32_t end) {
  const stored_args *g = args;
  size_t bytes = row_bytes(g->type, g->k);
  for (int32_t i = begin; i < end; i++) {
    float *y = (float *)g->w + target(g, i) * (size_t)g->k;
    dequantize(y, g->src + (size_t)i * bytes, g->type, g->k);
    if (!finite(tt_absmax(y, g->k))) {
      *g->bad = 1;
    }
  }
}

// quantize writes round(x / s), ties away from zero, with s = max|x| / 127, and returns s.
static float quantize(int8_t *q, const float *x, int32_t k) {
  float top = tt_absmax(x, k), inverse = top > 0 ? 127 / top : 0;
  // For a top below about 3.7e-37 the inverse overflows: such a row is zero.
  if (!finite(inverse) || top == 0) {
    memset(q, 0, (size_t)k);
    return 0;
  }
  v128_t by = wasm_f32x4_splat(inverse), sign = wasm_i32x4_const_splat((int32_t)0x80000000),
         half = wasm_f32x4_const_splat(0.5f);
  int32_t i = 0;
  for (; i + 16 <= k; i += 16) {
    v128_t v[4];
    for (int32_t j = 0; j < 4; j++) {
      v128_t f = wasm_f32x4_mul(wasm_v128_load(x + i + 4 * j), by);
      v[j] = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_add(f, wasm_v128_or(half, wasm_v128_and(f, sign))));
    }
    wasm_v128_store(q + i,
                    wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(v[0], v[1]), wasm_i16x8_narrow_i32x4(v[2], v[3])));
  }
  for (; i < k; i++) {
    float f = x[i] * inverse;
    q[i] = (int8_t)(f >= 0 ? f + 0.5f : f - 0.5f);
  }
  return top / 127;
}

static void i8_body(const void *args, int32_t begin, int32_t end) {
  const stored_args *g = args;
  size_t bytes = row_bytes(g->type, g->k);
  float *x = tt_scratch();
  for (int32_t i = begin; i < end; i++) {
    size_t to = target(g, i);
    dequantize(x, g->src + (size_t)i * bytes, g->type, g->k);
    if (!finite(tt_absmax(x, g->k))) {
      *g->bad = 1;
      continue;
    }
    g->scale[to] = quantize((int8_t *)g->w + to * (size_t)g->k, x, g->k);
  }
}

static void q4_body(const void *args, int32_t begin, int32_t end) {
  const stored_args *g = args;
  size_t groups = (size_t)g->k / 32;
  const uint8_t *b = g->src + (size_t)begin * groups * 20;
  for (int32_t i = begin; i < end; i++) {
    size_t at = target(g, i) * groups;
    for (size_t k = 0; k < groups; k++, at++, b += 20) {
      uint16_t d = u16(b), minimum = u16(b + 2);
      if ((d & 0x7c00) == 0x7c00 || (minimum & 0x7c00) == 0x7c00) {
        *g->bad = 1;
      }
      g->d[at] = d;
      g->minimum[at] = minimum;
      wasm_v128_store(g->w + at * 16, wasm_v128_load(b + 4));
    }
  }
}

static int32_t run(parallel_body body, stored_args g, int32_t m) {
  _Atomic int32_t bad = 0;
  g.bad = &bad;
  parallel_for(body, &g, m, 1 + 30000 / (g.k + 1));
  return bad;
}

int32_t f32_from_stored(int32_t type, void *y, void *src, int32_t first, int32_t m, int32_t k, int32_t half) {
  return run(f32_body, (stored_args){.type = type, .w = y, .src = src, .first = first, .k = k, .half = half}, m);
}

int32_t i8_from_stored(int32_t type, void *w, void *scale, void *src, int32_t first, int32_t m, int32_t k,
                       int32_t half) {
  return run(i8_body,
             (stored_args){.type = type, .w = w, .scale = scale, .src = src, .first = first, .k = k, .half = half}, m);
}

int32_t q4_from_stored(void *w, void *d, void *minimum, void *src, int32_t first, int32_t m, int32_t k, int32_t half) {
  return run(q4_body,
             (stored_args){.w = w, .d = d, .minimum = minimum, .src = src, .first = first, .k = k, .half = half}, m);
}
