package ref

import (
	"cmp"
	"math"

	"tabtune/engine/kernel/code"
)

// Strides are an operand's distances between rows and between columns, in elements; 0 repeats.
type Strides struct{ Row, Col int }

// Pick reads an operand as a contiguous [rows, cols].
func Pick[T any](x []T, s Strides, rows, cols int) []T {
	out := make([]T, 0, rows*cols)
	for r := range rows {
		for c := range cols {
			out = append(out, x[r*s.Row+c*s.Col])
		}
	}
	return out
}

// PickND reads an operand of any strides from element `at` on.
func PickND[T any](x []T, at int, dims, strides []int) []T {
	if len(dims) == 0 {
		return []T{x[at]}
	}
	var out []T
	for i := range dims[0] {
		out = append(out, PickND(x, at+i*strides[0], dims[1:], strides[1:])...)
	}
	return out
}

// F32Binary is one element of the kernel f32_binary.
func F32Binary(op int32, a, b, alpha float32) float32 {
	switch op {
	case code.F32Add:
		return a + float32(alpha*b)
	case code.F32Sub:
		return a - float32(alpha*b)
	case code.F32Rsub:
		return b - float32(alpha*a)
	case code.F32Mul:
		return a * b
	case code.F32Div:
		return a / b
	case code.F32Max:
		return max(a, b)
	case code.F32Min:
		return min(a, b)
	case code.F32Pow:
		return Pow(a, b)
	}
	panic("ref: unknown operation")
}

// Compare is one element of the comparison kernels: 0 or 1. Every comparison but "not equal" is false for a NaN.
func Compare[T cmp.Ordered](op int32, a, b T) uint8 {
	var r bool
	switch op {
	case code.CmpEq:
		r = a == b
	case code.CmpNe:
		r = a != b
	case code.CmpLt:
		r = a < b
	case code.CmpLe:
		r = a <= b
	case code.CmpGt:
		r = a > b
	case code.CmpGe:
		r = a >= b
	default:
		panic("ref: unknown operation")
	}
	if r {
		return 1
	}
	return 0
}

// IntBinary is one element of the kernels i32_binary and i64_binary.
func IntBinary[T int32 | int64](op int32, a, b, alpha T) T {
	bits, most := T(32), T(math.MaxInt32)
	if most+1 > 0 {
		bits = 64
	}
	switch op {
	case code.IntAdd:
		return a + alpha*b
	case code.IntSub:
		return a - alpha*b
	case code.IntMul:
		return a * b
	case code.IntFloorDiv:
		if b == 0 {
			return 0
		}
		q := a / b
		if a%b != 0 && (a < 0) != (b < 0) {
			q--
		}
		return q
	case code.IntTruncDiv:
		if b == 0 {
			return 0
		}
		return a / b
	case code.IntFloorMod:
		if b == 0 {
			return 0
		}
		r := a % b
		if r != 0 && (r < 0) != (b < 0) {
			r += b
		}
		return r
	case code.IntTruncMod:
		if b == 0 {
			return 0
		}
		return a % b
	case code.IntAnd:
		return a & b
	case code.IntOr:
		return a | b
	case code.IntXor:
		return a ^ b
	case code.IntShl:
		if b < 0 || b >= bits {
			return 0
		}
		return a << b
	case code.IntShr:
		if b < 0 || b >= bits {
			return a >> (bits - 1)
		}
		return a >> b
	case code.IntMax:
		return max(a, b)
	case code.IntMin:
		return min(a, b)
	}
	panic("ref: unknown operation")
}

// BoolBinary is one element of the kernel bool_binary.
func BoolBinary(op int32, a, b uint8) uint8 {
	x, y := a != 0, b != 0
	var r bool
	switch op {
	case code.BoolAnd:
		r = x && y
	case code.BoolOr:
		r = x || y
	case code.BoolXor:
		r = x != y
	case code.BoolEq:
		r = x == y
	default:
		panic("ref: unknown operation")
	}
	if r {
		return 1
	}
	return 0
}
