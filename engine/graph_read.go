package engine

import (
	"fmt"
	"strings"
)

// ConstInt returns the value of a number that does not change at run time.
func (g *Graph) ConstInt(v int) (int64, bool) {
	if v < 0 {
		return 0, false
	}
	switch x := g.Values[v]; {
	case x.computed || g.IsInput(v):
		return 0, false
	case x.Kind == KindInt:
		return x.Int, true
	case x.Kind == KindBool:
		if x.Bool {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// ConstFloat is ConstInt for any number.
func (g *Graph) ConstFloat(v int) (float64, bool) {
	if i, ok := g.ConstInt(v); ok {
		return float64(i), true
	}
	if v >= 0 && g.Values[v].Kind == KindFloat && !g.Values[v].computed && !g.IsInput(v) {
		return g.Values[v].Float, true
	}
	return 0, false
}

// ConstInts returns the values of a list of numbers that do not change at run time.
func (g *Graph) ConstInts(v int) ([]int64, bool) {
	if v < 0 || g.Values[v].Kind != KindIntList {
		return nil, false
	}
	out := make([]int64, len(g.Values[v].List))
	for i, e := range g.Values[v].List {
		x, ok := g.ConstInt(e)
		if !ok {
			return nil, false
		}
		out[i] = x
	}
	return out, true
}

// ConstData returns the bytes of a constant tensor of at most limit bytes, read from the file; ok is false for anything else.
func (g *Graph) ConstData(v int, limit int64) (data []byte, ok bool) {
	if v < 0 {
		return nil, false
	}
	x := g.Values[v]
	if x.Kind != KindTensor || x.Role != RoleConst || x.Data == nil || x.Data.src == nil || x.Bytes() > limit {
		return nil, false
	}
	b := make([]byte, x.Bytes())
	if _, err := readAtFull(x.Data.src, b, x.Data.off); err != nil {
		return nil, false
	}
	return b, true
}

// ConstScalar returns the only element of a one-element constant tensor.
func (g *Graph) ConstScalar(v int) (float64, bool) {
	if v < 0 || g.Values[v].Kind != KindTensor || g.Values[v].NumElements() != 1 {
		return 0, false
	}
	b, ok := g.ConstData(v, 8)
	if !ok {
		return 0, false
	}
	a := decodeArray(g.Values[v].DType, nil, b)
	return a.at(0), true
}

// String lists the graph, one node a line, for tests and inspection.
func (g *Graph) String() string {
	var b strings.Builder
	name := func(v int) string {
		if v < 0 {
			return "None"
		}
		if x := g.Values[v]; x.Kind != KindTensor {
			return x.String()
		}
		return fmt.Sprintf("%%%d:%s", v, g.Values[v])
	}
	fmt.Fprintf(&b, "%s(", g.Name)
	for i, v := range g.Inputs {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name(v))
	}
	b.WriteString(")\n")
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "  %s(", n.Op)
		for i, a := range n.Args {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(name(a))
		}
		b.WriteString(")")
		if n.InAl {
			b.WriteString(" alias")
		}
		b.WriteString("\n")
	}
	b.WriteString("  return")
	for _, v := range g.Outputs {
		b.WriteString(" " + name(v))
	}
	b.WriteString("\n")
	return b.String()
}
