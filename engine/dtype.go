package engine

import (
	"fmt"

	"tabtune/engine/pte"
)

// DType is a tensor's element type, with the schema's numbers.
type DType = pte.ScalarType

// The element types by the short names used in messages and in kernels' names.
const (
	U8   = pte.Byte
	I8   = pte.Char
	I16  = pte.Short
	I32  = pte.Int
	I64  = pte.Long
	F16  = pte.Half
	F32  = pte.Float
	F64  = pte.Double
	Bool = pte.Bool
	BF16 = pte.BFloat16
	U16  = pte.UInt16
	U32  = pte.UInt32
	U64  = pte.UInt64
	C32  = pte.ComplexHalf
	C64  = pte.ComplexFloat
	C128 = pte.ComplexDouble
)

// dtypeInfo describes one element type. rank orders types of one category for promotion.
type dtypeInfo struct {
	name string
	size int
	cat  category
	rank int
}

// category is the promotion category of PyTorch: bool < integer < floating < complex.
type category uint8

const (
	catNone category = iota
	catBool
	catInt
	catFloat
	catComplex
)

var dtypes = map[DType]dtypeInfo{
	Bool: {"bool", 1, catBool, 0},
	U8:   {"u8", 1, catInt, 1},
	I8:   {"i8", 1, catInt, 1},
	I16:  {"i16", 2, catInt, 2},
	I32:  {"i32", 4, catInt, 3},
	I64:  {"i64", 8, catInt, 4},
	U16:  {"u16", 2, catInt, 2},
	U32:  {"u32", 4, catInt, 3},
	U64:  {"u64", 8, catInt, 4},
	F16:  {"f16", 2, catFloat, 1},
	BF16: {"bf16", 2, catFloat, 1},
	F32:  {"f32", 4, catFloat, 2},
	F64:  {"f64", 8, catFloat, 3},
	C32:  {"c32", 4, catComplex, 1},
	C64:  {"c64", 8, catComplex, 2},
	C128: {"c128", 16, catComplex, 3},
}

// dtypeSize returns the bytes of one element, or 0 for an unknown type.
func dtypeSize(d DType) int { return dtypes[d].size }

// DTypeSize returns the bytes of one element, or 0 for a type the engine does not know.
func DTypeSize(d DType) int { return dtypeSize(d) }

// dtypeName returns "f32", or "dtype 22" for an unknown one.
func dtypeName(d DType) string {
	if i, ok := dtypes[d]; ok {
		return i.name
	}
	return fmt.Sprintf("dtype %d", d)
}

// DTypeName returns the short name of an element type: "f32", "i64", "bool".
func DTypeName(d DType) string { return dtypeName(d) }

func isFloat(d DType) bool { return dtypes[d].cat == catFloat }

func isComplex(d DType) bool { return dtypes[d].cat == catComplex }

// realOf returns the type of a complex type's parts.
func realOf(d DType) DType {
	switch d {
	case C32:
		return F16
	case C128:
		return F64
	}
	return F32
}

// promote returns the common type of two tensors of equal standing, by PyTorch's rules: the higher category wins; inside
// one, the wider; u8 with i8 makes i16, f16 with bf16 makes f32.
func promote(a, b DType) DType {
	if a == b {
		return a
	}
	x, y := dtypes[a], dtypes[b]
	if x.cat != y.cat {
		switch {
		case a == F64 && y.cat == catComplex, b == F64 && x.cat == catComplex:
			return C128
		case a == F32 && b == C32, a == C32 && b == F32:
			return C64
		}
		if x.cat > y.cat {
			return a
		}
		return b
	}
	if x.rank == y.rank {
		switch {
		case x.cat == catFloat:
			return F32
		case x.size == 1:
			return I16
		case x.size == 2:
			return I32
		default:
			return I64
		}
	}
	if x.rank > y.rank {
		return a
	}
	return b
}

// operand is what promotion knows of one argument: a dimensioned tensor counts before a 0-d tensor, and that before a
// number, unless the latter has the higher category.
type operand struct {
	dtype DType
	prio  int // 2 dimensioned tensor, 1 zero-dimensional tensor, 0 number
}

// promoteOperands is torch.result_type over any number of operands.
func promoteOperands(ops ...operand) DType {
	var byPrio [3]DType
	var have [3]bool
	for _, o := range ops {
		if have[o.prio] {
			byPrio[o.prio] = promote(byPrio[o.prio], o.dtype)
		} else {
			byPrio[o.prio], have[o.prio] = o.dtype, true
		}
	}
	var res DType
	found := false
	for p := 2; p >= 0; p-- {
		if !have[p] {
			continue
		}
		d := byPrio[p]
		if !found {
			res, found = d, true
			if p == 0 && d == F64 {
				res = F32 // a bare Python float has the default dtype
			}
			continue
		}
		if dtypes[d].cat > dtypes[res].cat {
			if p == 0 && dtypes[d].cat == catFloat {
				d = F32
			}
			res = d
		}
	}
	return res
}
