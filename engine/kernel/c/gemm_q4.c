// y[m,n] = x[m,k] w[n,k]^T with int16 activations and 4-bit weights in groups of 32 (GGUF's Q4_1):
// group g of row j holds 16 bytes, byte b with element b in the low nibble and b+16 in the high one,
// a scale d and a minimum, both f16; w = d * nibble + minimum. Hence, with the sum of x over a group,
//
//   y[i,j] = sx[i] * sum over g of (d[j,g] * (q . nibbles) + minimum[j,g] * sums[i,g])
//
// where the dot product of a group is exact in int32, and the sum runs over g in order in float.
//
// As in gemm_i8.c, a unit of ROWS x COLS outputs unpacks 4 to 16 weight rows at a time: nibbles as
// int16 in the layout of gemm_i16.h, d and minimum as [k/32][4] floats behind them. Fewer than 4 rows are
// multiplied straight from the nibbles.
#include "gemm_i16.h"
#include "gemm_splat.h"
#include "quant.h"

#define ROWS 128
#define COLS 64
#define PANEL_BYTES (20 * 1024)

typedef struct {
  float *y;
  const int16_t *q;
  const float *sx;
  const int32_t *sums;
  const uint8_t *w;
  const uint16_t *d;
  const uint16_t *minimum;
  const float *bias;
  int32_t m, n, k, ldy, accumulate;
  int32_t column_units;
} gemm_args;

// A panel of 4 columns: k*4 int16, then k/32*4 d, then k/32*4 minima.
TT_INLINE int32_t panel_bytes(int32_t k) { return k * 9; }

// halves writes f16 from[0..n) to every fourth float from `to` on.
TT_INLINE void halves(float *to, const uint16_t *from, int32_t n) {
  int32_t i = 0;
  for (; i + 4 <= n; i += 4, to += 16) {
    v128_t f = tt_half4(wasm_u32x4_load16x4(from + i));
    wasm_v128_store32_lane(to + 12, f, 3);
    wasm_v128_store32_lane(to + 8, f, 2);
    wasm_v128_store32_lane(to + 4, f, 1);
    wasm_v128_store32_lane(to, f, 0);
  }
  for (; i < n; i++, to += 4) {
    *to = tt_half(from[i]);
  }
}

static TT_NOINLINE void unpack(int16_t *panel, const gemm_args *g, int32_t j, int32_t cols) {
  int32_t groups = g->k / 32;
  float *d = (float *)(panel + g->k * 4), *minimum = d + groups * 4;
  for (int32_t c = 0; c < 4; c++) {
    int16_t *p = panel + c * 8;
    // A column past the last is a copy of it: computed and not stored.
    size_t row = (size_t)(j + tt_min32(c, cols - 1)) * (size_t)groups;
    for (int32_t i = 0; i < groups; i++, p += 128) {
      v128_t v = wasm_v128_load(g->w + (row + (size_t)i) * 16);
      v128_t lo = tt_low_nibbles(v), hi = tt_high_nibbles(v);
      wasm_v128_store(p + 96, wasm_u16x8_extend_high_u8x16(hi));
      wasm_v128_store(p + 64, wasm_u16x8_extend_low_u8x16(hi));
      wasm_v128_store(p + 32, wasm_u16x8_extend_high_u8x16(lo));
      wasm_v128_store(p, wasm_u16x8_extend_low_u8x16(lo));
    }
    halves(d + c, g->d + row, groups);
    halves(minimum + c, g->minimum + row, groups);
  }
}

