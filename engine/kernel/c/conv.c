// Convolutions of f32, [n, channels, depth, height, width] row-major, as products of the weight matrix [outputs,
// channels x taps] with columns of input patches that are packed as they are needed (no im2col matrix in memory), and a
// direct kernel for depthwise ones.
//
// Every output is one running sum over (channel, tap) in order, each product and each addition rounded, to which the
// bias is added last: the same bits for any blocking and number of threads. Outside the image the products are with
// zero.
//
// Units of ROWS output channels x COLS output positions of one image and group go to threads. As in gemm_f32.c, blocks
// of KC of (channel, tap) are packed to panels of 8 positions, and for 4 output channels the weights are repeated in
// all lanes, so that the 4x8 tile runs along two streams.
#include "tt.h"

#define ROWS 128
#define COLS 64
#define KC 256

struct conv_args {
  float *y;
  const float *x, *w, *bias;
  // Of a group: channels and outputs. Taps count depth x height x width of the kernel.
  int32_t n, groups, channels, outputs;
  int32_t in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
  int32_t transposed;
  int32_t taps, k, positions, plane;  // k: channels * taps; positions: of an output plane; plane: of an input plane
  int32_t row_units, column_units;
};

// read_conv fills in the geometry from desc: n, groups, channels, outputs, then in, out, kernel, stride, pad and
// dilation of 3 each, and transposed.
static void read_conv(struct conv_args *c, const int32_t *d) {
  c->n = d[0], c->groups = d[1], c->channels = d[2], c->outputs = d[3];
  for (int32_t i = 0; i < 3; i++) {
    c->in[i] = d[4 + i], c->out[i] = d[7 + i], c->kernel[i] = d[10 + i];
    c->stride[i] = d[13 + i], c->pad[i] = d[16 + i], c->dilation[i] = d[19 + i];
  }
  c->transposed = d[22];
  c->taps = c->kernel[0] * c->kernel[1] * c->kernel[2];
  c->k = c->channels * c->taps;
  c->positions = c->out[0] * c->out[1] * c->out[2];
  c->plane = c->in[0] * c->in[1] * c->in[2];
}

// source returns the input index along one dimension that output o sees through tap t, or -1.
TT_INLINE int32_t source(const struct conv_args *c, int32_t dim, int32_t o, int32_t t) {
  int32_t at;
  if (c->transposed) {
    at = o + c->pad[dim] - t * c->dilation[dim];
    if (at < 0 || at % c->stride[dim] != 0) {
      return -1;
    }
    at /= c->stride[dim];
  } else {
    at = o * c->stride[dim] - c->pad[dim] + t * c->dilation[dim];
  }
  return at >= 0 && at < c->in[dim] ? at : -1;
}

// A panel's 8 output positions by coordinate.
struct panel {
  int32_t d[8], h[8], w[8];
  int32_t cols, row;  // row: they are neighbours in one row, and all 8 are there
};

static void start_panel(const struct conv_args *c, struct panel *p, int32_t at, int32_t cols) {
  for (int32_t j = 0; j < 8; j++) {
    int32_t o = at + (j < cols ? j : 0);
    p->w[j] = o % c->out[2];
    p->h[j] = o / c->out[2] % c->out[1];
    p->d[j] = o / c->out[2] / c->out[1];
  }
  p->cols = cols;
  p->row = cols == 8 && p->w[0] + 7 == p->w[7];
}

// pack_patches packs rows [k0, k0 + kc) of the patches of 8 positions; missing columns are zero.
static TT_NOINLINE void pack_patches(const struct conv_args *c, float *to, const float *x, const struct panel *p,
                                     int32_t k0, int32_t kc) {
  int32_t channel = k0 / c->taps, tap = k0 - channel * c->taps;
  int32_t tw = tap % c->kernel[2], th = tap / c->kernel[2] % c->kernel[1], td = tap / c->kernel[2] / c->kernel[1];
  const float *plane = x + (size_t)channel * (size_t)c->plane;
  for (int32_t k = 0; k < kc; k++, to += 8) {
    int32_t done = 0;
    if (p->row) {
      int32_t d = source(c, 0, p->d[0], td), h = source(c, 1, p->h[0], th);
      if (d < 0 || h < 0) {
        wasm_v128_store(to, wasm_f32x4_const_splat(0));
        wasm_v128_store(to + 4, wasm_f32x4_const_splat(0));
        done = 1;
      } else {
        const float *row = plane + (size_t)(d * c->in[1] + h) * (size_t)c->in[2];
        int32_t w = p->w[0] * c->stride[2] - c->pad[2] + tw * c->dilation[2];
        if (!c->transposed && w >= 0 && w + 7 * c->stride[2] < c->in[2]) {
          if (c->stride[2] == 1) {
            wasm_v128_store(to, wasm_v128_load(row + w));
            wasm_v128_store(to + 4, wasm_v128_load(row + w + 4));
          } else {
            for (int32_t j = 0; j < 8; j++) {
              to[j] = row[w + j * c->stride[2]];
            }
          }
          done = 1;
        } else {
          for (int32_t j = 0; j < 8; j++) {
            int32_t s = source(c, 2, p->w[j], tw);
            to[j] = s < 0 ? 0 : row[s];
          }
          done = 1;
        }
      }
    }
    for (int32_t j = 0; !done && j < 8; j++) {
      int32_t d = source(c, 0, p->d[j], td), h = source(c, 1, p->h[j], th), w = source(c, 2, p->w[j], tw);
      to[j] = j >= p->cols || d < 0 || h < 0 || w < 0
                  ? 0
                  : plane[(size_t)(d * c->in[1] + h) * (size_t)c->in[2] + (size_t)w];
    }
    if (++tw == c->kernel[2]) {
      tw = 0;
      if (++th == c->kernel[1]) {
        th = 0;
        if (++td == c->kernel[0]) {
          td = 0;
          plane += c->plane;
        }
      }
    }
  }
}

