package engine

import "slices"

// fuseNorm matches RMSNorm: x * rsqrt(mean(x^2, -1) + eps) * w.
func fuseNorm(g *Graph) (int, error) {
	r := newRewriter(g)
	for _, n := range g.Nodes {
		if n.Op != "aten::mul.out" {
			continue
		}
		out := n.Args[2]
		for _, side := range [][2]int{{n.Args[0], n.Args[1]}, {n.Args[1], n.Args[0]}} {
			x, eps, ok := g.normalised(side[0])
			w := g.Values[side[1]]
			if !ok || w.Role != RoleConst || len(w.Sizes) != 1 || w.DType != F32 || g.Values[out].DType != F32 {
				continue
			}
			sizes := g.Values[x].Sizes
			if len(sizes) == 0 || sizes[len(sizes)-1] != w.Sizes[0] {
				continue
			}
			r.replace(n, r.node("tabtune::rmsnorm.out", x, side[1], g.AddFloat(eps), out))
			break
		}
	}
	return r.apply()
}

// normalised matches v = x * rsqrt(mean(x^2, -1, keepdim) + eps).
func (g *Graph) normalised(v int) (x int, eps float64, ok bool) {
	n := g.made(v, "aten::mul.out")
	if n == nil {
		return 0, 0, false
	}
	for _, side := range [][2]int{{n.Args[0], n.Args[1]}, {n.Args[1], n.Args[0]}} {
		x := side[0]
		root := g.made(side[1], "aten::rsqrt.out")
		if root == nil || g.Values[x].DType != F32 {
			continue
		}
		add := g.made(root.Args[0], "aten::add.Scalar_out")
		var mean *Node
		if add != nil {
			alpha, ok := g.ConstFloat(add.Args[2])
			if eps, ok2 := g.ConstFloat(add.Args[1]); ok && ok2 && alpha == 1 {
				if mean = g.made(add.Args[0], "aten::mean.out"); mean != nil && g.squareOf(mean.Args[0], x) && g.lastKept(mean) {
					return x, eps, true
				}
			}
			continue
		}
		if a, b, ok := g.sum(root.Args[0]); ok { // eps as a tensor of one element
			for _, s := range [][2]int{{a, b}, {b, a}} {
				eps, ok := g.ConstScalar(s[1])
				if mean = g.made(s[0], "aten::mean.out"); ok && mean != nil && g.squareOf(mean.Args[0], x) && g.lastKept(mean) {
					return x, eps, true
				}
			}
		}
	}
	return 0, 0, false
}

func (g *Graph) squareOf(v, x int) bool {
	if n := g.made(v, "aten::mul.out"); n != nil {
		return n.Args[0] == x && n.Args[1] == x
	}
	y, ok := g.scalarOp(v, "aten::pow.Tensor_Scalar_out", 2)
	return ok && y == x
}

// lastKept: a mean over the last dimension alone, which stays with size 1.
func (g *Graph) lastKept(mean *Node) bool {
	dims, ok := g.ConstInts(mean.Args[1])
	keep, ok2 := g.ConstInt(mean.Args[2])
	r := int64(g.rank(mean.Args[0]))
	return ok && ok2 && keep == 1 && len(dims) == 1 && (dims[0] == -1 || dims[0] == r-1)
}

// fuseGLU matches (gate * sigmoid(gate)) * up and gelu(gate, tanh) * up.
func fuseGLU(g *Graph) (int, error) {
	r := newRewriter(g)
	for _, n := range g.Nodes {
		if n.Op != "aten::mul.out" || r.taken(n) {
			continue
		}
		out := n.Args[2]
		for _, side := range [][2]int{{n.Args[0], n.Args[1]}, {n.Args[1], n.Args[0]}} {
			gate, ok := g.silu(side[0])
			op := "tabtune::swiglu.out"
			if !ok {
				gate, ok = g.geluTanh(side[0])
				op = "tabtune::geglu.out"
			}
			if !ok || g.Values[gate].DType != F32 || g.Values[side[1]].DType != F32 || !slices.Equal(g.Values[gate].Sizes, g.Values[side[1]].Sizes) {
				continue
			}
			r.replace(n, r.node(op, gate, side[1], out))
			break
		}
	}
	return r.apply()
}

func (g *Graph) silu(v int) (x int, ok bool) {
	n := g.made(v, "aten::mul.out")
	if n == nil {
		return 0, false
	}
	for _, side := range [][2]int{{n.Args[0], n.Args[1]}, {n.Args[1], n.Args[0]}} {
		if s := g.made(side[1], "aten::sigmoid.out"); s != nil && s.Args[0] == side[0] {
			return side[0], true
		}
	}
	return 0, false
}

