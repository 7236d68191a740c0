// Normalisation, rotary position embedding and gated activation on rows of f32.
#include "ops.h"
#include "reduce.h"

static int32_t row_grain(int32_t elements) { return tt_max32(1, 8192 / tt_max32(1, elements)); }

struct norm_args {
  float *dst;
  const float *src, *weight, *bias;
  int32_t dst_row, src_row, n;
  float eps;
};

static void rmsnorm_body(const void *args, int32_t begin, int32_t end) {
  const struct norm_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    const float *p = c->src + (uint32_t)r * (uint32_t)c->src_row;
    float *d = c->dst + (uint32_t)r * (uint32_t)c->dst_row;
    float mean = (float)(row_sum_squares(p, c->n) / (double)c->n);
    float scale = 1.0f / __builtin_sqrtf(mean + c->eps);
    v128_t s = wasm_f32x4_splat(scale);
    int32_t i = 0;
    for (; i + 4 <= c->n; i += 4) {
      v128_t y = MUL(wasm_v128_load(p + i), s);
      wasm_v128_store(d + i, MUL(y, wasm_v128_load(c->weight + i)));
    }
    for (; i < c->n; i++) {
      d[i] = p[i] * scale * c->weight[i];
    }
  }
}

// f32_rmsnorm: dst = x / sqrt(mean(x^2) + eps) * weight on each of `rows` rows of n; weight f32[n]. Rows
// start dst_row and src_row elements apart; may be in place.
void f32_rmsnorm(void *dst, int32_t dst_row, void *src, int32_t src_row, void *weight, float eps, int32_t rows,
                 int32_t n) {
  struct norm_args c = {dst, src, weight, 0, dst_row, src_row, n, eps};
  if (n > 0) {
    parallel_for(rmsnorm_body, &c, rows, row_grain(n));
  }
}

static void layer_norm_body(const void *args, int32_t begin, int32_t end) {
  const struct norm_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    const float *p = c->src + (uint32_t)r * (uint32_t)c->src_row;
    float *d = c->dst + (uint32_t)r * (uint32_t)c->dst_row;
    float mean = (float)(row_sum(p, c->n) / (double)c->n);
    float variance = (float)(row_sum_deviations(p, c->n, wasm_f32x4_splat(mean)) / (double)c->n);
    float scale = 1.0f / __builtin_sqrtf(variance + c->eps);
    for (int32_t i = 0; i < c->n; i++) {
      float y = (p[i] - mean) * scale;
      y = c->weight ? y * c->weight[i] : y;
      d[i] = c->bias ? y + c->bias[i] : y;
    }
  }
}

// f32_layer_norm: dst = (x - mean) / sqrt(var + eps) * weight + bias on each row; weight and bias
// f32[n] or 0 for none. The variance is taken in a second pass, of n rather than n - 1.
void f32_layer_norm(void *dst, int32_t dst_row, void *src, int32_t src_row, void *weight, void *bias, float eps,
                    int32_t rows, int32_t n) {
  struct norm_args c = {dst, src, weight, bias, dst_row, src_row, n, eps};
  if (n > 0) {
    parallel_for(layer_norm_body, &c, rows, row_grain(n));
  }
}

struct rotary_args {
  float *dst;
  const float *src, *cos, *sin;
  const int64_t *positions;
  int32_t op, dst_row, src_row, heads, dim, period;
};

