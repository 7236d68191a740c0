package lora

import (
	"fmt"
	"strings"
	"testing"

	"tabtune/engine"
)

// decoded returns the logits after each of ids but the first few: a prompt in one call, then a token a call.
func decoded(t *testing.T, p *engine.Program, ids []int64, prompt int) []float32 {
	t.Helper()
	m := method(t, p, "decode")
	var out []float32
	for at, n := 0, prompt; at < len(ids); at, n = at+n, 1 {
		positions := make([]int64, n)
		for i := range positions {
			positions[i] = int64(at + i)
		}
		set(t, m, 0, engine.Int64s(ids[at:at+n], n))
		set(t, m, 1, engine.Int64s(positions, n))
		set(t, m, 2, engine.Int64s([]int64{int64(n - 1)}, 1))
		run(t, m)
		v, err := m.Output(0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.ReadFloat32s(v)...)
	}
	return out
}

// uncached is decoded by prefix and logits over the whole sequence every time.
func uncached(t *testing.T, p *engine.Program, ids []int64, prompt int) []float32 {
	t.Helper()
	prefix, logits := method(t, p, "prefix"), method(t, p, "logits")
	var out []float32
	for n := prompt; n <= len(ids); n++ {
		set(t, prefix, 0, engine.Int64s(ids[:n], 1, n))
		run(t, prefix)
		h, err := prefix.Output(0)
		if err != nil {
			t.Fatal(err)
		}
		set(t, logits, 0, engine.Float32s(p.ReadFloat32s(h), h.Sizes...))
		set(t, logits, 1, engine.Int64s([]int64{int64(n - 1)}, 1))
		run(t, logits)
		v, err := logits.Output(0)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.ReadFloat32s(v)...)
	}
	return out
}

// TestDecodeEqualsLogits compares decoding over the cache with the whole sequence computed each time, with an adapter whose B is not
// zero, fused and operator by operator.
func TestDecodeEqualsLogits(t *testing.T) {
	dev := newDevice(t, 2)
	ids := []int64{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7}
	for _, m := range tinyModels(t) {
		c, dt := m.c, m.dtype
		w := loadWeights(t, c, dt)
		s := Spec{Model: c.Config, DType: dt, Modules: []string{"q", "v", "down"}, Top: 2, Rank: 4, Alpha: 8, Queries: 1, Sides: Single, Seed: 5,
			Window: 24, Rows: 1, Scored: 1, Decode: true}
		file, err := Build(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, opt := range []engine.Options{{}, {NoPasses: true}, {Reference: true}, {ShareArena: true}} {
			t.Run(fmt.Sprintf("%s %s passes %v kernels %v", c.Config.Architecture, dt, !opt.NoPasses, !opt.Reference), func(t *testing.T) {
				opt.Data = []engine.DataSource{w}
				p, err := engine.Load(dev, file, opt)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				for i, a := range s.Adapters() {
					b, err := method(t, p, "decode").Buffer(BufferName(a.Name))
					if err != nil {
						t.Fatal(err)
					}
					x := make([]float32, b.Len())
					for j := range x {
						x[j] = float32((i+j)%7-3) * 0.1
					}
					if err := p.Write(b, engine.Float32s(x, b.Sizes...)); err != nil {
						t.Fatal(err)
					}
				}
				want := uncached(t, p, ids, 5)
				for round := range 2 { // the second finds the first one's cache
					if d := worst(decoded(t, p, ids, 5), want); !(d < 1e-3) {
						t.Errorf("round %d: decoding differs by %g of the largest logit", round, d)
					}
				}
			})
		}
	}
}

// TestDecodeFuses looks at the operators that are left, and at what a position outside the window does.
func TestDecodeFuses(t *testing.T) {
	for _, m := range tinyModels(t) {
		if m.dtype == Int8 {
			decodeFuses(t, m.c)
		}
	}
}

func decodeFuses(t *testing.T, c *Checkpoint) {
	t.Helper()
	file, err := Build(Spec{Model: c.Config, DType: Int8, Window: 8, Rows: 1, Scored: 1, Decode: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Load(newDevice(t, 1), file, engine.Options{Data: []engine.DataSource{loadWeights(t, c, Int8)}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m := method(t, p, "decode")
	for _, n := range m.Graph().Nodes {
		for _, left := range []string{"softmax", "bmm", "index_put", "permute", "gelu", "cos", "arange", "relu", "dequantize"} {
			if strings.Contains(n.Op, left) {
				t.Errorf("%s is left", n.Op)
			}
		}
	}
	for i, x := range []int64{1, 8, 0} {
		set(t, m, i, engine.Int64s([]int64{x}, 1))
	}
	if err := m.Execute(t.Context()); err == nil || !strings.Contains(err.Error(), "window of 8") {
		t.Errorf("position 8 of 8: %v", err)
	}
}
