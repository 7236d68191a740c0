// Elementwise float32 kernels, comparisons, selection. See elements.h for how operands are walked.
//
// Operands of the two-dimensional forms: x, x_row, x_col give an input's address and its strides
// between rows and between columns in elements; (cols, 1) is same-shape, (0, 0) one element for all,
// (0, 1) a row for all rows, (1, 0) a column for all columns. The result is contiguous [rows, cols]
// and may be an input of the same layout. The _nd forms take a descriptor (ew_describe).
#include "elements.h"
#include "math.h"
#include "ops.h"

// Loops over a block, four lanes at a time, the last ones in part.
#define LANES1(OP, EXPR)                  \
  case OP:                                \
    for (; i + 4 <= n; i += 4) {          \
      v128_t x = wasm_v128_load(a + i);   \
      wasm_v128_store(d + i, EXPR);       \
    }                                     \
    if (i < n) {                          \
      v128_t x = load_part(a + i, n - i); \
      store_part(d + i, EXPR, n - i);     \
    }                                     \
    break;
#define LANES2(OP, EXPR)                  \
  case OP:                                \
    for (; i + 4 <= n; i += 4) {          \
      v128_t x = wasm_v128_load(a + i);   \
      v128_t y = wasm_v128_load(b + i);   \
      wasm_v128_store(d + i, EXPR);       \
    }                                     \
    if (i < n) {                          \
      v128_t x = load_part(a + i, n - i); \
      v128_t y = load_part(b + i, n - i); \
      store_part(d + i, EXPR, n - i);     \
    }                                     \
    break;

static void f32_binary_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc, int32_t n) {
  (void)pc;
  float *d = dst;
  const float *a = pa, *b = pb;
  v128_t alpha = wasm_f32x4_splat(e->f);
  int32_t i = 0;
  // A product with 1 is exact, so leaving it out changes no bit.
  enum { plain = 1000 };
  int32_t op = e->op;
  if (e->f == 1.0f && (op == F32_ADD || op == F32_SUB || op == F32_RSUB)) {
    op += plain;
  }
  switch (op) {
    LANES2(plain + F32_ADD, ADD(x, y))
    LANES2(plain + F32_SUB, SUB(x, y))
    LANES2(plain + F32_RSUB, SUB(y, x))
    LANES2(F32_ADD, ADD(x, MUL(alpha, y)))
    LANES2(F32_SUB, SUB(x, MUL(alpha, y)))
    LANES2(F32_RSUB, SUB(y, MUL(alpha, x)))
    LANES2(F32_MUL, MUL(x, y))
    LANES2(F32_DIV, DIV(x, y))
    LANES2(F32_MAX, wasm_f32x4_max(x, y))
    LANES2(F32_MIN, wasm_f32x4_min(x, y))
    LANES2(F32_POW, pow_f32x4(x, y))
    default:
      break;
  }
}

void f32_binary(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                float alpha, int32_t rows, int32_t cols) {
  struct ew e = {.block = f32_binary_block, .op = op, .f = alpha, .inputs = 2};
  ew_operand(&e, 0, dst, 4, cols, 1);
  ew_operand(&e, 1, a, 4, a_row, a_col);
  ew_operand(&e, 2, b, 4, b_row, b_col);
  ew_run2(&e, rows, cols);
}

void f32_binary_nd(int32_t op, void *dst, void *a, void *b, float alpha, void *desc) {
  struct ew e = {.block = f32_binary_block, .op = op, .f = alpha, .inputs = 2};
  void *p[] = {dst, a, b};
  const int32_t sizes[] = {4, 4, 4};
  if (ew_describe(&e, desc, p, sizes)) {
    ew_run(&e);
  }
}

// f32_scalar: a op s, or s op a when reversed.
void f32_scalar(int32_t op, void *dst, void *a, float s, float alpha, int32_t reversed, int32_t n) {
  if (reversed) {
    f32_binary(op, dst, &s, 0, 0, a, n, 1, alpha, 1, n);
  } else {
    f32_binary(op, dst, a, n, 1, &s, 0, 0, alpha, 1, n);
  }
}

