package engine

import (
	"encoding/binary"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/ref"
)

func init() {
	Register(Op{Name: "tabtune::quantize_rows.out",
		Schema: "tabtune::quantize_rows.out(Tensor x, *, Tensor(a!) q, Tensor(b!) scale, Tensor(c!)? sums) -> (Tensor(a!), Tensor(b!), Tensor(c!))",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I16, F32, I32) },
		Shape: func(c *Call) {
			x := c.T(0)
			if x.dim() == 0 || x.n == 0 {
				c.Fail("rows of %v", x.sizes)
				return
			}
			k := x.sizes[x.dim()-1]
			m := x.n / k
			c.Resize(c.T(1), m, (k+7)&^7)
			c.Resize(c.T(2), m)
			if s := c.OptT(3); s != nil {
				c.Resize(s, m, (k+31)/32)
			}
		},
		Kernel: func(c *Call) bool {
			x := c.T(0)
			k := int32(x.sizes[x.dim()-1])
			c.dev().I16QuantizeRows(c.T(1).addr, c.T(2).addr, optAddr(c.OptT(3)), x.addr, int32(x.n)/k, k, k)
			return true
		},
		Ref: func(c *Call) {
			x := c.T(0)
			k := x.sizes[x.dim()-1]
			q, scale, sums := ref.QuantizeRows(c.loadF32(x), x.n/k, k, k)
			packed := ref.PackActivations(q, x.n/k, k)
			b := make([]byte, 2*len(packed))
			for i, v := range packed {
				binary.LittleEndian.PutUint16(b[2*i:], uint16(v))
			}
			c.PutBytes(c.T(1), b)
			c.storeF32(c.T(2), scale)
			if s := c.OptT(3); s != nil {
				b := make([]byte, 4*len(sums))
				for i, v := range sums {
					binary.LittleEndian.PutUint32(b[4*i:], uint32(v))
				}
				c.PutBytes(s, b)
			}
		}})
	Register(Op{Name: "tabtune::linear_i8.out", ShapeOnly: []int{0},
		Schema: "tabtune::linear_i8.out(Tensor x, Tensor q, Tensor scale, Tensor weight, Tensor weight_scale, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I16, F32, I8, F32, F32) },
		Shape:  func(c *Call) { c.linearShape(c.T(3).sizes[0], c.T(3).sizes[1]) },
		Kernel: func(c *Call) bool {
			w := c.T(3)
			n, k := int32(w.sizes[0]), int32(w.sizes[1])
			c.dev().I8Gemm(c.Out().addr, c.T(1).addr, c.T(2).addr, w.addr, c.T(4).addr, 0, int32(c.T(0).n)/k, n, k, k, n, 0)
			return true
		},
		Ref: func(c *Call) {
			n, k := c.T(3).sizes[0], c.T(3).sizes[1]
			raw := c.Bytes(c.T(3))
			w := make([]int8, len(raw))
			for i, b := range raw {
				w[i] = int8(b)
			}
			m := c.T(0).n / k
			q, sx, _ := ref.QuantizeRows(c.loadF32(c.T(0)), m, k, k)
			y := make([]float32, m*n)
			ref.I8GEMM(y, q, sx, w, c.loadF32(c.T(4)), nil, m, n, k, k, n, false)
			c.storeF32(c.Out(), y)
		}})
	Register(Op{Name: "tabtune::linear_q4.out", ShapeOnly: []int{0},
		Schema: "tabtune::linear_q4.out(Tensor x, Tensor q, Tensor scale, Tensor sums, Tensor weight, Tensor weight_scale, Tensor weight_min, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I16, F32, I32, U8, F16, F16, F32) },
		Shape:  func(c *Call) { c.linearShape(c.T(4).sizes[0], 2*c.T(4).sizes[1]) },
		Kernel: func(c *Call) bool {
			w := c.T(4)
			n, k := int32(w.sizes[0]), int32(2*w.sizes[1])
			c.dev().Q4Gemm(c.Out().addr, c.T(1).addr, c.T(2).addr, c.T(3).addr, w.addr, c.T(5).addr, c.T(6).addr, 0, int32(c.T(0).n)/k, n, k, n, 0)
			return true
		},
		Ref: func(c *Call) {
			n, k := c.T(4).sizes[0], 2*c.T(4).sizes[1]
			m := c.T(0).n / k
			q, sx, sums := ref.QuantizeRows(c.loadF32(c.T(0)), m, k, k)
			half := func(t *tensor) []uint16 {
				b := c.Bytes(t)
				h := make([]uint16, len(b)/2)
				for i := range h {
					h[i] = binary.LittleEndian.Uint16(b[2*i:])
				}
				return h
			}
			y := make([]float32, m*n)
			ref.Q4GEMM(y, q, sx, sums, c.Bytes(c.T(4)), half(c.T(5)), half(c.T(6)), nil, m, n, k, n, false)
			c.storeF32(c.Out(), y)
		}})
}

// linearShape is the shape rule of x [..., k] times a weight [n, k].
func (c *Call) linearShape(n, k int) {
	x := c.T(0)
	if x.dim() == 0 || x.sizes[x.dim()-1] != k {
		c.Fail("x %v by a weight [%d %d]", x.sizes, n, k)
		return
	}
	sizes := append([]int(nil), x.sizes...)
	sizes[len(sizes)-1] = n
	c.Resize(c.Out(), sizes...)
}

func optAddr(t *tensor) kernel.Addr {
	if t == nil {
		return 0
	}
	return t.addr
}
