// The geometry of a channels-last convolution or pooling, as kernels.def describes it.
#pragma once

#include "tt.h"

typedef struct {
  int32_t kh, kw, sh, sw, dh, dw, top, left, oh, ow;
} tt_window;

// tt_row_grain is how many rows of outputs make a piece of work for a thread. In double, since sizes come from programs
// and their product may not fit any integer; it only says where the work is split.
TT_INLINE int32_t tt_row_grain(const tt_window *w, int32_t channels) {
  double work = (double)w->kh * w->kw * w->ow * channels;
  return (int32_t)(1 + 50000 / (work + 1));
}

// tt_taps narrows [0, kernel) to the taps that lie inside [0, size) for output o.
TT_INLINE void tt_taps(int32_t o, int32_t stride, int32_t dilation, int32_t pad, int32_t kernel, int32_t size,
                       int32_t *first, int32_t *end, int32_t *at) {
  int32_t origin = o * stride - pad, i = 0;
  if (origin < 0) {
    i = (-origin + dilation - 1) / dilation;
  }
  int32_t e = size > origin ? (size - origin + dilation - 1) / dilation : 0;
  *first = tt_min32(i, kernel);
  *end = tt_max32(*first, tt_min32(e, kernel));
  *at = origin;
}

// tt_patch is what of a window lies inside its image: rows x cols taps, of which the first is number `tap` of the
// window and on pixel `at`. With no tap inside nothing may be read.
typedef struct {
  int32_t rows, cols;
  size_t tap, at;
} tt_patch;

// tt_inside returns the patch of output x in a row of outputs, counted through all images.
TT_INLINE tt_patch tt_inside(const tt_window *w, int32_t row, int32_t x, int32_t height, int32_t width) {
  int32_t i0, i1, j0, j1, top, left;
  tt_taps(row % w->oh, w->sh, w->dh, w->top, w->kh, height, &i0, &i1, &top);
  tt_taps(x, w->sw, w->dw, w->left, w->kw, width, &j0, &j1, &left);
  tt_patch p = {i1 - i0, j1 - j0, (size_t)i0 * (size_t)w->kw + (size_t)j0, 0};
  if (p.rows > 0 && p.cols > 0) {
    size_t line = (size_t)(row / w->oh) * (size_t)height + (size_t)(top + i0 * w->dh);
    p.at = line * (size_t)width + (size_t)(left + j0 * w->dw);
  }
  return p;
}
