package engine

import (
	"cmp"
	"slices"

	"tabtune/engine/pte"
)

// align is the alignment of planned tensors: a cache line.
const align = 64

// lifetime is the interval of nodes, ends included, in which a storage holds something that is read later.
type lifetime struct{ start, end int }

// memoryPlan says where in the arena every storage is.
type memoryPlan struct {
	offset map[int]int64 // by root value
	size   int64
}

// lifetimes returns the interval of every storage that needs arena memory, by root value. Inputs live throughout, since they keep
// their value between calls, but with Options.ShareArena only until they are read last. Outputs live from their first write to the end.
func (g *Graph) lifetimes() map[int]lifetime {
	oneShot := g.program != nil && g.program.opt.ShareArena
	live := make(map[int]lifetime)
	planned := func(v int) bool {
		x := g.Values[v]
		return x.Kind == KindTensor && (x.Role == RoleTemp && x.Dynamic != pte.DynamicUnbound || x.Role == RoleInput)
	}
	touch := func(v, at int) {
		if g.Values[v].Kind != KindTensor {
			return
		}
		r := g.Root(v)
		if !planned(r) {
			return
		}
		l, ok := live[r]
		if !ok {
			l = lifetime{at, at}
		}
		l.start, l.end = min(l.start, at), max(l.end, at)
		live[r] = l
	}
	for _, i := range g.Inputs {
		touch(i, -1)
		if !oneShot {
			touch(i, len(g.Nodes))
		}
	}
	for k, n := range g.Nodes {
		g.visit(n, func(v int, _, _ bool) {
			if !g.shapeOnly(n, v) {
				touch(v, k)
			}
		})
	}
	for _, o := range g.Outputs {
		touch(o, len(g.Nodes))
	}
	return live
}

// planMemory places every storage in one arena: largest first, each at the smallest gap that fits among those it lives
// together with ("greedy by size", Pisarchyk and Lee, arXiv 2001.03288).
func (g *Graph) planMemory() memoryPlan {
	live := g.lifetimes()
	size := make(map[int]int64, len(live))
	for i, v := range g.Values { // a view's bounds may exceed those of what it views
		if v.Kind != KindTensor {
			continue
		}
		if r := g.Root(i); r != i {
			size[r] = max(size[r], v.Bytes())
		} else {
			size[i] = max(size[i], v.Bytes())
		}
	}
	order := make([]int, 0, len(live))
	for r := range live {
		order = append(order, r)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(size[b], size[a]), cmp.Compare(live[a].start, live[b].start), cmp.Compare(a, b))
	})
	plan := memoryPlan{offset: make(map[int]int64, len(live))}
	type box struct {
		from, to   int64 // bytes
		start, end int   // nodes
	}
	var placed []box // by from
	for _, r := range order {
		n := alignUp(max(size[r], 1), align)
		l := live[r]
		var end int64
		best, bestGap := int64(-1), int64(0)
		for i := range placed {
			q := &placed[i]
			if q.end < l.start || q.start > l.end {
				continue
			}
			if gap := q.from - end; gap >= n && (best < 0 || gap < bestGap) {
				best, bestGap = end, gap
			}
			end = max(end, q.to)
		}
		if best < 0 {
			best = end
		}
		plan.offset[r] = best
		plan.size = max(plan.size, best+n)
		at, _ := slices.BinarySearchFunc(placed, best, func(q box, o int64) int { return cmp.Compare(q.from, o) })
		placed = slices.Insert(placed, at, box{best, best + n, l.start, l.end})
	}
	return plan
}

func alignUp(n, a int64) int64 { return (n + a - 1) &^ (a - 1) }
