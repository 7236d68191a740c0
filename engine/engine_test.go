package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

// TestPlanOverlap checks on random lifetimes that no two storages that live together overlap, and that the plan is no larger than the
// sum and no smaller than what is alive at once.
func TestPlanOverlap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		b := newBuilder()
		x := b.input(F32, 16)
		live := []int{x}
		one := b.add(pte.IntValue(1))
		for range 40 {
			n := 1 + r.IntN(300)
			y := b.tensor(F32, n)
			b.call("aten::full.out", b.ints(int64(n)), one, y, y)
			if k := r.IntN(len(live)); r.IntN(3) > 0 { // read an older one
				z := b.tensor(F32, 1)
				b.call("aten::sum.IntList_out", live[k], b.add(pte.Null{}), b.add(pte.BoolValue(true)), b.add(pte.Null{}), z, z)
			}
			live = append(live, y)
		}
		b.output(live[len(live)-1])
		m := b.load(t, Options{NoPasses: true})
		lives := m.g.lifetimes()
		sum := int64(0)
		peak := make([]int64, len(m.g.Nodes)+2)
		for v, l := range lives {
			n := alignUp(max(m.g.Values[v].Bytes(), 1), align)
			sum += n
			for k := l.start; k <= l.end; k++ {
				peak[k+1] += n
			}
			for w, o := range lives {
				if v == w || l.end < o.start || o.end < l.start {
					continue
				}
				a, c := m.plan.offset[v], m.plan.offset[w]
				if a < c+m.g.Values[w].Bytes() && c < a+m.g.Values[v].Bytes() {
					t.Fatalf("values %d and %d overlap", v, w)
				}
			}
		}
		if least := slices.Max(peak); m.plan.size < least || m.plan.size > sum {
			t.Fatalf("plan of %d bytes, at least %d are alive at once, %d in all", m.plan.size, least, sum)
		}
	}
}

// TestViewOfBuffer reads a view of a mutable buffer before and after the buffer is written: the early reader must see the old value.
func TestViewOfBuffer(t *testing.T) {
	build := func() *builder {
		b := newBuilder()
		x := b.input(F32, 2, 3)
		buf := b.tensor(F32, 2, 3)
		b.plan.Values[buf].(*pte.Tensor).Name = "buf"
		view, sum, out, out2 := b.tensor(F32, 6), b.tensor(F32, 2, 3), b.tensor(F32, 6), b.tensor(F32, 3, 2)
		one, no := b.add(pte.IntValue(1)), b.add(pte.BoolValue(false))
		b.call("aten::view_copy.out", buf, b.ints(-1), view, view)
		b.call("aten::add.out", buf, x, one, sum, sum)
		b.call("aten::copy_", buf, sum, no, buf)
		b.call("aten::mul.Scalar_out", view, one, out, out)
		b.call("aten::view_copy.out", buf, b.ints(3, 2), out2, out2)
		b.output(out)
		b.output(out2)
		return b
	}
	x := Float32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	for mode, opt := range modes {
		t.Run(mode, func(t *testing.T) {
			m := build().load(t, opt)
			for step := range 3 {
				outs := run(t, m, x)
				for k := range 6 {
					if got := outs[0].Float32s()[k]; got != float32(step*(k+1)) {
						t.Errorf("step %d: old value [%d] is %v", step, k, got)
					}
					if got := outs[1].Float32s()[k]; got != float32((step+1)*(k+1)) {
						t.Errorf("step %d: new value [%d] is %v", step, k, got)
					}
				}
			}
			v, err := m.Buffer("buf")
			if err != nil {
				t.Fatal(err)
			}
			if got := m.p.ReadFloat32s(v); got[5] != 18 {
				t.Errorf("buffer is %v", got)
			}
			m.Release()
			if outs := run(t, m, x); mode != "file plan" && outs[0].Float32s()[5] != 18 {
				t.Errorf("after Release the buffer was %v", outs[0].Float32s())
			}
		})
	}
}

