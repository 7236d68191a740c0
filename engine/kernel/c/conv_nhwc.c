// Convolution and pooling of channels-last images. Products with a matrix of patches are gemm_f32.c's; here are the
// patches, and what works on one channel at a time: depthwise convolution and pooling, vectors over channels, rows of
// outputs to threads.
#include "window.h"

typedef struct {
  char *dst;
  const char *x;
  tt_window w;
  int32_t height, width, pixel, bytes, first;
} patch_args;

static void patch_body(const void *args, int32_t begin, int32_t end) {
  const patch_args *g = args;
  const tt_window *w = &g->w;
  size_t tap = (size_t)g->bytes, row = tap * (size_t)w->kw * (size_t)w->kh;
  for (int32_t r = begin; r < end; r++) {
    int32_t o = g->first + r;
    int32_t x = o % w->ow, y = o / w->ow % w->oh, image = o / w->ow / w->oh;
    int32_t i0, i1, j0, j1, top, left;
    tt_taps(y, w->sh, w->dh, w->top, w->kh, g->height, &i0, &i1, &top);
    tt_taps(x, w->sw, w->dw, w->left, w->kw, g->width, &j0, &j1, &left);
    char *d = g->dst + (size_t)r * row;
    if (i0 > 0 || i1 < w->kh || j0 > 0 || j1 < w->kw) {
      memset(d, 0, row);
    }
    for (int32_t i = i0; i < i1; i++) {
      size_t line = ((size_t)image * (size_t)g->height + (size_t)(top + i * w->dh)) * (size_t)g->width;
      char *to = d + (size_t)(i * w->kw + j0) * tap;
      const char *from = g->x + (line + (size_t)(left + j0 * w->dw)) * (size_t)g->pixel;
      if (w->dw == 1 && g->pixel == g->bytes) {
        memcpy(to, from, tap * (size_t)(j1 - j0));
        continue;
      }
      for (int32_t j = j0; j < j1; j++, to += tap, from += (size_t)w->dw * (size_t)g->pixel) {
        memcpy(to, from, tap);
      }
    }
  }
}

void im2col(void *dst, void *x, void *window, int32_t h, int32_t w, int32_t pixel, int32_t bytes, int32_t first,
            int32_t rows) {
  patch_args g = {dst, x, {0}, h, w, pixel, bytes, first};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(patch_body, &g, rows, 1 + 65536 / (1 + bytes * g.w.kh * g.w.kw));
}

typedef struct {
  float *y;
  const float *x, *weight, *bias;
  tt_window w;
  int32_t height, width, c, multiplier, mean;
  float lo, hi;
} image_args;

// depthwise_pixel computes one output pixel of a convolution with one filter a channel.
static TT_NOINLINE void depthwise_pixel(const image_args *g, float *out, const float *corner, const float *weight,
                                        int32_t rows, int32_t cols) {
  const tt_window *w = &g->w;
  size_t across = (size_t)w->dw * (size_t)g->c, down = (size_t)w->dh * (size_t)g->width * (size_t)g->c;
  size_t next = (size_t)w->kw * (size_t)g->c;
  v128_t lo = wasm_f32x4_splat(g->lo), hi = wasm_f32x4_splat(g->hi);
  int32_t c = 0;
  for (; c + 8 <= g->c; c += 8) {
    v128_t s0 = wasm_f32x4_const_splat(0), s1 = s0;
    if (g->bias) {
      s0 = wasm_v128_load(g->bias + c), s1 = wasm_v128_load(g->bias + c + 4);
    }
    const float *xr = corner + c, *wr = weight + c;
    for (int32_t i = 0; i < rows; i++, xr += down, wr += next) {
      const float *xp = xr, *wp = wr;
      for (int32_t j = 0; j < cols; j++, xp += across, wp += g->c) {
        s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(wasm_v128_load(xp), wasm_v128_load(wp)));
        s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(wasm_v128_load(xp + 4), wasm_v128_load(wp + 4)));
      }
    }
    wasm_v128_store(out + c, wasm_f32x4_pmin(wasm_f32x4_pmax(s0, lo), hi));
    wasm_v128_store(out + c + 4, wasm_f32x4_pmin(wasm_f32x4_pmax(s1, lo), hi));
  }
  for (; c < g->c; c++) {
    float s = g->bias ? g->bias[c] : 0;
    for (int32_t i = 0; i < rows; i++) {
      for (int32_t j = 0; j < cols; j++) {
        s += corner[(size_t)i * down + (size_t)j * across + (size_t)c] *
             weight[(size_t)i * next + (size_t)(j * g->c + c)];
      }
    }
    s = s < g->lo ? g->lo : s;
    out[c] = s > g->hi ? g->hi : s;
  }
}

