// c[m,n] = alpha a[m,k] b + bias (+ c) in float, b given as [n,k] (nt) or [k,n] (nn), single or
// batched.
//
// Every output is one running sum over k in order, each product and each addition rounded, that
// starts at bias (+ c): the same bits for any blocking, tile and number of threads. alpha scales a.
//
// Units of ROWS x COLS outputs go to threads. Blocks of KC of k: b is packed to panels of 8 columns,
// [kc][8]; then for every 4 rows, a is packed to [kc][4][4] with each element in all four lanes, and
// the 4x8 tile runs along the panels. Repeating a costs 16 bytes a store but saves the tile its
// splats, which are two instructions in wazero, and leaves two streams with constant offsets, hence
// two bounds checks. Measured for the tile (GFLOP/s, Chromium 156 / wazero 1.12, one thread, K=576):
// 4x8 repeated 43 / 19, unrolled twice 35 / 22; 4x8 splats 39 / 13; 2x4 partial sums 38 / 14.
// With one panel only, repeating does not pay and the tile reads a in place; one row reads b in place.
#include "tt.h"

#define ROWS 128
#define COLS 128
#define KC 256

typedef struct {
  float *c;
  const float *a;
  const float *b;
  const float *bias;
  const int32_t *offsets;  // [batch][3]: elements from c, a, b; null: the strides below
  int32_t m, n, k, lda, ldb, ldc;
  int32_t stride_c, stride_a, stride_b;
  float alpha;
  int32_t accumulate, nn;
  int32_t row_units, column_units;
  int32_t clamp;  // outputs lie in [lo, hi]
  float lo, hi;
} gemm_args;

// pack_b packs columns [0, cols) of b, cols <= 8, over k in [0, kc); missing columns are zero.
static TT_NOINLINE void pack_b(float *p, const float *b, int32_t cols, int32_t kc, int32_t ldb, int32_t nn) {
  if (nn) {
    for (int32_t k = 0; k < kc; k++, p += 8, b += ldb) {
      if (cols == 8) {
        wasm_v128_store(p, wasm_v128_load(b));
        wasm_v128_store(p + 4, wasm_v128_load(b + 4));
      } else {
        for (int32_t j = 0; j < 8; j++) {
          p[j] = j < cols ? b[j] : 0;
        }
      }
    }
    return;
  }
  for (int32_t j = 0; j < 8; j += 4) {
    const float *r = b + (size_t)j * (size_t)ldb;
    int32_t k = 0;
    if (j + 4 <= cols) {
      const float *r1 = r + ldb, *r2 = r1 + ldb, *r3 = r2 + ldb;
      for (; k + 4 <= kc; k += 4) {
        v128_t v0 = wasm_v128_load(r + k), v1 = wasm_v128_load(r1 + k);
        v128_t v2 = wasm_v128_load(r2 + k), v3 = wasm_v128_load(r3 + k);
        v128_t t0 = wasm_i32x4_shuffle(v0, v1, 0, 4, 1, 5), t1 = wasm_i32x4_shuffle(v2, v3, 0, 4, 1, 5);
        v128_t t2 = wasm_i32x4_shuffle(v0, v1, 2, 6, 3, 7), t3 = wasm_i32x4_shuffle(v2, v3, 2, 6, 3, 7);
        float *q = p + k * 8 + j;
        wasm_v128_store(q, wasm_i32x4_shuffle(t0, t1, 0, 1, 4, 5));
        wasm_v128_store(q + 8, wasm_i32x4_shuffle(t0, t1, 2, 3, 6, 7));
        wasm_v128_store(q + 16, wasm_i32x4_shuffle(t2, t3, 0, 1, 4, 5));
        wasm_v128_store(q + 24, wasm_i32x4_shuffle(t2, t3, 2, 3, 6, 7));
      }
    }
    for (; k < kc; k++) {
      for (int32_t l = 0; l < 4; l++) {
        p[k * 8 + j + l] = j + l < cols ? r[(size_t)l * (size_t)ldb + (size_t)k] : 0;
      }
    }
  }
}

