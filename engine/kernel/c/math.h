// Elementary functions on four float32 lanes.
//
// Every engine and every thread count gives the same bits: only IEEE operations that WebAssembly defines
// exactly, no fused contraction, no table, no relaxed SIMD. Each function is one straight line over four
// lanes; scalars and row tails go through the same code by way of load_part and store_part, so a value does
// not depend on where in a row it stands.
// ../ref/math.go repeats each of them operation by operation, and the tests compare bits.
//
// Largest error found by TestMathErrorBounds over dense sweeps of the stated range (ulp of the exact result):
//   exp      1.0   all finite x; 0 below -103.98, +inf above 88.73; denormal results included
//   log      0.8   all positive x, denormals included; log(0) = -inf, log(x < 0) = NaN
//   sin, cos 1.5   |x| <= 1e5, next to multiples of pi/2 too; absolute error below 1e-7 up to 1e6, falling
//                  off from there, the result always in [-1, 1]
//   tanh     1.3   all x
//   sigmoid  2.1   x >= -87; below, results turn denormal
//   erf      1.3   all x
//   pow      0.51  scalar, computed in double
// The polynomials come from coefficients.py.
#ifndef TABTUNE_MATH_H
#define TABTUNE_MATH_H

#include <stdint.h>
#include <wasm_simd128.h>

#define F4(x) wasm_f32x4_const_splat(x)
#define I4(x) wasm_i32x4_const_splat(x)
#define ADD wasm_f32x4_add
#define SUB wasm_f32x4_sub
#define MUL wasm_f32x4_mul
#define DIV wasm_f32x4_div
// a*b + c, two roundings.
#define MADD(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
// pmax and pmin are one instruction where max and min take several, and with x first they pass a NaN in x
// through.
#define AT_LEAST(x, lo) wasm_f32x4_pmax(x, lo)
#define AT_MOST(x, hi) wasm_f32x4_pmin(x, hi)

// load_part reads the first n (1..3) of four floats and fills the rest with zero; it touches no byte past
// them.
static inline v128_t load_part(const float *p, int32_t n) {
  if (n == 1) return wasm_v128_load32_zero(p);
  v128_t v = wasm_v128_load64_zero(p);
  return n == 2 ? v : wasm_v128_load32_lane(p + 2, v, 2);
}

// store_part writes the first n (1..3) lanes.
static inline void store_part(float *p, v128_t v, int32_t n) {
  if (n == 1) {
    wasm_v128_store32_lane(p, v, 0);
    return;
  }
  wasm_v128_store64_lane(p, v, 0);
  if (n == 3) wasm_v128_store32_lane(p + 2, v, 2);
}

// sum_lanes adds in the order (0 + 2) + (1 + 3), everywhere.
static inline float sum_lanes(v128_t v) {
  v = ADD(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  return wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 1);
}

// max_lanes and min_lanes propagate NaN.
static inline float max_lanes(v128_t v) {
  v = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  v = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
  return wasm_f32x4_extract_lane(v, 0);
}

static inline float min_lanes(v128_t v) {
  v = wasm_f32x4_min(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
  v = wasm_f32x4_min(v, wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
  return wasm_f32x4_extract_lane(v, 0);
}

// exp: x = n ln2 + r, |r| <= ln2/2; e^r = 1 + r + r^2 P(r); scaled by 2^n in two factors so that a denormal
// result is rounded once.
static inline v128_t exp_f32x4(v128_t x) {
  x = AT_MOST(AT_LEAST(x, F4(-104.5f)), F4(89.0f));
  v128_t n = wasm_f32x4_nearest(MUL(x, F4(1.44269504f)));
  v128_t r = SUB(x, MUL(n, F4(0.693359375f)));
  r = SUB(r, MUL(n, F4(-2.12194440e-4f)));
  v128_t p = MADD(F4(0.00138144626f), r, F4(0.00836878084f));
  p = MADD(p, r, F4(0.0416683927f));
  p = MADD(p, r, F4(0.166665196f));
  p = MADD(p, r, F4(0.49999994f));
  p = ADD(MADD(p, MUL(r, r), r), F4(1.0f));
  v128_t i = wasm_i32x4_trunc_sat_f32x4(n);
  v128_t h = wasm_i32x4_shr(i, 1);
  v128_t s = wasm_i32x4_shl(wasm_i32x4_add(h, I4(127)), 23);
  v128_t t = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_sub(i, h), I4(127)), 23);
  return MUL(MUL(p, s), t);
}

