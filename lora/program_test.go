package lora

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/internal/tinymodel"
	"tabtune/lora/gguf"
)

// tinyCheckpoint is a random llama of three layers with grouped kv heads.
func tinyCheckpoint(t testing.TB) *Checkpoint {
	t.Helper()
	return tinyOf(t, tinymodel.Options{})
}

func tinyOf(t testing.TB, o tinymodel.Options) *Checkpoint {
	t.Helper()
	b, err := tinymodel.Bytes(o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Read(bytes.NewReader(b), int64(len(b)), "tiny.gguf")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCheckpoint(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tinyModel is a random model and how its weights are kept.
type tinyModel struct {
	c     *Checkpoint
	dtype DType
}

// tinyModels are all architectures and all formats.
func tinyModels(t testing.TB) []tinyModel {
	t.Helper()
	var out []tinyModel
	for _, arch := range architectures {
		c := tinyOf(t, tinymodel.Options{Arch: arch})
		for _, dt := range []DType{F32, Int8, Q4} {
			out = append(out, tinyModel{c, dt})
		}
	}
	return out
}

// weightMap holds weights in Go memory: an engine.DataSource.
type weightMap map[string]engine.External

func (w weightMap) Lookup(name string) (engine.External, bool) { e, ok := w[name]; return e, ok }

func loadWeights(t testing.TB, c *Checkpoint, dt DType) weightMap {
	t.Helper()
	out := weightMap{}
	err := c.Stream(context.Background(), dt, func(i WeightInfo) (TensorWriter, error) {
		buf := make([]byte, i.Bytes)
		out[i.Name] = engine.External{DType: i.DType, Sizes: i.Sizes, ReaderAt: bytes.NewReader(buf), Size: i.Bytes}
		return func(off int64, b []byte) error { copy(buf[off:], b); return nil }, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newDevice(t testing.TB, threads int) *kernel.Device {
	t.Helper()
	d, err := kernel.New(context.Background(), kernel.Config{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// losses runs steps of a program with made-up inputs and returns all its losses
// and, last, the first adapter's B.
func losses(t *testing.T, dev *kernel.Device, s Spec, w weightMap, opt engine.Options) []float32 {
	t.Helper()
	file, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	opt.Data = []engine.DataSource{w}
	p, err := engine.Load(dev, file, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	prefix, forward := method(t, p, "prefix"), method(t, p, "forward")
	reps, q := s.Replicas(), max(1, s.Queries)
	rng := rand.New(rand.NewPCG(3, 4))
	last, coefs := make([]int64, q), make([]float32, q)
	var out []float32
	for step := range 3 {
		const b = 2
		width := 5 + 3*step
		ids := make([]int64, b*width)
		for i := range ids {
			ids[i] = int64(rng.IntN(s.Model.Vocab))
		}
		set(t, prefix, 0, engine.Int64s(ids, b, width))
		run(t, prefix)
		v, err := prefix.Output(0)
		if err != nil {
			t.Fatal(err)
		}
		h := p.ReadFloat32s(v)
		var all []float32
		var rows, targets []int64
		for r := range reps {
			all = append(all, h...)
			for i := range b {
				rows = append(rows, int64((r*b+i)*width+width-1-i*step))
				targets = append(targets, int64((i+step)%2))
			}
		}
		in := []engine.Tensor{engine.Float32s(all, reps*b, width, s.Model.Dim), engine.Int64s(rows, len(rows)), engine.Int64s(targets, len(targets))}
		if len(s.Modules) > 0 {
			seeds := make([]int64, q)
			for i := range seeds {
				seeds[i] = rng.Int64N(1 << 50)
			}
			in = append(in, engine.Int64s(seeds, q), engine.Float32s([]float32{0.01}), engine.Int64s(last, q), engine.Float32s(coefs, q))
			last = seeds
			for i := range coefs {
				coefs[i] = float32(rng.NormFloat64() * 0.05)
			}
		}
		for i, x := range in {
			set(t, forward, i, x)
		}
		run(t, forward)
		if v, err = forward.Output(0); err != nil {
			t.Fatal(err)
		}
		out = append(out, p.ReadFloat32s(v)...)
	}
	for _, a := range s.Adapters() {
		v, err := forward.Buffer(BufferName(a.Name))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.ReadFloat32s(v)...)
	}
	return out
}

func method(t *testing.T, p *engine.Program, name string) *engine.Method {
	t.Helper()
	m, err := p.Method(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func set(t *testing.T, m *engine.Method, i int, x engine.Tensor) {
	t.Helper()
	if err := m.SetInput(i, x); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, m *engine.Method) {
	t.Helper()
	if err := m.Execute(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func testSpecs(c Config) map[string]Spec {
	m := map[string]Spec{
		"two-sided q v, one layer":      {Modules: []string{"q", "v"}, Top: 1, Queries: 2},
		"one-sided, all modules":        {Modules: AllModules, Top: 2, Queries: 3, Sides: OneSided},
		"labels":                        {Modules: []string{"q", "v", "down"}, Top: 3, Queries: 2, Labels: []int32{7, 50}},
		"rademacher":                    {Modules: []string{"q", "v"}, Top: 2, Queries: 3, Sides: OneSided, Noise: Rademacher},
		"rademacher, two-sided":         {Modules: []string{"k", "o"}, Top: 1, Queries: 2, Noise: Rademacher},
		"single replica":                {Modules: []string{"o"}, Top: 2, Queries: 1, Sides: Single},
		"no adapter, labels, one layer": {Top: 1, Labels: []int32{7, 50}},
	}
	for k, s := range m {
		s.Model, s.Rank, s.Alpha, s.Seed, s.Window = c, 4, 8, 5, 24
		s.Rows, s.Scored = 2*s.Replicas(), 2*s.Replicas()
		m[k] = s
	}
	return m
}

func worst(a, b []float32) float64 {
	var top, scale float64
	for i := range a {
		scale = max(scale, math.Abs(float64(b[i])))
		top = max(top, math.Abs(float64(a[i])-float64(b[i])))
	}
	return top / scale
}

// TestFusedEqualsUnfused compares the fused program with the operators one by
// one, and with the plain-Go references of the fused operators.
func TestFusedEqualsUnfused(t *testing.T) {
	dev := newDevice(t, 1)
	for _, m := range tinyModels(t) {
		dt := m.dtype
		w := loadWeights(t, m.c, dt)
		for name, s := range testSpecs(m.c.Config) {
			s.DType = dt
			t.Run(m.c.Config.Architecture+" "+string(dt)+" "+name, func(t *testing.T) {
				fused := losses(t, dev, s, w, engine.Options{})
				for i, v := range losses(t, dev, s, w, engine.Options{ShareArena: true}) {
					if math.Float32bits(v) != math.Float32bits(fused[i]) {
						t.Fatalf("value %d is %v in a shared arena, %v alone", i, v, fused[i])
					}
				}
				// Integer products round activations to nearly 16 bits: to other sums
				// (unfused), or now and then to the neighbouring step (references).
				bound := map[DType]float64{F32: 1e-5, Int8: 1e-3, Q4: 1e-3}[dt]
				if d := worst(fused, losses(t, dev, s, w, engine.Options{NoPasses: true})); !(d < bound) {
					t.Errorf("fused and unfused differ by %g, bound %g", d, bound)
				}
				if d := worst(fused, losses(t, dev, s, w, engine.Options{Reference: true})); !(d < bound) {
					t.Errorf("kernels and references differ by %g", d)
				}
			})
		}
	}
}

// TestEverythingFuses looks at the operators that are left.
func TestEverythingFuses(t *testing.T) {
	dev := newDevice(t, 1)
	for _, m := range tinyModels(t) {
		dt := m.dtype
		w := loadWeights(t, m.c, dt)
		s := testSpecs(m.c.Config)["one-sided, all modules"]
		if dt == Int8 {
			s.Noise = Rademacher
		}
		s.DType = dt
		file, err := Build(s)
		if err != nil {
			t.Fatal(err)
		}
		p, err := engine.Load(dev, file, engine.Options{Data: []engine.DataSource{w}})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"prefix", "forward", "logits"} {
			count := map[string]int{}
			for _, n := range method(t, p, name).Graph().Nodes {
				count[n.Op]++
			}
			t.Log(m.c.Config.Architecture, dt, name, count)
			for op, n := range count {
				for _, left := range []string{"softmax.out", "gather", "rsqrt", "sigmoid", "gelu", "bitwise", "cos.out", "permute"} {
					if strings.Contains(op, left) {
						t.Errorf("%s %s: %d x %s is left", dt, name, n, op)
					}
				}
			}
		}
		p.Close()
	}
}

// TestThreadsDoNotChangeBits runs one program on 1 and 2 threads.
func TestThreadsDoNotChangeBits(t *testing.T) {
	one, two := newDevice(t, 1), newDevice(t, 2)
	for _, m := range tinyModels(t) {
		w := loadWeights(t, m.c, m.dtype)
		for name, s := range testSpecs(m.c.Config) {
			s.DType = m.dtype
			a, b := losses(t, one, s, w, engine.Options{}), losses(t, two, s, w, engine.Options{})
			for i := range a {
				if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
					t.Fatalf("%s %s %s: value %d is %v on one thread, %v on two", m.c.Config.Architecture, m.dtype, name, i, a[i], b[i])
				}
			}
		}
	}
}
