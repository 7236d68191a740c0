package lora

import (
	"tabtune/engine/pte"
	"tabtune/lora/graph"
)

// inputs returns what the adapted modules read, at rows; see Build.
func (b *builder) inputs() *graph.Graph {
	s := b.spec
	b.start("inputs", s.Rows, s.Scored)
	g := b.g
	h := g.Input(pte.Float, dimN, dimT, graph.D(s.Model.Dim))
	rows := g.Input(pte.Long, dimM)
	of, widths := s.Groups()
	read := make([]*graph.Tensor, len(widths))
	b.tap = func(i int, x *graph.Tensor) {
		if read[of[i]] == nil {
			read[of[i]] = g.IndexSelect(x, rows)
		}
	}
	b.layers(h, nil, s.Model.Layers, nil)
	b.tap = nil
	if len(read) == 1 {
		g.Output(read[0])
	} else {
		g.Output(g.Cat(1, read...))
	}
	return g
}
