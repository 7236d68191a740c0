// Seeded noise for zeroth-order estimators, and what is done with it.
//
// Element e of the noise of a seed is a function of (seed, e) alone: a counter-based hash and, for the
// normal, the Box-Muller transform, all in 32-bit integers and floats. No state, so any element can be made
// anywhere, in any order, by the graph of a program, by these kernels or by ../ref/zo.go:
//
//   mix(x):  x ^= x >> 16; x *= 0x21f0aaad; x ^= x >> 15; x *= 0x735a2d97; x ^= x >> 15
//   k1 = mix(seed_lo ^ 0x9e3779b9), k2 = mix(k1 + 0x85ebca6b + seed_hi)
//   H(i) = mix(mix(i + k1) ^ k2)
//   u1 = (float(H(2e)) + 1) 2^-32, u2 = float(H(2e + 1)) 2^-32
//   normal: sqrt(-2 log u1) cos(2 pi u2)        Rademacher: -1 if H(2e) has its top bit set, else 1
//
// The multipliers of mix are those of the low-bias integer hash found by Wellons' search (hash-prospector).
#include "math.h"
#include "ops.h"
#include "tt.h"

struct zo_key {
  uint32_t k1, k2;
};

static uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x21f0aaad;
  x ^= x >> 15;
  x *= 0x735a2d97;
  x ^= x >> 15;
  return x;
}

static struct zo_key zo_key(int64_t seed) {
  struct zo_key k;
  k.k1 = mix((uint32_t)seed ^ 0x9e3779b9);
  k.k2 = mix(k.k1 + 0x85ebca6b + (uint32_t)((uint64_t)seed >> 32));
  return k;
}

TT_INLINE v128_t mix4(v128_t x) {
  x = wasm_v128_xor(x, wasm_u32x4_shr(x, 16));
  x = wasm_i32x4_mul(x, I4(0x21f0aaad));
  x = wasm_v128_xor(x, wasm_u32x4_shr(x, 15));
  x = wasm_i32x4_mul(x, I4(0x735a2d97));
  return wasm_v128_xor(x, wasm_u32x4_shr(x, 15));
}

TT_INLINE v128_t hash4(struct zo_key k, v128_t i) {
  v128_t x = mix4(wasm_i32x4_add(i, wasm_i32x4_splat((int32_t)k.k1)));
  return mix4(wasm_v128_xor(x, wasm_i32x4_splat((int32_t)k.k2)));
}

// zo4 gives the noise of elements e .. e+3.
TT_INLINE v128_t zo4(struct zo_key k, int32_t distribution, uint32_t e) {
  v128_t i = wasm_i32x4_add(wasm_i32x4_splat((int32_t)(2 * e)), wasm_i32x4_const(0, 2, 4, 6));
  v128_t h1 = hash4(k, i);
  if (distribution == ZO_RADEMACHER) {
    return wasm_v128_or(F4(1.0f), wasm_v128_and(h1, I4((int32_t)0x80000000)));
  }
  v128_t h2 = hash4(k, wasm_i32x4_add(i, I4(1)));
  const v128_t unit = F4(0x1p-32f);
  v128_t u1 = MUL(ADD(wasm_f32x4_convert_u32x4(h1), F4(1.0f)), unit);
  v128_t u2 = MUL(wasm_f32x4_convert_u32x4(h2), unit);
  v128_t radius = wasm_f32x4_sqrt(MUL(F4(-2.0f), log_f32x4(u1)));
  return MUL(radius, cos_f32x4(MUL(F4(6.28318531f), u2)));
}

// Elements a unit of work makes; a multiple of 4.
#define ZO_UNIT 512

struct zo_args {
  float *dst;
  const float *b;
  const int64_t *seeds;
  const float *coefs;
  int64_t seed;
  float scale;
  uint32_t base;
  int32_t distribution, count, n, sides;
};

// Four elements at a time, the last ones in part.
#define ZO_EACH(BEGIN, END, N)                                                                                         \
  for (int32_t i = (BEGIN) * ZO_UNIT, stop = (END) > (N) / ZO_UNIT ? (N) : (END) * ZO_UNIT, left = stop - i; i < stop; \
       i += 4, left -= 4)

TT_INLINE v128_t load_some(const float *p, int32_t left) { return left < 4 ? load_part(p, left) : wasm_v128_load(p); }

TT_INLINE void store_some(float *p, v128_t v, int32_t left) {
  if (left < 4) {
    store_part(p, v, left);
  } else {
    wasm_v128_store(p, v);
  }
}

static void noise_body(const void *args, int32_t begin, int32_t end) {
  const struct zo_args *c = args;
  struct zo_key k = zo_key(c->seed);
  ZO_EACH(begin, end, c->n) { store_some(c->dst + i, zo4(k, c->distribution, c->base + (uint32_t)i), left); }
}

static int32_t zo_units(int32_t n) { return n <= 0 ? 0 : (n - 1) / ZO_UNIT + 1; }

