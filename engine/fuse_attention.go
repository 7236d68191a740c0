package engine

// fuseAttention matches the causal attention with rotary positions and grouped kv
// heads that package lora writes. The heads stay where the projections put them,
// so no permuted copies, no repeated keys and no [T,T] matrix are made.
//
//	permute(view(bmm(softmax(bmm(q, k) * scale + mask), v)))
//
// with q, k and v viewed as [n, heads, T, headDim] and mask 0 up to the
// diagonal, hugely negative behind it.
func fuseAttention(g *Graph) (int, error) {
	r := newRewriter(g)
	for _, n := range g.Nodes {
		if n.Op != "aten::view_copy.out" {
			continue
		}
		out := n.Args[len(n.Args)-1]
		m, ok := g.attention(out)
		if !ok {
			continue
		}
		o := g.Values[out]
		rq, rk := g.temp(F32, o.Dynamic, g.Values[m.q.x].Sizes...), g.temp(F32, o.Dynamic, g.Values[m.k.x].Sizes...)
		heads, kv := g.AddInt(int64(m.q.heads)), g.AddInt(int64(m.k.heads))
		r.replace(n,
			r.node("tabtune::rotary.out", m.q.x, m.q.cos, m.q.sin, m.q.tokens, heads, rq),
			r.node("tabtune::rotary.out", m.k.x, m.k.cos, m.k.sin, m.k.tokens, kv, rk),
			r.node("tabtune::causal_attention.out", rq, rk, m.v, m.q.tokens, heads, kv, g.AddFloat(m.scale), out))
	}
	return r.apply()
}

type attentionMatch struct {
	q, k  rotaryMatch
	v     int // [n*T, kvHeads*headDim]
	scale float64
}

// rotaryMatch is x [n*T, heads*headDim] turned by position.
type rotaryMatch struct {
	x, cos, sin int // tables f32[window, headDim]
	tokens      int // T, an int value
	heads, dim  int
}

