// Decoding of quantised weights.
#pragma once

#include "tt.h"

TT_INLINE v128_t tt_low_nibbles(v128_t v) { return wasm_v128_and(v, wasm_i8x16_const_splat(15)); }

TT_INLINE v128_t tt_high_nibbles(v128_t v) { return wasm_u8x16_shr(v, 4); }

// tt_half converts IEEE binary16 to float, exactly: the exponent is rebased by a multiplication,
// which brings denormals along, and infinities and NaN are put back.
TT_INLINE float tt_half(uint16_t h) {
  union {
    uint32_t bits;
    float f;
  } u = {(uint32_t)(h & 0x7fff) << 13};
  u.f *= 0x1p112f;
  if ((h & 0x7c00) == 0x7c00) {
    u.bits = 0x7f800000u | (uint32_t)(h & 0x3ff) << 13;
  }
  u.bits |= (uint32_t)(h & 0x8000) << 16;
  return u.f;
}

// tt_half4 is tt_half for four, each in the low half of a lane.
TT_INLINE v128_t tt_half4(v128_t h) {
  v128_t f = wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_const_splat(0x7fff)), 13);
  f = wasm_f32x4_mul(f, wasm_f32x4_const_splat(0x1p112f));
  v128_t top = wasm_i32x4_const_splat(0x7c00);
  v128_t special = wasm_i32x4_eq(wasm_v128_and(h, top), top);
  f = wasm_v128_or(f, wasm_v128_and(special, wasm_i32x4_const_splat(0x7f800000)));
  return wasm_v128_or(f, wasm_i32x4_shl(wasm_v128_and(h, wasm_i32x4_const_splat(0x8000)), 16));
}

// tt_expand_nibbles stores 16 nibbles as d * nibble + minimum.
TT_INLINE void tt_expand_nibbles(float *y, v128_t nibbles, v128_t d, v128_t minimum) {
  v128_t lo = wasm_u16x8_extend_low_u8x16(nibbles), hi = wasm_u16x8_extend_high_u8x16(nibbles);
  v128_t q[4] = {wasm_u32x4_extend_low_u16x8(lo), wasm_u32x4_extend_high_u16x8(lo), wasm_u32x4_extend_low_u16x8(hi),
                 wasm_u32x4_extend_high_u16x8(hi)};
  for (int32_t i = 0; i < 4; i++) {
    wasm_v128_store(y + i * 4, wasm_f32x4_add(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(q[i]), d), minimum));
  }
}

// tt_absmax returns the largest magnitude of x[0..k). Magnitudes compare as integers, and so NaN wins
// over everything and reaches the scale.
static inline float tt_absmax(const float *x, int32_t k) {
  v128_t mask = wasm_i32x4_const_splat(0x7fffffff);
  v128_t best = wasm_i32x4_const_splat(0);
  int32_t i = 0;
  for (; i + 4 <= k; i += 4) {
    best = wasm_i32x4_max(best, wasm_v128_and(wasm_v128_load(x + i), mask));
  }
  int32_t b = tt_max32(tt_max32(wasm_i32x4_extract_lane(best, 0), wasm_i32x4_extract_lane(best, 1)),
                       tt_max32(wasm_i32x4_extract_lane(best, 2), wasm_i32x4_extract_lane(best, 3)));
  for (; i < k; i++) {
    int32_t bits;
    memcpy(&bits, x + i, 4);
    b = tt_max32(b, bits & 0x7fffffff);
  }
  float f;
  memcpy(&f, &b, 4);
  return f;
}
