package engine

import (
	"fmt"
	"slices"

	"tabtune/internal/collect"
)

// nodeKind is what a node does.
type nodeKind uint8

const (
	nodeOp nodeKind = iota
	nodeMove
	nodeJumpFalse
	nodeFree
)

// Node is one step of a graph: a call of an operator.
type Node struct {
	Op       string // operator with overload, e.g. "aten::mul.out"
	Args     []int  // value indices, one for each argument of the operator's schema (out arguments included)
	Index    int    // instruction in the file, -1 for a node that a pass made
	InAl     bool   // the output shares the storage of the first argument: only sizes and address are set
	over     int    // 1 + the argument that the output is written over, 0: none
	permuted bool   // a tensor of it has a dim order that is not row-major
	kind     nodeKind
	target   int // of a jump: index into Nodes
	op       *Op
}

// Graph is one method. Nodes run in order. In a graph without control flow (Straight) every computed tensor is written by
// exactly one node before it is read, apart from mutable buffers, inputs and in-place operators' targets.
type Graph struct {
	Name     string
	Values   []*Value
	Nodes    []*Node
	Inputs   []int
	Outputs  []int
	Straight bool

	program *Program
	uses    [][]*Node // by value; nil: not known
	defs    [][]*Node
}

// invalidate forgets the def/use index after a change.
func (g *Graph) invalidate() { g.uses, g.defs = nil, nil }

// Changed tells the graph that a pass changed Nodes or Args directly.
func (g *Graph) Changed() { g.invalidate() }

func (g *Graph) index() {
	if g.uses != nil {
		return
	}
	collect.Now()
	// Counted first, so that all lists lie in one piece of memory: passes have this made anew dozens of times.
	uses, defs, total := make([]int, len(g.Values)), make([]int, len(g.Values)), 0
	each := func(use, def func(v int, n *Node)) {
		for _, n := range g.Nodes {
			g.visit(n, func(v int, write, only bool) {
				if v >= 0 && write {
					def(v, n)
				}
				if v >= 0 && !only {
					use(v, n)
				}
			})
		}
	}
	count := func(list []int) func(int, *Node) { return func(v int, _ *Node) { list[v]++; total++ } }
	each(count(uses), count(defs))
	all := make([]*Node, total)
	cut := func(counts []int) [][]*Node {
		out := make([][]*Node, len(counts))
		for v, n := range counts {
			out[v], all = all[:0:n], all[n:]
		}
		return out
	}
	g.uses, g.defs = cut(uses), cut(defs)
	add := func(lists [][]*Node) func(int, *Node) {
		return func(v int, n *Node) {
			if l := lists[v]; len(l) == 0 || l[len(l)-1] != n {
				lists[v] = append(l, n)
			}
		}
	}
	each(add(g.uses), add(g.defs))
}

// forget drops the contents of values that nothing refers to any more, most of those of a program whose operators were fused. Indices stay.
func (g *Graph) forget() {
	keep := make([]bool, len(g.Values))
	var mark func(v int)
	mark = func(v int) {
		if v < 0 || keep[v] {
			return
		}
		keep[v] = true
		mark(g.Values[v].Alias)
		for _, e := range g.Values[v].List {
			mark(e)
		}
	}
	for _, list := range [][]int{g.Inputs, g.Outputs} {
		for _, v := range list {
			mark(v)
		}
	}
	for _, n := range g.Nodes {
		for _, v := range n.Args {
			mark(v)
		}
	}
	none := &Value{Kind: KindNone, Alias: -1}
	for i := range g.Values {
		if !keep[i] {
			g.Values[i] = none
		}
	}
	g.invalidate()
}

// listOf is a value's list; one that was added since has none.
func listOf(lists [][]*Node, v int) []*Node {
	if v < 0 || v >= len(lists) {
		return nil
	}
	return lists[v]
}

