package engine

import (
	"fmt"
	"slices"

	"tabtune/engine/pte"
)

// Fusions replace a group of core operators by one operator of this engine
// ("tabtune::..."), which computes the same with one kernel. They match what
// package lora writes and what torch.export makes of the same layers, through
// the values' definitions: an intermediate result that somebody else reads keeps
// its nodes, all others are removed as dead afterwards.
//
// A pass collects its replacements first and applies them in one sweep, since a
// program may have tens of thousands of nodes.
var fusions = []Pass{
	{"fuse seeded noise", fuseNoise},
	{"fuse rotary and attention", fuseAttention},
	{"fuse decoding over a cache", fuseDecode},
	{"fuse RMSNorm", fuseNorm},
	{"fuse gated linear units", fuseGLU},
	{"fuse negative log-likelihood", fuseNLL},
	{"fuse low-rank products", fuseLowRank},
	{"fuse quantised linear layers", fuseLinear},
	{"fuse MLPs", fuseMLP},
	{"fuse transposed weights", fuseMatmul},
	{"schedule", schedule},
	{"remove dead nodes", func(g *Graph) (int, error) { return g.RemoveDead(), nil }},
}

// fusedPrefix begins the names of the operators that fusions make.
const fusedPrefix = "tabtune::"

// rewriter collects the replacements of a pass.
type rewriter struct {
	g    *Graph
	with map[*Node][]*Node
	err  error
}

func newRewriter(g *Graph) *rewriter { return &rewriter{g: g, with: map[*Node][]*Node{}} }

// node makes a node; the first error ends the pass.
func (r *rewriter) node(op string, args ...int) *Node {
	n, err := r.g.NewNode(op, args...)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n
}

// replace puts nodes in the place of old when the pass ends.
func (r *rewriter) replace(old *Node, by ...*Node) { r.with[old] = by }

// taken reports whether old was replaced already.
func (r *rewriter) taken(old *Node) bool { _, ok := r.with[old]; return ok }

func (r *rewriter) apply() (int, error) {
	if r.err != nil || len(r.with) == 0 {
		return 0, r.err
	}
	nodes := make([]*Node, 0, len(r.g.Nodes))
	for _, n := range r.g.Nodes {
		if by, ok := r.with[n]; ok {
			nodes = append(nodes, by...)
		} else {
			nodes = append(nodes, n)
		}
	}
	r.g.Nodes = nodes
	r.g.invalidate()
	r.g.RemoveDead()
	return len(r.with), nil
}

// made returns the node with the given operator that alone defines v, or nil.
func (g *Graph) made(v int, op string) *Node {
	if v < 0 || g.Values[v].Kind != KindTensor {
		return nil
	}
	defs := g.Defs(v)
	if len(defs) != 1 || defs[0].Op != op {
		return nil
	}
	return defs[0]
}

// scalarOp matches v = op(x, c) for a constant c and returns x.
func (g *Graph) scalarOp(v int, op string, c float64) (x int, ok bool) {
	n := g.made(v, op)
	if n == nil {
		return 0, false
	}
	if got, ok := g.ConstFloat(n.Args[1]); !ok || got != c {
		return 0, false
	}
	if op == "aten::add.Scalar_out" {
		if alpha, ok := g.ConstFloat(n.Args[2]); !ok || alpha != 1 {
			return 0, false
		}
	}
	return n.Args[0], true
}

// sum matches v = a + b with alpha 1.
func (g *Graph) sum(v int) (a, b int, ok bool) {
	n := g.made(v, "aten::add.out")
	if n == nil {
		return 0, 0, false
	}
	alpha, ok := g.ConstFloat(n.Args[2])
	return n.Args[0], n.Args[1], ok && alpha == 1
}

// views are the operators that keep the elements and their order.
var views = []string{"aten::view_copy.out", "executorch_prim::et_view.default", "aten::unsqueeze_copy.out", "aten::squeeze_copy.dim_out", "aten::squeeze_copy.dims_out"}

// view matches v = view(x) and returns x and the sizes' values (nil for
// operators without such a list).
func (g *Graph) view(v int) (x int, sizes []int, ok bool) {
	if v < 0 || g.Values[v].Kind != KindTensor {
		return 0, nil, false
	}
	defs := g.Defs(v)
	if len(defs) != 1 || !slices.Contains(views, defs[0].Op) {
		return 0, nil, false
	}
	n := defs[0]
	if l := g.Values[n.Args[1]]; l != nil && l.Kind == KindIntList && (n.Op == views[0] || n.Op == views[1]) {
		sizes = l.List
	}
	return n.Args[0], sizes, true
}

// behindViews follows views back to what they show.
func (g *Graph) behindViews(v int) int {
	for {
		x, _, ok := g.view(v)
		if !ok {
			return v
		}
		v = x
	}
}

// permuted matches v = permute_copy(x, order).
func (g *Graph) permuted(v int, order ...int64) (x int, ok bool) {
	n := g.made(v, "aten::permute_copy.out")
	if n == nil {
		return 0, false
	}
	got, ok := g.ConstInts(n.Args[1])
	return n.Args[0], ok && slices.Equal(got, order)
}

// rank returns a tensor's number of dimensions.
func (g *Graph) rank(v int) int { return len(g.Values[v].Sizes) }

// temp adds a contiguous planned tensor.
func (g *Graph) temp(dt DType, dynamic pte.Dynamism, sizes ...int) int {
	order := make([]uint8, len(sizes))
	for i := range order {
		order[i] = uint8(i)
	}
	return g.AddValue(&Value{Kind: KindTensor, DType: dt, Sizes: sizes, DimOrder: order, Dynamic: dynamic})
}

// needTypes checks element types when a fused node is made.
func needTypes(g *Graph, n *Node, types ...DType) error {
	for i, dt := range types {
		if n.Args[i] < 0 {
			continue
		}
		if v := g.Values[n.Args[i]]; v.Kind == KindTensor && v.DType != dt {
			return fmt.Errorf("argument %d is %s, want %s", i, dtypeName(v.DType), dtypeName(dt))
		}
	}
	return nil
}
