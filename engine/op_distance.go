package engine

import (
	"math"
	"slices"
)

// Distances between rows by the p-norm.

// norm returns the p-norm of the differences of two rows.
func norm(x, y []float64, p float64) float64 {
	sum := 0.0
	for k := range x {
		d := math.Abs(x[k] - y[k])
		switch {
		case p == 0:
			sum += float64(b2i(d != 0))
		case p == 1:
			sum += d
		case p == 2:
			sum += d * d
		case math.IsInf(p, 1):
			sum = maxNaN(sum, d)
		default:
			sum += math.Pow(d, p)
		}
	}
	switch {
	case p == 2:
		return math.Sqrt(sum)
	case p == 0 || p == 1 || math.IsInf(p, 1):
		return sum
	}
	return math.Pow(sum, 1/p)
}

func init() {
	positive := func(c *Call, arg int) {
		if p := c.Float(arg); !(p >= 0) {
			c.failArg(arg, "is %v, want 0 or more", p)
		}
	}
	Register(Op{Name: "aten::_pdist_forward.out", Check: sameFloat(2), Shape: func(c *Call) {
		positive(c, 1)
		in := c.T(0)
		if in.dim() != 2 {
			c.Fail("distances in %v", in.sizes)
			return
		}
		c.Resize(c.Out(), in.sizes[0]*(in.sizes[0]-1)/2)
	}, Ref: func(c *Call) {
		in := c.In(c.T(0))
		res := newArray(in.dtype, c.Out().sizes)
		n, m := in.sizes[0], in.sizes[1]
		k := 0
		for i := range n {
			for j := i + 1; j < n; j++ {
				res.set(k, norm(in.f[i*m:(i+1)*m], in.f[j*m:(j+1)*m], c.Float(1)))
				k++
			}
		}
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::_cdist_forward.out", Check: sameFloat(1, 4), Shape: func(c *Call) {
		positive(c, 2)
		a, b := c.T(0), c.T(1)
		if a.dim() < 2 || b.dim() < 2 || a.sizes[a.dim()-1] != b.sizes[b.dim()-1] {
			c.Fail("distances between %v and %v", a.sizes, b.sizes)
			return
		}
		batch := c.broadcastOf(a.sizes[:a.dim()-2], b.sizes[:b.dim()-2])
		if !c.failed() {
			c.Resize(c.Out(), append(slices.Clone(batch), a.sizes[a.dim()-2], b.sizes[b.dim()-2])...)
		}
	}, Ref: func(c *Call) {
		a, b := c.In(c.T(0)), c.In(c.T(1))
		ra, rb := len(a.sizes), len(b.sizes)
		batch := c.Out().sizes[:c.Out().dim()-2]
		p, r, m := a.sizes[ra-2], b.sizes[rb-2], a.sizes[ra-1]
		res := newArray(a.dtype, c.Out().sizes)
		k := 0
		walk(batch, func(off []int) {
			for i := range p {
				for j := range r {
					x, y := (off[0]*p+i)*m, (off[1]*r+j)*m
					res.set(k, norm(a.f[x:x+m], b.f[y:y+m], c.Float(2)))
					k++
				}
			}
		}, broadcastStrides(a.sizes[:ra-2], batch), broadcastStrides(b.sizes[:rb-2], batch))
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::glu.out", Check: func(g *Graph, n *Node) error {
		for _, v := range []int{n.Args[0], n.Args[2]} {
			if !isFloat(g.Values[v].DType) {
				return errDType("argument", g.Values[v])
			}
		}
		return nil
	}, Shape: func(c *Call) {
		in := c.T(0)
		d := c.Dim(1, in.dim())
		if c.failed() || in.dim() == 0 || in.sizes[d]%2 != 0 {
			c.Fail("halves of %v along %d", in.sizes, d)
			return
		}
		sizes := slices.Clone(in.sizes)
		sizes[d] /= 2
		c.Resize(c.Out(), sizes...)
	}, Ref: func(c *Call) {
		in := c.In(c.T(0))
		outer, n, inner := around(in.sizes, c.Dim(1, len(in.sizes)))
		res := newArray(in.dtype, c.Out().sizes)
		half := n / 2 * inner
		for o := range outer {
			for k := range half {
				a, b := in.f[o*2*half+k], in.f[o*2*half+half+k]
				res.set(o*half+k, a/(1+math.Exp(-b)))
			}
		}
		c.Put(c.Out(), res)
	}})
}
