// y[m,n] = x[m,k] w[n,k]^T with int16 activations and int8 weights, scaled by row and by column.
//
// Units of ROWS x COLS outputs go to threads. In a unit, 4 to 16 weight rows are unpacked to int16
// at a time (half of the first-level cache) and all rows of the unit pass over them; unpacking is
// then about 1% of the work. With fewer than 4 rows it would be most of it, so those are multiplied
// straight from the int8 rows.
#include "gemm_i16.h"
#include "gemm_splat.h"
#include "requantize.h"

#define ROWS 128
#define COLS 64
#define PANEL_BYTES (20 * 1024)

typedef struct {
  float *y;
  const int16_t *q;
  const float *sx;
  const int8_t *w;
  const float *sw;
  const float *bias;
  int32_t m, n, k, k8, ldw, ldy, accumulate;
  int32_t column_units;
  int32_t run;     // products that are summed in int32
  int32_t blocks;  // sw is [k/run, n]: each run is scaled by itself
  int8_t *out;     // instead of y: int8, rounded from (sum + ibias) * sw, plus zero
  const int32_t *ibias;
  int32_t zero, lo, hi;
} gemm_args;

// totals are the sums of 4 columns over the runs of k so far: of doubles, exact, or with a scale for each run of
// floats.
typedef struct {
  v128_t lo, hi;
} totals;

// add_run adds the exact sums of one run of k, of 4 columns from j on.
TT_INLINE void add_run(const gemm_args *g, totals *t, v128_t sums, int32_t run, int32_t j) {
  if (!g->blocks) {
    t->lo = wasm_f64x2_add(t->lo, wasm_f64x2_convert_low_i32x4(sums));
    t->hi = wasm_f64x2_add(t->hi, wasm_f64x2_convert_low_i32x4(wasm_i32x4_shuffle(sums, sums, 2, 3, 2, 3)));
    return;
  }
  v128_t s = wasm_f32x4_convert_i32x4(sums);
  const float *d = g->sw + (size_t)run * (size_t)g->n + j;
  if (j + 4 <= g->n) {
    s = wasm_f32x4_mul(s, wasm_v128_load(d));
  } else {
    float v[4] = {0};
    for (int32_t i = 0; i < g->n - j; i++) {
      v[i] = d[i];
    }
    s = wasm_f32x4_mul(s, wasm_v128_load(v));
  }
  t->lo = wasm_f32x4_add(t->lo, s);
}

// rounded returns the totals as floats.
TT_INLINE v128_t rounded(const gemm_args *g, totals t) {
  if (g->blocks) {
    return t.lo;
  }
  return wasm_i32x4_shuffle(wasm_f32x4_demote_f64x2_zero(t.lo), wasm_f32x4_demote_f64x2_zero(t.hi), 0, 1, 4, 5);
}

// store_i8 writes min(4, cols) outputs of row i from column j on, from exact sums.
TT_INLINE void store_i8(const gemm_args *g, int32_t i, int32_t j, v128_t sums, int32_t cols) {
  int8_t *out = g->out + (size_t)i * (size_t)g->ldy + j;
  if (cols >= 4) {
    v128_t acc = g->ibias ? wasm_i32x4_add(sums, wasm_v128_load(g->ibias + j)) : sums;
    v128_t v = tt_requantize(acc, wasm_v128_load(g->sw + j), g->zero, g->lo, g->hi);
    v = wasm_i16x8_narrow_i32x4(v, v);
    wasm_v128_store32_lane(out, wasm_i8x16_narrow_i16x8(v, v), 0);
    return;
  }
  int32_t s[4];
  wasm_v128_store(s, sums);
  for (int32_t c = 0; c < cols; c++) {
    uint32_t acc = (uint32_t)s[c] + (g->ibias ? (uint32_t)g->ibias[j + c] : 0);
    v128_t v = tt_requantize(wasm_i32x4_splat((int32_t)acc), wasm_f32x4_splat(g->sw[j + c]), g->zero, g->lo, g->hi);
    out[c] = (int8_t)wasm_i32x4_extract_lane(v, 0);
  }
}

