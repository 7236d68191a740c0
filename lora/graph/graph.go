// Package graph is a small builder of ExecuTorch methods: nodes are core ATen
// operators in their out variants, tensors have sizes that may be symbolic with
// an upper bound, and Emit turns a Graph into a pte.Plan with a memory plan.
//
// Every tensor has one definition. The only in-place operator is CopyInto
// (aten::copy_), which writes a mutable buffer; nodes run in the order in which
// they were added. Builder methods panic on a shape that cannot be right, as
// that is a mistake in the program that calls them, never in its input.
package graph

import (
	"fmt"

	"tabtune/engine/pte"
)

// Kind says where a tensor's bytes come from.
type Kind uint8

// The kinds of tensors.
const (
	Temp     Kind = iota // produced by a node
	Input                // an argument of the method
	Constant             // bytes in the program's constant segment
	External             // bytes in a .ptd, found by name
	Buffer               // mutable, keeps its value from call to call
)

// Tensor is a value of the graph.
type Tensor struct {
	DType pte.ScalarType
	Shape []Dim
	Kind  Kind
	Name  string // fully qualified name of External and Buffer tensors
	Data  []byte // little-endian bytes of a Constant; initial value of a Buffer
	zeros int    // bytes of a Buffer that begins as zeros
	id    int
}

// Scalar is an integer computed by the program, such as a size.
type Scalar struct {
	id int
}

// Node is one call of an operator.
type Node struct {
	Op   pte.Operator
	Args []any // *Tensor, *Scalar, int64, float64, bool, string, nil, []any (ints and *Scalar), []*Tensor, optional
	Outs []any // *Tensor or *Scalar
	// Repeat says that the out tensors follow once more as return values, as
	// ExecuTorch's emitter writes them for every operator but executorch_prim.
	Repeat bool
}

// Graph is one method under construction.
type Graph struct {
	Name    string
	Bounds  map[string]int // upper bound of every symbol
	Nodes   []Node
	Inputs  []*Tensor
	Outputs []*Tensor
	nextID  int
	sizes   map[string]*Scalar // cached symbolic sizes
}

// New starts a method whose symbols have the given upper bounds.
func New(name string, bounds map[string]int) *Graph {
	return &Graph{Name: name, Bounds: bounds, sizes: map[string]*Scalar{}}
}

// Max returns the upper bound of d.
func (g *Graph) Max(d Dim) int {
	v := d.Num
	for _, s := range d.symbols() {
		b, ok := g.Bounds[s]
		if !ok {
			panic(fmt.Sprintf("graph %s: symbol %q has no bound", g.Name, s))
		}
		v *= int64(b)
	}
	return int((v + d.Den - 1) / d.Den)
}

func (g *Graph) tensor(k Kind, dt pte.ScalarType, shape []Dim) *Tensor {
	g.nextID++
	return &Tensor{DType: dt, Shape: shape, Kind: k, id: g.nextID}
}

// Input declares the next argument of the method.
func (g *Graph) Input(dt pte.ScalarType, shape ...Dim) *Tensor {
	t := g.tensor(Input, dt, shape)
	g.Inputs = append(g.Inputs, t)
	return t
}

// Const adds a constant whose bytes are stored in the program.
func (g *Graph) Const(dt pte.ScalarType, data []byte, sizes ...int) *Tensor {
	t := g.tensor(Constant, dt, dims(sizes))
	if want := numel(sizes) * ElemSize(dt); len(data) != want {
		panic(fmt.Sprintf("graph %s: constant of %d bytes for %v, want %d", g.Name, len(data), sizes, want))
	}
	t.Data = data
	return t
}

// External adds a constant whose bytes are found by name in a .ptd.
func (g *Graph) External(name string, dt pte.ScalarType, sizes ...int) *Tensor {
	t := g.tensor(External, dt, dims(sizes))
	t.Name = name
	return t
}

// Buffer adds a mutable tensor, initialised with data (zeros if nil).
func (g *Graph) Buffer(name string, dt pte.ScalarType, data []byte, sizes ...int) *Tensor {
	t := g.tensor(Buffer, dt, dims(sizes))
	t.Name, t.Data = name, data
	if data == nil {
		t.zeros = numel(sizes) * ElemSize(dt)
	}
	return t
}

