package lora

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"tabtune/engine"
)

// TestParallelEqualsSequential compares the 2q losses of one forward of a
// two-sided program with 2q forwards of a program with one replica, each with one
// seed and +eps or -eps, from the same B.
func TestParallelEqualsSequential(t *testing.T) {
	c := tinyCheckpoint(t)
	dev := newDevice(t, 1)
	const q, batch, width = 3, 2, 9
	for _, dt := range []DType{F32, Int8, Q4} {
		w := loadWeights(t, c, dt)
		load := func(sides Sides, queries int) (*engine.Program, *engine.Method, Spec) {
			s := Spec{Model: c.Config, DType: dt, Modules: []string{"q", "v", "up"}, Top: 2, Queries: queries, Sides: sides, Rank: 4, Alpha: 8, Seed: 5, Window: 24}
			s.Rows, s.Scored = batch*s.Replicas(), batch*s.Replicas()
			file, err := Build(s)
			if err != nil {
				t.Fatal(err)
			}
			p, err := engine.Load(dev, file, engine.Options{Data: []engine.DataSource{w}})
			if err != nil {
				t.Fatal(err)
			}
			return p, method(t, p, "forward"), s
		}
		rng := rand.New(rand.NewPCG(8, 9))
		h := make([]float32, batch*width*c.Config.Dim)
		for i := range h {
			h[i] = float32(rng.NormFloat64())
		}
		call := func(p *engine.Program, m *engine.Method, replicas int, seeds []int64, eps float32, last []int64, coefs []float32) []float32 {
			var all []float32
			var rows, targets []int64
			for r := range replicas {
				all = append(all, h...)
				for i := range batch {
					rows = append(rows, int64((r*batch+i)*width+width-1-i))
					targets = append(targets, int64(11+i))
				}
			}
			for i, x := range []engine.Tensor{engine.Float32s(all, replicas*batch, width, c.Config.Dim), engine.Int64s(rows, len(rows)), engine.Int64s(targets, len(targets)),
				engine.Int64s(seeds, len(seeds)), engine.Float32s([]float32{eps}), engine.Int64s(last, len(last)), engine.Float32s(coefs, len(coefs))} {
				set(t, m, i, x)
			}
			run(t, m)
			out, err := m.Output(0)
			if err != nil {
				t.Fatal(err)
			}
			return p.ReadFloat32s(out)
		}
		par, forward, spec := load(TwoSided, q)
		seeds := []int64{12345678901, 7, 1 << 61}
		losses := call(par, forward, 2*q, seeds, 0.02, []int64{3, 1 << 40, 5}, []float32{0.05, -0.03, 0.01})
		seq, single, one := load(Single, 1)
		for i, a := range spec.Adapters() {
			if a != one.Adapters()[i] {
				t.Fatalf("adapter %d: %+v and %+v", i, a, one.Adapters()[i])
			}
			from, err := forward.Buffer(BufferName(a.Name))
			if err != nil {
				t.Fatal(err)
			}
			to, err := single.Buffer(BufferName(a.Name))
			if err != nil {
				t.Fatal(err)
			}
			if err := seq.Write(to, engine.Float32s(par.ReadFloat32s(from), to.Sizes...)); err != nil {
				t.Fatal(err)
			}
		}
		different := false
		for j := range q {
			for side, eps := range []float32{0.02, -0.02} {
				got := call(seq, single, 1, seeds[j:j+1], eps, []int64{0}, []float32{0})
				for i, v := range got {
					want := losses[(side*q+j)*batch+i]
					if d := math.Abs(float64(v - want)); !(d <= 1e-6*math.Abs(float64(want))) {
						t.Errorf("%s: query %d, eps %g, row %d: %v alone, %v in parallel", dt, j, eps, i, v, want)
					}
					different = different || want != losses[i]
				}
			}
		}
		if !different {
			t.Errorf("%s: all replicas have the same losses", dt)
		}
		par.Close()
		seq.Close()
	}
}

// TestSpecErrors changes one field at a time to a value that cannot be; the error
// has to name it.
func TestSpecErrors(t *testing.T) {
	good := func() Spec {
		return Spec{Model: tinyCheckpoint(t).Config, DType: Int8, Modules: []string{"q", "v"}, Top: 2, Queries: 2, Rank: 4, Alpha: 8, Window: 24, Rows: 8, Scored: 8}
	}
	s := good()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		word   string
		change func(*Spec)
	}{
		{"layers", func(s *Spec) { s.Model.Layers = 0 }},
		{"dim", func(s *Spec) { s.Model.Dim = -1 }},
		{"ffn", func(s *Spec) { s.Model.FFN = 1 << 20 }},
		{"heads", func(s *Spec) { s.Model.Heads = 5 }},
		{"kvHeads", func(s *Spec) { s.Model.KVHeads = 0 }},
		{"headDim", func(s *Spec) { s.Model.HeadDim = 15 }},
		{"vocab", func(s *Spec) { s.Model.Vocab = 0 }},
		{"context", func(s *Spec) { s.Model.Context = 0 }},
		{"normEps", func(s *Spec) { s.Model.NormEps = math.NaN() }},
		{"ropeBase", func(s *Spec) { s.Model.RopeBase = math.Inf(1) }},
		{"dtype", func(s *Spec) { s.DType = "int4" }},
		{"dtype q4", func(s *Spec) { s.DType, s.Model.FFN = Q4, 100 }},
		{"modules", func(s *Spec) { s.Modules = []string{"q", "qkv"} }},
		{"modules", func(s *Spec) { s.Modules = []string{"v", "v"} }},
		{"layers", func(s *Spec) { s.Top = 4 }},
		{"layers", func(s *Spec) { s.Top = 0 }},
		{"layers", func(s *Spec) { s.Top = -1 }},
		{"rank", func(s *Spec) { s.Rank = 0 }},
		{"rank", func(s *Spec) { s.Rank = 1025 }},
		{"alpha", func(s *Spec) { s.Alpha = math.NaN() }},
		{"alpha", func(s *Spec) { s.Alpha = math.Inf(1) }},
		{"queries", func(s *Spec) { s.Queries = 0 }},
		{"queries", func(s *Spec) { s.Sides = Single }},
		{"A of model.layers.1.self_attn.q_proj", func(s *Spec) { s.A = [][]float32{{1}} }},
		{"window", func(s *Spec) { s.Window = 0 }},
		{"window", func(s *Spec) { s.Window = 257 }},
		{"rows", func(s *Spec) { s.Rows = 6 }},
		{"scored", func(s *Spec) { s.Scored = 0 }},
		{"rows", func(s *Spec) { s.Rows = 1 << 24 }},
		{"labels[1]", func(s *Spec) { s.Labels = []int32{1, 96} }},
	} {
		s := good()
		x.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), x.word) {
			t.Errorf("error %v, want one that names %q", err, x.word)
		}
		if _, err := Build(s); err == nil {
			t.Errorf("Build accepts a bad %s", x.word)
		}
	}
}