// pack_a repeats 4 rows of alpha*a: [kc][4][4].
static TT_NOINLINE void pack_a(float *p, const float *a, int32_t kc, int32_t lda, float alpha) {
  v128_t by = wasm_f32x4_splat(alpha);
  for (int32_t i = 0; i < 4; i++, p += 4, a += lda) {
    float *q = p;
    int32_t k = 0;
    for (; k + 4 <= kc; k += 4, q += 64) {
      v128_t v = wasm_f32x4_mul(wasm_v128_load(a + k), by);
      wasm_v128_store(q + 48, wasm_i32x4_shuffle(v, v, 3, 3, 3, 3));
      wasm_v128_store(q + 32, wasm_i32x4_shuffle(v, v, 2, 2, 2, 2));
      wasm_v128_store(q + 16, wasm_i32x4_shuffle(v, v, 1, 1, 1, 1));
      wasm_v128_store(q, wasm_i32x4_shuffle(v, v, 0, 0, 0, 0));
    }
    for (; k < kc; k++, q += 16) {
      wasm_v128_store(q, wasm_f32x4_splat(a[k] * alpha));
    }
  }
}

// tile4 adds kc products to the 4x8 sums s; a is packed.
static TT_NOINLINE void tile4(v128_t s[8], const float *a, const float *b, int32_t kc) {
  v128_t s00 = s[0], s01 = s[1], s10 = s[2], s11 = s[3], s20 = s[4], s21 = s[5], s30 = s[6], s31 = s[7];
  for (int32_t k = 0; k < kc; k++, a += 16, b += 8) {
    v128_t b0 = wasm_v128_load(b), b1 = wasm_v128_load(b + 4);
    v128_t a0 = wasm_v128_load(a), a1 = wasm_v128_load(a + 4);
    v128_t a2 = wasm_v128_load(a + 8), a3 = wasm_v128_load(a + 12);
    s00 = wasm_f32x4_add(s00, wasm_f32x4_mul(a0, b0)), s10 = wasm_f32x4_add(s10, wasm_f32x4_mul(a1, b0));
    s20 = wasm_f32x4_add(s20, wasm_f32x4_mul(a2, b0)), s30 = wasm_f32x4_add(s30, wasm_f32x4_mul(a3, b0));
    s01 = wasm_f32x4_add(s01, wasm_f32x4_mul(a0, b1)), s11 = wasm_f32x4_add(s11, wasm_f32x4_mul(a1, b1));
    s21 = wasm_f32x4_add(s21, wasm_f32x4_mul(a2, b1)), s31 = wasm_f32x4_add(s31, wasm_f32x4_mul(a3, b1));
  }
  s[0] = s00, s[1] = s01, s[2] = s10, s[3] = s11, s[4] = s20, s[5] = s21, s[6] = s30, s[7] = s31;
}

// tile4_in_place is tile4 for row-major a.
static TT_NOINLINE void tile4_in_place(v128_t s[8], const float *a, int32_t lda, const float *b, int32_t kc,
                                       float alpha) {
  const float *a1 = a + lda, *a2 = a1 + lda, *a3 = a2 + lda;
  v128_t s00 = s[0], s01 = s[1], s10 = s[2], s11 = s[3], s20 = s[4], s21 = s[5], s30 = s[6], s31 = s[7];
  for (int32_t k = 0; k < kc; k++, b += 8) {
    v128_t b0 = wasm_v128_load(b), b1 = wasm_v128_load(b + 4);
    v128_t x = wasm_f32x4_splat(a[k] * alpha);
    s00 = wasm_f32x4_add(s00, wasm_f32x4_mul(x, b0)), s01 = wasm_f32x4_add(s01, wasm_f32x4_mul(x, b1));
    x = wasm_f32x4_splat(a1[k] * alpha);
    s10 = wasm_f32x4_add(s10, wasm_f32x4_mul(x, b0)), s11 = wasm_f32x4_add(s11, wasm_f32x4_mul(x, b1));
    x = wasm_f32x4_splat(a2[k] * alpha);
    s20 = wasm_f32x4_add(s20, wasm_f32x4_mul(x, b0)), s21 = wasm_f32x4_add(s21, wasm_f32x4_mul(x, b1));
    x = wasm_f32x4_splat(a3[k] * alpha);
    s30 = wasm_f32x4_add(s30, wasm_f32x4_mul(x, b0)), s31 = wasm_f32x4_add(s31, wasm_f32x4_mul(x, b1));
  }
  s[0] = s00, s[1] = s01, s[2] = s10, s[3] = s11, s[4] = s20, s[5] = s21, s[6] = s30, s[7] = s31;
}

