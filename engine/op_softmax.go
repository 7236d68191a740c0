package engine

import (
	"fmt"
	"math"
)

func init() {
	for _, log := range []bool{false, true} {
		name := "aten::_softmax.out"
		if log {
			name = "aten::_log_softmax.out"
		}
		Register(Op{Name: name, By: "SIMD f32", Check: func(g *Graph, n *Node) error {
			in, out := g.Values[n.Args[0]], g.Values[n.Args[3]]
			if !isFloat(in.DType) || in.DType != out.DType {
				return fmt.Errorf("softmax of %s into %s", dtypeName(in.DType), dtypeName(out.DType))
			}
			return nil
		}, Shape: func(c *Call) { c.Dim(1, c.T(0).dim()); shapeSame(c) }, Kernel: func(c *Call) bool { return softmaxKernel(c, log) }, Ref: func(c *Call) {
			a := c.In(c.T(0))
			outer, n, inner := 1, 1, 1
			if len(a.sizes) > 0 {
				outer, n, inner = around(a.sizes, c.Dim(1, len(a.sizes)))
			}
			res := newArray(a.dtype, a.sizes)
			for o := range outer {
				for i := range inner {
					at := func(k int) int { return (o*n+k)*inner + i }
					m, sum := math.Inf(-1), 0.0
					for k := range n {
						m = maxNaN(m, a.f[at(k)])
					}
					for k := range n {
						sum += math.Exp(a.f[at(k)] - m)
					}
					for k := range n {
						if log {
							res.set(at(k), a.f[at(k)]-m-math.Log(sum))
						} else {
							res.set(at(k), math.Exp(a.f[at(k)]-m)/sum)
						}
					}
				}
			}
			c.Put(c.Out(), res)
		}})
	}
	Register(Op{Name: "aten::native_layer_norm.out", By: "SIMD f32", Shape: func(c *Call) {
		in, shape := c.T(0), c.Ints(1)
		lead := in.dim() - len(shape)
		if lead < 0 || len(shape) == 0 {
			c.Fail("normalized shape %v of %v", shape, in.sizes)
			return
		}
		for k, s := range shape {
			if int64(in.sizes[lead+k]) != s {
				c.Fail("normalized shape %v of %v", shape, in.sizes)
				return
			}
		}
		stat := append([]int(nil), in.sizes[:lead]...)
		for range shape {
			stat = append(stat, 1)
		}
		for i := 2; i <= 3; i++ {
			if w := c.OptT(i); w != nil && (w.n != numel(in.sizes[lead:]) || w.dtype != in.dtype) {
				c.failArg(i, "is %s%v for %v", dtypeName(w.dtype), w.sizes, shape)
			}
		}
		c.ResizeAs(c.T(5), in)
		c.Resize(c.T(6), stat...)
		c.Resize(c.T(7), stat...)
	}, Kernel: layerNormKernel, Ref: func(c *Call) {
		a := c.In(c.T(0))
		n := 1
		for _, s := range c.Ints(1) {
			n *= int(s)
		}
		rows := 0
		if n > 0 {
			rows = a.len() / n
		}
		var w, b *array
		if t := c.OptT(2); t != nil {
			w = c.In(t)
		}
		if t := c.OptT(3); t != nil {
			b = c.In(t)
		}
		eps := c.Float(4)
		res := newArray(a.dtype, a.sizes)
		mean, rstd := make([]float64, rows), make([]float64, rows)
		for r := range rows {
			var s, v float64
			for k := range n {
				s += a.at(r*n + k)
			}
			s /= float64(n)
			for k := range n {
				d := a.at(r*n+k) - s
				v += d * d
			}
			inv := 1 / math.Sqrt(v/float64(n)+eps)
			mean[r], rstd[r] = s, inv
			for k := range n {
				y := (a.at(r*n+k) - s) * inv
				if w != nil {
					y *= w.at(k)
				}
				if b != nil {
					y += b.at(k)
				}
				res.set(r*n+k, y)
			}
		}
		c.Put(c.T(5), res)
		for i, x := range [][]float64{mean, rstd} {
			if t := c.T(6 + i); t.n == len(x) {
				c.putFloats(t, x)
			}
		}
	}})
	Register(Op{Name: "aten::tril.out", Shape: shapeSame, Ref: func(c *Call) {
		a := c.In(c.T(0))
		r := len(a.sizes)
		if r < 2 {
			c.Fail("tril of %v", a.sizes)
			return
		}
		diag := c.Int(1)
		rows, cols := a.sizes[r-2], a.sizes[r-1]
		for k := range a.len() {
			if i, j := int64(k/cols%rows), int64(k%cols); j-i > diag {
				a.set(k, 0)
			}
		}
		c.Put(c.Out(), a)
	}})
}
