// Attention with grouped key/value heads, f32, without a mask and without a T x T matrix.
//
// f32_attention: a unit is one head of one sequence. Queries go in blocks of 64 rows, keys in
// blocks of 64, transposed once per block so that both products run as 4 x 8 tiles whose operands
// sit in the first-level cache. Each row carries its running maximum and sum from key block to key block
// (online softmax; Milakov and Gimelshein, arXiv 1805.02867) and its output is rescaled in place.
// Blocks start at multiples of 64 whatever the thread count, so the order of every sum is fixed by T.
#include "math.h"
#include "tt.h"

#define BLOCK 64
#define MAX_DIM 1024

struct attention_args {
  float *out;
  const float *q, *k, *v;
  const int64_t *starts, *lengths;
  int32_t tokens, heads, group, dim;  // group: query heads a key/value head
  int32_t q_row, k_row, v_row, out_row;
  int32_t causal, limit;
  float scale;
};

// What a thread works in, inside its scratch area.
struct attention_scratch {
  float keys[MAX_DIM * BLOCK];  // [dim][64], transposed, zeros past the last key
  float queries[MAX_DIM * 4];   // [dim][4], scaled
  float scores[4][BLOCK];
  float top[BLOCK], sum[BLOCK];  // by row of the query block
};
_Static_assert(sizeof(struct attention_scratch) <= TT_SCRATCH_BYTES, "scratch");

static void transpose_keys(float *to, const float *k, int32_t row, int32_t n, int32_t dim) {
  int32_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const float *p0 = k + (uint32_t)j * (uint32_t)row, *p1 = p0 + row, *p2 = p1 + row, *p3 = p2 + row;
    int32_t d = 0;
    for (; d + 4 <= dim; d += 4) {
      v128_t a = wasm_v128_load(p0 + d), b = wasm_v128_load(p1 + d);
      v128_t c = wasm_v128_load(p2 + d), e = wasm_v128_load(p3 + d);
      v128_t ab0 = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), ab1 = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7);
      v128_t ce0 = wasm_i32x4_shuffle(c, e, 0, 4, 1, 5), ce1 = wasm_i32x4_shuffle(c, e, 2, 6, 3, 7);
      float *t = to + d * BLOCK + j;
      wasm_v128_store(t, wasm_i64x2_shuffle(ab0, ce0, 0, 2));
      wasm_v128_store(t + BLOCK, wasm_i64x2_shuffle(ab0, ce0, 1, 3));
      wasm_v128_store(t + 2 * BLOCK, wasm_i64x2_shuffle(ab1, ce1, 0, 2));
      wasm_v128_store(t + 3 * BLOCK, wasm_i64x2_shuffle(ab1, ce1, 1, 3));
    }
    for (; d < dim; d++) {
      float *t = to + d * BLOCK + j;
      t[0] = p0[d];
      t[1] = p1[d];
      t[2] = p2[d];
      t[3] = p3[d];
    }
  }
  int32_t padded = (n + 7) & ~7;
  for (; j < padded; j++) {
    for (int32_t d = 0; d < dim; d++) {
      to[d * BLOCK + j] = j < n ? k[(uint32_t)j * (uint32_t)row + (uint32_t)d] : 0.0f;
    }
  }
}

// pack_queries writes rows (1..4) queries as [dim][4], scaled; a missing row repeats the last one.
static void pack_queries(float *to, const float *q, int32_t row, int32_t rows, int32_t dim, float scale) {
  const float *p0 = q, *p1 = rows > 1 ? p0 + row : p0, *p2 = rows > 2 ? p1 + row : p1;
  const float *p3 = rows > 3 ? p2 + row : p2;
  v128_t s = wasm_f32x4_splat(scale);
  int32_t d = 0;
  for (; d + 4 <= dim; d += 4, to += 16) {
    v128_t a = MUL(wasm_v128_load(p0 + d), s), b = MUL(wasm_v128_load(p1 + d), s);
    v128_t c = MUL(wasm_v128_load(p2 + d), s), e = MUL(wasm_v128_load(p3 + d), s);
    v128_t ab0 = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), ab1 = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7);
    v128_t ce0 = wasm_i32x4_shuffle(c, e, 0, 4, 1, 5), ce1 = wasm_i32x4_shuffle(c, e, 2, 6, 3, 7);
    wasm_v128_store(to + 12, wasm_i64x2_shuffle(ab1, ce1, 1, 3));
    wasm_v128_store(to + 8, wasm_i64x2_shuffle(ab1, ce1, 0, 2));
    wasm_v128_store(to + 4, wasm_i64x2_shuffle(ab0, ce0, 1, 3));
    wasm_v128_store(to, wasm_i64x2_shuffle(ab0, ce0, 0, 2));
  }
  for (; d < dim; d++, to += 4) {
    to[0] = p0[d] * scale;
    to[1] = p1[d] * scale;
    to[2] = p2[d] * scale;
    to[3] = p3[d] * scale;
  }
}

