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