// State adds a mutable tensor without an initial value in the program: whoever runs it finds zeros where the runtime
// clears its memory, as this engine does, and anything elsewhere.
func (g *Graph) State(name string, dt pte.ScalarType, sizes ...int) *Tensor {
	t := g.tensor(Buffer, dt, dims(sizes))
	t.Name = name
	return t
}

// Output appends results of the method.
func (g *Graph) Output(ts ...*Tensor) { g.Outputs = append(g.Outputs, ts...) }

// Op appends a call of an out-variant operator and returns its output.
func (g *Graph) Op(name, overload string, dt pte.ScalarType, shape []Dim, args ...any) *Tensor {
	out := g.tensor(Temp, dt, shape)
	g.Nodes = append(g.Nodes, Node{Op: pte.Operator{Name: name, Overload: overload}, Args: args, Outs: []any{out}, Repeat: true})
	return out
}

// CopyInto writes src into the mutable buffer dst (aten::copy_).
func (g *Graph) CopyInto(dst, src *Tensor) {
	if dst.Kind != Buffer {
		panic("graph: CopyInto needs a buffer")
	}
	g.Nodes = append(g.Nodes, Node{Op: pte.Operator{Name: "aten::copy_"}, Args: []any{dst, src, false}, Outs: []any{dst}})
}

// PutRows writes the rows of src into those of the mutable buffer dst that index i64[m] names (aten::index_put_).
func (g *Graph) PutRows(dst, index, src *Tensor) {
	if dst.Kind != Buffer {
		panic("graph: PutRows needs a buffer")
	}
	g.Nodes = append(g.Nodes, Node{Op: pte.Operator{Name: "aten::index_put_"}, Args: []any{dst, optional{index}, src, false}, Outs: []any{dst}})
}

// optional is a list of tensors where the operator's schema has Tensor?[].
type optional []*Tensor

func (g *Graph) scalarOp(op pte.Operator, args ...any) *Scalar {
	g.nextID++
	s := &Scalar{id: g.nextID}
	g.Nodes = append(g.Nodes, Node{Op: op, Args: args, Outs: []any{s}})
	return s
}

// Size returns the run-time value of dimension dim of t: an int64 if static,
// else a *Scalar read with aten::sym_size.int (once for each symbol product).
func (g *Graph) Size(t *Tensor, dim int) any {
	d := t.Shape[dim]
	if d.Static() {
		return d.Num / d.Den
	}
	if s, ok := g.sizes[d.String()]; ok {
		return s
	}
	s := g.scalarOp(pte.Operator{Name: "aten::sym_size", Overload: "int"}, t, int64(dim))
	g.sizes[d.String()] = s
	return s
}

// intOf returns a run-time integer equal to d, computed from sizes that were
// read before with Size.
func (g *Graph) intOf(d Dim) any {
	if d.Static() {
		return d.Num / d.Den
	}
	if s, ok := g.sizes[d.String()]; ok {
		return s
	}
	var v any = d.Num
	first := true
	for _, sym := range d.symbols() {
		s, ok := g.sizes[sym]
		if !ok {
			panic(fmt.Sprintf("graph %s: the size %s is not known here", g.Name, d))
		}
		if first && d.Num == 1 {
			v = s
		} else {
			v = g.scalarOp(pte.Operator{Name: "executorch_prim::mul", Overload: "Scalar"}, v, s)
		}
		first = false
	}
	if d.Den != 1 {
		v = g.scalarOp(pte.Operator{Name: "executorch_prim::floordiv", Overload: "Scalar"}, v, d.Den)
	}
	g.sizes[d.String()] = v.(*Scalar)
	return v
}

func dims(sizes []int) []Dim {
	out := make([]Dim, len(sizes))
	for i, s := range sizes {
		out[i] = D(s)
	}
	return out
}

func numel(sizes []int) int {
	n := 1
	for _, s := range sizes {
		n *= s
	}
	return n
}

// ElemSize returns the bytes of one element.
func ElemSize(dt pte.ScalarType) int {
	switch dt {
	case pte.Byte, pte.Char, pte.Bool:
		return 1
	case pte.Short, pte.Half, pte.BFloat16, pte.UInt16:
		return 2
	case pte.Int, pte.Float, pte.UInt32:
		return 4
	default:
		return 8
	}
}