func (g *Graph) attention(out int) (m attentionMatch, ok bool) {
	p, _, ok := g.view(out)
	if !ok {
		return m, false
	}
	if p, ok = g.permuted(p, 0, 2, 1, 3); !ok {
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
	if dim, ok := g.ConstInt(soft.Args[1]); !ok || dim != -1 && dim != int64(g.rank(soft.Args[0])-1) {
		return m, false
	}
	a, b, ok := g.sum(soft.Args[0])
	if !ok {
		return m, false
	}
	tokens, ok := g.causalMask(b)
	if !ok {
		if tokens, ok = g.causalMask(a); !ok {
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
	q, ok1 := g.permuted(g.behindViews(scores.Args[0]), 0, 2, 1, 3)
	k, ok2 := g.permuted(g.behindViews(scores.Args[1]), 0, 2, 3, 1)
	v, ok3 := g.permuted(g.behindViews(context.Args[1]), 0, 2, 1, 3)
	if !ok1 || !ok2 || !ok3 {
		return m, false
	}
	if m.q, ok = g.rotary(q); !ok {
		return m, false
	}
	if m.k, ok = g.rotary(k); !ok {
		return m, false
	}
	var vTokens, vHeads, vDim int
	if m.v, vTokens, vHeads, vDim, ok = g.splitHeads(v); !ok {
		return m, false
	}
	// The queries of one kv head must be rows of one matrix, kv heads outermost.
	qv, sv := g.Values[scores.Args[0]].Sizes, g.Values[soft.Args[0]].Sizes
	ok = m.q.tokens == tokens && m.k.tokens == tokens && vTokens == tokens && m.q.dim == m.k.dim && vDim == m.q.dim && vHeads == m.k.heads &&
		m.q.heads%m.k.heads == 0 && len(qv) == 3 && qv[2] == m.q.dim && len(sv) == 3 && sv[1] == sv[2] &&
		qv[1] == m.q.heads/m.k.heads*sv[1]
	return m, ok
}

// splitHeads matches v = view(x, [n, T, heads, headDim]) for x [n*T, heads*headDim].
func (g *Graph) splitHeads(v int) (x, tokens, heads, dim int, ok bool) {
	x, sizes, ok := g.view(v)
	if !ok || len(sizes) != 4 || g.rank(x) != 2 || g.rank(v) != 4 {
		return 0, 0, 0, 0, false
	}
	heads, dim = g.Values[v].Sizes[2], g.Values[v].Sizes[3]
	xv := g.Values[x]
	return x, sizes[1], heads, dim, xv.DType == F32 && xv.Sizes[1] == heads*dim && contiguousOrder(xv.DimOrder, xv.Sizes)
}

// rotary matches x*cos + cat(-x[half:], x[:half])*sin.
func (g *Graph) rotary(v int) (m rotaryMatch, ok bool) {
	a, b, ok := g.sum(v)
	if !ok {
		return m, false
	}
	straight, turned := g.made(a, "aten::mul.out"), g.made(b, "aten::mul.out")
	if straight == nil || turned == nil {
		return m, false
	}
	cat := g.made(turned.Args[0], "aten::cat.out")
	if cat == nil {
		return m, false
	}
	x := straight.Args[0]
	if m.x, m.tokens, m.heads, m.dim, ok = g.splitHeads(x); !ok {
		return m, false
	}
	list := g.Values[cat.Args[0]].List
	if dim, ok := g.ConstInt(cat.Args[1]); !ok || dim != 3 && dim != -1 || len(list) != 2 {
		return m, false
	}
	neg := g.made(list[0], "aten::neg.out")
	half := int64(m.dim / 2)
	if neg == nil || !g.sliced(neg.Args[0], x, half, int64(m.dim)) || !g.sliced(list[1], x, 0, half) {
		return m, false
	}
	var ok1, ok2 bool
	m.cos, ok1 = g.positionTable(straight.Args[1], m.tokens, m.dim)
	m.sin, ok2 = g.positionTable(turned.Args[1], m.tokens, m.dim)
	return m, ok1 && ok2 && m.dim%2 == 0
}

// sliced matches v = x[..., from:to].
func (g *Graph) sliced(v, x int, from, to int64) bool {
	n := g.made(v, "aten::slice_copy.Tensor_out")
	if n == nil || n.Args[0] != x {
		return false
	}
	dim, ok1 := g.ConstInt(n.Args[1])
	start, ok2 := g.ConstInt(n.Args[2])
	end, ok3 := g.ConstInt(n.Args[3])
	step, ok4 := g.ConstInt(n.Args[4])
	last := int64(g.rank(x) - 1)
	return ok1 && ok2 && ok3 && ok4 && (dim == last || dim == -1) && start == from && end >= to && (end == to || to == int64(g.Values[x].Sizes[last])) && step == 1
}

// positionTable matches v = view(table[:T], [T, 1, headDim]) of a constant.
func (g *Graph) positionTable(v, tokens, dim int) (table int, ok bool) {
	s := g.behindViews(v)
	n := g.made(s, "aten::slice_copy.Tensor_out")
	if n == nil || n.Args[3] != tokens {
		return 0, false
	}
	d, ok1 := g.ConstInt(n.Args[1])
	start, ok2 := g.ConstInt(n.Args[2])
	step, ok3 := g.ConstInt(n.Args[4])
	t, shape := g.Values[n.Args[0]], g.Values[v].Sizes
	return n.Args[0], ok1 && ok2 && ok3 && d == 0 && start == 0 && step == 1 && t.Role == RoleConst && t.DType == F32 && len(t.Sizes) == 2 && t.Sizes[1] == dim &&
		len(shape) == 3 && shape[1] == 1 && shape[2] == dim
}

// causalMask matches relu(column - row) * c for positions 0..T-1 and c below
// -1e20, and returns T.
func (g *Graph) causalMask(v int) (tokens int, ok bool) {
	mul := g.made(v, "aten::mul.Scalar_out")
	if mul == nil {
		return 0, false
	}
	if c, ok := g.ConstFloat(mul.Args[1]); !ok || c > -1e20 {
		return 0, false
	}
	relu := g.made(mul.Args[0], "aten::relu.out")
	if relu == nil {
		return 0, false
	}
	sub := g.made(relu.Args[0], "aten::sub.out")
	if sub == nil {
		return 0, false
	}
	if alpha, ok := g.ConstFloat(sub.Args[2]); !ok || alpha != 1 {
		return 0, false
	}
	column, row := g.Values[sub.Args[0]].Sizes, g.Values[sub.Args[1]].Sizes
	if len(column) != 2 || len(row) != 2 || column[0] != 1 || row[1] != 1 {
		return 0, false
	}
	at := g.behindViews(sub.Args[0])
	if at != g.behindViews(sub.Args[1]) {
		return 0, false
	}
	n := g.made(at, "aten::arange.start_out")
	if n == nil {
		return 0, false
	}
	start, ok1 := g.ConstFloat(n.Args[0])
	step, ok2 := g.ConstFloat(n.Args[2])
	return n.Args[1], ok1 && ok2 && start == 0 && step == 1
}