// score_tile: scores[4][64] of four packed query rows against the first n keys (rounded up to 8).
static void score_tile(struct attention_scratch *s, int32_t n, int32_t dim) {
  for (int32_t j = 0; j < n; j += 8) {
    v128_t a0 = F4(0.0f), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, e0 = a0, e1 = a0;
    const float *k = s->keys + j, *q = s->queries;
    for (int32_t d = 0; d < dim; d++, k += BLOCK, q += 4) {
      v128_t x = wasm_v128_load(k), y = wasm_v128_load(k + 4), w;
      w = wasm_v128_load32_splat(q);
      a0 = MADD(w, x, a0);
      a1 = MADD(w, y, a1);
      w = wasm_v128_load32_splat(q + 1);
      b0 = MADD(w, x, b0);
      b1 = MADD(w, y, b1);
      w = wasm_v128_load32_splat(q + 2);
      c0 = MADD(w, x, c0);
      c1 = MADD(w, y, c1);
      w = wasm_v128_load32_splat(q + 3);
      e0 = MADD(w, x, e0);
      e1 = MADD(w, y, e1);
    }
    wasm_v128_store(s->scores[0] + j, a0);
    wasm_v128_store(s->scores[0] + j + 4, a1);
    wasm_v128_store(s->scores[1] + j, b0);
    wasm_v128_store(s->scores[1] + j + 4, b1);
    wasm_v128_store(s->scores[2] + j, c0);
    wasm_v128_store(s->scores[2] + j + 4, c1);
    wasm_v128_store(s->scores[3] + j, e0);
    wasm_v128_store(s->scores[3] + j + 4, e1);
  }
}

// soften turns the first n scores of a row into exp(score - top), those from n to padded into 0,
// and moves the row's top and sum along. It returns what the row's output so far is to be scaled by.
static float soften(float *p, int32_t n, int32_t padded, float *top, float *sum, int first) {
  for (int32_t j = n; j < padded; j++) {
    p[j] = -__builtin_inff();
  }
  v128_t m = wasm_v128_load(p);
  for (int32_t j = 4; j < padded; j += 4) {
    m = wasm_f32x4_max(m, wasm_v128_load(p + j));
  }
  float high = max_lanes(m), scale = 0.0f;
  if (!first) {
    high = *top > high ? *top : high;
    scale = exp_f32(*top - high);
  }
  v128_t h = wasm_f32x4_splat(high), s0 = F4(0.0f), s1 = s0;
  for (int32_t j = 0; j < padded; j += 8) {
    v128_t x = exp_f32x4(SUB(wasm_v128_load(p + j), h));
    v128_t y = exp_f32x4(SUB(wasm_v128_load(p + j + 4), h));
    wasm_v128_store(p + j, x);
    wasm_v128_store(p + j + 4, y);
    s0 = ADD(s0, x);
    s1 = ADD(s1, y);
  }
  float total = sum_lanes(ADD(s0, s1));
  *sum = first ? total : *sum * scale + total;
  *top = high;
  return scale;
}

struct value_tile {
  float *out[4];  // rows of the output; rows past the end point at a row to throw away
  float scale[4], divide[4];
  int first, last;
};

// finish: out = (out * scale + sum) * divide, of which the parts that do nothing are left out.
TT_INLINE v128_t finish(const struct value_tile *t, int r, const float *out, v128_t sum) {
  if (!t->first) {
    sum = ADD(MUL(wasm_v128_load(out), wasm_f32x4_splat(t->scale[r])), sum);
  }
  return t->last ? MUL(sum, wasm_f32x4_splat(t->divide[r])) : sum;
}