TT_INLINE void store(const gemm_args *g, int32_t i, int32_t j, v128_t f, v128_t sums, int32_t cols) {
  if (g->out) {
    store_i8(g, i, j, sums, cols);
    return;
  }
  tt_store_row(g->y + (size_t)i * (size_t)g->ldy + j, f, g->sx[i], g->blocks ? 0 : g->sw + j, g->bias ? g->bias + j : 0,
               cols, g->accumulate);
}

// magnitudes adds those of 8 weights to a row's sum, in lanes.
TT_INLINE v128_t magnitudes(v128_t sum, v128_t w) {
  return wasm_i32x4_add(sum, wasm_u32x4_extadd_pairwise_u16x8(wasm_i16x8_abs(w)));
}

// exact_in_int32 reports whether sums over whole weight rows are, given their magnitudes.
TT_INLINE int32_t exact_in_int32(v128_t a, v128_t b, v128_t c, v128_t d) {
  v128_t most = wasm_i32x4_const_splat(TT_EXACT_WEIGHTS);
  return !wasm_v128_any_true(wasm_i32x4_gt(tt_sum4_i32(a, b, c, d), most));
}

// unpack writes a panel from `cols` (1 to 4) rows of w; missing rows and the padding of k are zero. It returns
// exact_in_int32.
static TT_NOINLINE int32_t unpack(int16_t *panel, const int8_t *w, int32_t cols, int32_t k, int32_t ldw) {
  int32_t full = k & ~7;
  v128_t sums[4];
  for (int32_t j = 0; j < 4; j++) {
    int16_t *p = panel + j * 8;
    v128_t sum = wasm_i32x4_const_splat(0);
    sums[j] = sum;
    if (j >= cols) {
      for (int32_t i = 0; i < k; i += 8) {
        wasm_v128_store(p + i * 4, wasm_i16x8_const_splat(0));
      }
      continue;
    }
    const int8_t *row = w + (size_t)j * (size_t)ldw;
    for (int32_t i = 0; i < full; i += 8) {
      v128_t v = wasm_i16x8_load8x8(row + i);
      wasm_v128_store(p + i * 4, v);
      sum = magnitudes(sum, v);
    }
    if (full < k) {
      for (int32_t i = 0; i < 8; i++) {
        p[full * 4 + i] = full + i < k ? row[full + i] : 0;
      }
      sum = magnitudes(sum, wasm_v128_load(p + full * 4));
    }
    sums[j] = sum;
  }
  return exact_in_int32(sums[0], sums[1], sums[2], sums[3]);
}

// tile2 returns the sums of two rows against a panel, of one run that is exact.
static TT_NOINLINE void tile2(const int16_t *a, const int16_t *b, int32_t k8, v128_t out[2]) {
  v128_t s00 = wasm_i32x4_const_splat(0), s01 = s00, s02 = s00, s03 = s00;
  v128_t s10 = s00, s11 = s00, s12 = s00, s13 = s00;
  int32_t k = 0;
#define STEP(at)                                          \
  {                                                       \
    v128_t a0 = wasm_v128_load(a + (at) * 16);            \
    v128_t a1 = wasm_v128_load(a + (at) * 16 + 8);        \
    v128_t b0 = wasm_v128_load(b + (at) * 32);            \
    v128_t b1 = wasm_v128_load(b + (at) * 32 + 8);        \
    v128_t b2 = wasm_v128_load(b + (at) * 32 + 16);       \
    v128_t b3 = wasm_v128_load(b + (at) * 32 + 24);       \
    s00 = tt_mac(s00, a0, b0), s10 = tt_mac(s10, a1, b0); \
    s01 = tt_mac(s01, a0, b1), s11 = tt_mac(s11, a1, b1); \
    s02 = tt_mac(s02, a0, b2), s12 = tt_mac(s12, a1, b2); \
    s03 = tt_mac(s03, a0, b3), s13 = tt_mac(s13, a1, b3); \
  }
  for (; k + 16 <= k8; k += 16) {
    STEP(1)
    STEP(0)
    a += 32;
    b += 64;
  }
  if (k < k8) {
    STEP(0)
  }
#undef STEP
  out[0] = tt_sum4_i32(s00, s01, s02, s03);
  out[1] = tt_sum4_i32(s10, s11, s12, s13);
}

