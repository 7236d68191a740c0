package engine

import (
	"encoding/binary"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/ref"
)

func init() {
	Register(Op{Name: "tabtune::mlp.out", ShapeOnly: []int{0},
		Schema: "tabtune::mlp.out(Tensor x, Tensor q, Tensor scale, Tensor? sums, Tensor gate, Tensor gate_scale, Tensor? gate_min, Tensor up, Tensor up_scale, Tensor? up_min, Tensor down, Tensor down_scale, Tensor? down_min, int activation, *, Tensor(a!) work_gate, Tensor(b!) work_up, Tensor(c!) work_q, Tensor(d!) work_scale, Tensor(e!)? work_sums, Tensor(f!) out) -> (Tensor(a!), Tensor(b!), Tensor(c!), Tensor(d!), Tensor(e!), Tensor(f!))",
		Check:  func(g *Graph, n *Node) error { return needTypes(g, n, F32, I16, F32, I32) },
		Shape: func(c *Call) {
			k, ffn, n := c.features(4), c.T(4).sizes[0], c.T(10).sizes[0]
			if c.features(7) != k || c.T(7).sizes[0] != ffn || c.features(10) != ffn || c.T(14).sizes[1] != ffn {
				c.Fail("an MLP of weights %v, %v and %v", c.T(4).sizes, c.T(7).sizes, c.T(10).sizes)
				return
			}
			c.linearShape(n, k)
		},
		Kernel: func(c *Call) bool {
			k, ffn, n := c.features(4), c.T(4).sizes[0], c.T(10).sizes[0]
			rows, block := c.T(0).n/k, c.T(14).sizes[0]
			gate, up, q, scale, sums := c.T(14).addr, c.T(15).addr, c.T(16).addr, c.T(17).addr, optAddr(c.OptT(18))
			for i := 0; i < rows; i += block {
				m := min(block, rows-i)
				in, s, groups := c.T(1).addr+addrOf(int64(2*i*((k+7)&^7))), c.T(2).addr+addrOf(int64(4*i)), optAddr(c.OptT(3))
				if groups != 0 {
					groups += addrOf(int64(4 * i * ((k + 31) / 32)))
				}
				c.product(4, gate, in, s, groups, m, ffn, k)
				c.product(7, up, in, s, groups, m, ffn, k)
				c.dev().F32Glu(int32(c.Int(13)), gate, int32(ffn), gate, int32(ffn), up, int32(ffn), int32(m), int32(ffn))
				c.dev().I16QuantizeRows(q, scale, sums, gate, int32(m), int32(ffn), int32(ffn))
				c.product(10, c.Out().addr+addrOf(int64(4*i*n)), q, scale, sums, m, n, ffn)
			}
			return true
		},
		Ref: func(c *Call) {
			k, ffn, n := c.features(4), c.T(4).sizes[0], c.T(10).sizes[0]
			x := c.loadF32(c.T(0))
			m := len(x) / k
			wide := ref.GLU(int32(c.Int(13)), c.productRef(4, x, m, ffn, k), c.productRef(7, x, m, ffn, k))
			c.storeF32(c.Out(), c.productRef(10, wide, m, n, ffn))
		}})
}

// features are the inputs of the weight that argument i is, 4-bit if a minimum is given two arguments on.
func (c *Call) features(i int) int {
	w := c.T(i)
	if c.None(i + 2) {
		return w.sizes[1]
	}
	return 2 * w.sizes[1]
}

// product multiplies m quantised rows with the weight that argument i is.
func (c *Call) product(i int, y, q, scale, sums kernel.Addr, m, n, k int) {
	if c.None(i + 2) {
		c.dev().I8Gemm(y, q, scale, c.T(i).addr, c.T(i+1).addr, 0, int32(m), int32(n), int32(k), int32(k), int32(n), 0)
		return
	}
	c.dev().Q4Gemm(y, q, scale, sums, c.T(i).addr, c.T(i+1).addr, c.T(i+2).addr, 0, int32(m), int32(n), int32(k), int32(n), 0)
}

func (c *Call) productRef(i int, x []float32, m, n, k int) []float32 {
	q, sx, sums := ref.QuantizeRows(x, m, k, k)
	y := make([]float32, m*n)
	raw := c.Bytes(c.T(i))
	if c.None(i + 2) {
		w := make([]int8, len(raw))
		for j, b := range raw {
			w[j] = int8(b)
		}
		ref.I8GEMM(y, q, sx, w, c.loadF32(c.T(i+1)), nil, m, n, k, k, n, false)
		return y
	}
	half := func(t *tensor) []uint16 {
		b := c.Bytes(t)
		h := make([]uint16, len(b)/2)
		for j := range h {
			h[j] = binary.LittleEndian.Uint16(b[2*j:])
		}
		return h
	}
	ref.Q4GEMM(y, q, sx, sums, raw, half(c.T(i+1)), half(c.T(i+2)), nil, m, n, k, n, false)
	return y
}
