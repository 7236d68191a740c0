package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Operators whose output has as many elements as the data says, and other selections.

// shapeLater leaves the output's sizes to the reference, which knows the data; an output without bounds is given none till then.
func (c *Call) shapeLater(sizes ...int) {
	if out := c.Out(); out.addr == 0 {
		c.Resize(out, sizes...)
	}
}

func checkMask(at int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		if v := g.Values[n.Args[at]]; v.DType != Bool {
			return errDType("mask", v)
		}
		return checkSameType(g, n)
	}
}

func init() {
	Register(Op{Name: "aten::nonzero.out", Check: func(g *Graph, n *Node) error {
		if v := g.Values[n.Args[1]]; v.DType != I64 {
			return errDType("out", v)
		}
		return nil
	}, Shape: func(c *Call) { c.shapeLater(0, c.T(0).dim()) }, Ref: func(c *Call) {
		in := c.In(c.T(0))
		count := 0
		for k := range in.len() {
			if in.at(k) != 0 {
				count++
			}
		}
		c.Resize(c.Out(), count, len(in.sizes)) // before anything of that size is made
		if c.failed() {
			return
		}
		at := make([]int64, 0, count*len(in.sizes))
		idx := make([]int, len(in.sizes))
		each(in.sizes, idx, func(k int) {
			if in.at(k) == 0 {
				return
			}
			for _, i := range idx {
				at = append(at, int64(i))
			}
		})
		c.Put(c.Out(), &array{dtype: I64, sizes: c.Out().sizes, i: at})
	}})
	Register(Op{Name: "aten::masked_select.out", Check: checkMask(1), Shape: func(c *Call) {
		if sizes := c.broadcast(c.T(0), c.T(1)); numel64(sizes) > math.MaxInt32 {
			c.Fail("a mask for %v elements", sizes)
		}
		c.shapeLater(0)
	}, Ref: func(c *Call) {
		in, mask := c.T(0), c.In(c.T(1))
		sizes := c.broadcast(in, c.T(1))
		each := func(f func(k int)) {
			walk(sizes, func(off []int) {
				if mask.i[off[1]] != 0 {
					f(off[0])
				}
			}, broadcastStrides(in.sizes, sizes), broadcastStrides(mask.sizes, sizes))
		}
		count := 0
		each(func(int) { count++ })
		c.Resize(c.Out(), count) // before anything of that size is made
		if c.failed() {
			return
		}
		b, e := c.Bytes(in), in.elem
		picked := make([]byte, 0, count*e)
		each(func(k int) { picked = append(picked, b[k*e:(k+1)*e]...) })
		c.PutBytes(c.Out(), picked)
	}})
	Register(Op{Name: "aten::masked_scatter.out", Check: func(g *Graph, n *Node) error {
		if a, b := g.Values[n.Args[0]], g.Values[n.Args[2]]; a.DType != b.DType {
			return fmt.Errorf("source of type %s for %s", dtypeName(b.DType), dtypeName(a.DType))
		}
		return checkMask(1)(g, n)
	}, Shape: func(c *Call) { c.Resize(c.Out(), c.broadcast(c.T(0), c.T(1))...) }, Ref: func(c *Call) {
		in, mask, src := c.In(c.T(0)), c.In(c.T(1)), c.In(c.T(2))
		res := newArray(in.dtype, c.Out().sizes)
		k, used := 0, 0
		walk(res.sizes, func(off []int) {
			switch {
			case mask.i[off[1]] == 0:
				res.copyElement(k, in, off[0])
			case used < src.len():
				res.copyElement(k, src, used)
				used++
			default:
				c.failArg(2, "has only %d elements", src.len())
			}
			k++
		}, broadcastStrides(in.sizes, res.sizes), broadcastStrides(mask.sizes, res.sizes))
		if !c.failed() {
			c.Put(c.Out(), res)
		}
	}})
	Register(Op{Name: "aten::repeat_interleave.Tensor_out", Check: func(g *Graph, n *Node) error {
		if err := checkSameType(g, n); err != nil {
			return err
		}
		return checkIndex(0)(g, n)
	}, Shape: func(c *Call) {
		if c.T(0).dim() != 1 {
			c.Fail("repeats %v, want one dimension", c.T(0).sizes)
		}
		c.shapeLater(0)
	}, Ref: func(c *Call) {
		reps := c.In(c.T(0))
		total := int64(0)
		for k, n := range reps.i {
			if n < 0 || n > math.MaxInt32 || total > math.MaxInt32 {
				c.failArg(0, "element %d is %d", k, n)
				return
			}
			total += n
		}
		if want := c.IntOr(1, total); want != total {
			c.failArg(1, "is %d, the repeats add up to %d", want, total)
			return
		}
		c.Resize(c.Out(), int(min(total, math.MaxInt32+1)))
		if c.failed() {
			return
		}
		res := newArray(reps.dtype, c.Out().sizes)
		at := 0
		for k, n := range reps.i {
			for range n {
				res.i[at] = int64(k)
				at++
			}
		}
		c.Put(c.Out(), res)
	}})
	// Arguments: self, k, dim, largest, sorted, values, indices. Equal values keep their order; NaN counts as the largest.
	Register(Op{Name: "aten::topk.values", Check: checkIndices(6), Shape: func(c *Call) {
		in, k := c.T(0), c.Int(1)
		d := c.Dim(2, in.dim())
		n := 1
		if in.dim() > 0 {
			n = in.sizes[d]
		}
		if c.failed() || k < 0 || k > int64(n) {
			c.failArg(1, "is %d of %d", k, n)
			return
		}
		sizes := slices.Clone(in.sizes)
		if in.dim() > 0 {
			sizes[d] = int(k)
		}
		c.Resize(c.T(5), sizes...)
		c.Resize(c.T(6), sizes...)
	}, Ref: func(c *Call) {
		in := c.In(c.T(0))
		vals, idx := newArray(in.dtype, c.T(5).sizes), newArray(I64, c.T(6).sizes)
		outer, n, inner := 1, in.len(), 1
		if len(in.sizes) > 0 {
			outer, n, inner = around(in.sizes, c.Dim(2, len(in.sizes)))
		}
		k := int(c.Int(1))
		if len(in.sizes) == 0 {
			k = 1
		}
		order := make([]int, n)
		for o := range outer {
			for i := range inner {
				at := func(j int) int { return (o*n+j)*inner + i }
				for j := range order {
					order[j] = j
				}
				slices.SortStableFunc(order, func(a, b int) int {
					r := in.compareElements(at(a), at(b))
					if c.Bool(3) {
						return -r
					}
					return r
				})
				for j := range k {
					to := (o*k+j)*inner + i
					vals.copyElement(to, in, at(order[j]))
					idx.i[to] = int64(order[j])
				}
			}
		}
		c.Put(c.T(5), vals)
		c.Put(c.T(6), idx)
	}})
}

// compareElements orders two elements; NaN comes after all numbers.
func (a *array) compareElements(i, j int) int {
	if a.f == nil {
		if a.dtype == U64 {
			return cmp.Compare(uint64(a.i[i]), uint64(a.i[j]))
		}
		return cmp.Compare(a.i[i], a.i[j])
	}
	x, y := a.f[i], a.f[j]
	if x != x || y != y {
		return int(b2i(x != x) - b2i(y != y))
	}
	return cmp.Compare(x, y)
}
