package engine

import (
	"math"
	"slices"
)

// Operators that rearrange or repeat elements.

func init() {
	permute := func(name string, perm func(c *Call, rank int) []int) {
		registerMove(Op{Name: name, Shape: func(c *Call) {
			in := c.T(0)
			p := perm(c, in.dim())
			if c.failed() {
				return
			}
			if len(p) != in.dim() {
				c.Fail("permutation %v of %d dimensions", p, in.dim())
				return
			}
			c.Resize(c.Out(), pick(in.sizes, p)...)
		}}, func(c *Call) []moveJob {
			in := c.T(0)
			return dense(in, c.Out(), 0, pick(stridesOf(in.sizes), perm(c, in.dim())))
		})
	}
	permute("aten::permute_copy.out", func(c *Call, rank int) []int { return c.Dims(1, rank) })
	permute("aten::transpose_copy.int_out", func(c *Call, rank int) []int {
		p := identity(rank)
		a, b := c.Dim(1, rank), c.Dim(2, rank)
		if rank > 0 && !c.failed() {
			p[a], p[b] = p[b], p[a]
		}
		return p
	})
	permute("aten::t_copy.out", func(c *Call, rank int) []int {
		p := identity(rank)
		if rank > 2 {
			c.Fail("t of %d dimensions", rank)
		}
		slices.Reverse(p)
		return p
	})
	registerMove(Op{Name: "aten::expand_copy.out", Shape: func(c *Call) {
		in, want := c.T(0), c.Ints(1)
		lead := len(want) - in.dim()
		if lead < 0 {
			c.Fail("expand of %v to %v", in.sizes, want)
			return
		}
		sizes := make([]int, len(want))
		for d, s := range want {
			switch {
			case s == -1 && d >= lead:
				s = int64(in.sizes[d-lead])
			case s < 0 || s > math.MaxInt32, d >= lead && int64(in.sizes[d-lead]) != s && in.sizes[d-lead] != 1:
				c.Fail("expand of %v to %v", in.sizes, want)
				return
			}
			sizes[d] = int(s)
		}
		c.Resize(c.Out(), sizes...)
	}}, func(c *Call) []moveJob {
		return dense(c.T(0), c.Out(), 0, broadcastStrides(c.T(0).sizes, c.Out().sizes))
	})
	registerMove(Op{Name: "aten::repeat.out", Shape: func(c *Call) {
		in, reps := c.T(0), c.Ints(1)
		lead := len(reps) - in.dim()
		if lead < 0 {
			c.Fail("repeats %v of %v", reps, in.sizes)
			return
		}
		sizes := make([]int, len(reps))
		for d, r := range reps {
			if r < 0 || r > math.MaxInt32 {
				c.Fail("repeats %v of %v", reps, in.sizes)
				return
			}
			sizes[d] = int(r)
			if d >= lead {
				sizes[d] = int(min(r*int64(in.sizes[d-lead]), math.MaxInt32+1))
			}
		}
		c.Resize(c.Out(), sizes...)
	}}, repeatJobs)
	registerMove(Op{Name: "aten::flip.out", Shape: func(c *Call) { c.Dims(1, c.T(0).dim()); shapeSame(c) }}, func(c *Call) []moveJob {
		in := c.T(0)
		st, off := stridesOf(in.sizes), 0
		for _, d := range c.Dims(1, in.dim()) {
			if in.dim() > 0 {
				off += st[d] * max(in.sizes[d]-1, 0)
				st[d] = -st[d]
			}
		}
		return dense(in, c.Out(), off, st)
	})
	registerMove(Op{Name: "aten::cat.out", Shape: func(c *Call) {
		ts := c.List(0)
		var first *tensor
		total, dim := 0, 0
		for k, t := range ts {
			if t == nil || c.failed() {
				c.Fail("entry %d of the list is None", k)
				return
			}
			if t.dim() == 1 && t.n == 0 { // an empty tensor joins anything
				continue
			}
			if first == nil {
				first = t
				dim = c.Dim(1, t.dim())
			}
			if t.dim() != first.dim() || t.dim() == 0 || c.failed() {
				c.Fail("cat of tensors with %d and %d dimensions", first.dim(), t.dim())
				return
			}
			if t.dtype != c.Out().dtype {
				c.Fail("cat of %s into %s", dtypeName(t.dtype), dtypeName(c.Out().dtype))
				return
			}
			for d := range t.sizes {
				if d != dim && t.sizes[d] != first.sizes[d] {
					c.Fail("cat of sizes %v and %v in dimension %d", first.sizes, t.sizes, dim)
					return
				}
			}
			total += t.sizes[dim]
		}
		if first == nil {
			c.Resize(c.Out(), 0)
			return
		}
		sizes := slices.Clone(first.sizes)
		sizes[dim] = total
		c.Resize(c.Out(), sizes...)
	}}, func(c *Call) []moveJob {
		out := c.Out()
		st := stridesOf(out.sizes)
		var jobs []moveJob
		off := 0
		for _, t := range c.List(0) {
			if t.dim() == 1 && t.n == 0 {
				continue
			}
			dim := c.Dim(1, t.dim())
			jobs = append(jobs, moveJob{src: t, dst: out, sizes: t.sizes, srcSt: stridesOf(t.sizes), dstSt: st, dstOff: off * st[dim]})
			off += t.sizes[dim]
		}
		return jobs
	})
	registerMove(Op{Name: "aten::stack.out", Shape: func(c *Call) {
		ts := c.List(0)
		if len(ts) == 0 || slices.Contains(ts, nil) {
			c.Fail("stack of an empty list")
			return
		}
		for _, t := range ts {
			if !slices.Equal(t.sizes, ts[0].sizes) || t.dtype != c.Out().dtype {
				c.Fail("stack of %s%v and %s%v", dtypeName(ts[0].dtype), ts[0].sizes, dtypeName(t.dtype), t.sizes)
				return
			}
		}
		dim := c.Dim(1, ts[0].dim()+1)
		c.Resize(c.Out(), slices.Insert(slices.Clone(ts[0].sizes), dim, len(ts))...)
	}}, func(c *Call) []moveJob {
		out := c.Out()
		dim := c.Dim(1, out.dim())
		st := stridesOf(out.sizes)
		var jobs []moveJob
		for k, t := range c.List(0) {
			jobs = append(jobs, moveJob{src: t, dst: out, sizes: t.sizes, srcSt: stridesOf(t.sizes), dstSt: slices.Delete(slices.Clone(st), dim, dim+1), dstOff: k * st[dim]})
		}
		return jobs
	})
	registerMove(Op{Name: "aten::constant_pad_nd.out", Shape: shapePad}, padJobs)
}