// geluTanh matches v = gelu(x, approximate="tanh").
func (g *Graph) geluTanh(v int) (x int, ok bool) {
	n := g.made(v, "aten::gelu.out")
	if n == nil || n.Args[1] < 0 || g.Values[n.Args[1]].Kind != KindString || g.Values[n.Args[1]].Str != "tanh" {
		return 0, false
	}
	return n.Args[0], true
}

// fuseLowRank matches y + view(bmm(view(a), permute(b, [0,2,1]))), the product of
// MP-LoRA's replicas added to a linear layer's result: the product is summed into
// y, which nobody else reads.
func fuseLowRank(g *Graph) (int, error) {
	r := newRewriter(g)
	rename := map[int]int{}
	for _, n := range g.Nodes {
		if n.Op != "aten::add.out" {
			continue
		}
		y, d, ok := g.sum(n.Args[3])
		if !ok {
			continue
		}
		bmm := g.made(g.behindViews(d), "aten::bmm.out")
		if bmm == nil {
			continue
		}
		b, ok := g.permuted(bmm.Args[1], 0, 2, 1)
		a := bmm.Args[0]
		if !ok || len(g.Defs(y)) != 1 || !g.SingleUse(y) || g.Values[y].Role != RoleTemp || !contiguousOrder(g.Values[y].DimOrder, g.Values[y].Sizes) ||
			g.Values[y].DType != F32 || g.Values[a].DType != F32 || g.Values[b].DType != F32 || g.IsOutput(n.Args[3]) ||
			!slices.Equal(g.Values[y].Sizes, g.Values[n.Args[3]].Sizes) {
			continue
		}
		r.replace(n, r.node("tabtune::bmm_nt_add_", y, a, b))
		rename[n.Args[3]] = y
	}
	if r.err != nil || len(rename) == 0 {
		return 0, r.err
	}
	for old, by := range rename {
		for { // a renamed value may itself be the y of a later match
			next, ok := rename[by]
			if !ok {
				break
			}
			by = next
		}
		rename[old] = by
	}
	for _, n := range g.Nodes {
		if by := r.with[n]; by != nil {
			n = by[0]
		}
		g.renameArgs(n, rename)
	}
	return r.apply()
}

// renameArgs replaces the values that a node reads.
func (g *Graph) renameArgs(n *Node, by map[int]int) {
	for i, a := range n.Args {
		if a < 0 || n.op == nil || n.op.schema.Args[i].Out {
			continue
		}
		if to, ok := by[a]; ok {
			n.Args[i] = to
			continue
		}
		if v := g.Values[a]; v.Kind == KindTensorList {
			var list []int
			for k, e := range v.List {
				if to, ok := by[e]; ok {
					if list == nil {
						list = slices.Clone(v.List)
					}
					list[k] = to
				}
			}
			if list != nil {
				n.Args[i] = g.AddValue(&Value{Kind: KindTensorList, List: list})
			}
		}
	}
}

// fuseNLL matches -log_softmax(x)[i, target[i]]: the negative log-likelihood of
// one column a row, without the log-probabilities of all others.
func fuseNLL(g *Graph) (int, error) {
	r := newRewriter(g)
	for _, n := range g.Nodes {
		if n.Op != "aten::neg.out" {
			continue
		}
		gather := g.made(n.Args[0], "aten::gather.out")
		if gather == nil {
			continue
		}
		logp := g.made(gather.Args[0], "aten::_log_softmax.out")
		if logp == nil {
			continue
		}
		axis, ok1 := g.ConstInt(gather.Args[1])
		dim, ok2 := g.ConstInt(logp.Args[1])
		x, index, out := g.Values[logp.Args[0]], g.Values[gather.Args[2]], g.Values[n.Args[1]]
		if !ok1 || !ok2 || axis != 1 && axis != -1 || dim != 1 && dim != -1 || len(x.Sizes) != 2 || len(index.Sizes) != 2 || index.Sizes[1] != 1 ||
			index.DType != I64 || x.DType != F32 || out.DType != F32 || !contiguousOrder(x.DimOrder, x.Sizes) {
			continue
		}
		r.replace(n, r.node("tabtune::nll.out", logp.Args[0], gather.Args[2], n.Args[1]))
	}
	return r.apply()
}
