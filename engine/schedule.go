package engine

import (
	"cmp"
	"slices"
)

// schedule moves nodes so that less memory is in use at once. What each computes stays the same:
//
//   - perturbed copies of an adapter's B are made just before they are first read, and not all of them at the start, where they
//     would live until the layers that need them: 12 MB of 32 in a step of SmolLM2 with 32 rows of 64 tokens;
//   - low-rank products of an input that was quantised for others follow the quantisation, so that the input itself is not
//     needed until the large products are done, which read its quantised form (Op.ShapeOnly).
func schedule(g *Graph) (int, error) {
	at := make(map[*Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		at[n] = i
	}
	key := make(map[*Node]int, len(g.Nodes)) // where a node goes: before the node there, in the order of now
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		key[n] = i
		if !g.late(n) {
			continue
		}
		first := len(g.Nodes)
		for _, u := range g.Uses(n.Args[len(n.Args)-1]) {
			if u != n {
				first = min(first, key[u])
			}
		}
		if first < len(g.Nodes) && !g.writtenWithin(n, i, first, at) {
			key[n] = first
		}
	}
	for i, q := range g.Nodes {
		if q.Op != "tabtune::quantize_rows.out" {
			continue
		}
		for _, n := range g.Uses(q.Args[0]) {
			if n.Op == "aten::linear.out" && at[n] > i && n.Args[0] == q.Args[0] && g.Values[n.Args[1]].Role == RoleConst && g.Values[n.Args[2]].Kind == KindNone {
				key[n] = i
			}
		}
	}
	moved := 0
	for n, k := range key {
		if k != at[n] {
			moved++
		}
	}
	if moved > 0 {
		slices.SortStableFunc(g.Nodes, func(a, b *Node) int { return cmp.Or(cmp.Compare(key[a], key[b]), cmp.Compare(at[a], at[b])) })
		g.Changed()
	}
	return moved, nil
}

// late tells nodes that may run later: perturb, and views of what it made.
func (g *Graph) late(n *Node) bool {
	switch n.Op {
	case "tabtune::perturb.out":
		return true
	case "aten::view_copy.out", "aten::permute_copy.out":
		d := g.Def(n.Args[0])
		return d != nil && !g.IsOutput(n.Args[len(n.Args)-1]) && g.late(d)
	}
	return false
}

// writtenWithin reports whether an operand of the node at i is written between there and another place.
func (g *Graph) writtenWithin(n *Node, i, end int, at map[*Node]int) bool {
	for _, a := range n.Args[:len(n.Args)-1] {
		for _, d := range g.Defs(a) {
			if k := at[d]; k > i && k < end {
				return true
			}
		}
	}
	return false
}

// shapeOnly reports whether a node's kernel reads no more of a value than its shape.
func (g *Graph) shapeOnly(n *Node, v int) bool {
	if n.op == nil || g.program != nil && g.program.opt.Reference {
		return false
	}
	only := false
	for i, a := range n.Args {
		if a == v {
			if !slices.Contains(n.op.ShapeOnly, i) {
				return false
			}
			only = true
		}
	}
	return only
}