// tile1 adds kc products to the 1x8 sums s; a is in place.
static TT_NOINLINE void tile1(v128_t s[2], const float *a, const float *b, int32_t kc, float alpha) {
  v128_t s0 = s[0], s1 = s[1];
  for (int32_t k = 0; k < kc; k++, b += 8) {
    v128_t x = wasm_f32x4_splat(a[k] * alpha);
    s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(x, wasm_v128_load(b)));
    s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(x, wasm_v128_load(b + 4)));
  }
  s[0] = s0, s[1] = s1;
}

// start loads what `height` rows of sums start from: c itself after the first block of k.
TT_INLINE void start(v128_t *s, int32_t height, const gemm_args *g, const float *c, const float *bias, int32_t cols,
                     int32_t first) {
  for (int32_t i = 0; i < height; i++, c += g->ldc) {
    int32_t load = !first || g->accumulate, add = first && bias;
    if (cols >= 8) {
      v128_t lo = wasm_f32x4_const_splat(0), hi = lo;
      if (load) {
        lo = wasm_v128_load(c), hi = wasm_v128_load(c + 4);
      }
      if (add) {
        lo = wasm_f32x4_add(lo, wasm_v128_load(bias)), hi = wasm_f32x4_add(hi, wasm_v128_load(bias + 4));
      }
      s[i * 2] = lo, s[i * 2 + 1] = hi;
      continue;
    }
    float v[8] = {0};
    for (int32_t j = 0; j < cols; j++) {
      v[j] = load ? c[j] : 0;
      if (add) {
        v[j] += bias[j];
      }
    }
    s[i * 2] = wasm_v128_load(v), s[i * 2 + 1] = wasm_v128_load(v + 4);
  }
}

// bounded clamps n vectors of final sums; NaN stays.
TT_INLINE void bounded(v128_t *s, int32_t n, const gemm_args *g) {
  v128_t lo = wasm_f32x4_splat(g->lo), hi = wasm_f32x4_splat(g->hi);
  for (int32_t i = 0; i < n; i++) {
    s[i] = wasm_f32x4_pmin(wasm_f32x4_pmax(s[i], lo), hi);
  }
}

TT_INLINE void finish(const v128_t *s, int32_t height, int32_t ldc, float *c, int32_t cols) {
  for (int32_t i = 0; i < height; i++, c += ldc) {
    if (cols >= 8) {
      wasm_v128_store(c, s[i * 2]);
      wasm_v128_store(c + 4, s[i * 2 + 1]);
      continue;
    }
    float v[8];
    wasm_v128_store(v, s[i * 2]);
    wasm_v128_store(v + 4, s[i * 2 + 1]);
    for (int32_t j = 0; j < cols; j++) {
      c[j] = v[j];
    }
  }
}

// transposed adds 4 products for each of 4 columns to s, from 4 rows of b.
#define TRANSPOSED(s, b, b1, b2, b3)                                                                 \
  {                                                                                                  \
    v128_t v0 = wasm_v128_load(b), v1 = wasm_v128_load(b1);                                          \
    v128_t v2 = wasm_v128_load(b2), v3 = wasm_v128_load(b3);                                         \
    v128_t t0 = wasm_i32x4_shuffle(v0, v1, 0, 4, 1, 5), t1 = wasm_i32x4_shuffle(v2, v3, 0, 4, 1, 5); \
    v128_t t2 = wasm_i32x4_shuffle(v0, v1, 2, 6, 3, 7), t3 = wasm_i32x4_shuffle(v2, v3, 2, 6, 3, 7); \
    s = wasm_f32x4_add(s, wasm_f32x4_mul(x0, wasm_i32x4_shuffle(t0, t1, 0, 1, 4, 5)));               \
    s = wasm_f32x4_add(s, wasm_f32x4_mul(x1, wasm_i32x4_shuffle(t0, t1, 2, 3, 6, 7)));               \
    s = wasm_f32x4_add(s, wasm_f32x4_mul(x2, wasm_i32x4_shuffle(t2, t3, 0, 1, 4, 5)));               \
    s = wasm_f32x4_add(s, wasm_f32x4_mul(x3, wasm_i32x4_shuffle(t2, t3, 2, 3, 6, 7)));               \
  }