// visit calls f for every value that the node touches, entries of lists included: write tells that it is
// written, only that it is not read.
func (g *Graph) visit(n *Node, f func(v int, write, only bool)) {
	switch n.kind {
	case nodeMove:
		f(n.Args[0], false, false)
		f(n.Args[1], true, true)
		return
	case nodeJumpFalse, nodeFree:
		f(n.Args[0], false, false)
		return
	}
	for i, a := range n.Args {
		if a < 0 {
			continue
		}
		var sa SchemaArg
		if n.op != nil && i < len(n.op.schema.Args) {
			sa = n.op.schema.Args[i]
		}
		f(a, sa.Writes, sa.Out)
		v := g.Values[a]
		if v.Kind == KindIntList || v.Kind == KindTensorList {
			for _, e := range v.List {
				if e >= 0 {
					f(e, sa.Writes, sa.Out)
				}
			}
		}
	}
}

// Uses returns the nodes that read value v, directly or in a list, in order.
func (g *Graph) Uses(v int) []*Node { g.index(); return listOf(g.uses, v) }

// Defs returns the nodes that write value v, in order.
func (g *Graph) Defs(v int) []*Node { g.index(); return listOf(g.defs, v) }

// Def returns the only node that writes v, or nil if there is none or more than one.
func (g *Graph) Def(v int) *Node {
	if d := g.Defs(v); len(d) == 1 {
		return d[0]
	}
	return nil
}

// IsOutput reports whether v is an output of the method.
func (g *Graph) IsOutput(v int) bool { return slices.Contains(g.Outputs, v) }

// IsInput reports whether v is an input of the method.
func (g *Graph) IsInput(v int) bool { return slices.Contains(g.Inputs, v) }

// SingleUse reports whether exactly one node reads v and it is not an output.
func (g *Graph) SingleUse(v int) bool { return len(g.Uses(v)) == 1 && !g.IsOutput(v) }

// AddValue appends a value and returns its index. Alias is set to -1.
func (g *Graph) AddValue(v *Value) int {
	v.Alias = -1
	g.Values = append(g.Values, v)
	return len(g.Values) - 1
}

// AddInt, AddFloat, AddBool, AddNone and AddInts append a constant and return its index.
func (g *Graph) AddInt(i int64) int { return g.AddValue(&Value{Kind: KindInt, Int: i}) }

// AddFloat appends a float constant.
func (g *Graph) AddFloat(f float64) int { return g.AddValue(&Value{Kind: KindFloat, Float: f}) }

// AddBool appends a bool constant.
func (g *Graph) AddBool(b bool) int { return g.AddValue(&Value{Kind: KindBool, Bool: b}) }

// AddNone appends None.
func (g *Graph) AddNone() int { return g.AddValue(&Value{Kind: KindNone}) }

// AddInts appends a list of int constants.
func (g *Graph) AddInts(is ...int64) int {
	l := make([]int, len(is))
	for k, i := range is {
		l[k] = g.AddInt(i)
	}
	return g.AddValue(&Value{Kind: KindIntList, List: l})
}

// AddTensor appends a computed tensor like the given one: same sizes, bounds and dynamism, with the given element type.
func (g *Graph) AddTensor(like int, dtype DType) int {
	v := g.Values[like]
	return g.AddValue(&Value{Kind: KindTensor, DType: dtype, Sizes: slices.Clone(v.Sizes), DimOrder: slices.Clone(v.DimOrder), Dynamic: v.Dynamic})
}

// NewNode makes a node, checked against the operator's schema; it is not yet in the graph.
func (g *Graph) NewNode(op string, args ...int) (*Node, error) {
	n := &Node{Op: op, Args: args, Index: -1}
	if err := g.bind(n); err != nil {
		return nil, fmt.Errorf("new node %s: %w", op, err)
	}
	return n, nil
}

// Position returns the index of n in Nodes, or -1.
func (g *Graph) Position(n *Node) int { return slices.Index(g.Nodes, n) }