// multiplied_pixel is the same for several filters a channel.
static void multiplied_pixel(const image_args *g, float *out, const float *corner, const float *weight, int32_t rows,
                             int32_t cols) {
  const tt_window *w = &g->w;
  int32_t oc = g->c * g->multiplier;
  for (int32_t o = 0; o < oc; o++) {
    float s = g->bias ? g->bias[o] : 0;
    for (int32_t i = 0; i < rows; i++) {
      for (int32_t j = 0; j < cols; j++) {
        s += corner[((size_t)(i * w->dh) * (size_t)g->width + (size_t)(j * w->dw)) * (size_t)g->c +
                    (size_t)(o / g->multiplier)] *
             weight[((size_t)i * (size_t)w->kw + (size_t)j) * (size_t)oc + (size_t)o];
      }
    }
    s = s < g->lo ? g->lo : s;
    out[o] = s > g->hi ? g->hi : s;
  }
}

static void depthwise_body(const void *args, int32_t begin, int32_t end) {
  const image_args *g = args;
  const tt_window *w = &g->w;
  int32_t oc = g->c * g->multiplier;
  for (int32_t r = begin; r < end; r++) {
    float *out = g->y + (size_t)r * (size_t)w->ow * (size_t)oc;
    for (int32_t x = 0; x < w->ow; x++, out += oc) {
      tt_patch p = tt_inside(w, r, x, g->height, g->width);
      const float *corner = g->x + p.at * (size_t)g->c, *weight = g->weight + p.tap * (size_t)oc;
      if (g->multiplier == 1) {
        depthwise_pixel(g, out, corner, weight, p.rows, p.cols);
      } else {
        multiplied_pixel(g, out, corner, weight, p.rows, p.cols);
      }
    }
  }
}

void f32_dwconv(void *y, void *x, void *weight, void *bias, void *window, int32_t n, int32_t h, int32_t w, int32_t c,
                int32_t multiplier, float lo, float hi) {
  image_args g = {y, x, weight, bias, {0}, h, w, c, multiplier, 0, lo, hi};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(depthwise_body, &g, n * g.w.oh, tt_row_grain(&g.w, c * multiplier));
}

static TT_NOINLINE void pool_pixel(const image_args *g, float *out, const float *corner, int32_t rows, int32_t cols) {
  const tt_window *w = &g->w;
  size_t across = (size_t)w->dw * (size_t)g->c, down = (size_t)w->dh * (size_t)g->width * (size_t)g->c;
  float scale = 1.0f / (float)tt_max32(1, rows * cols), none = g->mean ? 0 : -__builtin_inff();
  int32_t c = 0;
  for (; c + 4 <= g->c; c += 4) {
    v128_t s = wasm_f32x4_splat(none);
    for (int32_t i = 0; i < rows; i++) {
      const float *p = corner + (size_t)i * down + c;
      for (int32_t j = 0; j < cols; j++, p += across) {
        s = g->mean ? wasm_f32x4_add(s, wasm_v128_load(p)) : wasm_f32x4_max(s, wasm_v128_load(p));
      }
    }
    wasm_v128_store(out + c, g->mean ? wasm_f32x4_mul(s, wasm_f32x4_splat(scale)) : s);
  }
  for (; c < g->c; c++) {
    float s = none;
    for (int32_t i = 0; i < rows; i++) {
      for (int32_t j = 0; j < cols; j++) {
        float v = corner[(size_t)i * down + (size_t)j * across + (size_t)c];
        if (g->mean) {
          s += v;
        } else {
          s = wasm_f32x4_extract_lane(wasm_f32x4_max(wasm_f32x4_splat(s), wasm_f32x4_splat(v)), 0);
        }
      }
    }
    out[c] = g->mean ? s * scale : s;
  }
}

static void pool_body(const void *args, int32_t begin, int32_t end) {
  const image_args *g = args;
  const tt_window *w = &g->w;
  for (int32_t r = begin; r < end; r++) {
    float *out = g->y + (size_t)r * (size_t)w->ow * (size_t)g->c;
    for (int32_t x = 0; x < w->ow; x++, out += g->c) {
      tt_patch p = tt_inside(w, r, x, g->height, g->width);
      pool_pixel(g, out, g->x + p.at * (size_t)g->c, p.rows, p.cols);
    }
  }
}

void f32_pool(void *y, void *x, void *window, int32_t n, int32_t h, int32_t w, int32_t c, int32_t mean) {
  image_args g = {y, x, 0, 0, {0}, h, w, c, 1, mean, 0, 0};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(pool_body, &g, n * g.w.oh, tt_row_grain(&g.w, c));
}