// TestViewsShareMemory checks that a chain of views and leading slices computes nothing and that the plan shrinks.
func TestViewsShareMemory(t *testing.T) {
	build := func() *builder {
		b := newBuilder()
		x := b.input(F32, 4, 64)
		y, v, s, o := b.tensor(F32, 4, 64), b.tensor(F32, 256), b.tensor(F32, 64), b.tensor(F32, 64)
		b.call("aten::neg.out", x, y, y)
		b.call("aten::view_copy.out", y, b.ints(256), v, v)
		b.call("aten::slice_copy.Tensor_out", v, b.add(pte.IntValue(0)), b.add(pte.IntValue(64)), b.add(pte.IntValue(128)), b.add(pte.IntValue(1)), s, s)
		b.call("aten::abs.out", s, o, o)
		b.output(o)
		return b
	}
	m := build().load(t, Options{})
	views := 0
	for _, n := range m.g.Nodes {
		if n.InAl {
			views++
		}
	}
	if views != 2 {
		t.Errorf("%d views, want 2:\n%s", views, m.g)
	}
	if plain := build().load(t, Options{NoPasses: true}); plain.Memory().Arena <= m.Memory().Arena {
		t.Errorf("arena %d with views, %d without", m.Memory().Arena, plain.Memory().Arena)
	}
	x := random(rand.New(rand.NewPCG(1, 9)), F32, 4, 64)
	for k, got := range run(t, m, x)[0].Float32s() {
		if want := max(x.Float32s()[64+k], -x.Float32s()[64+k]); got != want {
			t.Fatalf("[%d] is %v, want %v", k, got, want)
		}
	}
}

func TestDynamicBounds(t *testing.T) {
	b := newBuilder()
	x := b.dynamic(F32, pte.DynamicBound, 8, 3)
	b.plan.Inputs = append(b.plan.Inputs, x)
	y := b.dynamic(F32, pte.DynamicBound, 8, 3)
	b.call("aten::neg.out", x, y, y)
	b.output(y)
	m := b.load(t, Options{})
	for _, n := range []int{1, 8, 3} {
		if out := run(t, m, Float32s(make([]float32, 3*n), n, 3)); out[0].Sizes[0] != n {
			t.Errorf("sizes %v for %d rows", out[0].Sizes, n)
		}
	}
	if err := m.SetInput(0, Float32s(make([]float32, 27), 9, 3)); err == nil || !strings.Contains(err.Error(), "bound") {
		t.Errorf("9 rows: %v", err)
	}
	if err := m.SetInput(0, Int64s(make([]int64, 3), 1, 3)); err == nil {
		t.Error("an i64 tensor was taken for f32")
	}
}

func TestLoadErrors(t *testing.T) {
	load := func(b *builder) error {
		p, err := Load(device(t), b.program(), Options{})
		if err == nil {
			p.Close()
		}
		return err
	}
	for name, c := range map[string]struct {
		build func(b *builder)
		want  []string
	}{
		"all missing operators": {func(b *builder) {
			b.call("aten::nosuch.out", b.input(F32, 1))
			b.call("custom::other.out", b.input(F32, 1))
		}, []string{"aten::nosuch.out", "custom::other.out"}},
		"delegate": {func(b *builder) {
			b.plan.Delegates = []pte.Delegate{{ID: "CoreMLBackend"}}
			b.plan.Chains[0].Instructions = append(b.plan.Chains[0].Instructions, pte.DelegateCall{})
		}, []string{"CoreMLBackend", "re-export"}},
		"XNNPACK payload": {func(b *builder) {
			b.plan.Delegates = []pte.Delegate{{ID: "XnnpackBackend"}}
			b.plan.Chains[0].Instructions = append(b.plan.Chains[0].Instructions, pte.DelegateCall{})
		}, []string{"instruction 0", "XnnpackBackend", "XNNHeader.magic"}},
		"argument type": {func(b *builder) {
			y := b.tensor(F32, 1)
			b.call("aten::neg.out", b.add(pte.IntValue(1)), y, y)
		}, []string{"instruction 0 (aten::neg.out)", "argument 0 (self)"}},
		"write to a constant": {func(b *builder) {
			y := b.constant(Float32s([]float32{1}, 1))
			b.call("aten::neg.out", b.input(F32, 1), y, y)
		}, []string{"constant"}},
		"too few arguments": {func(b *builder) { b.call("aten::neg.out", b.input(F32, 1)) }, []string{"has 1 arguments, want 2"}},
		"external": {func(b *builder) {
			y := b.tensor(F32, 1)
			x := b.plan.Values[y].(*pte.Tensor)
			x.External, x.Alloc, x.Name = true, nil, "w"
			b.output(y)
		}, []string{`"w"`}},
		"outside the plan": {func(b *builder) { b.plan.Values[b.input(F32, 9)].(*pte.Tensor).Alloc.Offset = 1 << 40 }, []string{"outside memory 1"}},
	} {
		b := newBuilder()
		c.build(b)
		err := load(b)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v lacks %q", name, err, w)
			}
		}
	}
}

