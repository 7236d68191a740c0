package engine

import (
	"fmt"
	"slices"

	"tabtune/engine/pte"
	"tabtune/internal/collect"
)

// Pass is one rewrite of a graph. Run returns how many changes it made.
type Pass struct {
	Name string
	Run  func(g *Graph) (n int, err error)
}

// DefaultPasses returns the passes that Load applies to straight-line methods, in order. The order matters: rewrites that look for a
// pattern come before views are turned into aliases, and dead nodes go last.
func DefaultPasses() []Pass {
	return slices.Concat(defaultPasses, fusions)
}

var defaultPasses = []Pass{
	{"fold sizes", foldSizes},
	{"skip copies", skipCopies},
	{"remove dead nodes", func(g *Graph) (int, error) { return g.RemoveDead(), nil }},
}

func (g *Graph) runPasses(passes []Pass) error {
	for _, p := range passes {
		collect.Now()
		if _, err := p.Run(g); err != nil {
			return fmt.Errorf("pass %q: %w", p.Name, err)
		}
		g.invalidate()
	}
	return nil
}

// foldSizes replaces sym_size of a dimension that cannot change, and arithmetic on constants, by numbers.
func foldSizes(g *Graph) (int, error) {
	var gone []*Node
	for _, n := range g.Nodes {
		out := -1
		var val Value
		switch n.Op {
		case "aten::sym_size.int":
			d, ok := g.ConstInt(n.Args[1])
			t := g.Values[n.Args[0]]
			if !ok || !t.IsStatic() {
				continue
			}
			if d < 0 {
				d += int64(len(t.Sizes))
			}
			if d < 0 || d >= int64(len(t.Sizes)) {
				continue
			}
			out, val = n.Args[2], Value{Kind: KindInt, Int: int64(t.Sizes[d])}
		case "aten::sym_numel":
			t := g.Values[n.Args[0]]
			if !t.IsStatic() {
				continue
			}
			out, val = n.Args[1], Value{Kind: KindInt, Int: t.NumElements()}
		case "executorch_prim::add.Scalar", "executorch_prim::sub.Scalar", "executorch_prim::mul.Scalar":
			a, ok1 := g.ConstInt(n.Args[0])
			b, ok2 := g.ConstInt(n.Args[1])
			if !ok1 || !ok2 || g.Values[n.Args[0]].Kind != KindInt || g.Values[n.Args[1]].Kind != KindInt {
				continue
			}
			r := a + b
			if n.Op == "executorch_prim::sub.Scalar" {
				r = a - b
			} else if n.Op == "executorch_prim::mul.Scalar" {
				r = a * b
			}
			out, val = n.Args[2], Value{Kind: KindInt, Int: r}
		default:
			continue
		}
		if g.Def(out) != n || g.IsOutput(out) {
			continue
		}
		val.Alias = -1
		*g.Values[out] = val
		gone = append(gone, n)
	}
	g.Remove(gone...)
	return len(gone), nil
}

// skipCopies makes readers of a copy that changes nothing (clone, lift, alias, an expand to the same sizes) read the original, where the
// original is a constant or is written only once.
func skipCopies(g *Graph) (int, error) {
	var gone []*Node
	with := map[int]int{}
	for _, n := range g.Nodes {
		switch n.Op {
		case "aten::clone.out", "aten::alias_copy.out", "aten::lift_fresh_copy.out", "aten::detach_copy.out",
			"dim_order_ops::_clone_dim_order.out", "dim_order_ops::_to_dim_order_copy.out", "aten::_to_copy.out":
		case "aten::expand_copy.out", "aten::view_copy.out", "executorch_prim::et_view.default", "aten::repeat.out":
		default:
			continue
		}
		src, out := n.Args[0], n.Args[len(n.Args)-1]
		s, o := g.Values[src], g.Values[out]
		if s.DType != o.DType || !slices.Equal(s.Sizes, o.Sizes) || !s.IsStatic() || !o.IsStatic() || !slices.Equal(s.DimOrder, o.DimOrder) {
			continue
		}
		if s.Role != RoleConst && (s.Role != RoleTemp || g.Def(src) == nil) || o.Role != RoleTemp || g.Def(out) != n || g.IsOutput(out) {
			continue
		}
		with[out] = src
		gone = append(gone, n)
	}
	g.Remove(gone...)
	g.ReplaceAll(with)
	return len(gone), nil
}