// log: x = 2^e m, sqrt(1/2) <= m < sqrt(2), f = m - 1; log m = f - f^2/2 + f^3 P(f). log(1) is exactly 0.
static inline v128_t log_f32x4(v128_t x) {
  v128_t tiny = wasm_f32x4_lt(x, F4(1.17549435e-38f));
  v128_t b = wasm_v128_bitselect(MUL(x, F4(8388608.0f)), x, tiny);
  v128_t e = wasm_i32x4_shr(wasm_i32x4_sub(b, I4(0x3f3504f3)), 23);
  v128_t f = SUB(wasm_i32x4_sub(b, wasm_i32x4_shl(e, 23)), F4(1.0f));
  e = wasm_f32x4_convert_i32x4(wasm_i32x4_sub(e, wasm_v128_and(tiny, I4(23))));
  v128_t z = MUL(f, f);
  v128_t p = MADD(F4(0.0691533685f), f, F4(-0.117897324f));
  p = MADD(p, f, F4(0.118729457f));
  p = MADD(p, f, F4(-0.123843588f));
  p = MADD(p, f, F4(0.142186642f));
  p = MADD(p, f, F4(-0.16669251f));
  p = MADD(p, f, F4(0.200022265f));
  p = MADD(p, f, F4(-0.249999866f));
  p = MADD(p, f, F4(0.333333105f));
  v128_t y = MUL(MUL(f, z), p);
  y = MADD(e, F4(-2.12194440e-4f), y);
  y = SUB(y, MUL(F4(0.5f), z));
  y = ADD(f, y);
  y = MADD(e, F4(0.693359375f), y);
  // +inf and NaN pass through as themselves; x + x keeps a NaN a NaN.
  v128_t finite = wasm_f32x4_lt(x, F4(__builtin_inff()));
  y = wasm_v128_bitselect(y, ADD(x, x), finite);
  y = wasm_v128_bitselect(F4(-__builtin_inff()), y, wasm_f32x4_eq(x, F4(0.0f)));
  return wasm_v128_bitselect(F4(__builtin_nanf("")), y, wasm_f32x4_lt(x, F4(0.0f)));
}

// reduce_half_pi writes x - n pi/2, n the nearest integer, for x >= 0, and returns n (saturated) in integer
// lanes. pi/2 is taken in two doubles of which the first has 33 bits, so that n times it is exact for n <
// 2^20 and the remainder is good to 1e-16 absolute.
static inline v128_t reduce_half_pi(v128_t x, v128_t *rest) {
  v128_t lo = wasm_f64x2_promote_low_f32x4(x);
  v128_t hi = wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(x, x, 2, 3, 2, 3));
  const v128_t two_over_pi = wasm_f64x2_const_splat(0.63661977236758134308);
  const v128_t p1 = wasm_f64x2_const_splat(1.57079632673412561417);
  const v128_t p2 = wasm_f64x2_const_splat(6.07710050650619224932e-11);
  v128_t nl = wasm_f64x2_nearest(wasm_f64x2_mul(lo, two_over_pi));
  v128_t nh = wasm_f64x2_nearest(wasm_f64x2_mul(hi, two_over_pi));
  lo = wasm_f64x2_sub(wasm_f64x2_sub(lo, wasm_f64x2_mul(nl, p1)), wasm_f64x2_mul(nl, p2));
  hi = wasm_f64x2_sub(wasm_f64x2_sub(hi, wasm_f64x2_mul(nh, p1)), wasm_f64x2_mul(nh, p2));
  v128_t r = wasm_i32x4_shuffle(wasm_f32x4_demote_f64x2_zero(lo), wasm_f32x4_demote_f64x2_zero(hi), 0, 1, 4, 5);
  // Far outside the stated range the remainder may be off; keep the polynomials inside the interval they were
  // made for.
  *rest = AT_MOST(AT_LEAST(r, F4(-0.7854f)), F4(0.7854f));
  return wasm_i32x4_shuffle(wasm_i32x4_trunc_sat_f64x2_zero(nl), wasm_i32x4_trunc_sat_f64x2_zero(nh), 0, 1, 4, 5);
}

