// Rows of quantised tables to float: embeddings gathered by token, and weights unpacked whole.
// An index outside [0, rows) gives a row of zeros, as gather_rows does.
#include "quant.h"

typedef struct {
  float *y;
  const void *w;
  const float *sw;
  const uint16_t *d;
  const uint16_t *minimum;
  const int64_t *index;  // null: row i of y is row i of the table
  int32_t rows, k, ldw, ldy;
} rows_args;

TT_INLINE int64_t source(const rows_args *g, int32_t i) {
  int64_t r = g->index ? g->index[i] : i;
  return r < 0 || r >= g->rows ? -1 : r;
}

static void i8_body(const void *args, int32_t begin, int32_t end) {
  const rows_args *g = args;
  for (int32_t i = begin; i < end; i++) {
    float *y = g->y + (size_t)i * (size_t)g->ldy;
    int64_t r = source(g, i);
    if (r < 0) {
      memset(y, 0, (size_t)g->k * 4);
      continue;
    }
    const int8_t *w = (const int8_t *)g->w + (size_t)r * (size_t)g->ldw;
    float scale = g->sw[r];
    v128_t by = wasm_f32x4_splat(scale);
    int32_t k = 0;
    for (; k + 8 <= g->k; k += 8) {
      v128_t v = wasm_i16x8_load8x8(w + k);
      wasm_v128_store(y + k, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_low_i16x8(v)), by));
      wasm_v128_store(y + k + 4, wasm_f32x4_mul(wasm_f32x4_convert_i32x4(wasm_i32x4_extend_high_i16x8(v)), by));
    }
    for (; k < g->k; k++) {
      y[k] = (float)w[k] * scale;
    }
  }
}

static void q4_body(const void *args, int32_t begin, int32_t end) {
  const rows_args *g = args;
  int32_t groups = g->k / 32;
  for (int32_t i = begin; i < end; i++) {
    float *y = g->y + (size_t)i * (size_t)g->ldy;
    int64_t r = source(g, i);
    if (r < 0) {
      memset(y, 0, (size_t)g->k * 4);
      continue;
    }
    size_t at = (size_t)r * (size_t)groups;
    for (int32_t k = 0; k < groups; k++, at++, y += 32) {
      v128_t v = wasm_v128_load((const uint8_t *)g->w + at * 16);
      v128_t d = wasm_f32x4_splat(tt_half(g->d[at])), minimum = wasm_f32x4_splat(tt_half(g->minimum[at]));
      tt_expand_nibbles(y, tt_low_nibbles(v), d, minimum);
      tt_expand_nibbles(y + 16, tt_high_nibbles(v), d, minimum);
    }
  }
}

void i8_rows(void *y, void *w, void *sw, void *index, int32_t m, int32_t rows, int32_t k, int32_t ldw, int32_t ldy) {
  rows_args g = {y, w, sw, 0, 0, index, rows, k, ldw, ldy};
  parallel_for(i8_body, &g, m, 1 + 50000 / (k + 1));
}

void q4_rows(void *y, void *w, void *d, void *minimum, void *index, int32_t m, int32_t rows, int32_t k, int32_t ldy) {
  rows_args g = {y, w, 0, d, minimum, index, rows, k, 0, ldy};
  parallel_for(q4_body, &g, m, 1 + 50000 / (k + 1));
}
