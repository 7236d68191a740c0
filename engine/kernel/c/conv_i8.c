// int8 arithmetic as XNNPACK defines it, bit for bit: patches, depthwise convolution and pooling of channels-last
// images, conversions and elementwise operations. The products are gemm_i8.c's.
#include "gemm_i16.h"
#include "requantize.h"
#include "window.h"

typedef struct {
  int16_t *q;
  float *sx;
  const int8_t *x;
  const float *scales;
  const int32_t *zeros;
  int32_t zero;
  tt_window w;
  int32_t height, width, c, from, count, first, m, k, k8;
} patch_args;

// widen writes count numbers less zero to row elements [at, at+count) of an activation row of the given height.
TT_INLINE void widen(int16_t *row, int32_t hop, int32_t at, const int8_t *p, int32_t count, int32_t zero) {
  v128_t z = wasm_i16x8_splat((int16_t)zero);
  int32_t i = 0;
  if ((at & 7) == 0) {
    for (; i + 8 <= count; i += 8) {
      wasm_v128_store(row + ((at + i) >> 3) * hop, wasm_i16x8_sub(wasm_i16x8_load8x8(p + i), z));
    }
  }
  for (; i < count; i++) {
    int32_t k = at + i;
    row[(k >> 3) * hop + (k & 7)] = (int16_t)(p[i] - zero);
  }
}

static void patch_body(const void *args, int32_t begin, int32_t end) {
  const patch_args *g = args;
  const tt_window *w = &g->w;
  for (int32_t r = begin; r < end; r++) {
    int32_t o = g->first + r;
    int32_t x = o % w->ow, y = o / w->ow % w->oh, image = o / w->ow / w->oh;
    int32_t i0, i1, j0, j1, top, left;
    tt_taps(y, w->sh, w->dh, w->top, w->kh, g->height, &i0, &i1, &top);
    tt_taps(x, w->sw, w->dw, w->left, w->kw, g->width, &j0, &j1, &left);
    int32_t height = (r | 1) < g->m ? 2 : 1, hop = height * 8;
    int16_t *row = g->q + (size_t)(r & ~1) * (size_t)g->k8 + (r & 1) * 8;
    int32_t zero = g->zeros ? g->zeros[image] : g->zero;
    if (g->sx) {
      g->sx[r] = g->scales[image];
    }
    if (i0 > 0 || i1 < w->kh || j0 > 0 || j1 < w->kw || g->k < g->k8) {
      for (int32_t k = 0; k < g->k8; k += 8) {
        wasm_v128_store(row + (k >> 3) * hop, wasm_i16x8_const_splat(0));
      }
    }
    for (int32_t i = i0; i < i1; i++) {
      size_t line = ((size_t)image * (size_t)g->height + (size_t)(top + i * w->dh)) * (size_t)g->width;
      const int8_t *p = g->x + (line + (size_t)(left + j0 * w->dw)) * (size_t)g->c + g->from;
      if (w->dw == 1 && g->count == g->c) {
        widen(row, hop, (i * w->kw + j0) * g->count, p, g->count * (j1 - j0), zero);
        continue;
      }
      for (int32_t j = j0; j < j1; j++, p += (size_t)w->dw * (size_t)g->c) {
        widen(row, hop, (i * w->kw + j) * g->count, p, g->count, zero);
      }
    }
  }
}

void i8_im2col(void *q, void *sx, void *x, void *scales, void *zeros, int32_t zero, void *window, int32_t h, int32_t w,
               int32_t c, int32_t from, int32_t count, int32_t first, int32_t rows) {
  patch_args g = {q, sx, x, scales, zeros, zero, {0}, h, w, c, from, count, first, rows, 0, 0};
  memcpy(&g.w, window, sizeof g.w);
  g.k = g.w.kh * g.w.kw * count;
  g.k8 = tt_round8(g.k);
  parallel_for(patch_body, &g, g.m, 1 + 40000 / (g.k + 1));
}

typedef struct {
  int8_t *y;
  const int8_t *x, *weight;
  const int32_t *bias;
  const float *scale;
  tt_window w;
  int32_t height, width, c, x_zero, zero, lo, hi;
} image_args;

