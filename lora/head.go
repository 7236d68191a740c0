package lora

import (
	"encoding/binary"
	"fmt"
	"math"

	"tabtune/engine/pte"
	"tabtune/lora/graph"
)

// HeadName is the output head's name in checkpoints and adapters.
const HeadName = "lm_head"

// HeadAdapter is a LoRA on the output head: logits = (W + Scale B A) f for the
// final norm's output f. With tied embeddings it changes the head's use of the
// matrix alone, as PEFT's does.
type HeadAdapter struct {
	Rank  int
	Scale float64
	A     []float32 // [Rank, dim]
	B     []float32 // [vocab, Rank]
}

func (h *HeadAdapter) validate(c *Config) error {
	if h.Rank < 1 || h.Rank > 1024 {
		return fmt.Errorf("%s: rank %d, want 1 to 1024", HeadName, h.Rank)
	}
	if len(h.A) != h.Rank*c.Dim || len(h.B) != c.Vocab*h.Rank {
		return fmt.Errorf("%s: A has %d and B %d values, want %d and %d", HeadName, len(h.A), len(h.B), h.Rank*c.Dim, c.Vocab*h.Rank)
	}
	if !(h.Scale > 0) || math.IsInf(h.Scale, 0) {
		return fmt.Errorf("%s: scale %v, want a positive number", HeadName, h.Scale)
	}
	return nil
}

// rows returns Scale B A at the rows of tokens, f32[len(tokens), dim].
func (h *HeadAdapter) rows(tokens []int32, dim int) []float32 {
	out := make([]float32, len(tokens)*dim)
	for i, t := range tokens {
		for r := range h.Rank {
			b := h.Scale * float64(h.B[int(t)*h.Rank+r])
			if b == 0 {
				continue
			}
			for j := range dim {
				out[i*dim+j] += float32(b * float64(h.A[r*dim+j]))
			}
		}
	}
	return out
}

// Classifier reads the labels' scores off the hidden states below the final norm:
// W x + b, where x is the output of the first Layer layers at the scored position
// and behind it, with Mean, its mean over the sequence up to there. The layers
// above are not run, so it goes without an adapter. A row has one scored position.
type Classifier struct {
	Layer  int // 1 to the model's layers
	Mean   bool
	Weight []float32 // [labels, dim], with Mean [labels, 2 dim]
	Bias   []float32 // [labels]
}

// width is the length of x.
func (c *Classifier) width(dim int) int {
	if c.Mean {
		return 2 * dim
	}
	return dim
}

func (c *Classifier) validate(s *Spec) error {
	n := len(s.Labels)
	switch {
	case n == 0:
		return fmt.Errorf("classifier: there are no labels")
	case len(s.Modules) > 0 || s.Head != nil:
		return fmt.Errorf("classifier: it cannot be combined with an adapter")
	case c.Layer < 1 || c.Layer > s.Model.Layers || c.Layer < s.Model.Layers-s.Top:
		return fmt.Errorf("classifier: layer %d, want %d to %d", c.Layer, max(1, s.Model.Layers-s.Top), s.Model.Layers)
	case len(c.Weight) != n*c.width(s.Model.Dim) || len(c.Bias) != n:
		return fmt.Errorf("classifier: %d weights and %d biases for %d labels", len(c.Weight), len(c.Bias), n)
	}
	return nil
}

func (b *builder) floats(v []float32, sizes ...int) *graph.Tensor {
	return b.g.Const(pte.Float, floatBytes(v), sizes...)
}

func floatBytes(v []float32) []byte {
	raw := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
	}
	return raw
}

// labelScores returns the labels' scores [m, labels], not normalised, or the
// vocabulary's where there are no labels.
func (b *builder) labelScores(h, rows *graph.Tensor) *graph.Tensor {
	s, g := b.spec, b.g
	switch c := s.Classifier; {
	case c != nil:
		n := len(s.Labels)
		var x *graph.Tensor
		if c.Mean {
			x = b.pool(b.layers(h, nil, c.Layer, nil), rows)
		} else {
			x = b.layers(h, rows, c.Layer, nil)
		}
		return g.Add(g.Linear(x, b.floats(c.Weight, n, c.width(s.Model.Dim))), b.floats(c.Bias, 1, n))
	case s.Labels == nil:
		return b.vocabulary(b.head(h, rows))
	}
	f := b.head(h, rows)
	ids := make([]byte, 8*len(s.Labels))
	for i, t := range s.Labels {
		binary.LittleEndian.PutUint64(ids[8*i:], uint64(t))
	}
	w := b.tokenRows(g.Const(pte.Long, ids, len(s.Labels)))
	if s.Head != nil {
		w = g.Add(w, b.floats(s.Head.rows(s.Labels, s.Model.Dim), len(s.Labels), s.Model.Dim))
	}
	return g.Linear(f, w)
}

// vocabulary returns the scores of all tokens for the final norm's output f [m,d].
func (b *builder) vocabulary(f *graph.Tensor) *graph.Tensor {
	g := b.g
	y := g.Linear(f, b.headWeight())
	if a := b.spec.Head; a != nil {
		c := &b.spec.Model
		fa := g.MulScalar(g.Linear(f, b.floats(a.A, a.Rank, c.Dim)), a.Scale)
		y = g.Add(y, g.Linear(fa, b.floats(a.B, c.Vocab, a.Rank)))
	}
	return y
}

// pool returns [n,2d]: x [n*T,d] at rows i64[n], one a sequence, and the mean of
// its sequence up to there.
func (b *builder) pool(x, rows *graph.Tensor) *graph.Tensor {
	g, one, d := b.g, graph.D(1), graph.D(b.spec.Model.Dim)
	at := g.View(g.Convert(rows, pte.Float), dimN, one)
	place := g.View(g.ArangeSize(dimN.Times(dimT)), dimN, dimT)
	// relu(1 - relu(place - at)) is 1 up to the position and 0 behind it.
	mask := g.View(g.Relu(g.AddScalar(g.Neg(g.Relu(g.Sub(place, at))), 1.0)), dimN, one, dimT)
	ones := g.View(g.AddScalar(g.MulScalar(mask, 0.0), 1.0), dimN, dimT, one)
	scale := g.Rsqrt(g.BMM(mask, ones)) // [n,1,1], its square is one over the count
	sum := g.BMM(mask, g.View(x, dimN, dimT, d))
	return g.Cat(1, g.IndexSelect(x, rows), g.View(g.Mul(g.Mul(sum, scale), scale), dimN, d))
}

// features returns what heads may read; see Build.
func (b *builder) features() *graph.Graph {
	s := b.spec
	b.start("features", s.Rows, s.Rows)
	g, d := b.g, graph.D(s.Model.Dim)
	h := g.Input(pte.Float, dimN, dimT, d)
	rows := g.Input(pte.Long, dimN)
	var states []*graph.Tensor
	x := b.layers(h, rows, s.Model.Layers, func(x *graph.Tensor) {
		states = append(states, g.View(b.pool(x, rows), dimN, graph.D(2), d))
	})
	states = append(states, g.View(b.norm(x, "model.norm.weight"), dimN, graph.D(1), d))
	if len(states) == 1 {
		g.Output(states[0])
	} else {
		g.Output(g.Cat(1, states...))
	}
	return g
}