// row8 adds k products to the 1x8 sums s, straight from 8 rows of b: packing them for one row would cost more than the
// row.
static TT_NOINLINE void row8(v128_t s[2], const float *a, const float *b, int32_t ldb, int32_t k, float alpha) {
  const float *b1 = b + ldb, *b2 = b1 + ldb, *b3 = b2 + ldb, *b4 = b3 + ldb, *b5 = b4 + ldb, *b6 = b5 + ldb,
              *b7 = b6 + ldb;
  v128_t s0 = s[0], s1 = s[1], by = wasm_f32x4_splat(alpha);
  int32_t i = 0;
  for (; i + 4 <= k; i += 4) {
    v128_t x = wasm_f32x4_mul(wasm_v128_load(a + i), by);
    v128_t x0 = wasm_i32x4_shuffle(x, x, 0, 0, 0, 0), x1 = wasm_i32x4_shuffle(x, x, 1, 1, 1, 1);
    v128_t x2 = wasm_i32x4_shuffle(x, x, 2, 2, 2, 2), x3 = wasm_i32x4_shuffle(x, x, 3, 3, 3, 3);
    TRANSPOSED(s0, b + i, b1 + i, b2 + i, b3 + i)
    TRANSPOSED(s1, b4 + i, b5 + i, b6 + i, b7 + i)
  }
  for (; i < k; i++) {
    v128_t x = wasm_f32x4_splat(a[i] * alpha);
    s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(x, wasm_f32x4_make(b[i], b1[i], b2[i], b3[i])));
    s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(x, wasm_f32x4_make(b4[i], b5[i], b6[i], b7[i])));
  }
  s[0] = s0, s[1] = s1;
}

// one_row does columns [j0, j1) of a product with one row and returns where it stopped: fewer than 8 columns are left.
static int32_t one_row(const gemm_args *g, float *c, const float *a, const float *b, int32_t j0, int32_t j1) {
  for (; j0 + 8 <= j1; j0 += 8) {
    v128_t s[2];
    start(s, 1, g, c + j0, g->bias ? g->bias + j0 : 0, 8, 1);
    row8(s, a, b + (size_t)j0 * (size_t)g->ldb, g->ldb, g->k, g->alpha);
    if (g->clamp) {
      bounded(s, 2, g);
    }
    finish(s, 1, g->ldc, c + j0, 8);
  }
  return j0;
}

// block does rows [i0, i1) and columns [j0, j1) of one product.
static void block(const gemm_args *g, float *c, const float *a, const float *b, int32_t i0, int32_t i1, int32_t j0,
                  int32_t j1) {
  float *panels = tt_scratch();                  // COLS * KC
  float *repeated = panels + (size_t)COLS * KC;  // KC * 16
  if (g->m == 1 && !g->nn) {
    j0 = one_row(g, c, a, b, j0, j1);
    if (j0 == j1) {
      return;
    }
  }
  int32_t k0 = 0;
  do {
    int32_t kc = tt_min32(KC, g->k - k0), clamp = g->clamp && k0 + KC >= g->k;
    for (int32_t j = j0; j < j1; j += 8) {
      const float *from = g->nn ? b + (size_t)k0 * (size_t)g->ldb + j : b + (size_t)j * (size_t)g->ldb + k0;
      pack_b(panels + (size_t)(j - j0) * (size_t)kc, from, tt_min32(8, j1 - j), kc, g->ldb, g->nn);
    }
    int32_t i = i0;
    v128_t s[8];
    for (; i + 4 <= i1; i += 4) {
      const float *ai = a + (size_t)i * (size_t)g->lda + k0;
      int32_t repeat = j1 - j0 > 8;
      if (repeat) {
        pack_a(repeated, ai, kc, g->lda, g->alpha);
      }
      for (int32_t j = j0; j < j1; j += 8) {
        float *cij = c + (size_t)i * (size_t)g->ldc + j;
        const float *panel = panels + (size_t)(j - j0) * (size_t)kc;
        start(s, 4, g, cij, g->bias ? g->bias + j : 0, j1 - j, k0 == 0);
        if (repeat) {
          tile4(s, repeated, panel, kc);
        } else {
          tile4_in_place(s, ai, g->lda, panel, kc, g->alpha);
        }
        if (clamp) {
          bounded(s, 8, g);
        }
        finish(s, 4, g->ldc, cij, j1 - j);
      }
    }
    for (; i < i1; i++) {
      for (int32_t j = j0; j < j1; j += 8) {
        float *cij = c + (size_t)i * (size_t)g->ldc + j;
        start(s, 1, g, cij, g->bias ? g->bias + j : 0, j1 - j, k0 == 0);
        tile1(s, a + (size_t)i * (size_t)g->lda + k0, panels + (size_t)(j - j0) * (size_t)kc, kc, g->alpha);
        if (clamp) {
          bounded(s, 2, g);
        }
        finish(s, 1, g->ldc, cij, j1 - j);
      }
    }
    k0 += KC;
  } while (k0 < g->k);
}

