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

// Classifier reads the labels' scores off the hidden state below the final norm:
// W h + b for the output h of the first Layer layers. The layers above are not
// run, so it goes without an adapter.
type Classifier struct {
	Layer  int       // 1 to the model's layers
	Weight []float32 // [labels, dim]
	Bias   []float32 // [labels]
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
	case len(c.Weight) != n*s.Model.Dim || len(c.Bias) != n:
		return fmt.Errorf("classifier: %d weights and %d biases for %d labels", len(c.Weight), len(c.Bias), n)
	}
	return nil
}

func (b *builder) floats(v []float32, sizes ...int) *graph.Tensor {
	raw := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
	}
	return b.g.Const(pte.Float, raw, sizes...)
}

// labelScores returns the labels' scores [m, labels], not normalised, or the
// vocabulary's where there are no labels.
func (b *builder) labelScores(h, rows *graph.Tensor) *graph.Tensor {
	s, g := b.spec, b.g
	switch c := s.Classifier; {
	case c != nil:
		n := len(s.Labels)
		x := b.layers(h, rows, c.Layer, nil)
		return g.Add(g.Linear(x, b.floats(c.Weight, n, s.Model.Dim)), b.floats(c.Bias, 1, n))
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

// features returns the hidden states at rows [m, Top+1, d]: of h, after each
// adapted layer but the last, and the final norm's output.
func (b *builder) features() *graph.Graph {
	s := b.spec
	b.start("features", s.Rows, s.Rows)
	g := b.g
	h := g.Input(pte.Float, dimN, dimT, graph.D(s.Model.Dim))
	rows := g.Input(pte.Long, dimM)
	var states []*graph.Tensor
	x := b.layers(h, rows, s.Model.Layers, func(x *graph.Tensor) { states = append(states, x) })
	states = append(states, b.norm(x, "model.norm.weight"))
	d := graph.D(s.Model.Dim)
	for i, st := range states {
		states[i] = g.View(st, dimM, graph.D(1), d)
	}
	if len(states) == 1 {
		g.Output(states[0])
		return g
	}
	g.Output(g.Cat(1, states...))
	return g
}
