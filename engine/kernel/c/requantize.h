// From exact sums to int8, as XNNPACK rounds.
#pragma once

#include "tt.h"

// tt_requantize returns round(acc * scale) + zero within [lo, hi], of four lanes.
TT_INLINE v128_t tt_requantize(v128_t acc, v128_t scale, int32_t zero, int32_t lo, int32_t hi) {
  v128_t f = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), scale);
  v128_t q = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(wasm_f32x4_pmin(wasm_f32x4_splat((float)(hi - zero)), f)));
  q = wasm_i32x4_add(wasm_i32x4_max(q, wasm_i32x4_splat(lo - zero)), wasm_i32x4_splat(zero));
  return wasm_i32x4_min(wasm_i32x4_max(q, wasm_i32x4_splat(lo)), wasm_i32x4_splat(hi));
}