// sin_quadrant gives sin(r + q pi/2), r the remainder and q a quadrant in integer lanes (any integer).
static inline v128_t sin_quadrant(v128_t r, v128_t q) {
  v128_t s = MUL(r, r);
  v128_t a = MADD(F4(-0.000195166547f), s, F4(0.00833217334f));
  a = MADD(a, s, F4(-0.166666552f));
  a = MADD(MUL(a, s), r, r);
  v128_t b = MADD(F4(2.44377297e-05f), s, F4(-0.00138873619f));
  b = MADD(b, s, F4(0.0416666456f));
  b = ADD(SUB(MUL(b, MUL(s, s)), MUL(F4(0.5f), s)), F4(1.0f));
  v128_t odd = wasm_i32x4_neg(wasm_v128_and(q, I4(1)));
  v128_t y = wasm_v128_bitselect(b, a, odd);
  return wasm_v128_xor(y, wasm_i32x4_shl(wasm_v128_and(q, I4(2)), 30));
}

static inline v128_t sin_f32x4(v128_t x) {
  v128_t sign = wasm_v128_and(x, I4((int32_t)0x80000000));
  v128_t r, q = reduce_half_pi(wasm_f32x4_abs(x), &r);
  return wasm_v128_xor(sin_quadrant(r, q), sign);
}

static inline v128_t cos_f32x4(v128_t x) {
  v128_t r, q = reduce_half_pi(wasm_f32x4_abs(x), &r);
  return sin_quadrant(r, wasm_i32x4_add(q, I4(1)));
}

static inline v128_t copysign_f32x4(v128_t magnitude, v128_t sign) {
  return wasm_v128_bitselect(sign, magnitude, I4((int32_t)0x80000000));
}

static inline v128_t tanh_f32x4(v128_t x) {
  v128_t ax = wasm_f32x4_abs(x);
  v128_t s = MUL(x, x);
  v128_t p = MADD(F4(-0.0057170419f), s, F4(0.0206505843f));
  p = MADD(p, s, F4(-0.0537434965f));
  p = MADD(p, s, F4(0.133314908f));
  p = MADD(p, s, F4(-0.333332837f));
  v128_t near = MADD(MUL(p, s), x, x);
  v128_t e = exp_f32x4(ADD(ax, ax));
  v128_t far = SUB(F4(1.0f), DIV(F4(2.0f), ADD(e, F4(1.0f))));
  return wasm_v128_bitselect(near, copysign_f32x4(far, x), wasm_f32x4_lt(ax, F4(0.625f)));
}

// sigmoid: with e = exp(-|x|) neither branch overflows nor cancels.
static inline v128_t sigmoid_f32x4(v128_t x) {
  v128_t e = exp_f32x4(wasm_f32x4_neg(wasm_f32x4_abs(x)));
  v128_t num = wasm_v128_bitselect(e, F4(1.0f), wasm_f32x4_lt(x, F4(0.0f)));
  return DIV(num, ADD(e, F4(1.0f)));
}

// erf: x (1 + P(x^2)) up to 1, then 1 - exp(Q(|x| - 1)) where Q approximates log erfc.
static inline v128_t erf_f32x4(v128_t x) {
  v128_t ax = wasm_f32x4_abs(x);
  v128_t s = MUL(x, x);
  v128_t p = MADD(F4(7.88911784e-05f), s, F4(-0.000802084047f));
  p = MADD(p, s, F4(0.00518953521f));
  p = MADD(p, s, F4(-0.0268544443f));
  p = MADD(p, s, F4(0.112836003f));
  p = MADD(p, s, F4(-0.37612626f));
  p = MADD(p, s, F4(0.128379166f));
  v128_t near = MADD(p, x, x);
  v128_t t = SUB(AT_MOST(ax, F4(4.0f)), F4(1.0f));
  v128_t q = MADD(F4(-2.1686692e-05f), t, F4(0.000289527583f));
  q = MADD(q, t, F4(-0.00201196573f));
  q = MADD(q, t, F4(0.0100464514f));
  q = MADD(q, t, F4(-0.0415634811f));
  q = MADD(q, t, F4(-0.843107104f));
  q = MADD(q, t, F4(-2.63896751f));
  q = MADD(q, t, F4(-1.84960556f));
  v128_t far = copysign_f32x4(SUB(F4(1.0f), exp_f32x4(q)), x);
  return wasm_v128_bitselect(near, far, wasm_f32x4_lt(ax, F4(1.0f)));
}