static void body(const void *args, int32_t begin, int32_t end) {
  const gemm_args *g = args;
  for (int32_t u = begin; u < end; u++) {
    int32_t rest = u, j0 = rest % g->column_units * COLS;
    rest /= g->column_units;
    int32_t i0 = rest % g->row_units * ROWS;
    size_t batch = (size_t)(rest / g->row_units);
    const int32_t *o = g->offsets ? g->offsets + batch * 3 : 0;
    size_t oc = o ? (size_t)o[0] : batch * (size_t)g->stride_c;
    size_t oa = o ? (size_t)o[1] : batch * (size_t)g->stride_a;
    size_t ob = o ? (size_t)o[2] : batch * (size_t)g->stride_b;
    block(g, g->c + oc, g->a + oa, g->b + ob, i0, tt_min32(i0 + ROWS, g->m), j0, tt_min32(j0 + COLS, g->n));
  }
}

static void run(gemm_args *g, int32_t batch) {
  if (g->m <= 0 || g->n <= 0 || batch <= 0) {
    return;
  }
  g->row_units = (g->m + ROWS - 1) / ROWS;
  g->column_units = (g->n + COLS - 1) / COLS;
  int64_t unit = (int64_t)tt_min32(g->m, ROWS) * tt_min32(g->n, COLS) * (g->k + 8);
  parallel_for(body, g, g->row_units * g->column_units * batch, (int32_t)(1 + 200000 / unit));
}

void f32_gemm_nt(void *y, void *x, void *w, void *bias, int32_t m, int32_t n, int32_t k, int32_t ldx, int32_t ldw,
                 int32_t ldy, float alpha, int32_t accumulate) {
  gemm_args g = {y, x, w, bias, 0, m, n, k, ldx, ldw, ldy, 0, 0, 0, alpha, accumulate, 0, 0, 0, 0, 0, 0};
  run(&g, 1);
}

void f32_gemm_nt_clamp(void *y, void *x, void *w, void *bias, int32_t m, int32_t n, int32_t k, int32_t ldx, int32_t ldw,
                       int32_t ldy, float lo, float hi) {
  gemm_args g = {y, x, w, bias, 0, m, n, k, ldx, ldw, ldy, 0, 0, 0, 1, 0, 0, 0, 0, 1, lo, hi};
  run(&g, 1);
}

void f32_gemm_nn(void *y, void *x, void *w, void *bias, int32_t m, int32_t n, int32_t k, int32_t ldx, int32_t ldw,
                 int32_t ldy, float alpha, int32_t accumulate) {
  gemm_args g = {y, x, w, bias, 0, m, n, k, ldx, ldw, ldy, 0, 0, 0, alpha, accumulate, 1, 0, 0, 0, 0, 0};
  run(&g, 1);
}

void f32_bmm_nt(void *c, void *a, void *b, void *offsets, int32_t batch, int32_t m, int32_t n, int32_t k, int32_t lda,
                int32_t ldb, int32_t ldc, int32_t stride_a, int32_t stride_b, int32_t stride_c, float alpha,
                int32_t accumulate) {
  gemm_args g = {c,        a,        b,        0,     offsets,    m, n, k, lda, ldb, ldc,
                 stride_c, stride_a, stride_b, alpha, accumulate, 0, 0, 0, 0,   0,   0};
  run(&g, batch);
}

void f32_bmm_nn(void *c, void *a, void *b, void *offsets, int32_t batch, int32_t m, int32_t n, int32_t k, int32_t lda,
                int32_t ldb, int32_t ldc, int32_t stride_a, int32_t stride_b, int32_t stride_c, float alpha,
                int32_t accumulate) {
  gemm_args g = {c,        a,        b,        0,     offsets,    m, n, k, lda, ldb, ldc,
                 stride_c, stride_a, stride_b, alpha, accumulate, 1, 0, 0, 0,   0,   0};
  run(&g, batch);
}
