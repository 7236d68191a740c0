// Pooling of f32 planes. A unit is one plane; every output is computed from its window in order of rows and columns.
#include "reduce.h"

struct pool_args {
  float *y;
  int64_t *index;
  const float *x;
  int32_t planes;
  int32_t in[2], out[2], kernel[2], stride[2], pad[2], dilation[2];
  int32_t count_pad, divisor;
};

// read_pool: planes, then in, out, kernel, stride, pad and dilation of 2 each, count_pad and divisor.
static void read_pool(struct pool_args *c, const int32_t *d) {
  c->planes = d[0];
  for (int32_t i = 0; i < 2; i++) {
    c->in[i] = d[1 + i], c->out[i] = d[3 + i], c->kernel[i] = d[5 + i];
    c->stride[i] = d[7 + i], c->pad[i] = d[9 + i], c->dilation[i] = d[11 + i];
  }
  c->count_pad = d[13], c->divisor = d[14];
}

static void max_body(const void *args, int32_t begin, int32_t end) {
  const struct pool_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    const float *x = c->x + (size_t)u * (size_t)c->in[0] * (size_t)c->in[1];
    size_t k = (size_t)u * (size_t)c->out[0] * (size_t)c->out[1];
    for (int32_t oh = 0; oh < c->out[0]; oh++) {
      for (int32_t ow = 0; ow < c->out[1]; ow++, k++) {
        int32_t best = -1;
        float top = -__builtin_inff();
        for (int32_t i = 0; i < c->kernel[0]; i++) {
          int32_t h = oh * c->stride[0] - c->pad[0] + i * c->dilation[0];
          if (h < 0 || h >= c->in[0]) {
            continue;
          }
          for (int32_t j = 0; j < c->kernel[1]; j++) {
            int32_t w = ow * c->stride[1] - c->pad[1] + j * c->dilation[1];
            if (w < 0 || w >= c->in[1]) {
              continue;
            }
            float v = x[h * c->in[1] + w];
            if (best < 0 || v > top || v != v) {
              top = v;
              best = h * c->in[1] + w;
            }
          }
        }
        c->y[k] = top;
        c->index[k] = best < 0 ? 0 : best;
      }
    }
  }
}

// f32_max_pool: y f32 and index i64, both [planes, out]; NaN is larger than everything. desc is i32[15], see read_pool.
void f32_max_pool(void *y, void *index, void *x, void *desc) {
  struct pool_args c = {.y = y, .index = index, .x = x};
  read_pool(&c, desc);
  int64_t work = (int64_t)c.out[0] * c.out[1] * c.kernel[0] * c.kernel[1];
  if (c.planes > 0 && work > 0) {
    parallel_for(max_body, &c, c.planes, (int32_t)(1 + 20000 / work));
  }
}

static void avg_body(const void *args, int32_t begin, int32_t end) {
  const struct pool_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    const float *x = c->x + (size_t)u * (size_t)c->in[0] * (size_t)c->in[1];
    float *y = c->y + (size_t)u * (size_t)c->out[0] * (size_t)c->out[1];
    for (int32_t oh = 0; oh < c->out[0]; oh++) {
      int32_t h0 = oh * c->stride[0] - c->pad[0], h1 = tt_min32(h0 + c->kernel[0], c->in[0] + c->pad[0]);
      int32_t rows = h1 - h0;
      h0 = tt_max32(h0, 0), h1 = tt_min32(h1, c->in[0]);
      for (int32_t ow = 0; ow < c->out[1]; ow++, y++) {
        int32_t w0 = ow * c->stride[1] - c->pad[1], w1 = tt_min32(w0 + c->kernel[1], c->in[1] + c->pad[1]);
        int32_t columns = w1 - w0;
        w0 = tt_max32(w0, 0), w1 = tt_min32(w1, c->in[1]);
        float sum = 0;
        for (int32_t h = h0; h < h1; h++) {
          for (int32_t w = w0; w < w1; w++) {
            sum += x[h * c->in[1] + w];
          }
        }
        int32_t count = c->count_pad ? rows * columns : tt_max32(h1 - h0, 0) * tt_max32(w1 - w0, 0);
        *y = sum / (float)(c->divisor ? c->divisor : count);
      }
    }
  }
}