// tile2 returns the sums over all groups of two rows against a panel.
static TT_NOINLINE void tile2(const int16_t *a, const int16_t *b, const int32_t *sums0, const int32_t *sums1,
                              int32_t groups, v128_t out[2]) {
  const float *d = (const float *)(b + groups * 128), *minimum = d + groups * 4;
  v128_t f0 = wasm_f32x4_const_splat(0), f1 = f0;
  for (int32_t g = 0; g < groups; g++, a += 64, b += 128, d += 4, minimum += 4) {
    v128_t s00, s01, s02, s03, s10, s11, s12, s13;
#define STEP(at, first)                                                                      \
  {                                                                                          \
    v128_t a0 = wasm_v128_load(a + (at) * 16), a1 = wasm_v128_load(a + (at) * 16 + 8);       \
    v128_t w0 = wasm_v128_load(b + (at) * 32), w1 = wasm_v128_load(b + (at) * 32 + 8);       \
    v128_t w2 = wasm_v128_load(b + (at) * 32 + 16), w3 = wasm_v128_load(b + (at) * 32 + 24); \
    if (first) {                                                                             \
      s00 = wasm_i32x4_dot_i16x8(a0, w0), s10 = wasm_i32x4_dot_i16x8(a1, w0);                \
      s01 = wasm_i32x4_dot_i16x8(a0, w1), s11 = wasm_i32x4_dot_i16x8(a1, w1);                \
      s02 = wasm_i32x4_dot_i16x8(a0, w2), s12 = wasm_i32x4_dot_i16x8(a1, w2);                \
      s03 = wasm_i32x4_dot_i16x8(a0, w3), s13 = wasm_i32x4_dot_i16x8(a1, w3);                \
    } else {                                                                                 \
      s00 = tt_mac(s00, a0, w0), s10 = tt_mac(s10, a1, w0);                                  \
      s01 = tt_mac(s01, a0, w1), s11 = tt_mac(s11, a1, w1);                                  \
      s02 = tt_mac(s02, a0, w2), s12 = tt_mac(s12, a1, w2);                                  \
      s03 = tt_mac(s03, a0, w3), s13 = tt_mac(s13, a1, w3);                                  \
    }                                                                                        \
  }
    STEP(3, 1)
    STEP(2, 0)
    STEP(1, 0)
    STEP(0, 0)
#undef STEP
    v128_t scale = wasm_v128_load(d), low = wasm_v128_load(minimum);
    v128_t dot = wasm_f32x4_convert_i32x4(tt_sum4_i32(s00, s01, s02, s03));
    f0 = wasm_f32x4_add(f0, wasm_f32x4_mul(dot, scale));
    f0 = wasm_f32x4_add(f0, wasm_f32x4_mul(wasm_f32x4_splat((float)sums0[g]), low));
    dot = wasm_f32x4_convert_i32x4(tt_sum4_i32(s10, s11, s12, s13));
    f1 = wasm_f32x4_add(f1, wasm_f32x4_mul(dot, scale));
    f1 = wasm_f32x4_add(f1, wasm_f32x4_mul(wasm_f32x4_splat((float)sums1[g]), low));
  }
  out[0] = f0;
  out[1] = f1;
}

// tile1 is tile2 for the odd last row.
static TT_NOINLINE v128_t tile1(const int16_t *a, const int16_t *b, const int32_t *sums, int32_t groups) {
  const float *d = (const float *)(b + groups * 128), *minimum = d + groups * 4;
  v128_t f = wasm_f32x4_const_splat(0);
  for (int32_t g = 0; g < groups; g++, d += 4, minimum += 4) {
    v128_t s0 = wasm_i32x4_const_splat(0), s1 = s0, s2 = s0, s3 = s0;
    for (int32_t step = 0; step < 4; step++, a += 8, b += 32) {
      v128_t a0 = wasm_v128_load(a);
      s3 = tt_mac(s3, a0, wasm_v128_load(b + 24));
      s2 = tt_mac(s2, a0, wasm_v128_load(b + 16));
      s1 = tt_mac(s1, a0, wasm_v128_load(b + 8));
      s0 = tt_mac(s0, a0, wasm_v128_load(b));
    }
    v128_t dot = wasm_f32x4_convert_i32x4(tt_sum4_i32(s0, s1, s2, s3));
    f = wasm_f32x4_add(f, wasm_f32x4_mul(dot, wasm_v128_load(d)));
    f = wasm_f32x4_add(f, wasm_f32x4_mul(wasm_f32x4_splat((float)sums[g]), wasm_v128_load(minimum)));
  }
  return f;
}

