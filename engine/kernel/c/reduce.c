// Reductions of f32 over one dim, and softmax. A tensor is seen as [outer, n, inner], contiguous, reduced
// over n; inner = 1 is the last dim, where rows may also be `row` elements apart. The order of each sum is
// fixed by the shape alone: see reduce.h for rows; over an inner dim each column is added in double, first to
// last.
#include "reduce.h"

#include "ops.h"

// Columns of the inner dim that a unit handles.
#define COLUMNS 64

struct reduce_args {
  void *dst;
  const float *src;
  int32_t op, row, n, inner, strips;
};

static int32_t reduce_grain(int32_t elements) { return tt_max32(1, 16384 / tt_max32(1, elements)); }

static void reduce_rows_body(const void *args, int32_t begin, int32_t end) {
  const struct reduce_args *c = args;
  float *dst = c->dst;
  for (int32_t r = begin; r < end; r++) {
    const float *p = c->src + (uint32_t)r * (uint32_t)c->row;
    switch (c->op) {
      case REDUCE_SUM:
        dst[r] = (float)row_sum(p, c->n);
        break;
      case REDUCE_MEAN:
        dst[r] = (float)(row_sum(p, c->n) / (double)c->n);
        break;
      case REDUCE_MAX:
        dst[r] = row_max(p, c->n);
        break;
      default:
        dst[r] = row_min(p, c->n);
    }
  }
}

static void reduce_columns_body(const void *args, int32_t begin, int32_t end) {
  const struct reduce_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    int32_t outer = u / c->strips, from = (u - outer * c->strips) * COLUMNS;
    int32_t m = tt_min32(COLUMNS, c->inner - from);
    const float *p = c->src + (uint32_t)outer * (uint32_t)c->n * (uint32_t)c->inner + from;
    float *d = (float *)c->dst + (uint32_t)outer * (uint32_t)c->inner + from;
    if (c->op == REDUCE_MAX || c->op == REDUCE_MIN) {
      for (int32_t j = 0; j < m; j++) {
        d[j] = p[j];
      }
      for (int32_t i = 1; i < c->n; i++) {
        p += c->inner;
        int32_t j = 0;
        for (; j < m; j += 4) {
          int32_t part = m - j;
          v128_t a = part < 4 ? load_part(d + j, part) : wasm_v128_load(d + j);
          v128_t b = part < 4 ? load_part(p + j, part) : wasm_v128_load(p + j);
          a = c->op == REDUCE_MAX ? wasm_f32x4_max(a, b) : wasm_f32x4_min(a, b);
          if (part < 4) {
            store_part(d + j, a, part);
          } else {
            wasm_v128_store(d + j, a);
          }
        }
      }
      continue;
    }
    double s[COLUMNS];
    for (int32_t j = 0; j < m; j++) {
      s[j] = 0;
    }
    for (int32_t i = 0; i < c->n; i++, p += c->inner) {
      for (int32_t j = 0; j < m; j++) {
        s[j] += (double)p[j];
      }
    }
    double divisor = c->op == REDUCE_MEAN ? (double)c->n : 1.0;
    for (int32_t j = 0; j < m; j++) {
      d[j] = (float)(s[j] / divisor);
    }
  }
}

// f32_reduce: dst f32[outer, inner] = sum, mean, max or min over n of src f32[outer, n, inner].
// For inner = 1, rows of src start `row` elements apart; otherwise row is ignored. n is at least 1
// for max, min and mean.
void f32_reduce(int32_t op, void *dst, void *src, int32_t row, int32_t outer, int32_t n, int32_t inner) {
  struct reduce_args c = {dst, src, op, row, n, inner, (inner + COLUMNS - 1) / COLUMNS};
  if (outer <= 0 || inner <= 0 || (n <= 0 && op != REDUCE_SUM)) {
    return;
  }
  if (inner == 1) {
    parallel_for(reduce_rows_body, &c, outer, reduce_grain(n));
  } else {
    parallel_for(reduce_columns_body, &c, outer * c.strips, reduce_grain(n * tt_min32(inner, COLUMNS)));
  }
}