// value_tiles adds scores[4][n] times v[n, dim] to the four output rows.
static void value_tiles(const struct value_tile *t, float scores[4][BLOCK], const float *v, int32_t row, int32_t n,
                        int32_t dim) {
  int32_t c = 0;
  for (; c + 8 <= dim; c += 8) {
    v128_t a0 = F4(0.0f), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, e0 = a0, e1 = a0;
    const float *p = v + c, *s = scores[0];
    for (int32_t j = 0; j < n; j++, p += row, s++) {
      v128_t x = wasm_v128_load(p), y = wasm_v128_load(p + 4), w;
      w = wasm_v128_load32_splat(s);
      a0 = MADD(w, x, a0);
      a1 = MADD(w, y, a1);
      w = wasm_v128_load32_splat(s + BLOCK);
      b0 = MADD(w, x, b0);
      b1 = MADD(w, y, b1);
      w = wasm_v128_load32_splat(s + 2 * BLOCK);
      c0 = MADD(w, x, c0);
      c1 = MADD(w, y, c1);
      w = wasm_v128_load32_splat(s + 3 * BLOCK);
      e0 = MADD(w, x, e0);
      e1 = MADD(w, y, e1);
    }
    wasm_v128_store(t->out[0] + c, finish(t, 0, t->out[0] + c, a0));
    wasm_v128_store(t->out[0] + c + 4, finish(t, 0, t->out[0] + c + 4, a1));
    wasm_v128_store(t->out[1] + c, finish(t, 1, t->out[1] + c, b0));
    wasm_v128_store(t->out[1] + c + 4, finish(t, 1, t->out[1] + c + 4, b1));
    wasm_v128_store(t->out[2] + c, finish(t, 2, t->out[2] + c, c0));
    wasm_v128_store(t->out[2] + c + 4, finish(t, 2, t->out[2] + c + 4, c1));
    wasm_v128_store(t->out[3] + c, finish(t, 3, t->out[3] + c, e0));
    wasm_v128_store(t->out[3] + c + 4, finish(t, 3, t->out[3] + c + 4, e1));
  }
  for (; c < dim; c++) {
    for (int32_t r = 0; r < 4; r++) {
      float sum = 0;
      for (int32_t j = 0; j < n; j++) {
        sum += scores[r][j] * v[(uint32_t)j * (uint32_t)row + (uint32_t)c];
      }
      float *o = t->out[r] + c;
      sum = t->first ? sum : *o * t->scale[r] + sum;
      *o = t->last ? sum * t->divide[r] : sum;
    }
  }
}

// attention_tile: four query rows from `i` on (of a sequence of T) against keys [from, from + n).
static void attention_tile(const struct attention_args *c, struct attention_scratch *s, const float *q, const float *v,
                           float *out, int32_t i, int32_t from, int32_t n, float *spare) {
  int32_t rows = tt_min32(4, c->tokens - i);
  pack_queries(s->queries, q + (uint32_t)i * (uint32_t)c->q_row, c->q_row, rows, c->dim, c->scale);
  int32_t keys = c->causal ? tt_min32(n, i + rows - from) : n;
  score_tile(s, keys, c->dim);
  struct value_tile t = {.first = from == 0};
  t.last = from + n >= (c->causal ? i + rows : c->tokens);
  int32_t padded = (keys + 7) & ~7;
  for (int32_t r = 0; r < 4; r++) {
    int32_t at = i % BLOCK + r;  // i is a multiple of 4, so at < BLOCK
    int32_t seen = c->causal ? tt_min32(keys, i + r + 1 - from) : keys;
    t.scale[r] = soften(s->scores[r], seen, padded, &s->top[at], &s->sum[at], t.first);
    t.divide[r] = 1.0f / s->sum[at];
    t.out[r] = r < rows ? out + (uint32_t)(i + r) * (uint32_t)c->out_row : spare;
  }
  value_tiles(&t, s->scores, v + (uint32_t)from * (uint32_t)c->v_row, c->v_row, keys, c->dim);
}

