package engine

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"tabtune/engine/pte"
)

// builder makes small programs for tests, with a plan that never reuses memory.
type builder struct {
	plan pte.Plan
	off  uint64
	data []byte // of the constant segment
	offs []int64
}

func newBuilder() *builder {
	return &builder{plan: pte.Plan{Name: "forward", NonConstBufferSizes: []int64{0, 0}, Chains: []pte.Chain{{}}}, offs: []int64{0}}
}

func (b *builder) add(v pte.Value) int {
	b.plan.Values = append(b.plan.Values, v)
	return len(b.plan.Values) - 1
}

func (b *builder) tensor(d DType, sizes ...int) int { return b.dynamic(d, pte.Static, sizes...) }

func (b *builder) dynamic(d DType, dyn pte.Dynamism, sizes ...int) int {
	t := &pte.Tensor{ScalarType: d, Dynamism: dyn, Alloc: &pte.Alloc{MemoryID: 1, Offset: b.off}}
	for k, s := range sizes {
		t.Sizes, t.DimOrder = append(t.Sizes, int32(s)), append(t.DimOrder, uint8(k))
	}
	n := uint64(numel(sizes)*dtypeSize(d)+15) &^ 15
	b.off += max(n, 16)
	b.plan.NonConstBufferSizes[1] = int64(b.off)
	return b.add(t)
}

func (b *builder) input(d DType, sizes ...int) int {
	v := b.tensor(d, sizes...)
	b.plan.Inputs = append(b.plan.Inputs, v)
	return v
}

func (b *builder) constant(t Tensor) int {
	v := b.tensor(t.DType, t.Sizes...)
	p := b.plan.Values[v].(*pte.Tensor)
	p.Alloc, p.Buffer = nil, uint32(len(b.offs))
	b.offs = append(b.offs, int64(len(b.data)))
	b.data = append(b.data, t.Data...)
	b.data = append(b.data, make([]byte, -len(b.data)&15)...)
	return v
}

func (b *builder) output(v int) { b.plan.Outputs = append(b.plan.Outputs, v) }

func (b *builder) ints(x ...int64) int {
	var l pte.IntList
	for _, i := range x {
		l = append(l, b.add(pte.IntValue(i)))
	}
	return b.add(l)
}

// call appends a kernel call; name has the overload after the dot.
func (b *builder) call(name string, args ...int) {
	op := pte.Operator{Name: baseName(name)}
	if len(name) > len(op.Name) {
		op.Overload = name[len(op.Name)+1:]
	}
	b.plan.Operators = append(b.plan.Operators, op)
	c := &b.plan.Chains[0]
	c.Instructions = append(c.Instructions, pte.KernelCall{Op: len(b.plan.Operators) - 1, Args: args})
}

func (b *builder) program() *pte.Program {
	return &pte.Program{Plans: []*pte.Plan{&b.plan}, Source: bytes.NewReader(b.data), Segments: []pte.Segment{{Size: int64(len(b.data))}},
		ConstantSegment: &pte.Subsegments{Offsets: b.offs}}
}

func (b *builder) load(t testing.TB, opt Options) *Method {
	t.Helper()
	p, err := Load(device(t), b.program(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	m, err := p.Method("forward")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run sets the inputs, executes and returns the outputs.
func run(t testing.TB, m *Method, ins ...Tensor) []Tensor {
	t.Helper()
	for i, in := range ins {
		if err := m.SetInput(i, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Execute(context.Background()); err != nil {
		t.Fatal(err)
	}
	var outs []Tensor
	for i := range m.Outputs() {
		v, err := m.Output(i)
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, m.p.Read(v))
	}
	return outs
}

// random makes a tensor with small integers, or normal floats.
func random(r *rand.Rand, d DType, sizes ...int) Tensor {
	a := newArray(d, sizes)
	for k := range a.len() {
		if a.f != nil {
			a.set(k, r.NormFloat64()*2)
		} else {
			a.setInt(k, int64(r.IntN(41)-20))
		}
	}
	return Tensor{d, sizes, a.encode()}
}
