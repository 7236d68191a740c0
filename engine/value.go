package engine

import (
	"fmt"

	"tabtune/engine/pte"
)

// Kind is the type of a value in a graph.
type Kind uint8

// The kinds of values.
const (
	KindNone Kind = iota
	KindTensor
	KindInt
	KindFloat
	KindBool
	KindString
	KindIntList    // List: values of kind KindInt
	KindFloatList  // Floats
	KindBoolList   // Bools
	KindTensorList // List: values of kind KindTensor, -1 for None
)

var kindNames = [...]string{"None", "tensor", "int", "float", "bool", "string", "int list", "float list", "bool list", "tensor list"}

func (k Kind) String() string { return kindNames[k] }

// Role says where a tensor's bytes live.
type Role uint8

// The roles of tensors.
const (
	RoleTemp  Role = iota // planned memory, computed by a node
	RoleInput             // set by the caller
	RoleConst             // loaded once, never written
	RoleState             // a mutable buffer: keeps its value from call to call
)

// Value is one value of a Graph. A pass may change the fields of values it made; of others only Alias.
type Value struct {
	Kind   Kind
	Int    int64
	Float  float64
	Bool   bool
	Str    string
	List   []int
	Floats []float64
	Bools  []bool

	// Tensors. Sizes are upper bounds where Dynamic is not pte.Static.
	DType    DType
	Sizes    []int
	DimOrder []uint8
	Dynamic  pte.Dynamism
	Role     Role
	Name     string // fully qualified name, may be empty
	Data     *Data  // the bytes of a constant, or the initial ones of a mutable buffer; else nil
	Alias    int    // index of the tensor whose storage this one uses, -1: its own

	file     *pte.Alloc // where the file's plan puts it
	computed bool       // a number written by a node: the fields above hold a placeholder
}

// Bytes returns the most bytes the tensor takes.
func (v *Value) Bytes() int64 { return numel64(v.Sizes) * int64(dtypeSize(v.DType)) }

// IsStatic reports whether the tensor's sizes are always Sizes.
func (v *Value) IsStatic() bool { return v.Dynamic == pte.Static }

// NumElements returns the (most) elements of the tensor.
func (v *Value) NumElements() int64 { return numel64(v.Sizes) }

func (v *Value) String() string {
	switch v.Kind {
	case KindTensor:
		s := dtypeName(v.DType) + fmt.Sprint(v.Sizes)
		if v.Dynamic != pte.Static {
			s += "?"
		}
		return s
	case KindInt:
		return fmt.Sprint(v.Int)
	case KindFloat:
		return fmt.Sprint(v.Float)
	case KindBool:
		return fmt.Sprint(v.Bool)
	case KindString:
		return fmt.Sprintf("%q", v.Str)
	case KindIntList, KindTensorList:
		return fmt.Sprintf("%s %v", v.Kind, v.List)
	default:
		return v.Kind.String()
	}
}

// numel64 multiplies sizes; it saturates instead of overflowing.
func numel64(sizes []int) int64 {
	n := int64(1)
	for _, s := range sizes {
		if s == 0 {
			return 0
		}
		if n > maxElements/int64(s) {
			return maxElements
		}
		n *= int64(s)
	}
	return n
}

// maxElements is more than any device can hold.
const maxElements = 1 << 40