static void body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  char *scratch = tt_scratch();
  int32_t bytes = panel_bytes(g->k), groups = g->k / 32;
  int32_t columns = tt_max32(1, tt_min32(PANEL_BYTES / tt_max32(bytes, 1), COLS / 4)) * 4;
  for (int32_t u = begin; u < end; u++) {
    int32_t i0 = u / g->column_units * ROWS, i1 = tt_min32(i0 + ROWS, g->m);
    int32_t j0 = u % g->column_units * COLS, j1 = tt_min32(j0 + COLS, g->n);
    for (int32_t jg = j0; jg < j1; jg += columns) {
      int32_t je = tt_min32(jg + columns, j1);
      for (int32_t j = jg; j < je; j += 4) {
        unpack((int16_t *)(scratch + (j - jg) / 4 * bytes), g, j, tt_min32(4, je - j));
      }
      for (int32_t i = i0; i < i1; i += 2) {
        const int16_t *a = g->q + (size_t)i * (size_t)g->k;
        const int32_t *sums = g->sums + (size_t)i * (size_t)groups;
        for (int32_t j = jg; j < je; j += 4) {
          const int16_t *panel = (const int16_t *)(scratch + (j - jg) / 4 * bytes);
          const float *bias = g->bias ? g->bias + j : 0;
          float *y = g->y + (size_t)i * (size_t)g->ldy + j;
          if (i + 2 <= i1) {
            v128_t f[2];
            tile2(a, panel, sums, sums + groups, groups, f);
            tt_store_row(y, f[0], g->sx[i], 0, bias, je - j, g->accumulate);
            tt_store_row(y + g->ldy, f[1], g->sx[i + 1], 0, bias, je - j, g->accumulate);
          } else {
            tt_store_row(y, tile1(a, panel, sums, groups), g->sx[i], 0, bias, je - j, g->accumulate);
          }
        }
      }
    }
  }
}

// direct_body is for fewer than 4 rows, for which unpacking would be most of the work: the nibbles of 4 columns are
// multiplied as they come. Units are 4 columns.
static void direct_body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  int32_t groups = g->k / 32;
  for (int32_t u = begin; u < end; u++) {
    int32_t j = u * 4, cols = tt_min32(4, g->n - j);
    size_t row[4];
    for (int32_t c = 0; c < 4; c++) {
      row[c] = (size_t)(j + tt_min32(c, cols - 1)) * (size_t)groups;
    }
    for (int32_t i = 0; i < g->m; i++) {
      int32_t hop = (i | 1) < g->m ? 16 : 8;
      const int16_t *a = g->q + (size_t)(i & ~1) * (size_t)g->k + (i & 1) * 8;
      const int32_t *sums = g->sums + (size_t)i * (size_t)groups;
      v128_t f = wasm_f32x4_const_splat(0);
      for (int32_t n = 0; n < groups; n++, a += hop * 4) {
        v128_t a0 = wasm_v128_load(a), a1 = wasm_v128_load(a + hop);
        v128_t a2 = wasm_v128_load(a + hop * 2), a3 = wasm_v128_load(a + hop * 3);
        v128_t s[4];
        for (int32_t c = 0; c < 4; c++) {
          v128_t v = wasm_v128_load(g->w + (row[c] + (size_t)n) * 16);
          v128_t lo = tt_low_nibbles(v), hi = tt_high_nibbles(v);
          s[c] = wasm_i32x4_dot_i16x8(a0, wasm_u16x8_extend_low_u8x16(lo));
          s[c] = tt_mac(s[c], a1, wasm_u16x8_extend_high_u8x16(lo));
          s[c] = tt_mac(s[c], a2, wasm_u16x8_extend_low_u8x16(hi));
          s[c] = tt_mac(s[c], a3, wasm_u16x8_extend_high_u8x16(hi));
        }
        size_t at = (size_t)n;
        v128_t d =
            tt_half4(wasm_u32x4_make(g->d[row[0] + at], g->d[row[1] + at], g->d[row[2] + at], g->d[row[3] + at]));
        v128_t low = tt_half4(wasm_u32x4_make(g->minimum[row[0] + at], g->minimum[row[1] + at], g->minimum[row[2] + at],
                                              g->minimum[row[3] + at]));
        v128_t dot = wasm_f32x4_convert_i32x4(tt_sum4_i32(s[0], s[1], s[2], s[3]));
        f = wasm_f32x4_add(f, wasm_f32x4_mul(dot, d));
        f = wasm_f32x4_add(f, wasm_f32x4_mul(wasm_f32x4_splat((float)sums[n]), low));
      }
      tt_store_row(g->y + (size_t)i * (size_t)g->ldy + j, f, g->sx[i], 0, g->bias ? g->bias + j : 0, cols,
                   g->accumulate);
    }
  }
}

