// Walking elementwise operands of any strides.
//
// A kernel's arithmetic is a block function over at most EW_BLOCK contiguous elements. The walk
// hands it pointers straight into tensors whose innermost stride is 1; an operand that is
// broadcast along the row (stride 0) is spread into a buffer once a row, any other stride is
// gathered a block at a time. So a kernel has one loop an operation, whatever the operands' forms,
// and same-shape, scalar, row and column broadcasts all run at the contiguous loop's speed.
#pragma once

#include "tt.h"

#define EW_BLOCK 256
// Elements a unit of work covers in a long row, and what a chunk of short rows adds up to.
#define EW_UNIT 8192
#define EW_OUTER 7

struct ew_operand {
  char *p;
  int32_t size;             // bytes an element
  int32_t inner;            // stride of the last dim, in elements
  int32_t outer[EW_OUTER];  // strides of the dims before it, in elements
};

struct ew;
typedef void (*ew_block)(const struct ew *e, void *d, const void *a, const void *b, const void *c, int32_t n);

struct ew {
  ew_block block;
  int32_t op;
  float f, g;  // alpha, or bounds
  int64_t i, j;
  int32_t cols;  // last dim
  int32_t rank;  // dims before it
  int32_t dims[EW_OUTER];
  int32_t chunks;  // units a row is cut into
  int32_t inputs;
  struct ew_operand o[4];  // 0: result; then the inputs
};

TT_INLINE void ew_gather(char *to, const struct ew_operand *o, const char *from, int32_t n) {
  uint32_t step = (uint32_t)o->inner * (uint32_t)o->size;
  switch (o->size) {
    case 1:
      for (int32_t i = 0; i < n; i++, from += step) ((uint8_t *)to)[i] = *(const uint8_t *)from;
      break;
    case 2:
      for (int32_t i = 0; i < n; i++, from += step) ((uint16_t *)to)[i] = *(const uint16_t *)from;
      break;
    case 4:
      for (int32_t i = 0; i < n; i++, from += step) ((uint32_t *)to)[i] = *(const uint32_t *)from;
      break;
    default:
      for (int32_t i = 0; i < n; i++, from += step) ((uint64_t *)to)[i] = *(const uint64_t *)from;
  }
}

TT_INLINE void ew_scatter(char *to, const struct ew_operand *o, const char *from, int32_t n) {
  uint32_t step = (uint32_t)o->inner * (uint32_t)o->size;
  switch (o->size) {
    case 1:
      for (int32_t i = 0; i < n; i++, to += step) *(uint8_t *)to = ((const uint8_t *)from)[i];
      break;
    case 2:
      for (int32_t i = 0; i < n; i++, to += step) *(uint16_t *)to = ((const uint16_t *)from)[i];
      break;
    case 4:
      for (int32_t i = 0; i < n; i++, to += step) *(uint32_t *)to = ((const uint32_t *)from)[i];
      break;
    default:
      for (int32_t i = 0; i < n; i++, to += step) *(uint64_t *)to = ((const uint64_t *)from)[i];
  }
}

