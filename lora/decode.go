package lora

import (
	"fmt"
	"math"

	"tabtune/engine/pte"
	"tabtune/lora/graph"
)

// decode is inference a piece at a time over a cache of keys and values, with the current adapter:
//
//	decode(ids i64[T], positions i64[T], rows i64[m]) -> logits f32[m,V]
//
// Token i stands at position positions[i], below Window, and sees what the cache holds of the positions up to
// its own; its keys and values are written there first. So a prompt is one call with positions 0..T-1, and every further
// token one with T = 1. rows are indices into ids. The cache needs no clearing: a position is written before it is first read,
// but where a runtime does not clear its memory it must not hold NaN.
func (b *builder) decode() *graph.Graph {
	s := b.spec
	b.start("decode", 1, max(1, s.LogitRows))
	g := b.g
	ids, at := g.Input(pte.Long, dimT), g.Input(pte.Long, dimT)
	rows := g.Input(pte.Long, dimM)
	g.Size(ids, 0)
	x := b.embedding(ids)
	b.turn = func(table []byte) *graph.Tensor {
		return g.View(g.IndexSelect(g.Const(pte.Float, table, s.Window, s.Model.HeadDim), at), dimT, graph.D(1), graph.D(s.Model.HeadDim))
	}
	window := graph.D(s.Window)
	column := g.View(g.ArangeSize(window), graph.D(1), window)
	row := g.View(g.Convert(at, pte.Float), dimT, graph.D(1))
	b.mask = g.MulScalar(g.Relu(g.Sub(column, row)), -1e30) // as in tables
	for l := range s.Model.Layers {
		scored := rows
		if l != s.Model.Layers-1 {
			scored = nil
		}
		x = b.layerWith(x, l, scored, func(q, k, v *graph.Tensor) *graph.Tensor { return b.cachedAttention(l, at, q, k, v) })
	}
	g.Output(b.vocabulary(b.norm(x, "model.norm.weight")))
	return g
}

// CacheName is the fully qualified name of a layer's cache: which is "k" or "v"; f32[Window, kvHeads*headDim].
func CacheName(layer int, which string) string {
	return fmt.Sprintf("model.layers.%d.self_attn.%s_cache", layer, which)
}

// cachedAttention puts k and v [T, kvHeads*headDim] into layer l's cache and returns the attention of q over it.
func (b *builder) cachedAttention(l int, at, q, k, v *graph.Tensor) *graph.Tensor {
	g, c, window := b.g, &b.spec.Model, b.spec.Window
	hd, kv, heads := graph.D(c.HeadDim), graph.D(c.KVHeads), graph.D(c.Heads)
	width := c.KVHeads * c.HeadDim
	q = b.rotary(l, g.View(q, dimT, heads, hd))
	k = g.View(b.rotary(l, g.View(k, dimT, kv, hd)), dimT, graph.D(width))
	keys := g.State(CacheName(l, "k"), pte.Float, window, width)
	values := g.State(CacheName(l, "v"), pte.Float, window, width)
	g.PutRows(keys, at, k)
	g.PutRows(values, at, v)
	gT := dimT.Times(graph.D(c.Heads / c.KVHeads))
	qh := g.View(g.Permute(q, 1, 0, 2), kv, gT, hd)
	kh := g.Permute(g.View(keys, graph.D(window), kv, hd), 1, 2, 0)
	vh := g.Permute(g.View(values, graph.D(window), kv, hd), 1, 0, 2)
	scores := g.MulScalar(g.BMM(qh, kh), 1/math.Sqrt(float64(c.HeadDim)))
	w := g.Softmax(g.Add(g.View(scores, heads, dimT, graph.D(window)), b.mask))
	o := g.View(g.BMM(g.View(w, kv, gT, graph.D(window)), vh), heads, dimT, hd)
	return g.View(g.Permute(o, 1, 0, 2), dimT, graph.D(c.Heads*c.HeadDim))
}