// tile1 is tile2 for one row.
static TT_NOINLINE v128_t tile1(const int16_t *a, const int16_t *b, int32_t k8) {
  v128_t s0 = wasm_i32x4_const_splat(0), s1 = s0, s2 = s0, s3 = s0;
  for (int32_t k = 0; k < k8; k += 8) {
    v128_t a0 = wasm_v128_load(a);
    s3 = tt_mac(s3, a0, wasm_v128_load(b + 24));
    s2 = tt_mac(s2, a0, wasm_v128_load(b + 16));
    s1 = tt_mac(s1, a0, wasm_v128_load(b + 8));
    s0 = tt_mac(s0, a0, wasm_v128_load(b));
    a += 8;
    b += 32;
  }
  return tt_sum4_i32(s0, s1, s2, s3);
}

// rows_by_panel writes the outputs of rows [begin, end), begin even, for the panel of column j, from runs of k.
static void rows_by_panel(const gemm_args *g, const int16_t *panel, int32_t j, int32_t begin, int32_t end,
                          int32_t run) {
  int32_t cols = g->n - j;
  int32_t i = begin;
  for (; i + 2 <= end; i += 2) {
    const int16_t *a = g->q + (size_t)i * (size_t)g->k8;
    v128_t s[2];
    totals t0 = {0}, t1 = {0};
    for (int32_t k = 0, r = 0; k < g->k8; k += run, r++) {
      tile2(a + k * 2, panel + k * 4, tt_min32(g->k8 - k, run), s);
      add_run(g, &t0, s[0], r, j);
      add_run(g, &t1, s[1], r, j);
    }
    store(g, i, j, rounded(g, t0), s[0], cols);
    store(g, i + 1, j, rounded(g, t1), s[1], cols);
  }
  if (i < end) {
    const int16_t *a = g->q + (size_t)i * (size_t)g->k8;
    v128_t s;
    totals t = {0};
    for (int32_t k = 0, r = 0; k < g->k8; k += run, r++) {
      s = tile1(a + k, panel + k * 4, tt_min32(g->k8 - k, run));
      add_run(g, &t, s, r, j);
    }
    store(g, i, j, rounded(g, t), s, cols);
  }
}

static void packed_body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  int16_t *panel = tt_scratch();
  int32_t group = tt_max32(1, tt_min32(PANEL_BYTES / (g->k8 * 8), COLS / 4)) * 4;
  int32_t runs[COLS / 4];
  for (int32_t u = begin; u < end; u++) {
    int32_t i0 = u / g->column_units * ROWS, i1 = tt_min32(i0 + ROWS, g->m);
    int32_t j0 = u % g->column_units * COLS, j1 = tt_min32(j0 + COLS, g->n);
    for (int32_t jg = j0; jg < j1; jg += group) {
      int32_t je = tt_min32(jg + group, j1);
      for (int32_t j = jg; j < je; j += 4) {
        int32_t exact = unpack(panel + (size_t)(j - jg) * (size_t)g->k8, g->w + (size_t)j * (size_t)g->ldw,
                               tt_min32(4, je - j), g->k, g->ldw);
        runs[(j - jg) / 4] = exact && !g->blocks ? g->k8 : g->run;
      }
      for (int32_t i = i0; i < i1; i += 2) {
        for (int32_t j = jg; j < je; j += 4) {
          rows_by_panel(g, panel + (size_t)(j - jg) * (size_t)g->k8, j, i, tt_min32(i + 2, i1), runs[(j - jg) / 4]);
        }
      }
    }
  }
}