// InsertBefore puts nodes in front of node at.
func (g *Graph) InsertBefore(at *Node, nodes ...*Node) {
	i := g.Position(at)
	if i < 0 {
		i = len(g.Nodes)
	}
	g.Nodes = slices.Insert(g.Nodes, i, nodes...)
	g.invalidate()
}

// Replace puts a node in the place of old, which leaves the graph.
func (g *Graph) Replace(old *Node, nodes ...*Node) {
	i := g.Position(old)
	if i < 0 {
		return
	}
	g.Nodes = slices.Replace(g.Nodes, i, i+1, nodes...)
	g.invalidate()
}

// Remove takes nodes out of the graph. Values that nothing writes any more are the caller's concern; RemoveDead clears the rest.
func (g *Graph) Remove(nodes ...*Node) {
	gone := make(map[*Node]bool, len(nodes))
	for _, n := range nodes {
		gone[n] = true
	}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *Node) bool { return gone[n] })
	g.invalidate()
}

// ReplaceUses makes every reader of value old, and the outputs, use value by instead. For many values use ReplaceAll.
func (g *Graph) ReplaceUses(old, by int) { g.ReplaceAll(map[int]int{old: by}) }

// ReplaceAll replaces the keys of with by its values wherever they are read, in one sweep; a value may itself be a key, as long as there is
// no cycle. Lists that hold a key are copied first.
func (g *Graph) ReplaceAll(with map[int]int) {
	if len(with) == 0 {
		return
	}
	resolve := func(v int) int {
		for {
			by, ok := with[v]
			if !ok {
				return v
			}
			v = by
		}
	}
	lists := map[int]int{}
	for _, n := range g.Nodes {
		for i, a := range n.Args {
			if a < 0 || n.op != nil && n.op.schema.Args[i].Out {
				continue
			}
			if v := g.Values[a]; v.Kind != KindTensorList && v.Kind != KindIntList {
				n.Args[i] = resolve(a)
				continue
			}
			l, ok := lists[a]
			if !ok {
				l = a
				if slices.ContainsFunc(g.Values[a].List, func(e int) bool { _, hit := with[e]; return hit }) {
					entries := slices.Clone(g.Values[a].List)
					for k, e := range entries {
						entries[k] = resolve(e)
					}
					l = g.AddValue(&Value{Kind: g.Values[a].Kind, List: entries})
				}
				lists[a] = l
			}
			n.Args[i] = l
		}
	}
	for i, o := range g.Outputs {
		g.Outputs[i] = resolve(o)
	}
	g.invalidate()
}

// RemoveDead removes nodes whose results nobody reads and returns how many. A node that writes a mutable buffer or an input stays.
func (g *Graph) RemoveDead() int {
	live := make(map[int]bool)
	for _, o := range g.Outputs {
		live[o] = true
	}
	for i, v := range g.Values {
		if v.Role == RoleState || v.Role == RoleInput {
			live[i] = true
		}
	}
	keep := make([]*Node, 0, len(g.Nodes))
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		n := g.Nodes[i]
		needed := n.kind != nodeOp
		g.visit(n, func(v int, write, _ bool) {
			for r := v; write && r >= 0; r = g.Values[r].Alias {
				needed = needed || live[r]
			}
		})
		if !needed {
			continue
		}
		g.visit(n, func(v int, _, only bool) {
			if !only {
				for r := v; r >= 0; r = g.Values[r].Alias {
					live[r] = true
				}
			}
		})
		keep = append(keep, n)
	}
	removed := len(g.Nodes) - len(keep)
	slices.Reverse(keep)
	g.Nodes = keep
	g.invalidate()
	return removed
}

// Root returns the value whose storage v uses: v itself unless it is an alias.
func (g *Graph) Root(v int) int {
	for g.Values[v].Alias >= 0 {
		v = g.Values[v].Alias
	}
	return v
}
