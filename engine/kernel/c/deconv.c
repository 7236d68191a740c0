// Transposed convolution of channels-last images. An output gathers the taps whose input exists: those at which its
// place, padding added and the tap's dilation taken off, is a multiple of the stride. Four output channels run along
// the input's channels together, rows of outputs go to threads.
#include "requantize.h"
#include "window.h"

typedef struct {
  void *y;
  const void *x, *weight;
  const void *bias;
  const float *scale;
  tt_window w;
  int32_t height, width, c, oc, groups;
  float lo, hi;
  int32_t x_zero, zero, low, high;
} deconv_args;

// source returns the input position of a tap, -1 if there is none.
TT_INLINE int32_t source(int32_t out, int32_t pad, int32_t tap, int32_t dilation, int32_t stride, int32_t size) {
  int64_t at = (int64_t)out + pad - (int64_t)tap * dilation;
  return at >= 0 && at % stride == 0 && at / stride < size ? (int32_t)(at / stride) : -1;
}

// EACH_TAP runs body with the element that a tap's input (`from`) and its filter for output channel o (`at`) begin
// with.
#define EACH_TAP(g, r, x, o, icg, ...)                                                                             \
  for (int32_t i = 0; i < (g)->w.kh; i++) {                                                                        \
    int32_t row = source((r) % (g)->w.oh, (g)->w.top, i, (g)->w.dh, (g)->w.sh, (g)->height);                       \
    for (int32_t j = 0; row >= 0 && j < (g)->w.kw; j++) {                                                          \
      int32_t col = source(x, (g)->w.left, j, (g)->w.dw, (g)->w.sw, (g)->width);                                   \
      if (col < 0) {                                                                                               \
        continue;                                                                                                  \
      }                                                                                                            \
      size_t line = (size_t)((r) / (g)->w.oh) * (size_t)(g)->height + (size_t)row;                                 \
      size_t from = (line * (size_t)(g)->width + (size_t)col) * (size_t)(g)->c +                                   \
                    (size_t)((o) / ((g)->oc / (g)->groups)) * (size_t)(icg);                                       \
      size_t at = (((size_t)(o) * (size_t)(g)->w.kh + (size_t)i) * (size_t)(g)->w.kw + (size_t)j) * (size_t)(icg); \
      __VA_ARGS__                                                                                                  \
    }                                                                                                              \
  }

TT_INLINE float sum4(v128_t v) {
  float f[4];
  wasm_v128_store(f, v);
  return (f[0] + f[1]) + (f[2] + f[3]);
}

static void f32_body(const void *args, int32_t begin, int32_t end) {
  const deconv_args *g = args;
  int32_t icg = g->c / g->groups, ocg = g->oc / g->groups;
  size_t hop = (size_t)g->w.kh * (size_t)g->w.kw * (size_t)icg;
  for (int32_t r = begin; r < end; r++) {
    for (int32_t x = 0; x < g->w.ow; x++) {
      float *out = (float *)g->y + ((size_t)r * (size_t)g->w.ow + (size_t)x) * (size_t)g->oc;
      for (int32_t o = 0, n; o < g->oc; o += n) {
        n = tt_min32(4, ocg - o % ocg);
        v128_t s[4] = {0};
        float rest[4] = {0};
        EACH_TAP(g, r, x, o, icg, {
          const float *p = (const float *)g->x + from, *w = (const float *)g->weight + at;
          int32_t k = 0;
          if (n == 4) {
            v128_t s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
            for (; k + 4 <= icg; k += 4) {
              v128_t v = wasm_v128_load(p + k);
              s0 = wasm_f32x4_add(s0, wasm_f32x4_mul(v, wasm_v128_load(w + k)));
              s1 = wasm_f32x4_add(s1, wasm_f32x4_mul(v, wasm_v128_load(w + hop + k)));
              s2 = wasm_f32x4_add(s2, wasm_f32x4_mul(v, wasm_v128_load(w + 2 * hop + k)));
              s3 = wasm_f32x4_add(s3, wasm_f32x4_mul(v, wasm_v128_load(w + 3 * hop + k)));
            }
            s[0] = s0, s[1] = s1, s[2] = s2, s[3] = s3;
          }
          for (; k < icg; k++) {
            for (int32_t q = 0; q < n; q++) {
              rest[q] += p[k] * w[(size_t)q * hop + (size_t)k];
            }
          }
        })
        for (int32_t q = 0; q < n; q++) {
          float v = sum4(s[q]) + rest[q] + (g->bias ? ((const float *)g->bias)[o + q] : 0);
          v = v < g->lo ? g->lo : v;
          out[o + q] = v > g->hi ? g->hi : v;
        }
      }
    }
  }
}

