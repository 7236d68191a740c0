package engine

import (
	"tabtune/engine/kernel/ref"
)

func init() {
	Register(Op{Name: "tabtune::zo_update_",
		Schema: "tabtune::zo_update_(Tensor(a!) self, Tensor seeds, Tensor coefs, int base, int distribution) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I64, F32) },
		Shape: func(c *Call) {
			if c.T(1).n != c.T(2).n {
				c.Fail("%d seeds and %d coefficients", c.T(1).n, c.T(2).n)
			}
		},
		Kernel: func(c *Call) bool {
			c.dev().ZoUpdate(int32(c.Int(4)), c.T(0).addr, c.T(1).addr, c.T(2).addr, int32(c.T(1).n), c.Int(3), int32(c.T(0).n))
			return true
		},
		Ref: func(c *Call) {
			b := c.loadF32(c.T(0))
			ref.Update(int32(c.Int(4)), b, c.loadI64(c.T(1)), c.loadF32(c.T(2)), c.Int(3))
			c.storeF32(c.T(0), b)
		}})
	Register(Op{Name: "tabtune::perturb.out",
		Schema: "tabtune::perturb.out(Tensor b, Tensor seeds, Tensor eps, int base, int sides, int distribution, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I64, F32, 0, 0, 0, F32) },
		Shape: func(c *Call) {
			b, out, q := c.T(0), c.Out(), c.T(1).n
			replicas := map[int64]int{0: q, 1: q + 1, 2: 2 * q}[c.Int(4)]
			if b.dim() != 2 || out.dim() != 3 || c.T(2).n != 1 {
				c.Fail("buffer %v, output %v, eps %v", b.sizes, out.sizes, c.T(2).sizes)
				return
			}
			c.Resize(out, replicas, b.sizes[0], b.sizes[1])
		},
		Kernel: func(c *Call) bool {
			eps := c.loadF32(c.T(2))[0]
			c.dev().MploraPerturb(int32(c.Int(5)), c.Out().addr, c.T(0).addr, c.T(1).addr, eps, int32(c.T(1).n), c.Int(3), int32(c.T(0).n), int32(c.Int(4)))
			return true
		},
		Ref: func(c *Call) {
			c.storeF32(c.Out(), ref.Perturb(int32(c.Int(5)), c.loadF32(c.T(0)), c.loadI64(c.T(1)), c.loadF32(c.T(2))[0], c.Int(3), int32(c.Int(4))))
		}})
}

func (c *Call) loadI64(t *tensor) []int64 {
	return Tensor{DType: I64, Sizes: t.sizes, Data: c.Bytes(t)}.Int64s()
}