// shapePad adds to the last dimensions; pad lists (before, after) from the last dimension on. Negative pads cut off.
func shapePad(c *Call) {
	in, pad := c.T(0), c.Ints(1)
	if len(pad)%2 != 0 || len(pad)/2 > in.dim() {
		c.Fail("padding %v of %v", pad, in.sizes)
		return
	}
	sizes := slices.Clone(in.sizes)
	for k := 0; k < len(pad); k += 2 {
		d := in.dim() - 1 - k/2
		if pad[k] < -math.MaxInt32 || pad[k] > math.MaxInt32 || pad[k+1] < -math.MaxInt32 || pad[k+1] > math.MaxInt32 {
			c.Fail("padding %v of %v", pad, in.sizes)
			return
		}
		sizes[d] += int(pad[k] + pad[k+1])
	}
	c.Resize(c.Out(), sizes...)
}

func padJobs(c *Call) []moveJob {
	in, out, pad := c.T(0), c.Out(), c.Ints(1)
	x := c.Num(2)
	if c.failed() {
		return nil
	}
	fill(c, out, x)
	j := moveJob{src: in, dst: out, sizes: slices.Clone(in.sizes), srcSt: stridesOf(in.sizes), dstSt: stridesOf(out.sizes)}
	for k := 0; k < len(pad); k += 2 {
		d := in.dim() - 1 - k/2
		before, after := int(pad[k]), int(pad[k+1])
		j.srcOff += max(-before, 0) * j.srcSt[d]
		j.dstOff += max(before, 0) * j.dstSt[d]
		j.sizes[d] = max(j.sizes[d]-max(-before, 0)-max(-after, 0), 0)
	}
	return []moveJob{j}
}

func repeatJobs(c *Call) []moveJob {
	in, out := c.T(0), c.Out()
	lead := out.dim() - in.dim()
	inSt, outSt := stridesOf(in.sizes), stridesOf(out.sizes)
	// Each output dimension splits into (repeat, input size).
	var sizes, ss, ds []int
	for d, n := range out.sizes {
		s, st := 1, 0
		if d >= lead {
			s, st = in.sizes[d-lead], inSt[d-lead]
		}
		reps := 0
		if s > 0 {
			reps = n / s
		}
		sizes, ss, ds = append(sizes, reps, s), append(ss, 0, st), append(ds, outSt[d]*s, outSt[d])
	}
	return []moveJob{{src: in, dst: out, sizes: sizes, srcSt: ss, dstSt: ds}}
}

func identity(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	return p
}

// pick returns the entries of l at the given positions.
func pick(l, at []int) []int {
	out := make([]int, len(at))
	for k, i := range at {
		out[k] = l[i]
	}
	return out
}
