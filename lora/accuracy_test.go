package lora

import (
	"context"
	"encoding/csv"
	"math"
	"os"
	"testing"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/internal/assets"
	"tabtune/lora/gguf"
	"tabtune/lora/tokenizer"
)

// TestIntegerProductsOnRealText bounds what the quantised activations of the integer products change, against the same weights
// multiplied in f32, on SmolLM2-135M and movie reviews: every logit of the vocabulary, and what a zeroth-order
// estimator sees, the loss differences L(B + eps z) - L(B - eps z) of adapters on q and v of all layers.
func TestIntegerProductsOnRealText(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the model and half a minute")
	}
	f, closer, err := gguf.Open(assets.Need(t, assets.Model))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	c, err := NewCheckpoint(f)
	if err != nil {
		t.Fatal(err)
	}
	const batch, queries, eps = 2, 4, 1e-2
	texts := reviewIDs(t, f, batch)
	dev := newDevice(t, 2)
	for dt, bound := range map[DType]float64{Int8: 1e-3, Q4: 1.2e-3} {
		w := weightMap{}
		if err := c.Stream(context.Background(), dt, func(i WeightInfo) (TensorWriter, error) {
			addr, err := dev.Alloc(i.Bytes, 64)
			w[i.Name] = engine.External{DType: i.DType, Sizes: i.Sizes, Addr: addr, Size: i.Bytes}
			return func(off int64, p []byte) error { dev.Write(addr+kernel.Addr(off), p); return nil }, err
		}, nil); err != nil {
			t.Fatal(err)
		}
		s := Spec{Model: c.Config, DType: dt, Modules: []string{"q", "v"}, Top: c.Config.Layers, Rank: 16, Alpha: 32, Queries: queries,
			Window: 64, Rows: 2 * queries * batch, Scored: 2 * queries * batch, PrefixRows: batch, LogitRows: batch}
		exact, want := realText(t, dev, s, w, texts, eps, engine.Options{NoPasses: true})
		logits, got := realText(t, dev, s, w, texts, eps, engine.Options{})
		rms := relative(logits, exact)
		cosine := cos(differences(got, queries, batch), differences(want, queries, batch))
		t.Logf("%s: logits differ by %.2g of their norm, cosine of the loss differences %.5f", dt, rms, cosine)
		if !(rms < bound) {
			t.Errorf("%s: logits differ by %g of their norm, bound %g", dt, rms, bound)
		}
		if !(cosine > 0.99) {
			t.Errorf("%s: cosine of the loss differences is %g, want above 0.99", dt, cosine)
		}
		for _, e := range w {
			dev.Free(e.Addr)
		}
	}
}

// reviewIDs are the tokens of the first n reviews, cut to equal length.
func reviewIDs(t *testing.T, f *gguf.File, n int) [][]int64 {
	t.Helper()
	vocab, err := tokenizer.FromMetadata(&f.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.New(vocab)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(assets.Need(t, assets.ReviewsVal))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	const length = 16
	var out [][]int64
	for _, r := range records[1:] {
		ids := tok.Encode(r[0], false)
		if len(ids) < length {
			continue
		}
		row := make([]int64, length)
		for i := range row {
			row[i] = int64(ids[i])
		}
		if out = append(out, row); len(out) == n {
			return out
		}
	}
	t.Fatalf("%d reviews of %d tokens, want %d", len(out), length, n)
	return nil
}

// realText returns the logits after each text, and the losses of its last token for all replicas.
func realText(t *testing.T, dev *kernel.Device, s Spec, w weightMap, texts [][]int64, eps float32, opt engine.Options) (logits, losses []float32) {
	t.Helper()
	file, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	opt.Data, opt.ShareArena = []engine.DataSource{w}, true
	p, err := engine.Load(dev, file, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, width, reps := len(texts), len(texts[0])-1, s.Replicas()
	var ids, rows, targets []int64
	for r := range reps {
		for i, x := range texts {
			if r == 0 {
				ids = append(ids, x[:width]...)
			}
			rows = append(rows, int64((r*b+i)*width+width-1))
			targets = append(targets, x[width])
		}
	}
	prefix, forward, scores := method(t, p, "prefix"), method(t, p, "forward"), method(t, p, "logits")
	set(t, prefix, 0, engine.Int64s(ids, b, width))
	run(t, prefix)
	v, err := prefix.Output(0)
	if err != nil {
		t.Fatal(err)
	}
	h := p.ReadFloat32s(v)
	read := func(m *engine.Method, in ...engine.Tensor) []float32 {
		for i, x := range in {
			set(t, m, i, x)
		}
		run(t, m)
		v, err := m.Output(0)
		if err != nil {
			t.Fatal(err)
		}
		return p.ReadFloat32s(v)
	}
	logits = read(scores, engine.Float32s(h, b, width, s.Model.Dim), engine.Int64s(rows[:b], b))
	var all []float32
	seeds := make([]int64, s.Queries)
	for r := range reps {
		all = append(all, h...)
		seeds[r%s.Queries] = int64(1000 + r%s.Queries)
	}
	losses = read(forward, engine.Float32s(all, reps*b, width, s.Model.Dim), engine.Int64s(rows, reps*b), engine.Int64s(targets, reps*b),
		engine.Int64s(seeds, s.Queries), engine.Float32s([]float32{eps}), engine.Int64s(seeds, s.Queries), engine.Float32s(make([]float32, s.Queries), s.Queries))
	return logits, losses
}

// differences are L(+) - L(-) of every query and row.
func differences(losses []float32, queries, batch int) []float32 {
	n := queries * batch
	out := make([]float32, n)
	for i := range out {
		out[i] = losses[i] - losses[n+i]
	}
	return out
}

func relative(a, b []float32) float64 {
	var diff, norm float64
	for i := range b {
		d := float64(a[i]) - float64(b[i])
		diff, norm = diff+d*d, norm+float64(b[i])*float64(b[i])
	}
	return math.Sqrt(diff / norm)
}

func cos(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}