// A panel of 8 columns for the tile of gemm_splat.h: k*8 int16, then [k/32][8] d, then as many minima.
TT_INLINE int32_t splat_panel_bytes(int32_t k) { return k * 18; }

static TT_NOINLINE void unpack_splats(int16_t *panel, const gemm_args *g, int32_t j, int32_t cols) {
  int32_t groups = g->k / 32;
  float *d = (float *)(panel + g->k * 8), *minimum = d + groups * 8;
  for (int32_t half = 0; half < 8; half += 4) {
    size_t row[4];
    for (int32_t c = 0; c < 4; c++) {
      row[c] = (size_t)(j + tt_min32(half + c, cols - 1)) * (size_t)groups;
    }
    int16_t *p = panel + half * 2;
    for (int32_t i = 0; i < groups; i++, p += 256) {
      v128_t v0 = wasm_v128_load(g->w + (row[0] + (size_t)i) * 16),
             v1 = wasm_v128_load(g->w + (row[1] + (size_t)i) * 16);
      v128_t v2 = wasm_v128_load(g->w + (row[2] + (size_t)i) * 16),
             v3 = wasm_v128_load(g->w + (row[3] + (size_t)i) * 16);
      v128_t a = tt_low_nibbles(v0), b = tt_low_nibbles(v1), c = tt_low_nibbles(v2), e = tt_low_nibbles(v3);
      tt_interleave(p, wasm_u16x8_extend_low_u8x16(a), wasm_u16x8_extend_low_u8x16(b), wasm_u16x8_extend_low_u8x16(c),
                    wasm_u16x8_extend_low_u8x16(e));
      tt_interleave(p + 64, wasm_u16x8_extend_high_u8x16(a), wasm_u16x8_extend_high_u8x16(b),
                    wasm_u16x8_extend_high_u8x16(c), wasm_u16x8_extend_high_u8x16(e));
      a = tt_high_nibbles(v0), b = tt_high_nibbles(v1), c = tt_high_nibbles(v2), e = tt_high_nibbles(v3);
      tt_interleave(p + 128, wasm_u16x8_extend_low_u8x16(a), wasm_u16x8_extend_low_u8x16(b),
                    wasm_u16x8_extend_low_u8x16(c), wasm_u16x8_extend_low_u8x16(e));
      tt_interleave(p + 192, wasm_u16x8_extend_high_u8x16(a), wasm_u16x8_extend_high_u8x16(b),
                    wasm_u16x8_extend_high_u8x16(c), wasm_u16x8_extend_high_u8x16(e));
    }
    for (int32_t c = 0; c < 4; c++) {
      for (int32_t i = 0; i < groups; i++) {
        d[i * 8 + half + c] = tt_half(g->d[row[c] + (size_t)i]);
        minimum[i * 8 + half + c] = tt_half(g->minimum[row[c] + (size_t)i]);
      }
    }
  }
}