func TestRunErrors(t *testing.T) {
	b := newBuilder()
	w, i, y := b.input(F32, 3, 2), b.input(I64, 2), b.tensor(F32, 2, 2)
	no := b.add(pte.BoolValue(false))
	b.call("aten::embedding.out", w, i, b.add(pte.IntValue(-1)), no, no, y, y)
	b.output(y)
	for _, opt := range modes {
		m := b.load(t, opt)
		if err := m.Execute(context.Background()); err == nil || !strings.Contains(err.Error(), "input 0 is not set") {
			t.Errorf("without inputs: %v", err)
		}
		_ = m.SetInput(0, Float32s(make([]float32, 6), 3, 2))
		_ = m.SetInput(1, Int64s([]int64{0, 3}, 2))
		err := m.Execute(context.Background())
		if err == nil || !strings.Contains(err.Error(), "aten::embedding.out") || !strings.Contains(err.Error(), "element 1 is 3") {
			t.Errorf("index outside: %v", err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := m.Execute(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	loop := newBuilder()
	loop.plan.Chains[0].Instructions = []pte.Instruction{pte.JumpFalseCall{Cond: loop.add(pte.BoolValue(false)), Dest: 0}}
	if err := loop.load(t, Options{MaxSteps: 100}).Execute(context.Background()); err == nil || !strings.Contains(err.Error(), "may never end") {
		t.Errorf("endless loop: %v", err)
	}
}

// TestOutOfMemory checks that the numbers are said before anything is allocated, and that nothing leaks.
func TestOutOfMemory(t *testing.T) {
	b := newBuilder()
	x, y := b.input(F32, 1<<14, 1<<14), b.tensor(F32, 1<<14, 1<<14)
	b.call("aten::neg.out", x, y, y)
	b.output(y)
	m := b.load(t, Options{})
	before := device(t).InUse()
	_, err := m.InputView(0)
	var oom *kernel.OutOfMemory
	if !errors.As(err, &oom) || !strings.Contains(fmt.Sprint(err), fmt.Sprint(m.Memory().Arena)) {
		t.Errorf("error %v", err)
	}
	if got := device(t).InUse(); got != before {
		t.Errorf("%d bytes leaked", got-before)
	}
}

type names map[string]External

func (n names) Lookup(name string) (External, bool) { e, ok := n[name]; return e, ok }

// TestExternalInDevice uses a weight that the caller loaded itself, without a copy.
func TestExternalInDevice(t *testing.T) {
	b := newBuilder()
	x, w, y := b.input(F32, 3), b.tensor(F32, 3), b.tensor(F32, 3)
	p := b.plan.Values[w].(*pte.Tensor)
	p.External, p.Alloc, p.Name = true, nil, "w"
	b.call("aten::mul.out", x, w, y, y)
	b.output(y)
	d := device(t)
	addr, err := d.Alloc(12, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(addr)
	d.Write(addr, Float32s([]float32{2, 3, 4}).Data)
	m := b.load(t, Options{Data: []DataSource{names{"w": {DType: F32, Sizes: []int{3}, Addr: addr, Size: 12}}}})
	if got := run(t, m, Float32s([]float32{1, 1, 2}, 3))[0].Float32s(); !slices.Equal(got, []float32{2, 3, 8}) {
		t.Errorf("got %v", got)
	}
	if m.slots[w].t.addr != addr {
		t.Error("the weight was copied")
	}
}

func TestSchemas(t *testing.T) {
	for _, name := range StockOperators() {
		if stockSchemas()[name] == nil {
			t.Errorf("%s has no schema", name)
		}
		if lookupOp(name) == nil {
			t.Errorf("%s is an operator of the stock runtime and missing here", name)
		}
	}
	for _, o := range Operators() {
		lookupOp(o.Name) // panics without a schema
	}
	s, err := ParseSchema("aten::add.out(Tensor self, Tensor other, *, Scalar alpha=1, Tensor(a!) out) -> Tensor(a!)")
	if err != nil || len(s.Args) != 4 || !s.Args[3].Out || s.Index("alpha") != 2 || s.Args[2].kind != argScalar {
		t.Errorf("schema %+v: %v", s, err)
	}
}