static void rotary_body(const void *args, int32_t begin, int32_t end) {
  const struct rotary_args *c = args;
  int32_t half = c->dim / 2;
  for (int32_t r = begin; r < end; r++) {
    int64_t listed = c->positions ? c->positions[r] : r % c->period;
    int32_t at = listed < 0 || listed >= c->period ? 0 : (int32_t)listed;
    const float *cos = c->cos + (uint32_t)at * (uint32_t)c->dim;
    const float *sin = c->sin + (uint32_t)at * (uint32_t)c->dim;
    for (int32_t h = 0; h < c->heads; h++) {
      const float *p = c->src + (uint32_t)r * (uint32_t)c->src_row + h * c->dim;
      float *d = c->dst + (uint32_t)r * (uint32_t)c->dst_row + h * c->dim;
      if (c->op == ROTARY_INTERLEAVED) {
        for (int32_t i = 0; i < c->dim; i += 2) {
          float x = p[i], y = p[i + 1];
          d[i] = x * cos[i] - y * sin[i];
          d[i + 1] = y * cos[i + 1] + x * sin[i + 1];
        }
        continue;
      }
      int32_t i = 0;
      for (; i + 4 <= half; i += 4) {
        v128_t x = wasm_v128_load(p + i), y = wasm_v128_load(p + half + i);
        v128_t a = SUB(MUL(x, wasm_v128_load(cos + i)), MUL(y, wasm_v128_load(sin + i)));
        v128_t b = ADD(MUL(y, wasm_v128_load(cos + half + i)), MUL(x, wasm_v128_load(sin + half + i)));
        wasm_v128_store(d + i, a);
        wasm_v128_store(d + half + i, b);
      }
      for (; i < half; i++) {
        float x = p[i], y = p[half + i];
        d[i] = x * cos[i] - y * sin[i];
        d[half + i] = y * cos[half + i] + x * sin[half + i];
      }
    }
  }
}

// f32_rotary turns each head (dim elements, even) of each row by its position's angles; cos and sin are
// f32[period, dim]. The position of row r is positions[r] (i64, each in [0, period)) or, when positions is 0,
// r % period. With ROTARY_HALF and first and second halves x, y: (x cos - y sin, y cos + x sin), as Hugging
// Face's rotate_half; ROTARY_INTERLEAVED does the same on pairs of neighbours. May be in place.
void f32_rotary(int32_t op, void *dst, int32_t dst_row, void *src, int32_t src_row, void *cos, void *sin,
                void *positions, int32_t rows, int32_t heads, int32_t dim, int32_t period) {
  struct rotary_args c = {dst, src, cos, sin, positions, op, dst_row, src_row, heads, dim, period};
  if (heads > 0 && dim > 1 && period > 0) {
    parallel_for(rotary_body, &c, rows, row_grain(heads * dim));
  }
}

struct glu_args {
  float *dst;
  const float *gate, *up;
  int32_t dst_row, gate_row, up_row, n;
};

// glu is gated with F32_SILU or F32_GELU_TANH, a constant where it is inlined.
static inline v128_t glu_f32x4(int32_t op, v128_t gate, v128_t up) {
  return MUL(op == F32_SILU ? silu_f32x4(gate) : gelu_tanh_f32x4(gate), up);
}

static inline void glu_rows(int32_t op, const void *args, int32_t begin, int32_t end) {
  const struct glu_args *c = args;
  for (int32_t r = begin; r < end; r++) {
    float *d = c->dst + (uint32_t)r * (uint32_t)c->dst_row;
    const float *g = c->gate + (uint32_t)r * (uint32_t)c->gate_row;
    const float *u = c->up + (uint32_t)r * (uint32_t)c->up_row;
    int32_t i = 0, left;
    for (; i + 4 <= c->n; i += 4) {
      wasm_v128_store(d + i, glu_f32x4(op, wasm_v128_load(g + i), wasm_v128_load(u + i)));
    }
    left = c->n - i;
    if (left) {
      store_part(d + i, glu_f32x4(op, load_part(g + i, left), load_part(u + i, left)), left);
    }
  }
}

static void swiglu_body(const void *args, int32_t begin, int32_t end) { glu_rows(F32_SILU, args, begin, end); }
static void geglu_body(const void *args, int32_t begin, int32_t end) { glu_rows(F32_GELU_TANH, args, begin, end); }

// f32_glu: dst = f(gate) * up on `rows` rows of n, each side with its own distance between rows in
// elements; may be in place. f is op, F32_SILU (SwiGLU) or F32_GELU_TANH (GeGLU).
void f32_glu(int32_t op, void *dst, int32_t dst_row, void *gate, int32_t gate_row, void *up, int32_t up_row,
             int32_t rows, int32_t n) {
  struct glu_args c = {dst, gate, up, dst_row, gate_row, up_row, n};
  if (n > 0) {
    parallel_for(op == F32_SILU ? swiglu_body : geglu_body, &c, rows, row_grain(n * 4));
  }
}