static void attention_body(const void *args, int32_t begin, int32_t end) {
  const struct attention_args *c = args;
  struct attention_scratch *s = tt_scratch();
  float *spare = (float *)(s + 1);
  for (int32_t u = begin; u < end; u++) {
    int32_t sequence = u / c->heads, head = u - sequence * c->heads;
    int32_t kv = head / c->group * c->dim;
    uint32_t token = (uint32_t)sequence * (uint32_t)c->tokens;
    const float *q = c->q + token * (uint32_t)c->q_row + head * c->dim;
    const float *k = c->k + token * (uint32_t)c->k_row + kv;
    const float *v = c->v + token * (uint32_t)c->v_row + kv;
    float *out = c->out + token * (uint32_t)c->out_row + head * c->dim;
    for (int32_t i0 = 0; i0 < c->tokens; i0 += BLOCK) {
      int32_t i1 = tt_min32(c->tokens, i0 + BLOCK);
      int32_t stop = c->causal ? i1 : c->tokens;
      for (int32_t from = 0; from < stop; from += BLOCK) {
        int32_t n = tt_min32(BLOCK, stop - from);
        transpose_keys(s->keys, k + (uint32_t)from * (uint32_t)c->k_row, c->k_row, n, c->dim);
        for (int32_t i = i0; i < i1; i += 4) {
          attention_tile(c, s, q, v, out, i, from, n, spare);
        }
      }
    }
  }
}
_Static_assert(sizeof(struct attention_scratch) + MAX_DIM * 4 <= TT_SCRATCH_BYTES, "spare row");

// f32_attention: n sequences of T tokens. q f32[n*T, heads*dim], k and v f32[n*T, kv_heads*dim], out f32[n*T,
// heads*dim], each with its own distance between rows in elements; out may not overlap the others. Head h
// reads key/value head h / (heads / kv_heads); with causal set, token i of a sequence sees tokens 0..i of it.
// out = softmax(scale * q k^T) v. dim is at most 1024.
void f32_attention(void *out, int32_t out_row, void *q, int32_t q_row, void *k, int32_t k_row, void *v, int32_t v_row,
                   int32_t n, int32_t tokens, int32_t heads, int32_t kv_heads, int32_t dim, float scale,
                   int32_t causal) {
  if (n <= 0 || tokens <= 0 || kv_heads <= 0 || heads < kv_heads || dim <= 0 || dim > MAX_DIM) {
    return;
  }
  struct attention_args c = {.out = out,
                             .q = q,
                             .k = k,
                             .v = v,
                             .tokens = tokens,
                             .heads = heads,
                             .group = heads / kv_heads,
                             .dim = dim,
                             .q_row = q_row,
                             .k_row = k_row,
                             .v_row = v_row,
                             .out_row = out_row,
                             .causal = causal,
                             .scale = scale};
  parallel_for(attention_body, &c, n * heads, 1);
}

// Keys that a row's scores are computed for at a time in attention_rows.
#define ROW_KEYS 256