static void f32_unary_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc, int32_t n) {
  (void)pb;
  (void)pc;
  float *d = dst;
  const float *a = pa;
  int32_t i = 0;
  switch (e->op) {
    LANES1(F32_NEG, wasm_f32x4_neg(x))
    LANES1(F32_ABS, wasm_f32x4_abs(x))
    LANES1(F32_EXP, exp_f32x4(x))
    LANES1(F32_LOG, log_f32x4(x))
    LANES1(F32_SQRT, wasm_f32x4_sqrt(x))
    LANES1(F32_RSQRT, DIV(F4(1.0f), wasm_f32x4_sqrt(x)))
    LANES1(F32_SIN, sin_f32x4(x))
    LANES1(F32_COS, cos_f32x4(x))
    LANES1(F32_TANH, tanh_f32x4(x))
    LANES1(F32_SIGMOID, sigmoid_f32x4(x))
    LANES1(F32_SILU, silu_f32x4(x))
    LANES1(F32_RELU, wasm_f32x4_max(x, F4(0.0f)))
    LANES1(F32_GELU, gelu_erf_f32x4(x))
    LANES1(F32_GELU_TANH, gelu_tanh_f32x4(x))
    LANES1(F32_RECIPROCAL, DIV(F4(1.0f), x))
    LANES1(F32_FLOOR, wasm_f32x4_floor(x))
    LANES1(F32_CEIL, wasm_f32x4_ceil(x))
    LANES1(F32_ROUND, wasm_f32x4_nearest(x))
    LANES1(F32_TRUNC, wasm_f32x4_trunc(x))
    LANES1(F32_SQUARE, MUL(x, x))
    LANES1(F32_ERF, erf_f32x4(x))
    LANES1(F32_SIGN, SUB(wasm_v128_and(wasm_f32x4_gt(x, F4(0.0f)), F4(1.0f)),
                         wasm_v128_and(wasm_f32x4_lt(x, F4(0.0f)), F4(1.0f))))
    default:
      break;
  }
}

void f32_unary(int32_t op, void *dst, void *a, int32_t n) {
  struct ew e = {.block = f32_unary_block, .op = op, .inputs = 1};
  ew_operand(&e, 0, dst, 4, n, 1);
  ew_operand(&e, 1, a, 4, n, 1);
  ew_run2(&e, 1, n);
}

static void f32_clamp_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc, int32_t n) {
  (void)pb;
  (void)pc;
  float *d = dst;
  const float *a = pa;
  v128_t lo = wasm_f32x4_splat(e->f), hi = wasm_f32x4_splat(e->g);
  int32_t i = 0;
  switch (e->op) {
    LANES1(0, AT_MOST(AT_LEAST(x, lo), hi))
    default:
      break;
  }
}

// f32_clamp: min(max(a, lo), hi); NaN stays NaN. An absent bound is an infinity.
void f32_clamp(void *dst, void *a, float lo, float hi, int32_t n) {
  struct ew e = {.block = f32_clamp_block, .f = lo, .g = hi, .inputs = 1};
  ew_operand(&e, 0, dst, 4, n, 1);
  ew_operand(&e, 1, a, 4, n, 1);
  ew_run2(&e, 1, n);
}

// Sixteen comparisons at a time, narrowed to bytes of 0 or 1.
#define COMPARE16(OP, VEC, SCALAR)                                                                     \
  case OP:                                                                                             \
    for (; i + 16 <= n; i += 16) {                                                                     \
      v128_t w = wasm_i16x8_narrow_i32x4(VEC(wasm_v128_load(a + i), wasm_v128_load(b + i)),            \
                                         VEC(wasm_v128_load(a + i + 4), wasm_v128_load(b + i + 4)));   \
      v128_t z = wasm_i16x8_narrow_i32x4(VEC(wasm_v128_load(a + i + 8), wasm_v128_load(b + i + 8)),    \
                                         VEC(wasm_v128_load(a + i + 12), wasm_v128_load(b + i + 12))); \
      wasm_v128_store(d + i, wasm_v128_and(wasm_i8x16_narrow_i16x8(w, z), wasm_i8x16_splat(1)));       \
    }                                                                                                  \
    for (; i < n; i++) d[i] = a[i] SCALAR b[i];                                                        \
    break;

static void f32_compare_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc,
                              int32_t n) {
  (void)pc;
  uint8_t *d = dst;
  const float *a = pa, *b = pb;
  int32_t i = 0;
  switch (e->op) {
    COMPARE16(CMP_EQ, wasm_f32x4_eq, ==)
    COMPARE16(CMP_NE, wasm_f32x4_ne, !=)
    COMPARE16(CMP_LT, wasm_f32x4_lt, <)
    COMPARE16(CMP_LE, wasm_f32x4_le, <=)
    COMPARE16(CMP_GT, wasm_f32x4_gt, >)
    COMPARE16(CMP_GE, wasm_f32x4_ge, >=)
    default:
      break;
  }
}

static void i32_compare_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc,
                              int32_t n) {
  (void)pc;
  uint8_t *d = dst;
  const int32_t *a = pa, *b = pb;
  int32_t i = 0;
  switch (e->op) {
    COMPARE16(CMP_EQ, wasm_i32x4_eq, ==)
    COMPARE16(CMP_NE, wasm_i32x4_ne, !=)
    COMPARE16(CMP_LT, wasm_i32x4_lt, <)
    COMPARE16(CMP_LE, wasm_i32x4_le, <=)
    COMPARE16(CMP_GT, wasm_i32x4_gt, >)
    COMPARE16(CMP_GE, wasm_i32x4_ge, >=)
    default:
      break;
  }
}

#define SCALAR2(OP, EXPR)                        \
  case OP:                                       \
    for (int32_t i = 0; i < n; i++) d[i] = EXPR; \
    break;

