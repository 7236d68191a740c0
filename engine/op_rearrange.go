package engine

import (
	"fmt"
	"math"
	"slices"
)

// More operators that only move elements: rolls, pixel shuffles, windows, diagonals, tiles.

func init() {
	registerMove(Op{Name: "aten::roll.out", Shape: func(c *Call) {
		in, shifts, dims := c.T(0), c.Ints(1), c.Ints(2)
		if len(shifts) == 0 || len(shifts) != len(dims) || in.dim() == 0 {
			c.Fail("roll of %v by %v over dimensions %v", in.sizes, shifts, dims)
			return
		}
		for _, d := range dims {
			c.wrapDim(2, d, in.dim())
		}
		shapeSame(c)
	}}, rollJobs)
	registerMove(Op{Name: "aten::pixel_shuffle.out", Shape: func(c *Call) {
		in, r := c.T(0), c.Int(1)
		n := in.dim()
		if n < 3 || r < 1 || r > math.MaxInt16 || int64(in.sizes[n-3])%(r*r) != 0 {
			c.Fail("pixel shuffle of %v by %d", in.sizes, r)
			return
		}
		sizes := slices.Clone(in.sizes)
		sizes[n-3], sizes[n-2], sizes[n-1] = sizes[n-3]/int(r*r), sizes[n-2]*int(r), sizes[n-1]*int(r)
		c.Resize(c.Out(), sizes...)
	}}, func(c *Call) []moveJob {
		return []moveJob{pixels(c.T(0), c.Out(), c.T(0), c.Out(), int(c.Int(1)), false)}
	})
	registerMove(Op{Name: "aten::pixel_unshuffle.out", Shape: func(c *Call) {
		in, r := c.T(0), c.Int(1)
		n := in.dim()
		if n < 3 || r < 1 || r > math.MaxInt16 || int64(in.sizes[n-1])%r != 0 || int64(in.sizes[n-2])%r != 0 {
			c.Fail("pixel unshuffle of %v by %d", in.sizes, r)
			return
		}
		sizes := slices.Clone(in.sizes)
		sizes[n-3], sizes[n-2], sizes[n-1] = sizes[n-3]*int(r*r), sizes[n-2]/int(r), sizes[n-1]/int(r)
		c.Resize(c.Out(), sizes...)
	}}, func(c *Call) []moveJob {
		return []moveJob{pixels(c.Out(), c.T(0), c.T(0), c.Out(), int(c.Int(1)), true)}
	})
	registerMove(Op{Name: "aten::unfold_copy.out", Shape: func(c *Call) {
		in := c.T(0)
		d, size, step := c.Dim(1, in.dim()), c.Int(2), c.Int(3)
		n := int64(1)
		if in.dim() > 0 {
			n = int64(in.sizes[d])
		}
		if c.failed() || size < 0 || size > n || step < 1 {
			c.Fail("windows of %d every %d of %v", size, step, in.sizes)
			return
		}
		sizes := slices.Clone(in.sizes)
		if in.dim() > 0 {
			sizes[d] = int((n-size)/step) + 1
		}
		c.Resize(c.Out(), append(sizes, int(size))...)
	}}, func(c *Call) []moveJob {
		in := c.T(0)
		st := stridesOf(in.sizes)
		if in.dim() == 0 {
			return dense(in, c.Out(), 0, []int{1})
		}
		d := c.Dim(1, in.dim())
		st = append(st, st[d])
		st[d] *= int(min(c.Int(3), math.MaxInt32))
		return dense(in, c.Out(), 0, st)
	})
	registerMove(Op{Name: "aten::diagonal_copy.out", Shape: func(c *Call) {
		if sizes, _, _ := c.diagonal(); !c.failed() {
			c.Resize(c.Out(), sizes...)
		}
	}}, func(c *Call) []moveJob {
		_, off, st := c.diagonal()
		return dense(c.T(0), c.Out(), off, st)
	})
	registerMove(Op{Name: "aten::as_strided_copy.out", Shape: func(c *Call) {
		in, size, stride, off := c.T(0), c.Ints(1), c.Ints(2), c.IntOr(3, 0)
		last, empty := off, false
		if len(size) != len(stride) || off < 0 || off > int64(in.n) {
			c.Fail("sizes %v with strides %v from %d on", size, stride, off)
			return
		}
		sizes := make([]int, len(size))
		for k, n := range size {
			if n < 0 || n > math.MaxInt32 || stride[k] < 0 || stride[k] > math.MaxInt32 {
				c.Fail("sizes %v with strides %v", size, stride)
				return
			}
			sizes[k] = int(n)
			empty = empty || n == 0
			if last += (n - 1) * stride[k]; last > math.MaxInt32 {
				last = math.MaxInt32
			}
		}
		if !empty && last >= int64(in.n) {
			c.Fail("sizes %v with strides %v from %d on reach element %d of %d", size, stride, off, last, in.n)
			return
		}
		c.Resize(c.Out(), sizes...)
	}}, func(c *Call) []moveJob {
		var st []int
		for _, s := range c.Ints(2) {
			st = append(st, int(s))
		}
		return dense(c.T(0), c.Out(), int(c.IntOr(3, 0)), st)
	})
	registerMove(Op{Name: "llama::fallback.out", Shape: shapeSame}, func(c *Call) []moveJob { return dense(c.T(0), c.Out(), 0, stridesOf(c.T(0).sizes)) })
	registerMove(Op{Name: "preprocess::tile_crop.out", Shape: func(c *Call) {
		in, s := c.T(0), c.Int(1)
		if in.dim() != 3 || s < 1 || int64(in.sizes[1])%s != 0 || int64(in.sizes[2])%s != 0 {
			c.Fail("tiles of %d in %v", s, in.sizes)
			return
		}
		n := int(s)
		c.Resize(c.Out(), in.sizes[1]/n*(in.sizes[2]/n), in.sizes[0], n, n)
	}}, func(c *Call) []moveJob {
		in, s := c.T(0), int(c.Int(1))
		st := stridesOf(in.sizes)
		sizes := []int{in.sizes[1] / s, in.sizes[2] / s, in.sizes[0], s, s}
		return []moveJob{{src: in, dst: c.Out(), sizes: sizes, srcSt: []int{s * st[1], s, st[0], st[1], 1}, dstSt: stridesOf(sizes)}}
	})
	Register(Op{Name: "aten::view_as_real_copy.out", By: "scalar C, all types", Complex: true, Check: func(g *Graph, n *Node) error {
		in, out := g.Values[n.Args[0]], g.Values[n.Args[1]]
		if !isComplex(in.DType) || out.DType != realOf(in.DType) {
			return fmt.Errorf("%s as real %s", dtypeName(in.DType), dtypeName(out.DType))
		}
		return nil
	}, Shape: func(c *Call) { c.Resize(c.Out(), append(slices.Clone(c.T(0).sizes), 2)...) },
		Ref: func(c *Call) { c.PutBytes(c.Out(), c.Bytes(c.T(0))) },
		Kernel: func(c *Call) bool {
			c.dev().MemCopy(c.Out().addr, c.T(0).addr, c.Out().bytes())
			return true
		}})
}