void f32_deconv(void *y, void *x, void *weight, void *bias, void *window, int32_t n, int32_t h, int32_t w, int32_t c,
                int32_t oc, int32_t groups, float lo, float hi) {
  deconv_args g = {y, x, weight, bias, 0, {0}, h, w, c, oc, groups, lo, hi, 0, 0, 0, 0};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(f32_body, &g, n * g.w.oh, tt_row_grain(&g.w, oc));
}

static void qs8_body(const void *args, int32_t begin, int32_t end) {
  const deconv_args *g = args;
  int32_t icg = g->c / g->groups, ocg = g->oc / g->groups;
  size_t hop = (size_t)g->w.kh * (size_t)g->w.kw * (size_t)icg;
  v128_t zero = wasm_i16x8_splat((int16_t)g->x_zero);
  for (int32_t r = begin; r < end; r++) {
    for (int32_t x = 0; x < g->w.ow; x++) {
      int8_t *out = (int8_t *)g->y + ((size_t)r * (size_t)g->w.ow + (size_t)x) * (size_t)g->oc;
      for (int32_t o = 0, n; o < g->oc; o += n) {
        n = tt_min32(4, ocg - o % ocg);
        int32_t sums[4] = {0};
        EACH_TAP(g, r, x, o, icg, {
          const int8_t *p = (const int8_t *)g->x + from, *w = (const int8_t *)g->weight + at;
          for (int32_t q = 0; q < n; q++, w += hop) {
            v128_t s = wasm_i32x4_const_splat(0);
            int32_t k = 0;
            for (; k + 8 <= icg; k += 8) {
              v128_t v = wasm_i16x8_sub(wasm_i16x8_load8x8(p + k), zero);
              s = wasm_i32x4_add(s, wasm_i32x4_dot_i16x8(v, wasm_i16x8_load8x8(w + k)));
            }
            sums[q] += wasm_i32x4_extract_lane(s, 0) + wasm_i32x4_extract_lane(s, 1) + wasm_i32x4_extract_lane(s, 2) +
                       wasm_i32x4_extract_lane(s, 3);
            for (; k < icg; k++) {
              sums[q] += (p[k] - g->x_zero) * w[k];
            }
          }
        })
        for (int32_t q = 0; q < n; q++) {
          uint32_t sum = (uint32_t)sums[q] + (g->bias ? (uint32_t)((const int32_t *)g->bias)[o + q] : 0);
          v128_t v = tt_requantize(wasm_i32x4_splat((int32_t)sum), wasm_f32x4_splat(g->scale[o + q]), g->zero, g->low,
                                   g->high);
          out[o + q] = (int8_t)wasm_i32x4_extract_lane(v, 0);
        }
      }
    }
  }
}

void qs8_deconv(void *y, void *x, void *weight, void *bias, void *scale, void *window, int32_t n, int32_t h, int32_t w,
                int32_t c, int32_t oc, int32_t groups, int32_t x_zero, int32_t zero, int32_t lo, int32_t hi) {
  deconv_args g = {y, x, weight, bias, scale, {0}, h, w, c, oc, groups, 0, 0, x_zero, zero, lo, hi};
  memcpy(&g.w, window, sizeof g.w);
  parallel_for(qs8_body, &g, n * g.w.oh, tt_row_grain(&g.w, oc));
}