static TT_NOINLINE void depthwise_pixel(const image_args *g, int8_t *out, const int8_t *corner, const int8_t *weight,
                                        int32_t rows, int32_t cols) {
  const tt_window *w = &g->w;
  size_t across = (size_t)w->dw * (size_t)g->c, down = (size_t)w->dh * (size_t)g->width * (size_t)g->c;
  size_t next = (size_t)w->kw * (size_t)g->c;
  v128_t z = wasm_i16x8_splat((int16_t)g->x_zero);
  for (int32_t c = 0; c < g->c; c += 8) {
    int32_t left = g->c - c;
    v128_t lo = wasm_i32x4_const_splat(0), hi = lo;
    if (left >= 8) {
      if (g->bias) {
        lo = wasm_v128_load(g->bias + c), hi = wasm_v128_load(g->bias + c + 4);
      }
      const int8_t *xr = corner + c, *wr = weight + c;
      for (int32_t i = 0; i < rows; i++, xr += down, wr += next) {
        const int8_t *xp = xr, *wp = wr;
        for (int32_t j = 0; j < cols; j++, xp += across, wp += g->c) {
          v128_t a = wasm_i16x8_sub(wasm_i16x8_load8x8(xp), z), b = wasm_i16x8_load8x8(wp);
          lo = wasm_i32x4_add(lo, wasm_i32x4_extmul_low_i16x8(a, b));
          hi = wasm_i32x4_add(hi, wasm_i32x4_extmul_high_i16x8(a, b));
        }
      }
      lo = tt_requantize(lo, wasm_v128_load(g->scale + c), g->zero, g->lo, g->hi);
      hi = tt_requantize(hi, wasm_v128_load(g->scale + c + 4), g->zero, g->lo, g->hi);
      v128_t half = wasm_i16x8_narrow_i32x4(lo, hi);
      wasm_v128_store64_lane(out + c, wasm_i8x16_narrow_i16x8(half, half), 0);
      continue;
    }
    for (int32_t k = c; k < g->c; k++) {
      int32_t s = g->bias ? g->bias[k] : 0;
      for (int32_t i = 0; i < rows; i++) {
        for (int32_t j = 0; j < cols; j++) {
          s += (corner[(size_t)i * down + (size_t)j * across + (size_t)k] - g->x_zero) *
               weight[(size_t)i * next + (size_t)(j * g->c + k)];
        }
      }
      v128_t v = tt_requantize(wasm_i32x4_splat(s), wasm_f32x4_splat(g->scale[k]), g->zero, g->lo, g->hi);
      out[k] = (int8_t)wasm_i32x4_extract_lane(v, 0);
    }
  }
}

static void depthwise_body(const void *args, int32_t begin, int32_t end) {
  const image_args *g = args;
  const tt_window *w = &g->w;
  for (int32_t r = begin; r < end; r++) {
    int8_t *out = g->y + (size_t)r * (size_t)w->ow * (size_t)g->c;
    for (int32_t x = 0; x < w->ow; x++, out += g->c) {
      tt_patch p = tt_inside(w, r, x, g->height, g->width);
      depthwise_pixel(g, out, g->x + p.at * (size_t)g->c, g->weight + p.tap * (size_t)g->c, p.rows, p.cols);
    }
  }
}

void qs8_dwconv(void *y, void *x, void *weight, void *bias, void *scale, void *window, int32_t n, int32_t h, int32_t w,
                int32_t c, int32_t x_zero, int32_t zero, int32_t lo, int32_t hi) {
  image_args g = {y, x, weight, bias, scale, {0}, h, w, c, x_zero, zero, lo, hi};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(depthwise_body, &g, n * g.w.oh, tt_row_grain(&g.w, c));
}

static void max_pool_body(const void *args, int32_t begin, int32_t end) {
  const image_args *g = args;
  const tt_window *w = &g->w;
  size_t across = (size_t)w->dw * (size_t)g->c, down = (size_t)w->dh * (size_t)g->width * (size_t)g->c;
  for (int32_t r = begin; r < end; r++) {
    int8_t *out = g->y + (size_t)r * (size_t)w->ow * (size_t)g->c;
    for (int32_t x = 0; x < w->ow; x++, out += g->c) {
      tt_patch patch = tt_inside(w, r, x, g->height, g->width);
      memset(out, -128, (size_t)g->c);
      const int8_t *line = g->x + patch.at * (size_t)g->c;
      for (int32_t i = 0; i < patch.rows; i++, line += down) {
        const int8_t *p = line;
        for (int32_t j = 0; j < patch.cols; j++, p += across) {
          int32_t c = 0;
          for (; c + 16 <= g->c; c += 16) {
            wasm_v128_store(out + c, wasm_i8x16_max(wasm_v128_load(out + c), wasm_v128_load(p + c)));
          }
          for (; c < g->c; c++) {
            out[c] = p[c] > out[c] ? p[c] : out[c];
          }
        }
      }
    }
  }
}

void i8_max_pool(void *y, void *x, void *window, int32_t n, int32_t h, int32_t w, int32_t c) {
  image_args g = {y, x, 0, 0, 0, {0}, h, w, c, 0, 0, 0, 0};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(max_pool_body, &g, n * g.w.oh, tt_row_grain(&g.w, c));
}