// unpack_splats writes a panel of gemm_splat.h from `cols` (1 to 8) rows of w and returns exact_in_int32.
static TT_NOINLINE int32_t unpack_splats(int16_t *panel, const int8_t *w, int32_t cols, int32_t k, int32_t ldw) {
  int32_t exact = 1;
  for (int32_t half = 0; half < 8; half += 4, panel += 8) {
    // A row past the last repeats it: its sums are not stored.
    const int8_t *w0 = w + (size_t)tt_min32(half, cols - 1) * (size_t)ldw;
    const int8_t *w1 = w + (size_t)tt_min32(half + 1, cols - 1) * (size_t)ldw;
    const int8_t *w2 = w + (size_t)tt_min32(half + 2, cols - 1) * (size_t)ldw;
    const int8_t *w3 = w + (size_t)tt_min32(half + 3, cols - 1) * (size_t)ldw;
    v128_t s0 = wasm_i32x4_const_splat(0), s1 = s0, s2 = s0, s3 = s0;
    int16_t *p = panel;
    int8_t rest[4][8] = {0};
    for (int32_t i = 0; i < k; i += 8, p += 64) {
      int32_t at = i;
      if (i + 8 > k) {
        for (int32_t t = 0; i + t < k; t++) {
          rest[0][t] = w0[i + t], rest[1][t] = w1[i + t], rest[2][t] = w2[i + t], rest[3][t] = w3[i + t];
        }
        w0 = rest[0], w1 = rest[1], w2 = rest[2], w3 = rest[3], at = 0;
      }
      v128_t v0 = wasm_i16x8_load8x8(w0 + at), v1 = wasm_i16x8_load8x8(w1 + at);
      v128_t v2 = wasm_i16x8_load8x8(w2 + at), v3 = wasm_i16x8_load8x8(w3 + at);
      tt_interleave(p, v0, v1, v2, v3);
      s0 = magnitudes(s0, v0), s1 = magnitudes(s1, v1), s2 = magnitudes(s2, v2), s3 = magnitudes(s3, v3);
    }
    exact &= exact_in_int32(s0, s1, s2, s3);
  }
  return exact;
}

// splat_rows writes the sums of `rows` (1 to 4) rows from row i on, a multiple of 4, over n elements of k.
TT_INLINE void splat_rows(const gemm_args *g, const int16_t *panel, int32_t i, int32_t rows, int32_t k, int32_t n,
                          v128_t s[8]) {
  const int16_t *b = panel + (size_t)k * 8;
  if (rows == 4) {
    const int16_t *a = g->q + (size_t)i * (size_t)g->k8 + k * 2;
    tt_splat4(a, a + g->k8 * 2, b, n, s);
    return;
  }
  for (int32_t r = 0; r < rows; r++) {
    int32_t height = ((i + r) | 1) < g->m ? 2 : 1;
    const int16_t *a = g->q + (size_t)((i + r) & ~1) * (size_t)g->k8 + (r & 1) * 8 + k * height;
    tt_splat1(a, height * 8, b, n, s + r * 2);
  }
}

// splat_runs writes the sums of splat_rows over all of k as floats, put together from runs.
static TT_NOINLINE void splat_runs(const gemm_args *g, const int16_t *panel, int32_t i, int32_t rows, v128_t s[8]) {
  totals t[8] = {0};
  for (int32_t k = 0; k < g->k8; k += g->run) {
    splat_rows(g, panel, i, rows, k, tt_min32(g->k8 - k, g->run), s);
    for (int32_t r = 0; r < rows * 2; r++) {
      add_run(g, t + r, s[r], 0, 0);
    }
  }
  for (int32_t r = 0; r < rows * 2; r++) {
    s[r] = rounded(g, t[r]);
  }
}

// splat_tile writes the outputs of `rows` (1 to 4) rows from row i on, a multiple of 4, for the panel of column j.
static TT_NOINLINE void splat_tile(const gemm_args *g, const int16_t *panel, int32_t i, int32_t rows, int32_t j,
                                   int32_t exact) {
  v128_t f[8];
  if (exact) {
    splat_rows(g, panel, i, rows, 0, g->k8, f);
    for (int32_t r = 0; r < rows * 2; r++) {
      f[r] = wasm_f32x4_convert_i32x4(f[r]);
    }
  } else {
    splat_runs(g, panel, i, rows, f);
  }
  int32_t cols = g->n - j;
  const float *sw = g->sw + j, *bias = g->bias ? g->bias + j : 0;
  float *y = g->y + (size_t)i * (size_t)g->ldy + j;
  for (int32_t r = 0; r < rows; r++, y += g->ldy) {
    tt_store_row(y, f[r * 2], g->sx[i + r], sw, bias, cols, g->accumulate);
    if (cols > 4) {
      tt_store_row(y + 4, f[r * 2 + 1], g->sx[i + r], sw + 4, bias ? bias + 4 : 0, cols - 4, g->accumulate);
    }
  }
}

