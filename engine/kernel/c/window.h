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