static void attention_rows_body(const void *args, int32_t begin, int32_t end) {
  const struct attention_args *c = args;
  float scores[ROW_KEYS];
  for (int32_t u = begin; u < end; u++) {
    int32_t r = u / c->heads, head = u - r * c->heads;
    int32_t kv = head / c->group * c->dim;
    const float *q = c->q + (uint32_t)r * (uint32_t)c->q_row + head * c->dim;
    float *out = c->out + (uint32_t)r * (uint32_t)c->out_row + head * c->dim;
    int64_t start = c->starts ? c->starts[r] : 0, length = c->lengths[r];
    if (!c->starts) {  // lengths are positions: row r sees rows 0 to lengths[r]
      length = length < c->limit ? length + 1 : 0;
    }
    if (start < 0 || length < 1 || start > c->limit || length > c->limit - start) {
      for (int32_t d = 0; d < c->dim; d++) {
        out[d] = __builtin_nanf("");
      }
      continue;
    }
    const float *k = c->k + (uint32_t)start * (uint32_t)c->k_row + kv;
    const float *v = c->v + (uint32_t)start * (uint32_t)c->v_row + kv;
    float top = 0, sum = 0;
    for (int32_t from = 0; from < (int32_t)length; from += ROW_KEYS) {
      int32_t n = tt_min32(ROW_KEYS, (int32_t)length - from);
      for (int32_t j = 0; j < n; j++) {
        const float *p = k + (uint32_t)(from + j) * (uint32_t)c->k_row;
        v128_t a = F4(0.0f), b = a;
        int32_t d = 0;
        for (; d + 8 <= c->dim; d += 8) {
          a = MADD(wasm_v128_load(q + d), wasm_v128_load(p + d), a);
          b = MADD(wasm_v128_load(q + d + 4), wasm_v128_load(p + d + 4), b);
        }
        float dot = sum_lanes(ADD(a, b));
        for (; d < c->dim; d++) {
          dot += q[d] * p[d];
        }
        scores[j] = dot * c->scale;
      }
      float scale = soften(scores, n, (n + 7) & ~7, &top, &sum, from == 0);
      int first = from == 0, last = from + n == (int32_t)length;
      float divide = last ? 1.0f / sum : 1.0f;
      const float *at = v + (uint32_t)from * (uint32_t)c->v_row;
      int32_t d = 0;
      for (; d + 8 <= c->dim; d += 8) {
        v128_t a = F4(0.0f), b = a;
        const float *p = at + d;
        for (int32_t j = 0; j < n; j++, p += c->v_row) {
          v128_t w = wasm_f32x4_splat(scores[j]);
          a = MADD(w, wasm_v128_load(p), a);
          b = MADD(w, wasm_v128_load(p + 4), b);
        }
        if (!first) {
          v128_t old = wasm_f32x4_splat(scale);
          a = ADD(MUL(wasm_v128_load(out + d), old), a);
          b = ADD(MUL(wasm_v128_load(out + d + 4), old), b);
        }
        wasm_v128_store(out + d, MUL(a, wasm_f32x4_splat(divide)));
        wasm_v128_store(out + d + 4, MUL(b, wasm_f32x4_splat(divide)));
      }
      for (; d < c->dim; d++) {
        float a = 0;
        for (int32_t j = 0; j < n; j++) {
          a += scores[j] * at[(uint32_t)j * (uint32_t)c->v_row + (uint32_t)d];
        }
        out[d] = (first ? a : out[d] * scale + a) * divide;
      }
    }
  }
}

// f32_attention_rows: m single queries, for decoding and for the last layer, where only a few rows are
// wanted. Row r of q f32[m, heads*dim] sees rows starts[r] .. starts[r] + lengths[r] - 1 of k and v, which
// have kv_rows rows; starts and lengths are i64[m]. A range that is empty or outside gives NaN.
void f32_attention_rows(void *out, int32_t out_row, void *q, int32_t q_row, void *k, int32_t k_row, void *v,
                        int32_t v_row, void *starts, void *lengths, int32_t m, int32_t kv_rows, int32_t heads,
                        int32_t kv_heads, int32_t dim, float scale) {
  if (m <= 0 || kv_heads <= 0 || heads < kv_heads || dim <= 0) {
    return;
  }
  struct attention_args c = {.out = out,
                             .q = q,
                             .k = k,
                             .v = v,
                             .starts = starts,
                             .lengths = lengths,
                             .heads = heads,
                             .group = heads / kv_heads,
                             .dim = dim,
                             .q_row = q_row,
                             .k_row = k_row,
                             .v_row = v_row,
                             .out_row = out_row,
                             .limit = kv_rows,
                             .scale = scale};
  parallel_for(attention_rows_body, &c, m * heads, 1);
}

// f32_attention_cached: m queries over a cache of kv_rows rows of keys and values. Row r sees rows 0 to
// positions[r], i64[m]; a position outside gives NaN.
void f32_attention_cached(void *out, int32_t out_row, void *q, int32_t q_row, void *k, int32_t k_row, void *v,
                          int32_t v_row, void *positions, int32_t m, int32_t kv_rows, int32_t heads, int32_t kv_heads,
                          int32_t dim, float scale) {
  f32_attention_rows(out, out_row, q, q_row, k, k_row, v, v_row, 0, positions, m, kv_rows, heads, kv_heads, dim, scale);
}