static void splat_body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  int16_t *panel = tt_scratch();
  int32_t group = tt_max32(1, tt_min32(PANEL_BYTES / (g->k8 * 16), COLS / 8)) * 8;
  int32_t exact[COLS / 8];
  for (int32_t u = begin; u < end; u++) {
    int32_t i0 = u / g->column_units * ROWS, i1 = tt_min32(i0 + ROWS, g->m);
    int32_t j0 = u % g->column_units * COLS, j1 = tt_min32(j0 + COLS, g->n);
    for (int32_t jg = j0; jg < j1; jg += group) {
      int32_t je = tt_min32(jg + group, j1);
      for (int32_t j = jg; j < je; j += 8) {
        exact[(j - jg) / 8] = unpack_splats(panel + (size_t)(j - jg) * (size_t)g->k8, g->w + (size_t)j * (size_t)g->ldw,
                                            tt_min32(8, je - j), g->k, g->ldw);
      }
      for (int32_t i = i0; i < i1; i += 4) {
        for (int32_t j = jg; j < je; j += 8) {
          splat_tile(g, panel + (size_t)(j - jg) * (size_t)g->k8, i, tt_min32(4, i1 - i), j, exact[(j - jg) / 8]);
        }
      }
    }
  }
}

int32_t tt_splats;

void gemm_tile(int32_t splats) { tt_splats = splats; }

// dot_tail returns the product of k < 9 neighbours.
static int32_t dot_tail(const int16_t *a, const int8_t *w, int32_t k) {
  int32_t sum = 0;
  for (int32_t i = 0; i < k; i++) {
    sum += a[i] * w[i];
  }
  return sum;
}

// direct4 returns the sums of one run of an activation row (8 of every 8*height elements) against
// four int8 weight rows.
static TT_NOINLINE v128_t direct4(const int16_t *a, int32_t height, const int8_t *w, int32_t ldw, int32_t k) {
  const int8_t *w0 = w, *w1 = w + ldw, *w2 = w1 + ldw, *w3 = w2 + ldw;
  v128_t s0 = wasm_i32x4_const_splat(0), s1 = s0, s2 = s0, s3 = s0;
  int32_t full = k & ~7, i = 0;
  int32_t hop = height * 8;
  for (; i + 16 <= full; i += 16) {
    v128_t a0 = wasm_v128_load(a), a1 = wasm_v128_load(a + hop);
    v128_t b0 = wasm_v128_load(w0 + i), b1 = wasm_v128_load(w1 + i);
    v128_t b2 = wasm_v128_load(w2 + i), b3 = wasm_v128_load(w3 + i);
    s0 = tt_mac(s0, a0, wasm_i16x8_extend_low_i8x16(b0));
    s1 = tt_mac(s1, a0, wasm_i16x8_extend_low_i8x16(b1));
    s2 = tt_mac(s2, a0, wasm_i16x8_extend_low_i8x16(b2));
    s3 = tt_mac(s3, a0, wasm_i16x8_extend_low_i8x16(b3));
    s0 = tt_mac(s0, a1, wasm_i16x8_extend_high_i8x16(b0));
    s1 = tt_mac(s1, a1, wasm_i16x8_extend_high_i8x16(b1));
    s2 = tt_mac(s2, a1, wasm_i16x8_extend_high_i8x16(b2));
    s3 = tt_mac(s3, a1, wasm_i16x8_extend_high_i8x16(b3));
    a += hop * 2;
  }
  if (i < full) {
    v128_t a0 = wasm_v128_load(a);
    s0 = tt_mac(s0, a0, wasm_i16x8_load8x8(w0 + i));
    s1 = tt_mac(s1, a0, wasm_i16x8_load8x8(w1 + i));
    s2 = tt_mac(s2, a0, wasm_i16x8_load8x8(w2 + i));
    s3 = tt_mac(s3, a0, wasm_i16x8_load8x8(w3 + i));
    a += hop;
  }
  v128_t s = tt_sum4_i32(s0, s1, s2, s3);
  if (full < k) {
    int32_t t = k - full;
    s = wasm_i32x4_add(s, wasm_i32x4_make(dot_tail(a, w0 + full, t), dot_tail(a, w1 + full, t),
                                          dot_tail(a, w2 + full, t), dot_tail(a, w3 + full, t)));
  }
  return s;
}

