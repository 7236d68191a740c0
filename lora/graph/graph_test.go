package graph

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tabtune/engine/pte"
)

// TestPlanDoesNotOverlap plans random graphs and checks every pair of tensors that
// are alive at the same time, from a count of uses made here.
func TestPlanDoesNotOverlap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		g := New("m", map[string]int{"n": 1 + rng.IntN(9), "T": 1 + rng.IntN(70)})
		shapes := [][]Dim{{D(1)}, {D(3), D(5)}, {Sym("n"), Sym("T")}, {Sym("n").Times(Sym("T")), D(7)}, {Sym("T")}}
		live := []*Tensor{g.Input(pte.Float, shapes[2]...), g.Input(pte.Long, shapes[0]...)}
		for range 3 + rng.IntN(60) {
			a, b := live[rng.IntN(len(live))], live[rng.IntN(len(live))]
			dt := []pte.ScalarType{pte.Float, pte.Long, pte.Char}[rng.IntN(3)]
			live = append(live, g.Op("test::op", "out", dt, shapes[rng.IntN(len(shapes))], a, []*Tensor{b}))
		}
		g.Output(live[len(live)-1], live[rng.IntN(len(live))])
		offsets, size := planMemory(g)

		first, last := map[int]int{}, map[int]int{}
		for _, x := range g.Inputs {
			first[x.id], last[x.id] = -1, -1
		}
		for i, n := range g.Nodes {
			out := n.Outs[0].(*Tensor)
			first[out.id], last[out.id] = i, i
			last[n.Args[0].(*Tensor).id], last[n.Args[1].([]*Tensor)[0].id] = i, i
		}
		for _, x := range g.Outputs {
			last[x.id] = len(g.Nodes)
		}
		bytes := func(x *Tensor) uint64 {
			n := ElemSize(x.DType)
			for _, d := range x.Shape {
				n *= g.Max(d)
			}
			return uint64(n)
		}
		var naive int64
		for i, a := range live {
			end := offsets[a.id] + bytes(a)
			naive += int64(bytes(a)+alignment-1) / alignment * alignment
			if offsets[a.id]%alignment != 0 || int64(end) > size {
				t.Fatalf("tensor at %d to %d of %d", offsets[a.id], end, size)
			}
			for _, b := range live[:i] {
				apart := last[a.id] < first[b.id] || last[b.id] < first[a.id]
				if !apart && offsets[a.id] < offsets[b.id]+bytes(b) && offsets[b.id] < end {
					t.Fatalf("tensors %d (alive %d to %d) and %d (%d to %d) overlap", a.id, first[a.id], last[a.id], b.id, first[b.id], last[b.id])
				}
			}
		}
		if size > naive {
			t.Errorf("arena of %d bytes, all tensors side by side take %d", size, naive)
		}
	}
}

// TestPlanReuses runs a chain, which needs two tensors at a time.
func TestPlanReuses(t *testing.T) {
	g := New("m", nil)
	x := g.Input(pte.Float, D(1024))
	for range 20 {
		x = g.Neg(x)
	}
	g.Output(x)
	if _, size := planMemory(g); size != 2*4096 {
		t.Errorf("a chain of 4096-byte tensors takes %d bytes, want 8192", size)
	}
}

// TestDims computes with symbolic sizes.
func TestDims(t *testing.T) {
	n, T := Sym("n"), Sym("T")
	for _, x := range []struct {
		d    Dim
		text string
		max  int
	}{
		{D(576), "576", 576},
		{n.Times(T), "T*n", 80},
		{T.Times(n), "T*n", 80},
		{n.Times(D(6)), "6*n", 48},
		{n.Times(D(6)).Over(4), "3*n/2", 12},
		{n.Over(8).Times(T), "T*n/8", 10},
		{D(12).Over(4), "3", 3},
		{T.Times(D(9)).Over(9), "T", 10},
		{T.Over(3), "T/3", 4}, // an upper bound: rounded up
	} {
		g := New("m", map[string]int{"n": 8, "T": 10})
		if x.d.String() != x.text || g.Max(x.d) != x.max {
			t.Errorf("%s with bound %d, want %s with %d", x.d, g.Max(x.d), x.text, x.max)
		}
	}
	if n.Times(T) != T.Times(n) || n.Times(D(4)).Over(2) != n.Times(D(2)) {
		t.Error("equal sizes differ")
	}
	if D(3).Static() != true || n.Static() {
		t.Error("Static")
	}
}

// TestMistakesPanic builds what cannot be right.
func TestMistakesPanic(t *testing.T) {
	for name, f := range map[string]func(g *Graph){
		"unknown symbol": func(g *Graph) { g.Max(Sym("batch")) },
		"broadcast":      func(g *Graph) { g.Add(g.Input(pte.Float, D(3)), g.Input(pte.Float, D(4))) },
		"symbols":        func(g *Graph) { g.Add(g.Input(pte.Float, Sym("n")), g.Input(pte.Float, Sym("T"))) },
		"constant":       func(g *Graph) { g.Const(pte.Float, make([]byte, 8), 3) },
		"copy":           func(g *Graph) { x := g.Input(pte.Float, D(1)); g.CopyInto(x, x) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f(New("m", map[string]int{"n": 2, "T": 2}))
		}()
	}
}

// TestMethodsShareBytes emits two methods with one buffer and equal constants.
func TestMethodsShareBytes(t *testing.T) {
	p := NewProgram()
	for i := range 2 {
		g := New(fmt.Sprint("m", i), map[string]int{"n": 4})
		x := g.Input(pte.Float, Sym("n"), D(2))
		k := g.Const(pte.Float, []byte{0, 0, 128, 63, 0, 0, 0, 64}, 2)
		b := g.Buffer("b", pte.Float, nil, 2)
		g.CopyInto(b, k)
		g.Output(g.Add(g.Mul(x, k), b))
		p.Add(g)
	}
	p.ConstantMethod("n", 4)
	f := p.Finish()
	if n := len(f.ConstantSegment.Offsets); n != 2 { // entry 0 is reserved
		t.Errorf("%d constants, want one", n-1)
	}
	if n := len(f.MutableSegments[0].Offsets); n != 2 {
		t.Errorf("%d buffers, want one", n-1)
	}
	for _, plan := range f.Plans[:2] {
		if len(plan.NonConstBufferSizes) != 3 || plan.NonConstBufferSizes[2] != 16 {
			t.Errorf("%s: arenas %v", plan.Name, plan.NonConstBufferSizes)
		}
		in := plan.Values[plan.Inputs[0]].(*pte.Tensor)
		if in.Dynamism != pte.DynamicBound || in.Sizes[0] != 4 {
			t.Errorf("%s: input %+v", plan.Name, in)
		}
	}
	if len(f.Plans) != 3 || f.Plans[2].Name != "n" {
		t.Errorf("%d plans", len(f.Plans))
	}
}