static inline v128_t silu_f32x4(v128_t x) { return MUL(x, sigmoid_f32x4(x)); }

static inline v128_t gelu_erf_f32x4(v128_t x) {
  v128_t e = erf_f32x4(MUL(x, F4(0.707106781f)));
  return MUL(MUL(F4(0.5f), x), ADD(e, F4(1.0f)));
}

static inline v128_t gelu_tanh_f32x4(v128_t x) {
  v128_t cube = MUL(MUL(x, x), x);
  v128_t t = tanh_f32x4(MUL(MADD(F4(0.044715f), cube, x), F4(0.797884561f)));
  return MUL(MUL(F4(0.5f), x), ADD(t, F4(1.0f)));
}

// The scalar forms are lane 0 of the vector ones.
static inline float exp_f32(float x) { return wasm_f32x4_extract_lane(exp_f32x4(wasm_f32x4_splat(x)), 0); }
static inline float log_f32(float x) { return wasm_f32x4_extract_lane(log_f32x4(wasm_f32x4_splat(x)), 0); }

// log2_positive: base-2 logarithm of a finite positive double made from a float, by the series of atanh;
// relative error near 1e-15.
static inline double log2_positive(double x) {
  union {
    double f;
    int64_t i;
  } u = {x};
  int64_t e = (u.i - 0x3fe6a09e667f3bcd) >> 52;
  u.i -= (int64_t)((uint64_t)e << 52);
  double s = (u.f - 1.0) / (u.f + 1.0);
  double z = s * s;
  double p = 1.0 / 23.0;
  p = p * z + 1.0 / 21.0;
  p = p * z + 1.0 / 19.0;
  p = p * z + 1.0 / 17.0;
  p = p * z + 1.0 / 15.0;
  p = p * z + 1.0 / 13.0;
  p = p * z + 1.0 / 11.0;
  p = p * z + 1.0 / 9.0;
  p = p * z + 1.0 / 7.0;
  p = p * z + 1.0 / 5.0;
  p = p * z + 1.0 / 3.0;
  p = p * z + 1.0;
  return (double)e + 2.8853900817779268147 * (s * p);
}

// exp2_double: 2^t for |t| <= 1000, relative error near 1e-14.
static inline double exp2_double(double t) {
  double n = __builtin_rint(t);
  double r = (t - n) * 0.69314718055994530942;
  double p = 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  union {
    int64_t i;
    double f;
  } u = {((int64_t)n + 1023) << 52};
  return p * u.f;
}

// pow_f32 follows C's powf in every special case.
static inline float pow_f32(float x, float y) {
  const float inf = __builtin_inff();
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (x != x || y != y) return x + y;
  float ax = __builtin_fabsf(x), ay = __builtin_fabsf(y);
  // At and above 2^24 every float is an even integer.
  int whole = ay >= 16777216.0f || __builtin_truncf(y) == y;
  int odd = whole && ay < 16777216.0f && ((int32_t)y & 1);
  int negative = __builtin_signbit(x) != 0;
  float r;
  if (ay == inf) {
    r = ax == 1.0f ? 1.0f : ((ax > 1.0f) == (y > 0.0f) ? inf : 0.0f);
  } else if (ax == 0.0f || ax == inf) {
    r = (ax == inf) == (y > 0.0f) ? inf : 0.0f;
  } else {
    if (negative && !whole) return __builtin_nanf("");
    double t = (double)y * log2_positive((double)ax);
    // 2^1000 and 2^-1000 are past float's range on both sides, and inside the range exp2_double was made for.
    t = t > 1000.0 ? 1000.0 : (t < -1000.0 ? -1000.0 : t);
    r = (float)exp2_double(t);
  }
  return negative && odd ? -r : r;
}

static inline v128_t pow_f32x4(v128_t x, v128_t y) {
  return wasm_f32x4_make(pow_f32(wasm_f32x4_extract_lane(x, 0), wasm_f32x4_extract_lane(y, 0)),
                         pow_f32(wasm_f32x4_extract_lane(x, 1), wasm_f32x4_extract_lane(y, 1)),
                         pow_f32(wasm_f32x4_extract_lane(x, 2), wasm_f32x4_extract_lane(y, 2)),
                         pow_f32(wasm_f32x4_extract_lane(x, 3), wasm_f32x4_extract_lane(y, 3)));
}

#endif