// direct1 is direct4 for one weight row.
static int32_t direct1(const int16_t *a, int32_t height, const int8_t *w, int32_t k) {
  int32_t sum = 0;
  for (int32_t i = 0; i < k; i += 8) {
    sum += dot_tail(a, w + i, tt_min32(8, k - i));
    a += height * 8;
  }
  return sum;
}

static void direct_body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  for (int32_t u = begin; u < end; u++) {
    int32_t j = u * 4, cols = tt_min32(4, g->n - j);
    const int8_t *w = g->w + (size_t)j * (size_t)g->ldw;
    for (int32_t i = 0; i < g->m; i++) {
      int32_t height = (i | 1) < g->m ? 2 : 1;
      const int16_t *a = g->q + (size_t)(i & ~1) * (size_t)g->k8 + (i & 1) * 8;
      v128_t s;
      totals t = {0};
      for (int32_t k = 0, r = 0; k < g->k; k += g->run, r++) {
        int32_t run = tt_min32(g->k - k, g->run);
        if (cols == 4) {
          s = direct4(a + k * height, height, w + k, g->ldw, run);
        } else {
          s = wasm_i32x4_make(direct1(a + k * height, height, w + k, run),
                              cols > 1 ? direct1(a + k * height, height, w + k + g->ldw, run) : 0,
                              cols > 2 ? direct1(a + k * height, height, w + k + 2 * g->ldw, run) : 0, 0);
        }
        add_run(g, &t, s, r, j);
      }
      store(g, i, j, rounded(g, t), s, cols);
    }
  }
}

static void multiply(gemm_args *g) {
  if (g->m <= 0 || g->n <= 0 || g->k <= 0) {
    return;
  }
  g->k8 = tt_round8(g->k);
  g->column_units = (g->n + COLS - 1) / COLS;
  if (g->m < 4) {
    parallel_for(direct_body, g, (g->n + 3) / 4, 1 + 200000 / (g->m * (g->k + 1)));
    return;
  }
  int64_t unit = (int64_t)tt_min32(g->m, ROWS) * COLS * (g->k + 1);
  // The other tile knows neither blocks of k nor integer results.
  int32_t splats = tt_splats && g->run == TT_EXACT_K && !g->blocks && !g->out;
  parallel_for(splats ? splat_body : packed_body, g, g->column_units * ((g->m + ROWS - 1) / ROWS),
               (int32_t)(1 + 400000 / unit));
}

void i8_gemm(void *y, void *q, void *sx, void *w, void *sw, void *bias, int32_t m, int32_t n, int32_t k, int32_t ldw,
             int32_t ldy, int32_t accumulate) {
  gemm_args g = {
      .y = y, .q = q, .sx = sx, .w = w, .sw = sw, .bias = bias, .m = m, .n = n, .k = k, .ldw = ldw, .ldy = ldy};
  g.accumulate = accumulate;
  g.run = TT_EXACT_K;
  multiply(&g);
}

// Activations of at most 255 in magnitude are summed exactly over any k that is supported.
#define TT_EXACT_K_I9 65536

void qd8_gemm(void *y, void *q, void *sx, void *w, void *sw, void *bias, int32_t m, int32_t n, int32_t k, int32_t block,
              int32_t ldy) {
  gemm_args g = {
      .y = y, .q = q, .sx = sx, .w = w, .sw = sw, .bias = bias, .m = m, .n = n, .k = k, .ldw = k, .ldy = ldy};
  g.run = block > 0 ? block : TT_EXACT_K_I9;
  g.blocks = block > 0;
  multiply(&g);
}

void qs8_gemm(void *y, void *q, void *w, void *scale, void *bias, int32_t m, int32_t n, int32_t k, int32_t ldy,
              int32_t zero, int32_t lo, int32_t hi) {
  gemm_args g = {.out = y, .q = q, .w = w, .sw = scale, .ibias = bias, .m = m, .n = n, .k = k, .ldw = k, .ldy = ldy};
  g.run = TT_EXACT_K_I9;
  g.zero = zero, g.lo = lo, g.hi = hi;
  multiply(&g);
}