// aliasViews lets the outputs of views share the storage of their input where nobody can tell: the bytes must not be
// written while the view is read, and what is handed out must not be an input's, a constant's or a buffer's memory. A view that is
// itself written in place shares always, for that is what the program means.
func aliasViews(g *Graph) int {
	pos := make(map[*Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		pos[n] = i
	}
	// writes lists by root value where its storage is written.
	writes := make(map[int][]int)
	for i, n := range g.Nodes {
		g.visit(n, func(v int, write, _ bool) {
			if write && g.Values[v].Kind == KindTensor {
				r := g.Root(v)
				writes[r] = append(writes[r], i)
			}
		})
	}
	count := 0
	for i, n := range g.Nodes {
		if n.kind != nodeOp || n.InAl {
			continue
		}
		sub := n.op.SubView != nil && n.op.SubView(g, n)
		if !n.op.View && !sub {
			continue
		}
		src, out := n.Args[0], n.Args[len(n.Args)-1]
		s, o := g.Values[src], g.Values[out]
		if s.Kind != KindTensor || o.Kind != KindTensor || s.DType != o.DType || o.Role != RoleTemp || o.Alias >= 0 ||
			!contiguousOrder(s.DimOrder, s.Sizes) || !contiguousOrder(o.DimOrder, o.Sizes) {
			continue
		}
		root := g.Root(src)
		if root == out {
			continue
		}
		r := g.Values[root]
		written := len(g.Defs(out)) > 1
		if written && n.Op != "executorch_prim::et_view.default" {
			continue
		}
		if !written {
			if r.Role != RoleTemp && g.IsOutput(out) {
				continue
			}
			last := i
			for _, u := range g.Uses(out) {
				last = max(last, pos[u])
			}
			if g.IsOutput(out) {
				last = len(g.Nodes)
			}
			hazard := false
			for _, w := range writes[root] {
				hazard = hazard || w >= i && w <= last
			}
			if hazard {
				continue
			}
		}
		o.Alias, n.InAl = src, true
		writes[root] = append(writes[root], slices.DeleteFunc(writes[out], func(w int) bool { return w == i })...)
		delete(writes, out)
		count++
	}
	g.invalidate()
	return count
}

// aliasInPlace lets elementwise operators write over an operand that nobody reads later.
func aliasInPlace(g *Graph) {
	oneShot := g.program != nil && g.program.opt.ShareArena
	last := map[int]int{} // by root value: where its storage is touched last
	for i, n := range g.Nodes {
		g.visit(n, func(v int, _, _ bool) { last[g.Root(v)] = i })
	}
	for _, o := range g.Outputs {
		last[g.Root(o)] = len(g.Nodes)
	}
	for i, n := range g.Nodes {
		if n.op == nil || n.InAl || len(n.op.InPlace) == 0 {
			continue
		}
		out := n.Args[len(n.Args)-1]
		o := g.Values[out]
		if o.Role != RoleTemp || o.Alias >= 0 || o.Dynamic == pte.DynamicUnbound || len(g.Defs(out)) != 1 {
			continue
		}
		for _, k := range n.op.InPlace {
			arg := n.Args[k]
			root := g.Root(arg)
			a, r := g.Values[arg], g.Values[root]
			if root == out || last[root] != i || !(r.Role == RoleTemp || r.Role == RoleInput && oneShot) || r.Dynamic == pte.DynamicUnbound ||
				a.DType != o.DType || !slices.Equal(a.Sizes, o.Sizes) || r.Bytes() != a.Bytes() || !contiguousOrder(a.DimOrder, a.Sizes) || !contiguousOrder(o.DimOrder, o.Sizes) {
				continue
			}
			if slices.ContainsFunc(n.Args, func(v int) bool { // another view of the operand would see it change
				return v >= 0 && v != arg && v != out && g.Values[v].Kind == KindTensor && g.Root(v) == root && !slices.Equal(g.Values[v].Sizes, a.Sizes)
			}) {
				continue
			}
			o.Alias, n.over = root, k+1
			last[root] = max(last[root], last[out])
			break
		}
	}
	g.invalidate()
}
