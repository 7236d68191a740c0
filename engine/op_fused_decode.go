package engine

import (
	"math"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

// Operators that fuseDecode makes. positions are i64[T], each a row of the cache.
func init() {
	Register(Op{Name: "tabtune::rotary_at.out",
		Schema: "tabtune::rotary_at.out(Tensor x, Tensor cos, Tensor sin, Tensor positions, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, F32, I64, F32) },
		Shape: func(c *Call) {
			x, cos, at := c.T(0), c.T(1), c.T(3)
			if x.dim() != 3 || cos.dim() != 2 || x.sizes[2] != cos.sizes[1] || c.T(2).n != cos.n || at.n != x.sizes[0] {
				c.Fail("x %v, tables %v, %d positions", x.sizes, cos.sizes, at.n)
				return
			}
			c.ResizeAs(c.Out(), x)
		},
		Kernel: func(c *Call) bool {
			x, cos, at := c.T(0), c.T(1), c.T(3)
			if x.n == 0 || !c.positions(at, cos.sizes[0]) {
				return true
			}
			w := int32(x.sizes[1] * x.sizes[2])
			c.dev().F32Rotary(code.RotaryHalf, c.Out().addr, w, x.addr, w, cos.addr, c.T(2).addr, at.addr, int32(x.sizes[0]), int32(x.sizes[1]), int32(x.sizes[2]), int32(cos.sizes[0]))
			return true
		},
		Ref: func(c *Call) {
			x, at := c.T(0), c.loadI64(c.T(3))
			if c.inWindow(at, c.T(1).sizes[0]) {
				c.storeF32(c.Out(), ref.Rotary(code.RotaryHalf, c.loadF32(x), c.loadF32(c.T(1)), c.loadF32(c.T(2)), func(row int) int { return int(at[row]) },
					x.sizes[0], x.sizes[1], x.sizes[2]))
			}
		}})
	Register(Op{Name: "tabtune::put_rows_",
		Schema: "tabtune::put_rows_(Tensor(a!) self, Tensor index, Tensor values) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I64, F32) },
		Shape: func(c *Call) {
			self, index, values := c.T(0), c.T(1), c.T(2)
			if self.dim() != 2 || values.dim() != 2 || values.sizes[1] != self.sizes[1] || values.sizes[0] != index.n {
				c.Fail("%d rows of %v into %v", index.n, values.sizes, self.sizes)
			}
		},
		Kernel: func(c *Call) bool {
			self, index, values := c.T(0), c.T(1), c.T(2)
			if values.n > 0 && c.positions(index, self.sizes[0]) {
				row := int32(4 * self.sizes[1])
				c.dev().ScatterRows(self.addr, row, values.addr, row, index.addr, int32(index.n), row, int32(self.sizes[0]))
			}
			return true
		},
		Ref: func(c *Call) {
			self, index, values := c.loadF32(c.T(0)), c.loadI64(c.T(1)), c.loadF32(c.T(2))
			n := c.T(0).sizes[1]
			if !c.inWindow(index, c.T(0).sizes[0]) {
				return
			}
			for i, at := range index {
				copy(self[int(at)*n:(int(at)+1)*n], values[i*n:(i+1)*n])
			}
			c.storeF32(c.T(0), self)
		}})
	Register(Op{Name: "tabtune::cached_attention.out",
		Schema: "tabtune::cached_attention.out(Tensor q, Tensor k, Tensor v, Tensor positions, float scale, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, F32, F32, I64, 0, F32) },
		Shape: func(c *Call) {
			q, k, v, at := c.T(0), c.T(1), c.T(2), c.T(3)
			if q.dim() != 3 || k.dim() != 2 || q.sizes[2] == 0 || k.sizes[1]%q.sizes[2] != 0 || k.sizes[1] == 0 || q.sizes[1]*q.sizes[2]%k.sizes[1] != 0 || v.n != k.n || at.n != q.sizes[0] {
				c.Fail("q %v, cache %v and %v, %d positions", q.sizes, k.sizes, v.sizes, at.n)
				return
			}
			c.Resize(c.Out(), q.sizes[0], q.sizes[1]*q.sizes[2])
		},
		Kernel: func(c *Call) bool {
			q, k, at := c.T(0), c.T(1), c.T(3)
			if q.n == 0 || !c.positions(at, k.sizes[0]) {
				return true
			}
			tokens, heads, dim, scale := int32(q.sizes[0]), int32(q.sizes[1]), int32(q.sizes[2]), float32(c.Float(4))
			w, kw := heads*dim, int32(k.sizes[1])
			if tokens > 3 && dim <= 1024 && fromZero(c.loadI64(at)) { // a prompt: blocks of it at once
				c.dev().F32Attention(c.Out().addr, w, q.addr, w, k.addr, kw, c.T(2).addr, kw, 1, tokens, heads, kw/dim, dim, scale, 1)
			} else {
				c.dev().F32AttentionCached(c.Out().addr, w, q.addr, w, k.addr, kw, c.T(2).addr, kw, at.addr, tokens, int32(k.sizes[0]), heads, kw/dim, dim, scale)
			}
			return true
		},
		Ref: func(c *Call) {
			q, at := c.T(0), c.loadI64(c.T(3))
			if !c.inWindow(at, c.T(1).sizes[0]) {
				return
			}
			x, k, v := c.loadF32(q), c.loadF32(c.T(1)), c.loadF32(c.T(2))
			h := ref.Heads{Q: q.sizes[1], KV: c.T(1).sizes[1] / q.sizes[2], Dim: q.sizes[2]}
			out := make([]float32, 0, len(x))
			for i, p := range at {
				out = append(out, ref.Attend(h, x[i*h.Q*h.Dim:], k, v, 0, int(p)+1, float32(c.Float(4)))...)
			}
			c.storeF32(c.Out(), out)
		}})
}

// positions fails the call when one of i64[...] at is outside a window.
func (c *Call) positions(at *tensor, window int) bool {
	bad := c.dev().IndexCheck(at.addr, int32(at.n), int64(window))
	if bad >= 0 {
		c.Fail("position %d is outside the window of %d", bad, window)
	}
	return bad < 0
}

func (c *Call) inWindow(at []int64, window int) bool {
	for i, p := range at {
		if p < 0 || p >= int64(min(window, math.MaxInt32)) {
			c.Fail("position %d is %d of a window of %d", i, p, window)
			return false
		}
	}
	return true
}

// fromZero: the positions are 0, 1, 2 and so on.
func fromZero(at []int64) bool {
	for i, p := range at {
		if p != int64(i) {
			return false
		}
	}
	return true
}