static void i64_compare_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc,
                              int32_t n) {
  (void)pc;
  uint8_t *restrict d = dst;
  const int64_t *a = pa, *b = pb;
  switch (e->op) {
    SCALAR2(CMP_EQ, a[i] == b[i])
    SCALAR2(CMP_NE, a[i] != b[i])
    SCALAR2(CMP_LT, a[i] < b[i])
    SCALAR2(CMP_LE, a[i] <= b[i])
    SCALAR2(CMP_GT, a[i] > b[i])
    SCALAR2(CMP_GE, a[i] >= b[i])
    default:
      break;
  }
}

static void compare2(ew_block block, int32_t size, int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col,
                     void *b, int32_t b_row, int32_t b_col, int32_t rows, int32_t cols) {
  struct ew e = {.block = block, .op = op, .inputs = 2};
  ew_operand(&e, 0, dst, 1, cols, 1);
  ew_operand(&e, 1, a, size, a_row, a_col);
  ew_operand(&e, 2, b, size, b_row, b_col);
  ew_run2(&e, rows, cols);
}

// The comparisons write bool (a byte of 0 or 1).
void f32_compare(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                 int32_t rows, int32_t cols) {
  compare2(f32_compare_block, 4, op, dst, a, a_row, a_col, b, b_row, b_col, rows, cols);
}

void i32_compare(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                 int32_t rows, int32_t cols) {
  compare2(i32_compare_block, 4, op, dst, a, a_row, a_col, b, b_row, b_col, rows, cols);
}

void i64_compare(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                 int32_t rows, int32_t cols) {
  compare2(i64_compare_block, 8, op, dst, a, a_row, a_col, b, b_row, b_col, rows, cols);
}

void f32_compare_scalar(int32_t op, void *dst, void *a, float s, int32_t n) {
  compare2(f32_compare_block, 4, op, dst, a, n, 1, &s, 0, 0, 1, n);
}

void i32_compare_scalar(int32_t op, void *dst, void *a, int32_t s, int32_t n) {
  compare2(i32_compare_block, 4, op, dst, a, n, 1, &s, 0, 0, 1, n);
}

void i64_compare_scalar(int32_t op, void *dst, void *a, int64_t s, int32_t n) {
  compare2(i64_compare_block, 8, op, dst, a, n, 1, &s, 0, 0, 1, n);
}

// compare_nd: dtype is DTYPE_F32, DTYPE_I32 or DTYPE_I64.
void compare_nd(int32_t dtype, int32_t op, void *dst, void *a, void *b, void *desc) {
  struct ew e = {.op = op, .inputs = 2};
  int32_t size = dtype == DTYPE_I64 ? 8 : 4;
  e.block = dtype == DTYPE_I64 ? i64_compare_block : dtype == DTYPE_I32 ? i32_compare_block : f32_compare_block;
  void *p[] = {dst, a, b};
  const int32_t sizes[] = {1, size, size};
  if (ew_describe(&e, desc, p, sizes)) {
    ew_run(&e);
  }
}

#define WHERE_BLOCK(NAME, T)                                                                                   \
  static void NAME(const struct ew *e, void *dst, const void *pc, const void *pa, const void *pb, int32_t n) { \
    (void)e;                                                                                                   \
    T *d = dst;                                                                                                \
    const T *a = pa, *b = pb;                                                                                  \
    const uint8_t *c = pc;                                                                                     \
    for (int32_t i = 0; i < n; i++) d[i] = c[i] ? a[i] : b[i];                                                 \
  }
WHERE_BLOCK(where1_block, uint8_t)
WHERE_BLOCK(where2_block, uint16_t)
WHERE_BLOCK(where4_block, uint32_t)
WHERE_BLOCK(where8_block, uint64_t)

static ew_block where_block(int32_t size) {
  return size == 1 ? where1_block : size == 2 ? where2_block : size == 4 ? where4_block : where8_block;
}

// where: cond ? a : b, cond a byte an element, the others of size 1, 2, 4 or 8 bytes.
void where(int32_t size, void *dst, void *cond, int32_t c_row, int32_t c_col, void *a, int32_t a_row, int32_t a_col,
           void *b, int32_t b_row, int32_t b_col, int32_t rows, int32_t cols) {
  struct ew e = {.block = where_block(size), .inputs = 3};
  ew_operand(&e, 0, dst, size, cols, 1);
  ew_operand(&e, 1, cond, 1, c_row, c_col);
  ew_operand(&e, 2, a, size, a_row, a_col);
  ew_operand(&e, 3, b, size, b_row, b_col);
  ew_run2(&e, rows, cols);
}

void where_nd(int32_t size, void *dst, void *cond, void *a, void *b, void *desc) {
  struct ew e = {.block = where_block(size), .inputs = 3};
  void *p[] = {dst, cond, a, b};
  const int32_t sizes[] = {size, 1, size, size};
  if (ew_describe(&e, desc, p, sizes)) {
    ew_run(&e);
  }
}
