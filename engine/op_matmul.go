package engine

import "fmt"

// Matrix products. References accumulate in float64 and round once.

func init() {
	float := func(args ...int) func(g *Graph, n *Node) error {
		return func(g *Graph, n *Node) error {
			out := g.Values[n.Args[len(n.Args)-1]]
			for _, i := range args {
				if n.Args[i] < 0 || g.Values[n.Args[i]].Kind == KindNone {
					continue
				}
				if v := g.Values[n.Args[i]]; v.DType != out.DType {
					return fmt.Errorf("argument %d is %s, the output %s", i, dtypeName(v.DType), dtypeName(out.DType))
				}
			}
			return nil
		}
	}
	Register(Op{Name: "aten::mm.out", By: "SIMD f32", Check: float(0, 1), Shape: func(c *Call) { c.matmulShape(c.T(0), c.T(1), 2) },
		Ref: func(c *Call) { c.Put(c.Out(), matmulRef(c.In(c.T(0)), c.In(c.T(1)), false)) }, Kernel: func(c *Call) bool { return mmKernel(c, c.T(0), c.T(1)) }})
	Register(Op{Name: "aten::bmm.out", By: "SIMD f32", Complex: true, Check: float(0, 1), Shape: func(c *Call) { c.matmulShape(c.T(0), c.T(1), 3) },
		Ref: func(c *Call) { c.Put(c.Out(), matmulRef(c.In(c.T(0)), c.In(c.T(1)), false)) }, Kernel: func(c *Call) bool { return mmKernel(c, c.T(0), c.T(1)) }})
	Register(Op{Name: "aten::addmm.out", By: "SIMD f32", Check: float(0, 1, 2), Shape: func(c *Call) {
		c.matmulShape(c.T(1), c.T(2), 2)
		if s, ok := broadcastSizes(c.T(0).sizes, c.Out().sizes); !c.failed() && (!ok || numel(s) != c.Out().n) {
			c.Fail("self %v does not broadcast to %v", c.T(0).sizes, c.Out().sizes)
		}
	}, Ref: func(c *Call) {
		bias, beta, alpha := c.In(c.T(0)), c.Float(3), c.Float(4)
		if c.failed() {
			return
		}
		res := matmulRef(c.In(c.T(1)), c.In(c.T(2)), false)
		k := 0
		walk(res.sizes, func(off []int) {
			res.set(k, beta*bias.at(off[0])+alpha*res.at(k))
			k++
		}, broadcastStrides(bias.sizes, res.sizes))
		c.Put(c.Out(), res)
	}, Kernel: addmmKernel})
	Register(Op{Name: "aten::linear.out", By: "SIMD f32", Check: float(0, 1, 2), Shape: func(c *Call) {
		x, w := c.T(0), c.T(1)
		if x.dim() < 1 || w.dim() < 1 || w.dim() > 2 || x.sizes[x.dim()-1] != w.sizes[w.dim()-1] {
			c.Fail("linear of %v with weight %v", x.sizes, w.sizes)
			return
		}
		sizes := append([]int(nil), x.sizes[:x.dim()-1]...)
		if w.dim() == 2 {
			sizes = append(sizes, w.sizes[0])
		}
		if b := c.OptT(2); b != nil {
			if s, ok := broadcastSizes(b.sizes, sizes); !ok || numel(s) != numel(sizes) || len(s) != len(sizes) {
				c.Fail("bias %v for %v", b.sizes, sizes)
				return
			}
		}
		c.Resize(c.Out(), sizes...)
	}, Ref: func(c *Call) {
		x, w := c.In(c.T(0)), c.In(c.T(1))
		k := x.sizes[len(x.sizes)-1]
		res := matmulRef(&array{x.dtype, []int{x.len() / max(k, 1), k}, x.f, x.i, nil}, &array{w.dtype, []int{w.len() / max(k, 1), k}, w.f, w.i, nil}, true)
		res.sizes = c.Out().sizes
		if numel(res.sizes) != res.len() {
			res = newArray(x.dtype, res.sizes) // k is 0
		}
		if b := c.OptT(2); b != nil {
			bias, i := c.In(b), 0
			walk(res.sizes, func(off []int) {
				res.set(i, res.at(i)+bias.at(off[0]))
				i++
			}, broadcastStrides(bias.sizes, res.sizes))
		}
		c.Put(c.Out(), res)
	}, Kernel: linearKernel})
}

// matmulShape checks a product of matrices, or of batches of them, and sizes the output.
func (c *Call) matmulShape(a, b *tensor, rank int) {
	if a.dim() != rank || b.dim() != rank || a.sizes[rank-1] != b.sizes[rank-2] || rank == 3 && a.sizes[0] != b.sizes[0] {
		c.Fail("product of %v and %v", a.sizes, b.sizes)
		return
	}
	sizes := append([]int(nil), a.sizes...)
	sizes[rank-1] = b.sizes[rank-1]
	c.Resize(c.Out(), sizes...)
}

// matmulRef multiplies [.., m, k] by [.., k, n], or by [.., n, k] transposed.
func matmulRef(a, b *array, transposed bool) *array {
	r := len(a.sizes)
	m, k, n := a.sizes[r-2], a.sizes[r-1], b.sizes[r-1]
	st, sn := n, 1
	if transposed {
		n = b.sizes[r-2]
		st, sn = 1, k
	}
	sizes := append([]int(nil), a.sizes...)
	sizes[r-1] = n
	res := newArray(a.dtype, sizes)
	for batch := range numel(sizes[:r-2]) {
		for i := range m {
			for j := range n {
				var sum float64
				var isum int64
				var csum complex128
				for p := range k {
					x, y := (batch*m+i)*k+p, batch*k*n+p*st+j*sn
					switch {
					case a.f != nil:
						sum += a.f[x] * b.f[y]
					case a.c != nil:
						csum += a.c[x] * b.c[y]
					default:
						isum += a.i[x] * b.i[y]
					}
				}
				switch at := (batch*m+i)*n + j; {
				case a.f != nil:
					res.set(at, sum)
				case a.c != nil:
					res.setComplex(at, csum)
				default:
					res.setInt(at, isum)
				}
			}
		}
	}
	return res
}