// splat_rows writes the outputs of `rows` (1 to 4) rows from row i on, a multiple of 4, for the panel of column j.
static TT_NOINLINE void splat_rows(const gemm_args *g, const int16_t *panel, int32_t i, int32_t rows, int32_t j,
                                   int32_t cols) {
  int32_t groups = g->k / 32;
  const float *d = (const float *)(panel + g->k * 8), *minimum = d + groups * 8;
  const int32_t *sums = g->sums + (size_t)i * (size_t)groups;
  v128_t s[8], f[8];
  for (int32_t r = 0; r < 8; r++) {
    f[r] = wasm_f32x4_const_splat(0);
  }
  for (int32_t n = 0; n < groups; n++, panel += 256, d += 8, minimum += 8) {
    if (rows == 4) {
      const int16_t *a = g->q + (size_t)i * (size_t)g->k + n * 64;
      tt_splat4(a, a + g->k * 2, panel, 32, s);
    } else {
      for (int32_t r = 0; r < rows; r++) {
        int32_t height = ((i + r) | 1) < g->m ? 2 : 1;
        const int16_t *a = g->q + (size_t)((i + r) & ~1) * (size_t)g->k + (r & 1) * 8 + n * 32 * height;
        tt_splat1(a, height * 8, panel, 32, s + r * 2);
      }
    }
    v128_t d0 = wasm_v128_load(d), d1 = wasm_v128_load(d + 4);
    v128_t m0 = wasm_v128_load(minimum), m1 = wasm_v128_load(minimum + 4);
    for (int32_t r = 0; r < rows; r++) {
      v128_t sum = wasm_f32x4_splat((float)sums[r * groups + n]);
      v128_t x = wasm_f32x4_add(f[r * 2], wasm_f32x4_mul(wasm_f32x4_convert_i32x4(s[r * 2]), d0));
      v128_t y = wasm_f32x4_add(f[r * 2 + 1], wasm_f32x4_mul(wasm_f32x4_convert_i32x4(s[r * 2 + 1]), d1));
      f[r * 2] = wasm_f32x4_add(x, wasm_f32x4_mul(sum, m0));
      f[r * 2 + 1] = wasm_f32x4_add(y, wasm_f32x4_mul(sum, m1));
    }
  }
  const float *bias = g->bias ? g->bias + j : 0;
  float *y = g->y + (size_t)i * (size_t)g->ldy + j;
  for (int32_t r = 0; r < rows; r++, y += g->ldy) {
    tt_store_row(y, f[r * 2], g->sx[i + r], 0, bias, cols, g->accumulate);
    if (cols > 4) {
      tt_store_row(y + 4, f[r * 2 + 1], g->sx[i + r], 0, bias ? bias + 4 : 0, cols - 4, g->accumulate);
    }
  }
}

static void splat_body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  char *scratch = tt_scratch();
  int32_t bytes = splat_panel_bytes(g->k);
  int32_t columns = tt_max32(1, tt_min32(PANEL_BYTES / bytes, COLS / 8)) * 8;
  for (int32_t u = begin; u < end; u++) {
    int32_t i0 = u / g->column_units * ROWS, i1 = tt_min32(i0 + ROWS, g->m);
    int32_t j0 = u % g->column_units * COLS, j1 = tt_min32(j0 + COLS, g->n);
    for (int32_t jg = j0; jg < j1; jg += columns) {
      int32_t je = tt_min32(jg + columns, j1);
      for (int32_t j = jg; j < je; j += 8) {
        unpack_splats((int16_t *)(scratch + (j - jg) / 8 * bytes), g, j, tt_min32(8, je - j));
      }
      for (int32_t i = i0; i < i1; i += 4) {
        for (int32_t j = jg; j < je; j += 8) {
          splat_rows(g, (const int16_t *)(scratch + (j - jg) / 8 * bytes), i, tt_min32(4, i1 - i), j, je - j);
        }
      }
    }
  }
}

void q4_gemm(void *y, void *q, void *sx, void *sums, void *w, void *d, void *minimum, void *bias, int32_t m, int32_t n,
             int32_t k, int32_t ldy, int32_t accumulate) {
  if (m <= 0 || n <= 0) {
    return;
  }
  gemm_args g = {y, q, sx, sums, w, d, minimum, bias, m, n, k, ldy, accumulate, (n + COLS - 1) / COLS};
  if (m < 4) {
    parallel_for(direct_body, &g, (n + 3) / 4, 1 + 200000 / (m * (k + 1)));
    return;
  }
  int64_t unit = (int64_t)(tt_min32(m, ROWS) + 4) * COLS * (k + 1);
  int32_t splats = tt_splats && k > 0 && splat_panel_bytes(k) <= TT_SCRATCH_BYTES;
  parallel_for(splats ? splat_body : body, &g, g.column_units * ((m + ROWS - 1) / ROWS), (int32_t)(1 + 400000 / unit));
}
