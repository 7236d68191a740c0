package pte

import (
	"fmt"
	"math"
)

var scalarTypes = map[ScalarType]struct {
	name string
	size int64
}{
	Byte: {"uint8", 1}, Char: {"int8", 1}, Short: {"int16", 2}, Int: {"int32", 4}, Long: {"int64", 8},
	Half: {"float16", 2}, Float: {"float32", 4}, Double: {"float64", 8}, Bool: {"bool", 1},
	BFloat16: {"bfloat16", 2}, UInt16: {"uint16", 2}, UInt32: {"uint32", 4}, UInt64: {"uint64", 8},
	ComplexHalf: {"complex32", 4}, ComplexFloat: {"complex64", 8}, ComplexDouble: {"complex128", 16},
}

// String returns the type's name as PyTorch and NumPy write it, e.g. "float32".
func (s ScalarType) String() string {
	if t, ok := scalarTypes[s]; ok {
		return t.name
	}
	return fmt.Sprintf("ScalarType(%d)", int8(s))
}

// Size returns the bytes of one element, or 0 for a type this package does not know.
func (s ScalarType) Size() int64 { return scalarTypes[s].size }

// MaxDims is the largest number of dimensions of a tensor, as in the stock
// runtime (kTensorDimensionLimit).
const MaxDims = 16

// NumBytes returns the bytes of a dense tensor. It fails if the type is
// unknown, there are more than MaxDims sizes, one is negative, or the product
// does not fit in an int64 (counting a size of 0 as 1, so that strides fit too).
func NumBytes(s ScalarType, sizes []int32) (int64, error) {
	elem := s.Size()
	if elem == 0 {
		return 0, fmt.Errorf("scalar type %d is not known", int8(s))
	}
	if len(sizes) > MaxDims {
		return 0, fmt.Errorf("%d dimensions, at most %d are allowed", len(sizes), MaxDims)
	}
	total, zero := elem, false
	for i, n := range sizes {
		if n < 0 {
			return 0, fmt.Errorf("size %d of dimension %d is negative", n, i)
		}
		if n == 0 {
			zero = true
			continue
		}
		if total > math.MaxInt64/int64(n) {
			return 0, fmt.Errorf("sizes %v overflow", sizes)
		}
		total *= int64(n)
	}
	if zero {
		return 0, nil
	}
	return total, nil
}

// checkDimOrder checks that order is a permutation of 0..n-1.
func checkDimOrder(order []uint8, n int) error {
	if len(order) != n {
		return fmt.Errorf("%d entries for %d dimensions", len(order), n)
	}
	var seen [MaxDims]bool
	for _, d := range order {
		if int(d) >= n || int(d) >= MaxDims || seen[d] {
			return fmt.Errorf("%v is not a permutation", order)
		}
		seen[d] = true
	}
	return nil
}

// NumBytes returns the bytes of the tensor, of its upper bound if it is dynamic.
func (t *Tensor) NumBytes() (int64, error) { return NumBytes(t.ScalarType, t.Sizes) }

// IsConstant says whether the tensor's data is part of the program file and never written.
func (t *Tensor) IsConstant() bool { return !t.External && t.Buffer > 0 && t.Alloc == nil }

// HasInit says whether the tensor is a mutable buffer with an initial value in the program file.
func (t *Tensor) HasInit() bool { return !t.External && t.Buffer > 0 && t.Alloc != nil }
