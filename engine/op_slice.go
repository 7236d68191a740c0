package engine

import (
	"math"
	"slices"
)

// Operators that take or replace parts of a tensor along one dimension.

func init() {
	lead := func(dimArg int) func(g *Graph, n *Node) bool {
		return func(g *Graph, n *Node) bool {
			d, ok := g.ConstInt(n.Args[dimArg])
			in := g.Values[n.Args[0]]
			if !ok {
				return false
			}
			if d < 0 {
				d += int64(len(in.Sizes))
			}
			if d < 0 || d >= int64(len(in.Sizes)) {
				return false
			}
			for _, s := range in.Sizes[:d] {
				if s != 1 {
					return false
				}
			}
			return true
		}
	}
	registerMove(Op{Name: "aten::select_copy.int_out", SubView: lead(1), SubOffset: func(c *Call) int64 {
		return int64(selectJob(c)[0].srcOff) * int64(c.T(0).elem)
	}, Shape: func(c *Call) {
		in := c.T(0)
		d, _ := c.selectIndex(1, 2)
		if !c.failed() {
			c.Resize(c.Out(), slices.Delete(slices.Clone(in.sizes), d, d+1)...)
		}
	}}, selectJob)

	sliceLead := lead(1)
	registerMove(Op{Name: "aten::slice_copy.Tensor_out", SubView: func(g *Graph, n *Node) bool {
		step, ok := g.ConstInt(n.Args[4])
		return ok && step == 1 && sliceLead(g, n)
	}, SubOffset: func(c *Call) int64 {
		d, start, _, _ := c.slice(1, 2, 3, 4)
		return int64(start) * int64(stridesOf(c.T(0).sizes)[d]) * int64(c.T(0).elem)
	}, Shape: func(c *Call) {
		in := c.T(0)
		d, _, _, n := c.slice(1, 2, 3, 4)
		if !c.failed() {
			sizes := slices.Clone(in.sizes)
			sizes[d] = n
			c.Resize(c.Out(), sizes...)
		}
	}}, func(c *Call) []moveJob {
		in, out := c.T(0), c.Out()
		d, start, step, _ := c.slice(1, 2, 3, 4)
		st := stridesOf(in.sizes)
		off := start * st[d]
		st[d] *= step
		return dense(in, out, off, st)
	})
	registerMove(Op{Name: "aten::narrow_copy.out", Shape: func(c *Call) {
		in := c.T(0)
		d, start, n := c.Dim(1, in.dim()), c.Int(2), c.Int(3)
		if c.failed() || in.dim() == 0 {
			c.Fail("narrow of a tensor without dimensions")
			return
		}
		size := int64(in.sizes[d])
		if start < -size || start > size {
			c.Fail("start %d of %d", start, size)
			return
		}
		if start < 0 {
			start += size
		}
		if n < 0 || n > size-start {
			c.Fail("length %d from %d of %d", n, start, size)
			return
		}
		sizes := slices.Clone(in.sizes)
		sizes[d] = int(n)
		c.Resize(c.Out(), sizes...)
	}}, func(c *Call) []moveJob {
		in := c.T(0)
		d, start := c.Dim(1, in.dim()), int(c.Int(2))
		if start < 0 {
			start += in.sizes[d]
		}
		st := stridesOf(in.sizes)
		return dense(in, c.Out(), start*st[d], st)
	})
	registerMove(Op{Name: "aten::slice_scatter.out", Shape: func(c *Call) {
		in, src := c.T(0), c.T(1)
		d, _, _, n := c.slice(2, 3, 4, 5)
		if c.failed() {
			return
		}
		want := slices.Clone(in.sizes)
		want[d] = n
		if !slices.Equal(src.sizes, want) || src.dtype != in.dtype {
			c.Fail("src is %s%v, the slice is %s%v", dtypeName(src.dtype), src.sizes, dtypeName(in.dtype), want)
		}
		shapeSame(c)
	}}, func(c *Call) []moveJob {
		in, src, out := c.T(0), c.T(1), c.Out()
		d, start, step, _ := c.slice(2, 3, 4, 5)
		st := stridesOf(in.sizes)
		off := start * st[d]
		st[d] *= step
		return append(dense(in, out, 0, stridesOf(in.sizes)),
			moveJob{src: src, dst: out, sizes: src.sizes, srcSt: stridesOf(src.sizes), dstSt: st, dstOff: off})
	})
	registerMove(Op{Name: "aten::select_scatter.out", Shape: func(c *Call) {
		in, src := c.T(0), c.T(1)
		d, _ := c.selectIndex(2, 3)
		if c.failed() {
			return
		}
		if want := slices.Delete(slices.Clone(in.sizes), d, d+1); !slices.Equal(src.sizes, want) || src.dtype != in.dtype {
			c.Fail("src is %s%v, the selection is %s%v", dtypeName(src.dtype), src.sizes, dtypeName(in.dtype), want)
		}
		shapeSame(c)
	}}, func(c *Call) []moveJob {
		in, src, out := c.T(0), c.T(1), c.Out()
		d, k := c.selectIndex(2, 3)
		st := stridesOf(in.sizes)
		return append(dense(in, out, 0, st),
			moveJob{src: src, dst: out, sizes: src.sizes, srcSt: stridesOf(src.sizes), dstSt: slices.Delete(slices.Clone(st), d, d+1), dstOff: k * st[d]})
	})
	// parts returns the sizes of the outputs, want in number.
	split := func(name string, dimArg int, parts func(c *Call, size int64, want int) []int64) {
		registerMove(Op{Name: name, Shape: func(c *Call) {
			in := c.T(0)
			d := c.Dim(dimArg, in.dim())
			outs := c.List(len(c.n.op.schema.Args) - 1)
			if c.failed() || in.dim() == 0 {
				c.Fail("split of a tensor without dimensions")
				return
			}
			p := parts(c, int64(in.sizes[d]), len(outs))
			if len(p) != len(outs) {
				c.Fail("split of size %d gives %d parts, there are %d outputs", in.sizes[d], len(p), len(outs))
				return
			}
			total := int64(0)
			for k, n := range p {
				if n < 0 || n > int64(in.sizes[d])-total || outs[k] == nil || outs[k].dtype != in.dtype {
					c.Fail("parts %v of size %d", p, in.sizes[d])
					return
				}
				total += n
				sizes := slices.Clone(in.sizes)
				sizes[d] = int(n)
				if name == "aten::unbind_copy.int_out" {
					sizes = slices.Delete(sizes, d, d+1)
				}
				c.Resize(outs[k], sizes...)
			}
			if total != int64(in.sizes[d]) {
				c.Fail("parts %v of size %d", p, in.sizes[d])
			}
		}}, func(c *Call) []moveJob {
			in := c.T(0)
			d := c.Dim(dimArg, in.dim())
			st := stridesOf(in.sizes)
			var jobs []moveJob
			off := 0
			for _, out := range c.List(len(c.n.op.schema.Args) - 1) {
				s, n := st, 1
				if name == "aten::unbind_copy.int_out" {
					s = slices.Delete(slices.Clone(st), d, d+1)
				} else {
					n = out.sizes[d]
				}
				jobs = append(jobs, dense(in, out, off*st[d], s)...)
				off += n
			}
			return jobs
		})
	}
	split("aten::split_with_sizes_copy.out", 2, func(c *Call, _ int64, _ int) []int64 { return c.Ints(1) })
	split("aten::split_copy.Tensor_out", 2, func(c *Call, size int64, want int) []int64 {
		n := c.Int(1)
		if n <= 0 || size/n > int64(want) {
			c.Fail("split of %d by %d into %d", size, n, want)
			return nil
		}
		var p []int64
		for at := int64(0); at < size || len(p) == 0; at += n {
			p = append(p, min(n, size-at))
		}
		return p
	})
	split("aten::unbind_copy.int_out", 1, func(c *Call, size int64, want int) []int64 {
		return slices.Repeat([]int64{1}, int(min(size, int64(want)+1)))
	})
}