// pack_weights repeats the weights of 4 output channels from `row` on: [kc][4][4]; missing channels are zero.
static TT_NOINLINE void pack_weights(const struct conv_args *c, float *to, const float *w, int32_t row, int32_t k0,
                                     int32_t kc) {
  int32_t channel = k0 / c->taps, tap = k0 - channel * c->taps;
  for (int32_t k = 0; k < kc; k++, to += 16) {
    for (int32_t i = 0; i < 4; i++) {
      float v = 0;
      if (row + i < c->outputs) {
        v = c->transposed
                ? w[((size_t)channel * (size_t)c->outputs + (size_t)(row + i)) * (size_t)c->taps + (size_t)tap]
                : w[(size_t)(row + i) * (size_t)c->k + (size_t)(k0 + k)];
      }
      wasm_v128_store(to + 4 * i, wasm_f32x4_splat(v));
    }
    if (++tap == c->taps) {
      tap = 0;
      channel++;
    }
  }
}

// tile adds kc products to the 4x8 sums s.
static TT_NOINLINE void tile(v128_t s[8], const float *a, const float *b, int32_t kc) {
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

// unit computes rows [i0, i1) and positions [j0, j1) of one image and group.
static void unit(const struct conv_args *c, float *y, const float *x, const float *w, const float *bias, int32_t i0,
                 int32_t i1, int32_t j0, int32_t j1) {
  float *panels = tt_scratch();                  // COLS * KC
  float *repeated = panels + (size_t)COLS * KC;  // KC * 16
  struct panel p;
  for (int32_t k0 = 0; k0 < c->k; k0 += KC) {
    int32_t kc = tt_min32(KC, c->k - k0), last = k0 + kc == c->k;
    for (int32_t j = j0; j < j1; j += 8) {
      start_panel(c, &p, j, tt_min32(8, j1 - j));
      pack_patches(c, panels + (size_t)(j - j0) * (size_t)kc, x, &p, k0, kc);
    }
    for (int32_t i = i0; i < i1; i += 4) {
      int32_t rows = tt_min32(4, i1 - i);
      pack_weights(c, repeated, w, i, k0, kc);
      for (int32_t j = j0; j < j1; j += 8) {
        int32_t cols = tt_min32(8, j1 - j);
        float s[4][8] = {0};
        float *to = y + (size_t)i * (size_t)c->positions + j;
        if (k0 > 0) {
          for (int32_t r = 0; r < rows; r++) {
            for (int32_t q = 0; q < cols; q++) {
              s[r][q] = to[(size_t)r * (size_t)c->positions + (size_t)q];
            }
          }
        }
        tile((v128_t *)s, repeated, panels + (size_t)(j - j0) * (size_t)kc, kc);
        for (int32_t r = 0; r < rows; r++) {
          float b = last && bias ? bias[i + r] : 0;
          for (int32_t q = 0; q < cols; q++) {
            to[(size_t)r * (size_t)c->positions + (size_t)q] = last && bias ? s[r][q] + b : s[r][q];
          }
        }
      }
    }
  }
}

static void conv_body(const void *args, int32_t begin, int32_t end) {
  const struct conv_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    int32_t rest = u, j0 = rest % c->column_units * COLS;
    rest /= c->column_units;
    int32_t i0 = rest % c->row_units * ROWS;
    rest /= c->row_units;
    int32_t group = rest % c->groups;
    size_t image = (size_t)rest;  // image and group
    const float *w = c->w + (size_t)group * (size_t)c->outputs * (size_t)c->k;
    const float *bias = c->bias ? c->bias + (size_t)group * (size_t)c->outputs : 0;
    unit(c, c->y + image * (size_t)c->outputs * (size_t)c->positions,
         c->x + image * (size_t)c->channels * (size_t)c->plane, w, bias, i0, tt_min32(i0 + ROWS, c->outputs), j0,
         tt_min32(j0 + COLS, c->positions));
  }
}

