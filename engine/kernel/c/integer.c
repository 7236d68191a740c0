// Elementwise integer and bool kernels; operands as in elementwise.c, operations as in ops.h.
#include "elements.h"
#include "ops.h"

#define INT_CASE(OP, EXPR)            \
  case OP:                            \
    for (int32_t i = 0; i < n; i++) { \
      T x = a[i], y = b[i];           \
      d[i] = EXPR;                    \
    }                                 \
    break;

// The blocks of one integer type T_, with its unsigned form and its bits. Signed overflow is avoided by
// computing in U.
#define INT_BLOCK(NAME, T_, U_, BITS)                                                                          \
  TT_INLINE T_ NAME##_quotient(T_ x, T_ y) { return y == 0 ? 0 : y == -1 ? (T_)(0 - (U_)x) : x / y; }          \
  TT_INLINE T_ NAME##_rest(T_ x, T_ y) { return y == 0 || y == -1 ? 0 : x % y; }                               \
  TT_INLINE T_ NAME##_floor_rest(T_ x, T_ y) {                                                                 \
    T_ r = NAME##_rest(x, y);                                                                                  \
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;                                                           \
  }                                                                                                            \
  TT_INLINE T_ NAME##_floor_quotient(T_ x, T_ y) {                                                             \
    T_ r = NAME##_rest(x, y);                                                                                  \
    return NAME##_quotient(x, y) - (r != 0 && (r < 0) != (y < 0));                                             \
  }                                                                                                            \
  static void NAME(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc, int32_t n) { \
    typedef T_ T;                                                                                              \
    (void)pc;                                                                                                  \
    T *d = dst;                                                                                                \
    const T *a = pa, *b = pb;                                                                                  \
    U_ k = (U_)e->i;                                                                                           \
    switch (e->op) {                                                                                           \
      INT_CASE(INT_ADD, (T)((U_)x + k * (U_)y))                                                                \
      INT_CASE(INT_SUB, (T)((U_)x - k * (U_)y))                                                                \
      INT_CASE(INT_MUL, (T)((U_)x * (U_)y))                                                                    \
      INT_CASE(INT_FLOOR_DIV, NAME##_floor_quotient(x, y))                                                     \
      INT_CASE(INT_TRUNC_DIV, NAME##_quotient(x, y))                                                           \
      INT_CASE(INT_FLOOR_MOD, NAME##_floor_rest(x, y))                                                         \
      INT_CASE(INT_TRUNC_MOD, NAME##_rest(x, y))                                                               \
      INT_CASE(INT_AND, (x & y))                                                                               \
      INT_CASE(INT_OR, x | y)                                                                                  \
      INT_CASE(INT_XOR, x ^ y)                                                                                 \
      INT_CASE(INT_SHL, (U_)y >= BITS ? 0 : (T)((U_)x << y))                                                   \
      INT_CASE(INT_SHR, x >> ((U_)y >= BITS ? BITS - 1 : y))                                                   \
      INT_CASE(INT_MAX, x > y ? x : y)                                                                         \
      INT_CASE(INT_MIN, x < y ? x : y)                                                                         \
      default:                                                                                                 \
        break;                                                                                                 \
    }                                                                                                          \
  }
INT_BLOCK(i32_block, int32_t, uint32_t, 32)
INT_BLOCK(i64_block, int64_t, uint64_t, 64)

static void int_binary2(ew_block block, int32_t size, int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col,
                        void *b, int32_t b_row, int32_t b_col, int64_t alpha, int32_t rows, int32_t cols) {
  struct ew e = {.block = block, .op = op, .i = alpha, .inputs = 2};
  ew_operand(&e, 0, dst, size, cols, 1);
  ew_operand(&e, 1, a, size, a_row, a_col);
  ew_operand(&e, 2, b, size, b_row, b_col);
  ew_run2(&e, rows, cols);
}

void i32_binary(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                int32_t alpha, int32_t rows, int32_t cols) {
  int_binary2(i32_block, 4, op, dst, a, a_row, a_col, b, b_row, b_col, alpha, rows, cols);
}

void i64_binary(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                int64_t alpha, int32_t rows, int32_t cols) {
  int_binary2(i64_block, 8, op, dst, a, a_row, a_col, b, b_row, b_col, alpha, rows, cols);
}

// i32_scalar and i64_scalar: a op s, or s op a when reversed.
void i32_scalar(int32_t op, void *dst, void *a, int32_t s, int32_t alpha, int32_t reversed, int32_t n) {
  if (reversed) {
    int_binary2(i32_block, 4, op, dst, &s, 0, 0, a, n, 1, alpha, 1, n);
  } else {
    int_binary2(i32_block, 4, op, dst, a, n, 1, &s, 0, 0, alpha, 1, n);
  }
}

void i64_scalar(int32_t op, void *dst, void *a, int64_t s, int64_t alpha, int32_t reversed, int32_t n) {
  if (reversed) {
    int_binary2(i64_block, 8, op, dst, &s, 0, 0, a, n, 1, alpha, 1, n);
  } else {
    int_binary2(i64_block, 8, op, dst, a, n, 1, &s, 0, 0, alpha, 1, n);
  }
}

// int_binary_nd: dtype is DTYPE_I32 or DTYPE_I64.
void int_binary_nd(int32_t dtype, int32_t op, void *dst, void *a, void *b, int64_t alpha, void *desc) {
  int32_t size = dtype == DTYPE_I32 ? 4 : 8;
  struct ew e = {.block = dtype == DTYPE_I32 ? i32_block : i64_block, .op = op, .i = alpha, .inputs = 2};
  void *p[] = {dst, a, b};
  const int32_t sizes[] = {size, size, size};
  if (ew_describe(&e, desc, p, sizes)) {
    ew_run(&e);
  }
}

static void bool_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc, int32_t n) {
  typedef uint8_t T;
  (void)pc;
  T *d = dst;
  const T *a = pa, *b = pb;
  switch (e->op) {
    INT_CASE(BOOL_AND, (x != 0) & (y != 0))
    INT_CASE(BOOL_OR, (x | y) != 0)
    INT_CASE(BOOL_XOR, (x != 0) ^ (y != 0))
    INT_CASE(BOOL_EQ, (x != 0) == (y != 0))
    default:
      break;
  }
}

void bool_binary(int32_t op, void *dst, void *a, int32_t a_row, int32_t a_col, void *b, int32_t b_row, int32_t b_col,
                 int32_t rows, int32_t cols) {
  int_binary2(bool_block, 1, op, dst, a, a_row, a_col, b, b_row, b_col, 0, rows, cols);
}

// bool_scalar: a op s; not a is BOOL_EQ with 0.
void bool_scalar(int32_t op, void *dst, void *a, int32_t s, int32_t n) {
  uint8_t v = s != 0;
  int_binary2(bool_block, 1, op, dst, a, n, 1, &v, 0, 0, 0, 1, n);
}

static void i64_clamp_block(const struct ew *e, void *dst, const void *pa, const void *pb, const void *pc, int32_t n) {
  (void)pb;
  (void)pc;
  int64_t *d = dst;
  const int64_t *a = pa;
  for (int32_t i = 0; i < n; i++) {
    int64_t x = a[i] < e->i ? e->i : a[i];
    d[i] = x > e->j ? e->j : x;
  }
}

void i64_clamp(void *dst, void *a, int64_t lo, int64_t hi, int32_t n) {
  struct ew e = {.block = i64_clamp_block, .i = lo, .j = hi, .inputs = 1};
  ew_operand(&e, 0, dst, 8, n, 1);
  ew_operand(&e, 1, a, 8, n, 1);
  ew_run2(&e, 1, n);
}
