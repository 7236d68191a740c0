package engine

import (
	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

// Operators that passes make (see fuse.go). No program may name them in a file:
// their names are not in the stock schemas, and Load refuses "tabtune::".

// gluCodes are the gated linear units (Shazeer, arXiv 2002.05202) and the activations of their gates.
var gluCodes = map[string]int32{"tabtune::swiglu.out": code.F32Silu, "tabtune::geglu.out": code.F32GeluTanh}

func init() {
	Register(Op{Name: "tabtune::rmsnorm.out", InPlace: []int{0},
		Schema: "tabtune::rmsnorm.out(Tensor x, Tensor weight, float eps, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, 0, F32) },
		Shape:  func(c *Call) { c.ResizeAs(c.Out(), c.T(0)) },
		Kernel: func(c *Call) bool {
			x, w := c.T(0), c.T(1)
			if x.n > 0 {
				n := int32(w.n)
				c.dev().F32Rmsnorm(c.Out().addr, n, x.addr, n, w.addr, float32(c.Float(2)), int32(x.n/w.n), n)
			}
			return true
		},
		Ref: func(c *Call) {
			w := c.loadF32(c.T(1))
			c.storeF32(c.Out(), ref.RMSNorm(c.loadF32(c.T(0)), w, float32(c.Float(2)), len(w)))
		}})
	for name, op := range gluCodes {
		Register(Op{Name: name, InPlace: []int{0, 1},
			Schema: name + "(Tensor gate, Tensor up, *, Tensor(a!) out) -> Tensor(a!)",
			Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, F32) },
			Shape: func(c *Call) {
				if c.T(0).n != c.T(1).n {
					c.Fail("gate %v, up %v", c.T(0).sizes, c.T(1).sizes)
					return
				}
				c.ResizeAs(c.Out(), c.T(0))
			},
			Kernel: func(c *Call) bool {
				gate := c.T(0)
				if gate.n > 0 {
					n := gate.sizes[gate.dim()-1]
					c.dev().F32Glu(op, c.Out().addr, int32(n), gate.addr, int32(n), c.T(1).addr, int32(n), int32(gate.n/n), int32(n))
				}
				return true
			},
			Ref: func(c *Call) { c.storeF32(c.Out(), ref.GLU(op, c.loadF32(c.T(0)), c.loadF32(c.T(1)))) }})
	}
	Register(Op{Name: "tabtune::nll.out",
		Schema: "tabtune::nll.out(Tensor x, Tensor target, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I64, F32) },
		Shape: func(c *Call) {
			x, target := c.T(0), c.T(1)
			if x.dim() != 2 || target.dim() != 2 || target.sizes[1] != 1 || target.sizes[0] > x.sizes[0] {
				c.Fail("targets %v of %v", target.sizes, x.sizes)
				return
			}
			c.ResizeAs(c.Out(), target)
		},
		Kernel: func(c *Call) bool {
			x, target := c.T(0), c.T(1)
			m, n := int32(target.sizes[0]), int32(x.sizes[1])
			if m == 0 {
				return true
			}
			if bad := c.dev().IndexCheck(target.addr, m, int64(n)); bad >= 0 {
				c.Fail("target %d is outside the %d columns", bad, n)
				return true
			}
			c.dev().F32NLLRows(c.Out().addr, x.addr, n, target.addr, m, n)
			return true
		},
		Ref: func(c *Call) {
			x, target := c.T(0), c.loadI64(c.T(1))
			for i, t := range target {
				if t < 0 || t >= int64(x.sizes[1]) {
					c.Fail("target %d is %d of %d columns", i, t, x.sizes[1])
					return
				}
			}
			c.storeF32(c.Out(), ref.NLL(c.loadF32(x)[:len(target)*x.sizes[1]], target, x.sizes[1]))
		}})
	Register(Op{Name: "tabtune::rotary.out", InPlace: []int{0},
		Schema: "tabtune::rotary.out(Tensor x, Tensor cos, Tensor sin, int tokens, int heads, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, F32, 0, 0, F32) },
		Shape: func(c *Call) {
			x, cos, tokens, heads := c.T(0), c.T(1), c.Int(3), c.Int(4)
			if heads < 1 || x.dim() != 2 || int64(x.sizes[1]) != heads*int64(cos.sizes[1]) || tokens < 1 || tokens > int64(cos.sizes[0]) ||
				int64(x.sizes[0])%tokens != 0 || c.T(2).n != cos.n {
				c.Fail("x %v with %d heads, %d tokens, tables %v", x.sizes, heads, tokens, cos.sizes)
				return
			}
			c.ResizeAs(c.Out(), x)
		},
		Kernel: func(c *Call) bool {
			x, cos := c.T(0), c.T(1)
			w := int32(x.sizes[1])
			c.dev().F32Rotary(code.RotaryHalf, c.Out().addr, w, x.addr, w, cos.addr, c.T(2).addr, 0, int32(x.sizes[0]), int32(c.Int(4)), int32(cos.sizes[1]), int32(c.Int(3)))
			return true
		},
		Ref: func(c *Call) {
			x, tokens := c.T(0), int(c.Int(3))
			c.storeF32(c.Out(), ref.Rotary(code.RotaryHalf, c.loadF32(x), c.loadF32(c.T(1)), c.loadF32(c.T(2)), func(row int) int { return row % tokens },
				x.sizes[0], int(c.Int(4)), c.T(1).sizes[1]))
		}})
	Register(Op{Name: "tabtune::causal_attention.out",
		Schema: "tabtune::causal_attention.out(Tensor q, Tensor k, Tensor v, int tokens, int heads, int kv_heads, float scale, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, F32, 0, 0, 0, 0, F32) },
		Shape: func(c *Call) {
			q, k, v, tokens, heads, kv := c.T(0), c.T(1), c.T(2), c.Int(3), c.Int(4), c.Int(5)
			ok := q.dim() == 2 && k.dim() == 2 && v.dim() == 2 && tokens > 0 && heads > 0 && kv > 0 && heads%kv == 0
			if ok {
				d := int64(q.sizes[1]) / heads
				ok = d*heads == int64(q.sizes[1]) && int64(k.sizes[1]) == kv*d && int64(v.sizes[1]) == kv*d && q.sizes[0] == k.sizes[0] &&
					q.sizes[0] == v.sizes[0] && int64(q.sizes[0])%tokens == 0
			}
			if !ok {
				c.Fail("q %v, k %v, v %v with %d and %d heads, %d tokens", q.sizes, k.sizes, v.sizes, heads, kv, tokens)
				return
			}
			c.ResizeAs(c.Out(), q)
		},
		Kernel: func(c *Call) bool {
			q, k, v := c.T(0), c.T(1), c.T(2)
			w, kw, tokens, heads := int32(q.sizes[1]), int32(k.sizes[1]), int32(c.Int(3)), int32(c.Int(4))
			c.dev().F32Attention(c.Out().addr, w, q.addr, w, k.addr, kw, v.addr, kw, int32(q.sizes[0])/tokens, tokens, heads, int32(c.Int(5)), w/heads, float32(c.Float(6)), 1)
			return true
		},
		Ref: func(c *Call) {
			q, tokens, heads := c.T(0), int(c.Int(3)), int(c.Int(4))
			h := ref.Heads{Q: heads, KV: int(c.Int(5)), Dim: q.sizes[1] / heads}
			c.storeF32(c.Out(), ref.Attention(h, c.loadF32(q), c.loadF32(c.T(1)), c.loadF32(c.T(2)), q.sizes[0]/tokens, tokens, float32(c.Float(6)), true))
		}})
	Register(Op{Name: "tabtune::bmm_nt_add_",
		Schema: "tabtune::bmm_nt_add_(Tensor(a!) self, Tensor a, Tensor b) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, F32) },
		Shape: func(c *Call) {
			y, a, b := c.T(0), c.T(1), c.T(2)
			if a.dim() != 3 || b.dim() != 3 || a.sizes[0] != b.sizes[0] || a.sizes[2] != b.sizes[2] || y.n != a.sizes[0]*a.sizes[1]*b.sizes[1] {
				c.Fail("adding %v by %v to %v", a.sizes, b.sizes, y.sizes)
			}
		},
		Kernel: func(c *Call) bool {
			y, a, b := c.T(0), c.T(1), c.T(2)
			batch, m, k, n := int32(a.sizes[0]), int32(a.sizes[1]), int32(a.sizes[2]), int32(b.sizes[1])
			if y.n > 0 && k > 0 {
				c.dev().F32BMMNT(y.addr, a.addr, b.addr, 0, batch, m, n, k, k, k, n, m*k, n*k, m*n, 1, 1)
			}
			return true
		},
		Ref: func(c *Call) {
			y, a, b := c.loadF32(c.T(0)), c.loadF32(c.T(1)), c.loadF32(c.T(2))
			m, k, n := c.T(1).sizes[1], c.T(1).sizes[2], c.T(2).sizes[1]
			for i := range c.T(1).sizes[0] {
				ref.F32GEMM(y[i*m*n:(i+1)*m*n], a[i*m*k:(i+1)*m*k], b[i*n*k:(i+1)*n*k], nil, m, n, k, k, k, n, 1, true, false)
			}
			c.storeF32(c.T(0), y)
		}})
}

// floats reads an f32 tensor for a reference.
func (c *Call) loadF32(t *tensor) []float32 {
	return Tensor{DType: F32, Sizes: t.sizes, Data: c.Bytes(t)}.Float32s()
}

func (c *Call) storeF32(t *tensor, x []float32) { c.PutBytes(t, Float32s(x, len(x)).Data) }
