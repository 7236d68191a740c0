package lora

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tabtune/engine"
	"tabtune/lora/safetensors"
)

// callMethod gives a method its inputs and returns its output.
func callMethod(t *testing.T, p *engine.Program, name string, in ...engine.Tensor) []float32 {
	t.Helper()
	m := method(t, p, name)
	for i, x := range in {
		if err := m.SetInput(i, x); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Execute(context.Background()); err != nil {
		t.Fatal(err)
	}
	v, err := m.Output(0)
	if err != nil {
		t.Fatal(err)
	}
	return p.ReadFloat32s(v)
}

// TestHeads compares scores and logits under a head adapter, and scores of
// classifiers, with products of the features in float64.
func TestHeads(t *testing.T) {
	c := tinyCheckpoint(t)
	dev := newDevice(t, 1)
	w := loadWeights(t, c, F32)
	d, labels := c.Config.Dim, []int32{7, 11, 3}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int, scale float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64() * scale)
		}
		return v
	}
	base := Spec{Model: c.Config, DType: F32, Modules: []string{"q", "v"}, Top: 2, Rank: 4, Alpha: 8, Queries: 1, Sides: Single, Seed: 5, Window: 16, Rows: 2, Scored: 2, Labels: labels, Features: true, LogitRows: 2}
	load := func(s Spec) *engine.Program {
		t.Helper()
		file, err := Build(s)
		if err != nil {
			t.Fatal(err)
		}
		p, err := engine.Load(dev, file, engine.Options{Data: []engine.DataSource{w}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	const n, width = 2, 9
	at := []int64{4, width + 8}
	h := engine.Float32s(random(n*width*d, 1), n, width, d)
	rows := engine.Int64s(at, n)
	plain := load(base)
	features, logits := callMethod(t, plain, "features", h, rows), callMethod(t, plain, "logits", h, rows)
	if len(features) != n*5*d {
		t.Fatalf("%d features, want %d rows of %d states of %d", len(features), n, 5, d)
	}
	for i := range n {
		for j, v := range features[i*5*d:][:d] {
			if want := h.Float32s()[int(at[i])*d+j]; v != want {
				t.Fatalf("state 0 of row %d is not the input: %v, want %v", i, v, want)
			}
		}
		for j, v := range features[(i*5+1)*d:][:d] {
			var want float64
			for p := i * width; p <= int(at[i]); p++ {
				want += float64(h.Float32s()[p*d+j]) / float64(int(at[i])-i*width+1)
			}
			if math.Abs(float64(v)-want) > 1e-5 {
				t.Fatalf("mean of row %d is %v, want %v", i, v, want)
			}
		}
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 2e-5*(1+math.Abs(want)) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	logSoftmax := func(x []float64) []float64 {
		var sum float64
		for _, v := range x {
			sum += math.Exp(v - x[0])
		}
		out := make([]float64, len(x))
		for i, v := range x {
			out[i] = v - x[0] - math.Log(sum)
		}
		return out
	}

	head := base
	head.Head = &HeadAdapter{Rank: 2, Scale: 1.5, A: random(2*d, 0.2), B: random(c.Config.Vocab*2, 0.5)}
	p := load(head)
	gotLogits, gotScores := callMethod(t, p, "logits", h, rows), callMethod(t, p, "scores", h, rows)
	gotNLL := callMethod(t, p, "forward", h, rows, engine.Int64s([]int64{2, 0}, n), engine.Int64s([]int64{1}, 1), engine.Float32s([]float32{0}), engine.Int64s([]int64{0}, 1), engine.Float32s([]float32{0}, 1))
	for i := range n {
		f := features[i*5*d+4*d:][:d]
		want := make([]float64, c.Config.Vocab)
		for v := range want {
			want[v] = float64(logits[i*c.Config.Vocab+v])
			for r := range 2 {
				var a float64
				for j := range d {
					a += float64(head.Head.A[r*d+j]) * float64(f[j])
				}
				want[v] += 1.5 * float64(head.Head.B[v*2+r]) * a
			}
			near("logit", float64(gotLogits[i*c.Config.Vocab+v]), want[v])
		}
		var of []float64
		for _, l := range labels {
			of = append(of, want[l])
		}
		of = logSoftmax(of)
		for k := range labels {
			near("score", float64(gotScores[i*3+k]), of[k])
		}
		near("nll", float64(gotNLL[i]), -of[[]int{2, 0}[i]])
	}

	for k := range 4 {
		layer, mean := c.Config.Layers-2+k%2, k > 1
		s := base
		s.Modules, s.Classifier = nil, &Classifier{Layer: layer, Mean: mean, Bias: random(3, 1)}
		d := s.Classifier.width(d)
		s.Classifier.Weight = random(3*d, 0.3)
		got := callMethod(t, load(s), "scores", h, rows)
		for i := range n {
			x := features[(i*5+(layer-1)*2)*c.Config.Dim:][:d]
			want := make([]float64, 3)
			for k := range want {
				want[k] = float64(s.Classifier.Bias[k])
				for j := range d {
					want[k] += float64(s.Classifier.Weight[k*d+j]) * float64(x[j])
				}
			}
			for k, v := range logSoftmax(want) {
				near("classifier", float64(got[i*3+k]), v)
			}
		}
	}
}

func TestHeadSpecErrors(t *testing.T) {
	c := tinyCheckpoint(t)
	spec := func(change func(s *Spec)) Spec {
		s := Spec{Model: c.Config, DType: F32, Top: 2, Queries: 1, Sides: Single, Window: 16, Rows: 2, Scored: 2, Labels: []int32{1, 2}}
		change(&s)
		return s
	}
	d, v := c.Config.Dim, c.Config.Vocab
	for want, change := range map[string]func(s *Spec){
		"A has": func(s *Spec) {
			s.Head = &HeadAdapter{Rank: 1, Scale: 1, A: make([]float32, d-1), B: make([]float32, v)}
		},
		"rank 0":  func(s *Spec) { s.Head = &HeadAdapter{Scale: 1} },
		"scale 0": func(s *Spec) { s.Head = &HeadAdapter{Rank: 1, A: make([]float32, d), B: make([]float32, v)} },
		"layer 0": func(s *Spec) { s.Classifier = &Classifier{} },
		"weights and": func(s *Spec) {
			s.Classifier = &Classifier{Layer: 2, Weight: make([]float32, d), Bias: make([]float32, 2)}
		},
		"no labels":          func(s *Spec) { s.Classifier, s.Labels = &Classifier{Layer: 2}, nil },
		"cannot be combined": func(s *Spec) { s.Classifier, s.Modules, s.Rank, s.Alpha = &Classifier{Layer: 2}, []string{"q"}, 1, 1 },
	} {
		if _, err := Build(spec(change)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want ...%s...", err, want)
		}
	}
}

func TestClassifierFile(t *testing.T) {
	dir := t.TempDir()
	c := &Classifier{Layer: 5, Mean: true, Weight: []float32{1, 2, 3, 4, 5, 6}, Bias: []float32{-1, 1}}
	info := ClassifierInfo{Labels: []string{"no", "yes"}, Model: "tiny"}
	if err := WriteClassifier(dir, c, info); err != nil {
		t.Fatal(err)
	}
	got, gotInfo, err := ReadClassifier(dir)
	if err != nil || !reflect.DeepEqual(got, c) || !reflect.DeepEqual(gotInfo, info) {
		t.Fatalf("%+v %+v %v", got, gotInfo, err)
	}
	path := filepath.Join(dir, ClassifierFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole { // every truncation
		if err := os.WriteFile(path, whole[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadClassifier(dir); err == nil || !strings.Contains(err.Error(), ClassifierFile) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	meta := func(change map[string]string) map[string]string {
		m := map[string]string{"format": classifierFormat, "layer": "5", "reads": readsLast, "labels": `["no","yes"]`}
		for k, v := range change {
			m[k] = v
		}
		return m
	}
	bias := safetensors.Float32s("bias", safetensors.F32, []int64{2}, []float32{0, 1})
	weight := safetensors.Float32s("weight", safetensors.F32, []int64{2, 1}, []float32{0, 1})
	nan := safetensors.Float32s("weight", safetensors.F32, []int64{2, 1}, []float32{0, float32(math.NaN())})
	for _, x := range []struct {
		want string
		meta map[string]string
		outs []safetensors.Out
	}{
		{"format", map[string]string{"format": "x"}, []safetensors.Out{bias, weight}}, {"layer", map[string]string{"layer": "-1"}, []safetensors.Out{bias, weight}},
		{"reads", map[string]string{"reads": "all"}, []safetensors.Out{bias, weight}},
		{"labels", map[string]string{"labels": "no"}, []safetensors.Out{bias, weight}}, {"1 labels", map[string]string{"labels": `["no"]`}, []safetensors.Out{bias, weight}},
		{"for 3 labels", map[string]string{"labels": `["a","b","c"]`}, []safetensors.Out{bias, weight}}, {"1 tensors", nil, []safetensors.Out{bias}},
		{"weight[1] is NaN", nil, []safetensors.Out{bias, nan}},
	} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(f, x.outs, meta(x.meta)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, _, err := ReadClassifier(dir); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want ...%s...", err, x.want)
		}
	}
}
