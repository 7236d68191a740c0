package engine

import (
	"slices"
	"strings"
)

// acceptedTypes finds by trial the element types that an operator's first tensor may have when a program is loaded: a call passes the
// operator's checks with some choice of the other tensors' types.
func acceptedTypes(op *Op) []DType {
	var l []DType
	for d := range dtypes {
		if op.accepts(d) {
			l = append(l, d)
		}
	}
	slices.Sort(l)
	return l
}

func (op *Op) accepts(d DType) bool {
	g := &Graph{}
	args := make([]int, len(op.schema.Args))
	var tensors []int // of the call, but for the first
	first := true
	tensor := func() int {
		v := g.AddValue(&Value{Kind: KindTensor, DType: d, Sizes: []int{2, 2}, DimOrder: []uint8{0, 1}})
		if !first {
			tensors = append(tensors, v)
		}
		first = false
		return v
	}
	for i, a := range op.schema.Args {
		switch {
		case a.kind == argTensor:
			args[i] = tensor()
		case a.kind == argTensorList:
			args[i] = g.AddValue(&Value{Kind: KindTensorList, List: []int{tensor()}})
		case a.kind == argFloat:
			args[i] = g.AddFloat(0.5)
		case a.kind == argBool:
			args[i] = g.AddBool(false)
		case a.kind == argString:
			args[i] = g.AddValue(&Value{Kind: KindString})
		case a.kind == argIntList:
			args[i] = g.AddInts(1, 1)
		case a.kind == argFloatList:
			args[i] = g.AddValue(&Value{Kind: KindFloatList, Floats: []float64{1, 1}})
		case a.kind == argBoolList:
			args[i] = g.AddValue(&Value{Kind: KindBoolList, Bools: []bool{true, true, true}})
		default:
			args[i] = g.AddInt(0)
		}
	}
	try := func() bool { return g.bind(&Node{Op: op.Name, Args: slices.Clone(args)}) == nil }
	if try() {
		return true
	}
	others := []DType{d, F32, I64, Bool, F64, U8, I8, C64, C128}
	if isComplex(d) {
		others = append(others, realOf(d))
	}
	var choose func(k int) bool
	choose = func(k int) bool {
		if k == len(tensors) || k > 4 {
			return try()
		}
		for _, t := range others {
			g.Values[tensors[len(tensors)-1-k]].DType = t
			if choose(k + 1) {
				return true
			}
		}
		g.Values[tensors[len(tensors)-1-k]].DType = d
		return false
	}
	return choose(0)
}

// typeNames lists element types in short, runs of them by a common name.
func typeNames(l []DType) string {
	has := func(set ...DType) bool {
		for _, d := range set {
			if !slices.Contains(l, d) {
				return false
			}
		}
		return true
	}
	floats, ints := []DType{F32, F16, BF16, F64}, []DType{I64, I32, I16, I8, U8, U16, U32, U64}
	var parts []string
	rest := slices.Clone(l)
	take := func(name string, set []DType) {
		if has(set...) {
			parts = append(parts, name)
			rest = slices.DeleteFunc(rest, func(d DType) bool { return slices.Contains(set, d) })
		}
	}
	take("float", floats)
	take("int", ints)
	take("complex", []DType{C32, C64, C128})
	for _, d := range rest {
		parts = append(parts, dtypeName(d))
	}
	return strings.Join(parts, ", ")
}

// TypeNames describes the accepted element types: "float" is f32, f16, bf16 and f64, "int" the eight integer types, "complex" the three
// complex ones.
func (o OpInfo) TypeNames() string { return typeNames(o.Types) }
