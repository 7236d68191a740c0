// Package code has the operation codes of the kernels that serve a family of operators, as c/ops.h
// has them for C; a test compares the two.
package code

// Operations of Device.F32Binary, F32BinaryNd and F32Scalar.
const (
	F32Add  int32 = 0 // a + alpha * b
	F32Sub  int32 = 1 // a - alpha * b
	F32Mul  int32 = 2 // a * b
	F32Div  int32 = 3 // a / b
	F32Max  int32 = 4 // NaN if either is
	F32Min  int32 = 5 // NaN if either is
	F32Pow  int32 = 6 // C's powf
	F32Rsub int32 = 7 // b - alpha * a
)

// Operations of Device.F32Unary.
const (
	F32Neg        int32 = 0
	F32Abs        int32 = 1
	F32Exp        int32 = 2
	F32Log        int32 = 3
	F32Sqrt       int32 = 4
	F32Rsqrt      int32 = 5
	F32Sin        int32 = 6
	F32Cos        int32 = 7
	F32Tanh       int32 = 8
	F32Sigmoid    int32 = 9
	F32Silu       int32 = 10
	F32Relu       int32 = 11
	F32Gelu       int32 = 12 // x/2 (1 + erf(x / sqrt 2))
	F32GeluTanh   int32 = 13 // the tanh approximation
	F32Reciprocal int32 = 14
	F32Floor      int32 = 15
	F32Ceil       int32 = 16
	F32Round      int32 = 17 // ties to even
	F32Trunc      int32 = 18
	F32Square     int32 = 19
	F32Erf        int32 = 20
	F32Sign       int32 = 21 // -1, 0 or 1; 0 for NaN
)

// Operations of Device.I32Binary, I64Binary, IntBinaryNd, I32Scalar and I64Scalar.
//
// Integers wrap. Division by zero gives 0, remainder by zero gives 0, the smallest number divided by -1 gives itself: a kernel
// must not trap; whoever wants an error looks for zeros first.
const (
	IntAdd      int32 = 0 // a + alpha * b
	IntSub      int32 = 1 // a - alpha * b
	IntMul      int32 = 2 // a * b
	IntFloorDiv int32 = 3 // rounded down
	IntTruncDiv int32 = 4 // rounded towards zero
	IntFloorMod int32 = 5 // has the sign of b
	IntTruncMod int32 = 6 // has the sign of a
	IntAnd      int32 = 7
	IntOr       int32 = 8
	IntXor      int32 = 9
	IntShl      int32 = 10 // 0 for a shift outside [0, bits)
	IntShr      int32 = 11 // arithmetic; a's sign for a shift outside [0, bits)
	IntMax      int32 = 12
	IntMin      int32 = 13
)

// Operations of the comparisons.
const (
	CmpEq int32 = 0
	CmpNe int32 = 1
	CmpLt int32 = 2
	CmpLe int32 = 3
	CmpGt int32 = 4
	CmpGe int32 = 5
)

// Operations of Device.BoolBinary and BoolScalar.
//
// On bool tensors: a byte is true when it is not 0, results are 0 or 1.
const (
	BoolAnd int32 = 0
	BoolOr  int32 = 1
	BoolXor int32 = 2
	BoolEq  int32 = 3
)

// Operations of Device.F32Reduce; the last two also of F32ArgReduce.
const (
	ReduceSum  int32 = 0
	ReduceMean int32 = 1
	ReduceMax  int32 = 2 // NaN if any is
	ReduceMin  int32 = 3 // NaN if any is
)

// Operations of Device.F32Softmax.
const (
	Softmax    int32 = 0
	LogSoftmax int32 = 1
)

// Element types.
const (
	DtypeF32  int32 = 0
	DtypeF16  int32 = 1
	DtypeBf16 int32 = 2
	DtypeF64  int32 = 3
	DtypeI8   int32 = 4
	DtypeU8   int32 = 5
	DtypeI16  int32 = 6
	DtypeI32  int32 = 7
	DtypeI64  int32 = 8
	DtypeBool int32 = 9
)

// Pairings of Device.F32Rotary.
const (
	RotaryHalf        int32 = 0 // pairs (i, i + headDim/2), as Hugging Face lays heads out
	RotaryInterleaved int32 = 1 // pairs (2i, 2i + 1)
)

// Distributions of the seeded noise.
const (
	ZoNormal     int32 = 0
	ZoRademacher int32 = 1
)

// How a model file stores weights, as GGUF names it; from Q8_0 on in blocks of 32, the K types of 256.
const (
	StoredF32  int32 = 0
	StoredF16  int32 = 1
	StoredBf16 int32 = 2
	StoredQ80  int32 = 3
	StoredQ40  int32 = 4
	StoredQ41  int32 = 5
	StoredQ50  int32 = 6
	StoredQ51  int32 = 7
	StoredQ4K  int32 = 8
	StoredQ5K  int32 = 9
	StoredQ6K  int32 = 10
)