// zo_noise: dst f32[n] = elements base .. base + n - 1 of the seed's noise. The numbering of
// elements ends at 2^31.
void zo_noise(int32_t distribution, void *dst, int64_t seed, int64_t base, int32_t n) {
  struct zo_args c = {.dst = dst, .seed = seed, .base = (uint32_t)base, .distribution = distribution, .n = n};
  parallel_for(noise_body, &c, zo_units(n), 4);
}

static void perturb_body(const void *args, int32_t begin, int32_t end) {
  const struct zo_args *c = args;
  v128_t eps = wasm_f32x4_splat(c->scale);
  uint32_t row = (uint32_t)c->n;
  if (c->sides == 1) {
    ZO_EACH(begin, end, c->n) { store_some(c->dst + i, load_some(c->b + i, left), left); }
  }
  for (int32_t j = 0; j < c->count; j++) {
    struct zo_key k = zo_key(c->seeds[j]);
    float *plus = c->dst + (uint32_t)(c->sides == 1 ? j + 1 : j) * row;
    float *minus = c->dst + (uint32_t)(c->count + j) * row;
    ZO_EACH(begin, end, c->n) {
      v128_t z = zo4(k, c->distribution, c->base + (uint32_t)i);
      v128_t step = MUL(eps, z);
      v128_t b = load_some(c->b + i, left);
      store_some(plus + i, ADD(b, step), left);
      if (c->sides == 2) {
        store_some(minus + i, SUB(b, step), left);
      }
    }
  }
}

// mplora_perturb writes one copy of b f32[n] a replica, perturbed by the noise z_j of seeds[j] (i64[q]),
// elements base on:
//   sides 2: dst f32[2q, n], dst[j] = b + eps z_j, dst[q+j] = b - eps z_j
//   sides 1: dst f32[q+1, n], dst[0] = b, dst[1+j] = b + eps z_j
//   sides 0: dst f32[q, n], dst[j] = b + eps z_j
// dst must not overlap b.
void mplora_perturb(int32_t distribution, void *dst, void *b, void *seeds, float eps, int32_t q, int64_t base,
                    int32_t n, int32_t sides) {
  struct zo_args c = {.dst = dst,
                      .b = b,
                      .seeds = seeds,
                      .scale = eps,
                      .base = (uint32_t)base,
                      .distribution = distribution,
                      .count = q,
                      .n = n,
                      .sides = sides};
  parallel_for(perturb_body, &c, zo_units(n), 1);
}

static void update_body(const void *args, int32_t begin, int32_t end) {
  const struct zo_args *c = args;
  v128_t sum[ZO_UNIT / 4];
  for (int32_t u = begin; u < end; u++) {
    for (int32_t i = 0; i < ZO_UNIT / 4; i++) {
      sum[i] = F4(0.0f);
    }
    for (int32_t j = 0; j < c->count; j++) {
      if (c->coefs[j] == 0.0f) {
        continue;
      }
      struct zo_key k = zo_key(c->seeds[j]);
      v128_t coef = wasm_f32x4_splat(c->coefs[j]);
      v128_t *s = sum;
      ZO_EACH(u, u + 1, c->n) {
        (void)left;
        v128_t z = zo4(k, c->distribution, c->base + (uint32_t)i);
        *s = ADD(*s, MUL(coef, z));
        s++;
      }
    }
    v128_t *s = sum;
    ZO_EACH(u, u + 1, c->n) { store_some(c->dst + i, SUB(load_some(c->dst + i, left), *s++), left); }
  }
}

// zo_update: b f32[n] -= sum_j coefs[j] z_j over k seeds (i64) and coefs (f32), summed from 0 in the order of
// j and then subtracted once. A coefficient of 0 costs nothing and changes no bit: the sum starts at +0 and
// so is never -0, and adding a zero to it leaves it. When all are 0, b is not touched.
void zo_update(int32_t distribution, void *b, void *seeds, void *coefs, int32_t k, int64_t base, int32_t n) {
  const float *c = coefs;
  int any = 0;
  for (int32_t j = 0; j < k; j++) {
    any |= c[j] != 0.0f;
  }
  if (!any) {
    return;
  }
  struct zo_args a = {.dst = b,
                      .seeds = seeds,
                      .coefs = coefs,
                      .base = (uint32_t)base,
                      .distribution = distribution,
                      .count = k,
                      .n = n};
  parallel_for(update_body, &a, zo_units(n), 1);
}

static void axpy_body(const void *args, int32_t begin, int32_t end) {
  const struct zo_args *c = args;
  struct zo_key k = zo_key(c->seed);
  v128_t scale = wasm_f32x4_splat(c->scale);
  ZO_EACH(begin, end, c->n) {
    v128_t step = MUL(scale, zo4(k, c->distribution, c->base + (uint32_t)i));
    store_some(c->dst + i, ADD(load_some(c->dst + i, left), step), left);
  }
}

// zo_axpy: w f32[n] += scale z, z the noise of the seed from element base on.
void zo_axpy(int32_t distribution, void *w, int64_t seed, float scale, int64_t base, int32_t n) {
  struct zo_args c = {
      .dst = w, .seed = seed, .scale = scale, .base = (uint32_t)base, .distribution = distribution, .n = n};
  parallel_for(axpy_body, &c, zo_units(n), 4);
}