// pixels moves between [.., C r r, H, W] and [.., C, H r, W r]. Packed has the channels, wide the pixels; src and dst are the two in
// the order of the copy, and back says that it goes from wide to packed.
func pixels(packed, wide, src, dst *tensor, r int, back bool) moveJob {
	n := packed.dim()
	h, w, ch := packed.sizes[n-2], packed.sizes[n-1], wide.sizes[n-3]
	sizes := []int{numel(packed.sizes[:n-3]), ch, h, r, w, r}
	p := []int{ch * r * r * h * w, r * r * h * w, w, r * h * w, 1, h * w}
	q := stridesOf(sizes)
	if back {
		p, q = q, p
	}
	return moveJob{src: src, dst: dst, sizes: sizes, srcSt: p, dstSt: q}
}

// rollJobs splits each rolled dimension in two runs.
func rollJobs(c *Call) []moveJob {
	in, out := c.T(0), c.Out()
	if in.n == 0 {
		return nil
	}
	shift := make([]int64, in.dim())
	for k, d := range c.Ints(2) {
		i := c.wrapDim(2, d, in.dim())
		n := int64(in.sizes[i])
		shift[i] = ((shift[i]+c.Ints(1)[k]%n)%n + n) % n
	}
	jobs := []moveJob{{src: in, dst: out, sizes: slices.Clone(in.sizes), srcSt: stridesOf(in.sizes), dstSt: stridesOf(in.sizes)}}
	for d, s := range shift {
		if s == 0 {
			continue
		}
		n := in.sizes[d]
		var next []moveJob
		for _, j := range jobs {
			for _, r := range []segment{{dst: int(s), src: 0, n: n - int(s)}, {dst: 0, src: n - int(s), n: int(s)}} {
				k := j
				k.sizes = slices.Clone(j.sizes)
				k.sizes[d] = r.n
				k.srcOff += r.src * j.srcSt[d]
				k.dstOff += r.dst * j.dstSt[d]
				next = append(next, k)
			}
		}
		jobs = next
	}
	return jobs
}

// diagonal returns sizes, offset and strides of a diagonal: the two dimensions go, the diagonal comes last.
func (c *Call) diagonal() (sizes []int, off int, st []int) {
	in, offset := c.T(0), c.Int(1)
	a, b := c.Dim(2, in.dim()), c.Dim(3, in.dim())
	if in.dim() < 2 || a == b || offset < -math.MaxInt32 || offset > math.MaxInt32 {
		c.Fail("diagonal %d of %v over dimensions %d and %d", offset, in.sizes, c.Int(2), c.Int(3))
	}
	if c.failed() {
		return nil, 0, nil
	}
	all := stridesOf(in.sizes)
	for d, s := range in.sizes {
		if d != a && d != b {
			sizes, st = append(sizes, s), append(st, all[d])
		}
	}
	n := max(min(in.sizes[a], in.sizes[b]-int(offset)), 0)
	if offset < 0 {
		n = max(min(in.sizes[a]+int(offset), in.sizes[b]), 0)
	}
	if n > 0 {
		off = int(max(offset, 0))*all[b] + int(max(-offset, 0))*all[a]
	}
	return append(sizes, n), off, append(st, all[a]+all[b])
}