// beats says whether b comes before a as the extreme: a NaN comes before everything, as in ATen.
TT_INLINE int beats(float b, float a, int32_t op) {
  if (a != a) {
    return 0;
  }
  return b != b || (op == REDUCE_MAX ? b > a : b < a);
}

static void arg_body(const void *args, int32_t begin, int32_t end) {
  const struct reduce_args *c = args;
  int64_t *dst = c->dst;
  for (int32_t u = begin; u < end; u++) {
    int32_t outer = u / c->inner, j = u - outer * c->inner;
    const float *p = c->inner == 1 ? c->src + (uint32_t)outer * (uint32_t)c->row
                                   : c->src + (uint32_t)outer * (uint32_t)c->n * (uint32_t)c->inner + j;
    float best = p[0];
    int32_t at = 0;
    for (int32_t i = 1; i < c->n; i++) {
      float v = p[(uint32_t)i * (uint32_t)c->inner];
      if (beats(v, best, c->op)) {
        best = v;
        at = i;
      }
    }
    dst[u] = at;
  }
}

// f32_arg_reduce: dst i64[outer, inner] = the first position of the largest (REDUCE_MAX) or smallest
// (REDUCE_MIN) over n; the first NaN if there is one.
void f32_arg_reduce(int32_t op, void *dst, void *src, int32_t row, int32_t outer, int32_t n, int32_t inner) {
  struct reduce_args c = {dst, src, op, row, n, inner, 0};
  if (outer > 0 && inner > 0 && n > 0) {
    parallel_for(arg_body, &c, outer * inner, reduce_grain(n));
  }
}

struct softmax_args {
  float *dst;
  const float *src;
  int32_t op, dst_row, src_row, n, inner, strips;
};

#define LANES(P, I, N) ((N) - (I) < 4 ? load_part((P) + (I), (N) - (I)) : wasm_v128_load((P) + (I)))
TT_INLINE void store_lanes(float *p, v128_t v, int32_t left) {
  if (left < 4) {
    store_part(p, v, left);
  } else {
    wasm_v128_store(p, v);
  }
}

static void softmax_rows_body(const void *args, int32_t begin, int32_t end) {
  const struct softmax_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    const float *p = c->src + (uint32_t)r * (uint32_t)c->src_row;
    float *d = c->dst + (uint32_t)r * (uint32_t)c->dst_row;
    v128_t top = wasm_f32x4_splat(row_max(p, c->n));
    float sum = (float)row_sum_exp(p, c->n, top);
    if (c->op == LOG_SOFTMAX) {
      v128_t log_sum = wasm_f32x4_splat(log_f32(sum));
      for (int32_t i = 0; i < c->n; i += 4) {
        store_lanes(d + i, SUB(SUB(LANES(p, i, c->n), top), log_sum), c->n - i);
      }
    } else {
      v128_t whole = wasm_f32x4_splat(sum);
      for (int32_t i = 0; i < c->n; i += 4) {
        store_lanes(d + i, DIV(exp_f32x4(SUB(LANES(p, i, c->n), top)), whole), c->n - i);
      }
    }
  }
}

static void softmax_columns_body(const void *args, int32_t begin, int32_t end) {
  const struct softmax_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    int32_t outer = u / c->strips, j = (u - outer * c->strips) * 4;
    int32_t left = c->inner - j;
    uint32_t base = (uint32_t)outer * (uint32_t)c->n * (uint32_t)c->inner + (uint32_t)j;
    const float *p = c->src + base;
    float *d = c->dst + base;
    v128_t top = LANES(p, 0, left);
    for (int32_t i = 1; i < c->n; i++) {
      top = wasm_f32x4_max(top, LANES(p + (uint32_t)i * (uint32_t)c->inner, 0, left));
    }
    v128_t lo = wasm_f64x2_const_splat(0), hi = lo;
    for (int32_t i = 0; i < c->n; i++) {
      v128_t e = exp_f32x4(SUB(LANES(p + (uint32_t)i * (uint32_t)c->inner, 0, left), top));
      lo = wasm_f64x2_add(lo, wasm_f64x2_promote_low_f32x4(e));
      hi = wasm_f64x2_add(hi, wasm_f64x2_promote_low_f32x4(wasm_i32x4_shuffle(e, e, 2, 3, 2, 3)));
    }
    v128_t sum = wasm_i32x4_shuffle(wasm_f32x4_demote_f64x2_zero(lo), wasm_f32x4_demote_f64x2_zero(hi), 0, 1, 4, 5);
    v128_t log_sum = log_f32x4(sum);
    for (int32_t i = 0; i < c->n; i++) {
      uint32_t at = (uint32_t)i * (uint32_t)c->inner;
      v128_t x = SUB(LANES(p + at, 0, left), top);
      store_lanes(d + at, c->op == LOG_SOFTMAX ? SUB(x, log_sum) : DIV(exp_f32x4(x), sum), left);
    }
  }
}

