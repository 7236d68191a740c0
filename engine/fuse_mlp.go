package engine

import "tabtune/engine/pte"

// mlpRows are the rows that an MLP is computed for at a time: enough that the products are as fast as over all rows,
// and few enough that what lies between them is small. A multiple of 4, so that blocks of quantised rows lie as in the whole.
const mlpRows = 256

// fuseMLP joins the three products of a gated MLP, its activation and the quantisation between: computed for a block of rows at a time,
// the two wide intermediate results, by far the largest of a forward, are never there for all rows.
func fuseMLP(g *Graph) (int, error) {
	r := newRewriter(g)
	for _, down := range g.Nodes {
		product, ok := linearOf(down)
		if !ok {
			continue
		}
		glu, activation := g.gluOf(product.x)
		quantize := g.made(product.q, "tabtune::quantize_rows.out")
		if glu == nil || quantize == nil || quantize.Args[0] != product.x || !g.usedBy(product.x, quantize, down) || !g.usedBy(product.q, down) || !g.usedBy(product.scale, down) {
			continue
		}
		if product.sums >= 0 && !g.usedBy(product.sums, down) {
			continue
		}
		gate, ok1 := g.linearInto(glu.Args[0], down.Op)
		up, ok2 := g.linearInto(glu.Args[1], down.Op)
		if !ok1 || !ok2 || gate.x != up.x || gate.q != up.q || glu.Args[0] == glu.Args[1] || !g.usedBy(glu.Args[0], glu) || !g.usedBy(glu.Args[1], glu) {
			continue
		}
		wide := g.Values[product.x]
		if len(wide.Sizes) != 2 || wide.Sizes[0] <= mlpRows || g.Values[gate.q].DType != I16 {
			continue
		}
		ffn := wide.Sizes[1]
		sums := g.AddNone()
		if product.sums >= 0 {
			sums = g.temp(I32, pte.Static, mlpRows, (ffn+31)/32)
		}
		none := g.AddNone()
		or := func(v int) int {
			if v < 0 {
				return none
			}
			return v
		}
		r.replace(down, r.node("tabtune::mlp.out", gate.x, gate.q, gate.scale, or(gate.sums), gate.w, gate.ws, or(gate.wm), up.w, up.ws, or(up.wm),
			product.w, product.ws, or(product.wm), g.AddInt(int64(activation)), g.temp(F32, pte.Static, mlpRows, ffn), g.temp(F32, pte.Static, mlpRows, ffn),
			g.temp(I16, pte.Static, mlpRows, (ffn+7)&^7), g.temp(F32, pte.Static, mlpRows), sums, product.out))
	}
	return r.apply()
}

// gluOf returns the gated linear unit that makes v, if one does, and its activation.
func (g *Graph) gluOf(v int) (n *Node, activation int32) {
	for name, op := range gluCodes {
		if n := g.made(v, name); n != nil {
			return n, op
		}
	}
	return nil, 0
}

// product is a fused linear layer; sums and wm are -1 with int8 weights.
type product struct{ x, q, scale, sums, w, ws, wm, out int }

func linearOf(n *Node) (product, bool) {
	a := n.Args
	switch n.Op {
	case "tabtune::linear_i8.out":
		return product{a[0], a[1], a[2], -1, a[3], a[4], -1, a[5]}, true
	case "tabtune::linear_q4.out":
		return product{a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]}, true
	}
	return product{}, false
}

// linearInto matches a fused linear layer of the given kind that makes v.
func (g *Graph) linearInto(v int, op string) (product, bool) {
	n := g.made(v, op)
	if n == nil {
		return product{}, false
	}
	return linearOf(n)
}

// usedBy: v is a temporary that these nodes, each of them, and nobody else read.
func (g *Graph) usedBy(v int, nodes ...*Node) bool {
	if g.Values[v].Role != RoleTemp || g.IsOutput(v) {
		return false
	}
	seen := map[*Node]bool{}
	for _, u := range g.Uses(v) {
		seen[u] = true
	}
	for _, n := range nodes {
		if !seen[n] {
			return false
		}
	}
	return len(seen) == len(nodes)
}
