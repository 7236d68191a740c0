// Operation codes of the kernels that serve a family of operators. ../code/code.go holds the same lists for
// Go, and that package's test compares the two.
#pragma once

enum f32_binary_op {
  F32_ADD,   // a + alpha * b
  F32_SUB,   // a - alpha * b
  F32_MUL,   // a * b
  F32_DIV,   // a / b
  F32_MAX,   // NaN if either is
  F32_MIN,   // NaN if either is
  F32_POW,   // C's powf
  F32_RSUB,  // b - alpha * a
};

enum f32_unary_op {
  F32_NEG,
  F32_ABS,
  F32_EXP,
  F32_LOG,
  F32_SQRT,
  F32_RSQRT,
  F32_SIN,
  F32_COS,
  F32_TANH,
  F32_SIGMOID,
  F32_SILU,
  F32_RELU,
  F32_GELU,       // x/2 (1 + erf(x / sqrt 2))
  F32_GELU_TANH,  // the tanh approximation
  F32_RECIPROCAL,
  F32_FLOOR,
  F32_CEIL,
  F32_ROUND,  // ties to even
  F32_TRUNC,
  F32_SQUARE,
  F32_ERF,
  F32_SIGN,  // -1, 0 or 1; 0 for NaN
};

// Integers wrap. Division by zero gives 0, remainder by zero gives 0, the smallest number divided by -1 gives
// itself: a kernel must not trap; whoever wants an error looks for zeros first.
enum int_binary_op {
  INT_ADD,        // a + alpha * b
  INT_SUB,        // a - alpha * b
  INT_MUL,        // a * b
  INT_FLOOR_DIV,  // rounded down
  INT_TRUNC_DIV,  // rounded towards zero
  INT_FLOOR_MOD,  // has the sign of b
  INT_TRUNC_MOD,  // has the sign of a
  INT_AND,
  INT_OR,
  INT_XOR,
  INT_SHL,  // 0 for a shift outside [0, bits)
  INT_SHR,  // arithmetic; a's sign for a shift outside [0, bits)
  INT_MAX,
  INT_MIN,
};

enum compare_op {
  CMP_EQ,
  CMP_NE,
  CMP_LT,
  CMP_LE,
  CMP_GT,
  CMP_GE,
};

// On bool tensors: a byte is true when it is not 0, results are 0 or 1.
enum bool_op {
  BOOL_AND,
  BOOL_OR,
  BOOL_XOR,
  BOOL_EQ,
};

enum reduce_op {
  REDUCE_SUM,
  REDUCE_MEAN,
  REDUCE_MAX,  // NaN if any is
  REDUCE_MIN,  // NaN if any is
};

enum softmax_op {
  SOFTMAX,
  LOG_SOFTMAX,
};

enum dtype {
  DTYPE_F32,
  DTYPE_F16,
  DTYPE_BF16,
  DTYPE_F64,
  DTYPE_I8,
  DTYPE_U8,
  DTYPE_I16,
  DTYPE_I32,
  DTYPE_I64,
  DTYPE_BOOL,
};

enum rotary_op {
  ROTARY_HALF,         // pairs (i, i + headDim/2), as Hugging Face lays heads out
  ROTARY_INTERLEAVED,  // pairs (2i, 2i + 1)
};

enum distribution {
  ZO_NORMAL,
  ZO_RADEMACHER,
};

// How a model file stores weights, as GGUF names it; the types with _0 and _1 in blocks of 32, with _K of 256.
enum stored_type {
  STORED_F32,
  STORED_F16,
  STORED_BF16,
  STORED_Q8_0,
  STORED_Q4_0,
  STORED_Q4_1,
  STORED_Q5_0,
  STORED_Q5_1,
  STORED_Q4_K,
  STORED_Q5_K,
  STORED_Q6_K,
};
