package engine

import "slices"

// fuseDecode matches what package lora writes to decode over a cache of keys and values, and exporters of llama
// models much alike: rotary positions looked up in a table, rows put into the cache, and attention over all of the cache
// behind a mask. What the mask hides is then neither read nor multiplied.
func fuseDecode(g *Graph) (int, error) {
	r := newRewriter(g)
	pos := make(map[*Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		pos[n] = i
	}
	for _, n := range g.Nodes {
		switch n.Op {
		case "aten::add.out":
			if m, ok := g.rotaryAt(n.Args[len(n.Args)-1]); ok {
				r.replace(n, r.node("tabtune::rotary_at.out", m.x, m.cos, m.sin, m.positions, n.Args[len(n.Args)-1]))
			}
		case "aten::index_put_":
			list := g.Values[n.Args[1]].List
			self, values := g.Values[n.Args[0]], g.Values[n.Args[2]]
			if acc, ok := g.ConstInt(n.Args[3]); len(list) != 1 || list[0] < 0 || !ok && g.Values[n.Args[3]].Bool || ok && acc != 0 {
				continue
			}
			if index := g.Values[list[0]]; index.DType == I64 && len(index.Sizes) == 1 && len(self.Sizes) == 2 && len(values.Sizes) == 2 &&
				self.DType == F32 && values.DType == F32 && self.Sizes[1] == values.Sizes[1] && index.Sizes[0] == values.Sizes[0] &&
				contiguousOrder(self.DimOrder, self.Sizes) && contiguousOrder(values.DimOrder, values.Sizes) {
				r.replace(n, r.node("tabtune::put_rows_", n.Args[0], list[0], n.Args[2]))
			}
		case "aten::view_copy.out":
			out := n.Args[len(n.Args)-1]
			if m, ok := g.cachedAttention(out, pos, n); ok {
				r.replace(n, r.node("tabtune::cached_attention.out", m.q, m.k, m.v, m.positions, g.AddFloat(m.scale), out))
			}
		}
	}
	return r.apply()
}

type rotaryAtMatch struct {
	x         int // [T, heads, headDim]
	cos, sin  int // tables f32[window, headDim]
	positions int // i64[T]
}

// rotaryAt matches x*cos + cat(-x[half:], x[:half])*sin with cos and sin rows of tables.
func (g *Graph) rotaryAt(v int) (m rotaryAtMatch, ok bool) {
	a, b, ok := g.sum(v)
	if !ok || g.rank(v) != 3 {
		return m, false
	}
	straight, turned := g.made(a, "aten::mul.out"), g.made(b, "aten::mul.out")
	if straight == nil || turned == nil {
		return m, false
	}
	m.x = straight.Args[0]
	cat := g.made(turned.Args[0], "aten::cat.out")
	if cat == nil || g.rank(m.x) != 3 {
		return m, false
	}
	x := g.Values[m.x]
	list := g.Values[cat.Args[0]].List
	if dim, ok := g.ConstInt(cat.Args[1]); !ok || dim != 2 && dim != -1 || len(list) != 2 {
		return m, false
	}
	dim := x.Sizes[2]
	neg := g.made(list[0], "aten::neg.out")
	if neg == nil || dim%2 != 0 || !g.sliced(neg.Args[0], m.x, int64(dim/2), int64(dim)) || !g.sliced(list[1], m.x, 0, int64(dim/2)) {
		return m, false
	}
	var ok1, ok2 bool
	var at int
	m.cos, m.positions, ok1 = g.tableRows(straight.Args[1], dim)
	m.sin, at, ok2 = g.tableRows(turned.Args[1], dim)
	return m, ok1 && ok2 && at == m.positions && x.DType == F32 && contiguousOrder(x.DimOrder, x.Sizes) &&
		g.Values[m.positions].Sizes[0] == x.Sizes[0]
}

// tableRows matches v = view(table[index], [T, 1, dim]) of a constant.
func (g *Graph) tableRows(v, dim int) (table, index int, ok bool) {
	n := g.made(g.behindViews(v), "aten::index_select.out")
	if n == nil {
		return 0, 0, false
	}
	d, okDim := g.ConstInt(n.Args[1])
	t, i, shape := g.Values[n.Args[0]], g.Values[n.Args[2]], g.Values[v].Sizes
	return n.Args[0], n.Args[2], okDim && d == 0 && t.Role == RoleConst && t.DType == F32 && len(t.Sizes) == 2 && t.Sizes[1] == dim &&
		i.DType == I64 && len(i.Sizes) == 1 && len(shape) == 3 && shape[1] == 1 && shape[2] == dim
}

type cachedMatch struct {
	q         int // [T, heads, headDim]
	k, v      int // buffers f32[window, kvHeads*headDim]
	positions int // i64[T]
	scale     float64
}

// cachedAttention matches view(permute(view(bmm(softmax(bmm(q, k) * scale + mask), v)))) over buffers k and v, made by node at.
func (g *Graph) cachedAttention(out int, pos map[*Node]int, at *Node) (m cachedMatch, ok bool) {
	p, _, ok := g.view(out)
	if !ok {
		return m, false
	}
	if p, ok = g.permuted(p, 1, 0, 2); !ok {
		return m, false
	}
	context := g.made(g.behindViews(p), "aten::bmm.out")
	if context == nil {
		return m, false
	}
	soft := g.made(g.behindViews(context.Args[0]), "aten::_softmax.out")
	if soft == nil {
		return m, false
	}
	weights := g.Values[soft.Args[0]].Sizes
	if dim, ok := g.ConstInt(soft.Args[1]); !ok || dim != -1 && dim != int64(len(weights)-1) {
		return m, false
	}
	a, b, ok := g.sum(soft.Args[0])
	if !ok {
		return m, false
	}
	var window int
	if m.positions, window, ok = g.cacheMask(b); !ok {
		if m.positions, window, ok = g.cacheMask(a); !ok {
			return m, false
		}
		a = b
	}
	mul := g.made(g.behindViews(a), "aten::mul.Scalar_out")
	if mul == nil {
		return m, false
	}
	if m.scale, ok = g.ConstFloat(mul.Args[1]); !ok {
		return m, false
	}
	scores := g.made(mul.Args[0], "aten::bmm.out")
	if scores == nil {
		return m, false
	}
	q, ok1 := g.permuted(g.behindViews(scores.Args[0]), 1, 0, 2)
	k, kv, ok2 := g.cache(scores.Args[1], window, pos, at, 1, 2, 0)
	v, kv2, ok3 := g.cache(context.Args[1], window, pos, at, 1, 0, 2)
	if !ok1 || !ok2 || !ok3 || kv != kv2 || g.rank(q) != 3 {
		return m, false
	}
	m.q, m.k, m.v = q, k, v
	qv := g.Values[q]
	heads, dim := qv.Sizes[1], qv.Sizes[2]
	grouped := g.Values[scores.Args[0]].Sizes // [kv, heads/kv*T, dim]
	return m, dim*kv == g.Values[k].Sizes[1] && heads%kv == 0 && qv.DType == F32 && contiguousOrder(qv.DimOrder, qv.Sizes) &&
		slices.Equal(grouped, []int{kv, heads / kv * qv.Sizes[0], dim}) && slices.Equal(weights, []int{heads, qv.Sizes[0], window}) &&
		slices.Equal(g.Values[out].Sizes, []int{qv.Sizes[0], heads * dim})
}

// cache matches permute(view(buffer, [window, kv, dim]), order), as nothing writes the buffer between that view and node at.
func (g *Graph) cache(v, window int, pos map[*Node]int, at *Node, order ...int64) (buffer, kv int, ok bool) {
	p, ok := g.permuted(v, order...)
	if !ok || g.rank(p) != 3 || g.Values[p].Sizes[0] != window {
		return 0, 0, false
	}
	buffer, _, ok = g.view(p)
	if !ok {
		return 0, 0, false
	}
	b, read := g.Values[buffer], pos[g.Def(p)]
	for _, w := range g.Defs(buffer) {
		if pos[w] > read && pos[w] < pos[at] {
			return 0, 0, false
		}
	}
	return buffer, g.Values[p].Sizes[1], b.Role == RoleState && b.DType == F32 && len(b.Sizes) == 2 && b.Sizes[0] == window && contiguousOrder(b.DimOrder, b.Sizes)
}

// cacheMask matches relu(column - position) * c for columns 0..window-1 and c below -1e20.
func (g *Graph) cacheMask(v int) (positions, window int, ok bool) {
	mul := g.made(v, "aten::mul.Scalar_out")
	if mul == nil {
		return 0, 0, false
	}
	if c, ok := g.ConstFloat(mul.Args[1]); !ok || c > -1e20 {
		return 0, 0, false
	}
	relu := g.made(mul.Args[0], "aten::relu.out")
	if relu == nil {
		return 0, 0, false
	}
	sub := g.made(relu.Args[0], "aten::sub.out")
	if sub == nil {
		return 0, 0, false
	}
	if alpha, ok := g.ConstFloat(sub.Args[2]); !ok || alpha != 1 {
		return 0, 0, false
	}
	column, row := g.Values[sub.Args[0]].Sizes, g.Values[sub.Args[1]].Sizes
	if len(column) != 2 || len(row) != 2 || column[0] != 1 || row[1] != 1 {
		return 0, 0, false
	}
	n := g.made(g.behindViews(sub.Args[0]), "aten::arange.start_out")
	if n == nil {
		return 0, 0, false
	}
	start, ok1 := g.ConstFloat(n.Args[0])
	end, ok2 := g.ConstFloat(n.Args[1])
	step, ok3 := g.ConstFloat(n.Args[2])
	at, ok4 := g.converted(g.behindViews(sub.Args[1]))
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return 0, 0, false
	}
	p := g.Values[at]
	return at, column[1], start == 0 && step == 1 && end == float64(column[1]) && p.DType == I64 && len(p.Sizes) == 1
}