// f32_softmax: softmax or log_softmax over n of [outer, n, inner]; may be in place. For inner = 1 the rows
// of each side start dst_row and src_row elements apart; otherwise both sides are contiguous.
void f32_softmax(int32_t op, void *dst, int32_t dst_row, void *src, int32_t src_row, int32_t outer, int32_t n,
                 int32_t inner) {
  struct softmax_args c = {dst, src, op, dst_row, src_row, n, inner, (inner + 3) / 4};
  if (outer <= 0 || n <= 0 || inner <= 0) {
    return;
  }
  if (inner == 1) {
    parallel_for(softmax_rows_body, &c, outer, reduce_grain(n * 4));
  } else {
    parallel_for(softmax_columns_body, &c, outer * c.strips, reduce_grain(n * 16));
  }
}

struct nll_args {
  float *dst;
  const float *src;
  const int64_t *target;
  int32_t row, n;
};

static void nll_body(const void *args, int32_t begin, int32_t end) {
  const struct nll_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    const float *p = c->src + (uint32_t)r * (uint32_t)c->row;
    int64_t t = c->target[r];
    if (t < 0 || t >= c->n) {
      c->dst[r] = __builtin_nanf("");
      continue;
    }
    float top = row_max(p, c->n);
    float sum = (float)row_sum_exp(p, c->n, wasm_f32x4_splat(top));
    c->dst[r] = log_f32(sum) - (p[t] - top);
  }
}

// f32_nll_rows: dst f32[m] = -log softmax(logits)[target], logits f32[m, n] with rows `row` elements
// apart, target i64[m]. A target outside [0, n) gives NaN.
void f32_nll_rows(void *dst, void *logits, int32_t row, void *target, int32_t m, int32_t n) {
  struct nll_args c = {dst, logits, target, row, n};
  if (m > 0 && n > 0) {
    parallel_for(nll_body, &c, m, reduce_grain(n * 4));
  }
}

struct any_args {
  uint8_t *dst;
  const uint8_t *src;
  int32_t n, inner;
};

static void any_body(const void *args, int32_t begin, int32_t end) {
  const struct any_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    const uint8_t *p = c->src + (size_t)r * (size_t)c->n * (size_t)c->inner;
    uint8_t *d = c->dst + (size_t)r * (size_t)c->inner;
    if (c->inner == 1) {
      int32_t i = 0, any = 0;
      for (; !any && i + 16 <= c->n; i += 16) {
        any = wasm_v128_any_true(wasm_v128_load(p + i));
      }
      for (; !any && i < c->n; i++) {
        any = p[i] != 0;
      }
      *d = (uint8_t)any;
      continue;
    }
    memset(d, 0, (size_t)c->inner);
    for (int32_t i = 0; i < c->n; i++, p += c->inner) {
      for (int32_t j = 0; j < c->inner; j++) {
        d[j] |= p[j] != 0;
      }
    }
  }
}

void u8_any(void *dst, void *src, int32_t outer, int32_t n, int32_t inner) {
  struct any_args c = {dst, src, n, inner};
  parallel_for(any_body, &c, outer, (int32_t)(1 + 100000 / ((int64_t)n * inner + 1)));
}