// f32_avg_pool: the mean of each window, over its size with padding if count_pad, or its sum by the divisor if that is
// not 0.
void f32_avg_pool(void *y, void *x, void *desc) {
  struct pool_args c = {.y = y, .x = x};
  read_pool(&c, desc);
  int64_t work = (int64_t)c.out[0] * c.out[1] * c.kernel[0] * c.kernel[1];
  if (c.planes > 0 && work > 0) {
    parallel_for(avg_body, &c, c.planes, (int32_t)(1 + 20000 / work));
  }
}

static void adaptive_body(const void *args, int32_t begin, int32_t end) {
  const struct pool_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    const float *x = c->x + (size_t)u * (size_t)c->in[0] * (size_t)c->in[1];
    float *y = c->y + (size_t)u * (size_t)c->out[0] * (size_t)c->out[1];
    for (int32_t oh = 0; oh < c->out[0]; oh++) {
      int32_t h0 = (int32_t)((int64_t)oh * c->in[0] / c->out[0]);
      int32_t h1 = (int32_t)(((int64_t)(oh + 1) * c->in[0] + c->out[0] - 1) / c->out[0]);
      for (int32_t ow = 0; ow < c->out[1]; ow++, y++) {
        int32_t w0 = (int32_t)((int64_t)ow * c->in[1] / c->out[1]);
        int32_t w1 = (int32_t)(((int64_t)(ow + 1) * c->in[1] + c->out[1] - 1) / c->out[1]);
        double sum = 0;
        if (w1 - w0 == c->in[1]) {
          sum = row_sum(x + h0 * c->in[1], (h1 - h0) * c->in[1]);
        } else {
          for (int32_t h = h0; h < h1; h++) {
            sum += row_sum(x + h * c->in[1] + w0, w1 - w0);
          }
        }
        *y = (float)(sum / (double)((h1 - h0) * (w1 - w0)));
      }
    }
  }
}

// f32_adaptive_avg_pool: output i of n is the mean of inputs [i m / n, ceil((i + 1) m / n)) in each dimension. Uses
// planes, in and out of desc.
void f32_adaptive_avg_pool(void *y, void *x, void *desc) {
  struct pool_args c = {.y = y, .x = x};
  read_pool(&c, desc);
  int64_t work = (int64_t)c.in[0] * c.in[1];
  if (c.planes > 0 && c.out[0] > 0 && c.out[1] > 0 && work > 0) {
    parallel_for(adaptive_body, &c, c.planes, (int32_t)(1 + 20000 / work));
  }
}

struct affine_args {
  float *y;
  const float *x, *scale, *shift;
  int32_t channels, inner;
};

static void affine_body(const void *args, int32_t begin, int32_t end) {
  const struct affine_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    const float *x = c->x + (size_t)u * (size_t)c->inner;
    float *y = c->y + (size_t)u * (size_t)c->inner;
    int32_t ch = u % c->channels, j = 0;
    v128_t a = wasm_f32x4_splat(c->scale[ch]), b = wasm_f32x4_splat(c->shift[ch]);
    for (; j + 4 <= c->inner; j += 4) {
      wasm_v128_store(y + j, wasm_f32x4_add(wasm_f32x4_mul(wasm_v128_load(x + j), a), b));
    }
    for (; j < c->inner; j++) {
      y[j] = x[j] * c->scale[ch] + c->shift[ch];
    }
  }
}

// f32_affine: y = x * scale[c] + shift[c] over [n, channels, inner]; batch normalisation with known statistics.
void f32_affine(void *y, void *x, void *scale, void *shift, int32_t n, int32_t channels, int32_t inner) {
  struct affine_args c = {y, x, scale, shift, channels, inner};
  if (n > 0 && channels > 0 && inner > 0) {
    parallel_for(affine_body, &c, n * channels, 1 + 20000 / inner);
  }
}