func selectJob(c *Call) []moveJob {
	in := c.T(0)
	d, k := c.selectIndex(1, 2)
	st := stridesOf(in.sizes)
	return dense(in, c.Out(), k*st[d], slices.Delete(slices.Clone(st), d, d+1))
}

// selectIndex returns the dimension and the index of a select on the first argument.
func (c *Call) selectIndex(dimArg, indexArg int) (dim, index int) {
	in := c.T(0)
	dim = c.Dim(dimArg, in.dim())
	k := c.Int(indexArg)
	if c.failed() {
		return 0, 0
	}
	if in.dim() == 0 {
		c.Fail("select of a tensor without dimensions")
		return 0, 0
	}
	n := int64(in.sizes[dim])
	if k < -n || k >= n {
		c.failArg(indexArg, "index %d of %d", k, n)
		return 0, 0
	}
	if k < 0 {
		k += n
	}
	return dim, int(k)
}

// slice returns a slice of the first argument: dimension, first index, step, and length.
func (c *Call) slice(dimArg, startArg, endArg, stepArg int) (dim, start, step, n int) {
	in := c.T(0)
	dim = c.Dim(dimArg, in.dim())
	if in.dim() == 0 {
		c.Fail("slice of a tensor without dimensions")
	}
	s, e, st := c.IntOr(startArg, 0), c.IntOr(endArg, math.MaxInt64), c.Int(stepArg)
	if st <= 0 {
		c.failArg(stepArg, "step %d", st)
	}
	if c.failed() {
		return 0, 0, 1, 0
	}
	size := int64(in.sizes[dim])
	clamp := func(x int64) int64 {
		if x < 0 {
			x += size
		}
		return min(max(x, 0), size)
	}
	s, e, st = clamp(s), clamp(e), min(st, max(size, 1))
	if e > s {
		n = int((e - s + st - 1) / st)
	}
	return dim, int(s), int(st), n
}