static void ew_body(const void *args, int32_t begin, int32_t end) {
  const struct ew *e = args;
  // 4 x 2 KiB of stack; a uint64_t array aligns every element size.
  uint64_t buffer[4][EW_BLOCK];
  for (int32_t u = begin; u < end; u++) {
    int32_t row = u / e->chunks, chunk = u - row * e->chunks;
    int32_t from = chunk * EW_UNIT;
    int32_t n = tt_min32(e->cols - from, EW_UNIT);
    char *base[4];
    for (int32_t k = 0; k <= e->inputs; k++) {
      base[k] = e->o[k].p + (uint32_t)from * (uint32_t)e->o[k].inner * (uint32_t)e->o[k].size;
    }
    for (int32_t d = e->rank - 1, rest = row; d >= 0; d--) {
      int32_t next = d == 0 ? 0 : rest / e->dims[d];
      uint32_t index = (uint32_t)(rest - next * e->dims[d]);
      rest = next;
      for (int32_t k = 0; k <= e->inputs; k++) {
        base[k] += index * (uint32_t)e->o[k].outer[d] * (uint32_t)e->o[k].size;
      }
    }
    for (int32_t k = 1; k <= e->inputs; k++) {
      if (e->o[k].inner == 0) {
        ew_gather((char *)buffer[k], &e->o[k], base[k], tt_min32(n, EW_BLOCK));
      }
    }
    for (int32_t i = 0; i < n; i += EW_BLOCK) {
      int32_t m = tt_min32(n - i, EW_BLOCK);
      void *p[4] = {0};
      for (int32_t k = 0; k <= e->inputs; k++) {
        const struct ew_operand *o = &e->o[k];
        char *at = base[k] + (uint32_t)i * (uint32_t)o->inner * (uint32_t)o->size;
        p[k] = o->inner == 1 ? (void *)at : (void *)buffer[k];
        if (k > 0 && o->inner != 0 && o->inner != 1) {
          ew_gather((char *)buffer[k], o, at, m);
        }
      }
      e->block(e, p[0], p[1], p[2], p[3], m);
      if (e->o[0].inner != 1) {
        ew_scatter(base[0] + (uint32_t)i * (uint32_t)e->o[0].inner * (uint32_t)e->o[0].size, &e->o[0],
                   (const char *)buffer[0], m);
      }
    }
  }
}

TT_INLINE void ew_run(struct ew *e) {
  int32_t rows = 1;
  for (int32_t d = 0; d < e->rank; d++) {
    rows *= e->dims[d];
  }
  if (rows <= 0 || e->cols <= 0) {
    return;
  }
  e->chunks = (e->cols + EW_UNIT - 1) / EW_UNIT;
  parallel_for(ew_body, e, rows * e->chunks, tt_max32(1, EW_UNIT / e->cols));
}

TT_INLINE void ew_operand(struct ew *e, int32_t k, void *p, int32_t size, int32_t row, int32_t col) {
  e->o[k].p = p;
  e->o[k].size = size;
  e->o[k].inner = col;
  e->o[k].outer[0] = row;
}

// ew_run2 runs a walk over [rows, cols] with the result contiguous. It joins the rows when every
// operand allows it.
TT_INLINE void ew_run2(struct ew *e, int32_t rows, int32_t cols) {
  e->rank = 1;
  e->dims[0] = rows;
  e->cols = cols;
  int join = rows > 1;
  for (int32_t k = 1; k <= e->inputs; k++) {
    const struct ew_operand *o = &e->o[k];
    join &= o->inner == 1 ? o->outer[0] == cols : o->inner == 0 && o->outer[0] == 0;
  }
  if (join) {
    e->dims[0] = 1;
    e->cols = rows * cols;
  }
  ew_run(e);
}

// ew_describe fills in a walk from a descriptor in device memory: i32[8 + 8*operands], the rank
// (1..8) in word 0, then from word 8 on eight dims, and eight strides in elements for the result and each
// input in turn; unused dims at the end are ignored. It says no to a rank out of range.
TT_INLINE int ew_describe(struct ew *e, const int32_t *desc, void *const *p, const int32_t *sizes) {
  int32_t rank = desc[0];
  if (rank < 1 || rank > EW_OUTER + 1) {
    return 0;
  }
  e->rank = rank - 1;
  e->cols = desc[8 + rank - 1];
  for (int32_t d = 0; d < e->rank; d++) {
    e->dims[d] = desc[8 + d];
  }
  for (int32_t k = 0; k <= e->inputs; k++) {
    const int32_t *s = desc + 16 + 8 * k;
    e->o[k].p = p[k];
    e->o[k].size = sizes[k];
    e->o[k].inner = s[rank - 1];
    for (int32_t d = 0; d < e->rank; d++) {
      e->o[k].outer[d] = s[d];
    }
  }
  return 1;
}
