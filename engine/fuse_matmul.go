package engine

import "slices"

// fuseMatmul makes linear layers of products with a transposed constant, which is what the exporter makes of a linear layer: the kernel reads
// the weight as it is stored, row by row, where the program would transpose it in every call.
func fuseMatmul(g *Graph) (int, error) {
	r := newRewriter(g)
	for _, n := range g.Nodes {
		bias, at := g.AddNone, 0
		switch n.Op {
		case "aten::mm.out":
		case "aten::addmm.out":
			beta, ok := g.ConstFloat(n.Args[3])
			alpha, ok2 := g.ConstFloat(n.Args[4])
			if b := g.Values[n.Args[0]]; !ok || !ok2 || beta != 1 || alpha != 1 || len(b.Sizes) != 1 {
				continue
			}
			bias, at = func() int { return n.Args[0] }, 1
		default:
			continue
		}
		x, out := n.Args[at], n.Args[len(n.Args)-1]
		w, ok := g.permuted(n.Args[at+1], 1, 0)
		if !ok || g.Values[w].Role != RoleConst || len(g.Values[w].Sizes) != 2 || len(g.Values[x].Sizes) != 2 || !g.Values[w].IsStatic() {
			continue
		}
		if at == 1 && g.Values[n.Args[0]].Sizes[0] != g.Values[w].Sizes[0] {
			continue
		}
		if slices.ContainsFunc([]int{x, w, out}, func(v int) bool {
			return g.Values[v].DType != F32 || !contiguousOrder(g.Values[v].DimOrder, g.Values[v].Sizes)
		}) {
			continue
		}
		r.replace(n, r.node("aten::linear.out", x, w, bias(), out))
	}
	return r.apply()
}