// f32_conv: y = conv(x, w) + bias; bias may be 0. desc is i32[23], see read_conv. The kernel may not be empty.
void f32_conv(void *y, void *x, void *w, void *bias, void *desc) {
  struct conv_args c = {.y = y, .x = x, .w = w, .bias = bias};
  read_conv(&c, desc);
  if (c.n <= 0 || c.groups <= 0 || c.outputs <= 0 || c.positions <= 0 || c.k <= 0) {
    return;
  }
  c.row_units = (c.outputs + ROWS - 1) / ROWS;
  c.column_units = (c.positions + COLS - 1) / COLS;
  int64_t work = (int64_t)tt_min32(c.outputs, ROWS) * tt_min32(c.positions, COLS) * (c.k + 8);
  parallel_for(conv_body, &c, c.row_units * c.column_units * c.groups * c.n, (int32_t)(1 + 200000 / work));
}

// depthwise_row computes one output row of one channel from the taps of one kernel row; first: it starts from 0.
static void depthwise_row(const struct conv_args *c, float *y, const float *row, const float *w, int32_t first) {
  int32_t n = c->out[2], s = c->stride[2];
  for (int32_t t = 0; t < c->kernel[2]; t++) {
    int32_t from = t * c->dilation[2] - c->pad[2];  // of output 0
    // Outputs [lo, hi) see the image through this tap.
    int32_t lo = from < 0 ? (-from + s - 1) / s : 0, hi = c->in[2] - from <= 0 ? 0 : (c->in[2] - from + s - 1) / s;
    hi = tt_min32(hi, n);
    if (first && t == 0) {
      for (int32_t j = 0; j < n; j++) {
        y[j] = 0;
      }
    }
    v128_t by = wasm_f32x4_splat(w[t]);
    int32_t j = lo;
    const float *p = row + from;
    if (s == 1) {
      for (; j + 4 <= hi; j += 4) {
        wasm_v128_store(y + j, wasm_f32x4_add(wasm_v128_load(y + j), wasm_f32x4_mul(wasm_v128_load(p + j), by)));
      }
    } else if (s == 2) {
      for (; j + 4 < hi; j += 4) {  // reads one element past the last that it uses
        v128_t a = wasm_v128_load(p + 2 * j), b = wasm_v128_load(p + 2 * j + 4);
        v128_t even = wasm_i32x4_shuffle(a, b, 0, 2, 4, 6);
        wasm_v128_store(y + j, wasm_f32x4_add(wasm_v128_load(y + j), wasm_f32x4_mul(even, by)));
      }
    }
    for (; j < hi; j++) {
      y[j] += p[j * s] * w[t];
    }
  }
}

static void depthwise_body(const void *args, int32_t begin, int32_t end) {
  const struct conv_args *c = args;
  for (int32_t u = begin; u < end; u++) {
    int32_t o = u % (c->groups * c->outputs), image = u / (c->groups * c->outputs);
    const float *x = c->x + ((size_t)image * (size_t)c->groups + (size_t)(o / c->outputs)) * (size_t)c->plane;
    const float *w = c->w + (size_t)o * (size_t)c->taps;
    float *y = c->y + (size_t)u * (size_t)c->positions;
    for (int32_t h = 0; h < c->out[1]; h++, y += c->out[2]) {
      int32_t first = 1;
      for (int32_t t = 0; t < c->kernel[1]; t++) {
        int32_t at = source(c, 1, h, t);
        if (at >= 0) {
          depthwise_row(c, y, x + (size_t)at * (size_t)c->in[2], w + (size_t)t * (size_t)c->kernel[2], first);
          first = 0;
        }
      }
      for (int32_t j = 0; j < c->out[2]; j++) {
        y[j] = (first ? 0 : y[j]) + (c->bias ? c->bias[o] : 0);
      }
    }
  }
}

// f32_depthwise is f32_conv for one channel a group, two dimensions and no transposition.
void f32_depthwise(void *y, void *x, void *w, void *bias, void *desc) {
  struct conv_args c = {.y = y, .x = x, .w = w, .bias = bias};
  read_conv(&c, desc);
  if (c.n <= 0 || c.groups <= 0 || c.outputs <= 0 || c.positions <= 0 || c.k <= 0) {
    return;
  }
  int64_t work = (int64_t)c.positions * c.taps;
  parallel_for(depthwise_body, &c, c.n * c.groups * c.outputs, (int32_t)(1 + 50000 / work));
}
