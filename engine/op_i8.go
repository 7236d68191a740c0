package engine

import (
	"math"

	"tabtune/engine/kernel"
)

// Conversions between f32 and int8 and elementwise operations of int8, as XNNPACK defines them.

func init() {
	Register(Op{Name: "tabtune::quantize_i8.out", Schema: "tabtune::quantize_i8.out(Tensor x, float inverse, int zero, *, Tensor(a!) out) -> Tensor(a!)",
		Check: bits8(F32, 0, 0, I8), Shape: func(c *Call) { c.zeroPoints(2); shapeSame(c) },
		Kernel: func(c *Call) bool {
			c.dev().I8Quantize(c.Out().addr, c.T(0).addr, float32(c.Float(1)), int32(c.Int(2)), int32(c.T(0).n))
			return true
		},
		Ref: func(c *Call) {
			x, res := c.In(c.T(0)), newArray(I8, c.Out().sizes)
			for k := range res.len() {
				res.setInt(k, quantise8(float32(x.f[k]), float32(c.Float(1)), c.Int(2)))
			}
			c.Put(c.Out(), res)
		}})
	Register(Op{Name: "tabtune::dequantize_i8.out", Schema: "tabtune::dequantize_i8.out(Tensor x, float scale, int zero, *, Tensor(a!) out) -> Tensor(a!)",
		Check: bits8(I8, 0, 0, F32), Shape: func(c *Call) { c.zeroPoints(2); shapeSame(c) },
		Kernel: func(c *Call) bool {
			c.dev().I8Dequantize(c.Out().addr, c.T(0).addr, float32(c.Float(1)), int32(c.Int(2)), int32(c.T(0).n))
			return true
		},
		Ref: func(c *Call) {
			x, res := c.In(c.T(0)), newArray(F32, c.Out().sizes)
			for k := range res.len() {
				res.set(k, float64(float32(x.i[k]-c.Int(2))*float32(c.Float(1))))
			}
			c.Put(c.Out(), res)
		}})
	// Each run of the last `dims` dimensions gets the scale and zero point that its least and greatest number need.
	Register(Op{Name: "tabtune::quantize_rows_i8.out", Schema: "tabtune::quantize_rows_i8.out(Tensor x, int dims, *, Tensor(a!) q, Tensor(b!) scale, Tensor(c!) zero) -> (Tensor(a!), Tensor(b!), Tensor(c!))",
		Check: bits8(F32, 0, I8, F32, I32),
		Shape: func(c *Call) {
			x, dims := c.T(0), c.Int(1)
			if dims < 1 || dims > int64(x.dim()) {
				c.Fail("%d of %d dimensions", dims, x.dim())
				return
			}
			rows := numel(x.sizes[:x.dim()-int(dims)])
			c.ResizeAs(c.T(2), x)
			c.Resize(c.T(3), rows)
			c.Resize(c.T(4), rows)
		},
		Kernel: func(c *Call) bool {
			x, rows := c.T(0), c.T(3).n
			if rows > 0 {
				c.dev().I8QuantizeRows(c.T(2).addr, c.T(3).addr, c.T(4).addr, x.addr, int32(rows), int32(x.n/rows))
			}
			return true
		},
		Ref: quantizeRowsRef})
	Register(Op{Name: "tabtune::lookup_i8.out", Schema: "tabtune::lookup_i8.out(Tensor x, Tensor table, *, Tensor(a!) out) -> Tensor(a!)",
		Check: bits8(I8, U8, I8), Shape: func(c *Call) { c.vector("table", c.T(1), 256); shapeSame(c) }, InPlace: []int{0},
		Kernel: func(c *Call) bool {
			c.dev().U8Lookup(c.Out().addr, c.T(0).addr, c.T(1).addr, int32(c.T(0).n))
			return true
		},
		Ref: func(c *Call) {
			x, table := c.Bytes(c.T(0)), c.Bytes(c.T(1))
			for k := range x {
				x[k] = table[x[k]]
			}
			c.PutBytes(c.Out(), x)
		}})
	// params are a bias, both factors and a shift: (bias + a*am + b*bm) >> shift, plus the zero point.
	Register(Op{Name: "tabtune::add_qs8.out", Schema: "tabtune::add_qs8.out(Tensor a, Tensor b, int[] params, int zero, *, Tensor(a!) out) -> Tensor(a!)",
		Check: bits8(I8, I8, 0, 0, I8), InPlace: []int{0, 1},
		Shape: func(c *Call) {
			c.zeroPoints(3)
			if p := c.Ints(2); len(p) != 4 || p[3] < 0 || p[3] > 31 || max(p[0], -p[0], p[1], -p[1], p[2], -p[2]) > math.MaxInt32 {
				c.Fail("parameters %v", p)
			}
			shapeBroadcast(c)
		},
		Kernel: func(c *Call) bool {
			p := c.Ints(2)
			return c.runs8(func(out, a, b kernel.Addr, n int32) {
				c.dev().Qs8Add(out, a, b, int32(p[0]), int32(p[1]), int32(p[2]), int32(p[3]), int32(c.Int(3)), n)
			})
		},
		Ref: func(c *Call) {
			p, zero := c.Ints(2), c.Int(3)
			c.each8(func(a, b int64) int64 { return int64(int32(p[0]+a*p[1]+b*p[2])>>p[3]) + zero })
		}})
	Register(Op{Name: "tabtune::mul_qs8.out", Schema: "tabtune::mul_qs8.out(Tensor a, Tensor b, int a_zero, int b_zero, float scale, int zero, *, Tensor(a!) out) -> Tensor(a!)",
		Check: bits8(I8, I8, 0, 0, 0, 0, I8), InPlace: []int{0, 1},
		Shape: func(c *Call) { c.zeroPoints(2, 3, 5); shapeBroadcast(c) },
		Kernel: func(c *Call) bool {
			return c.runs8(func(out, a, b kernel.Addr, n int32) {
				c.dev().Qs8Mul(out, a, b, int32(c.Int(2)), int32(c.Int(3)), float32(c.Float(4)), int32(c.Int(5)), n)
			})
		},
		Ref: func(c *Call) {
			az, bz, scale, zero := c.Int(2), c.Int(3), float32(c.Float(4)), c.Int(5)
			c.each8(func(a, b int64) int64 { return quantise8(float32((a-az)*(b-bz)), scale, zero) })
		}})
}

// quantise8 is round(x * inverse) + zero, saturated to int8.
func quantise8(x, inverse float32, zero int64) int64 {
	q := truncInt(math.RoundToEven(float64(float32(x * inverse)))) // bounded before the sum, as the kernel's int16 is
	return min(max(min(max(q, math.MinInt16), math.MaxInt16)+zero, math.MinInt8), math.MaxInt8)
}

// runs8 calls f for the longest runs of two int8 arguments and the output that lie in memory one after the other in all three; false where
// they are too short to be worth a call.
func (c *Call) runs8(f func(out, a, b kernel.Addr, n int32)) bool {
	a, b, out := c.T(0), c.T(1), c.Out()
	sa, sb := broadcastStrides(a.sizes, out.sizes), broadcastStrides(b.sizes, out.sizes)
	d, n := len(out.sizes), 1
	for d > 0 && (out.sizes[d-1] == 1 || sa[d-1] == n && sb[d-1] == n) {
		d--
		n *= out.sizes[d]
	}
	if n < 16 && n < out.n {
		return false
	}
	at := 0
	walk(out.sizes[:d], func(off []int) {
		f(out.addr+kernel.Addr(at), a.addr+kernel.Addr(off[0]), b.addr+kernel.Addr(off[1]), int32(n))
		at += n
	}, sa[:d], sb[:d])
	return true
}

// each8 computes an int8 output from two broadcast int8 arguments.
func (c *Call) each8(f func(a, b int64) int64) {
	a, b, out := c.In(c.T(0)), c.In(c.T(1)), c.Out()
	res, k := newArray(I8, out.sizes), 0
	walk(out.sizes, func(off []int) {
		res.setInt(k, min(max(f(a.i[off[0]], b.i[off[1]]), math.MinInt8), math.MaxInt8))
		k++
	}, broadcastStrides(a.sizes, out.sizes), broadcastStrides(b.sizes, out.sizes))
	c.Put(out, res)
}

func quantizeRowsRef(c *Call) {
	x, rows := c.In(c.T(0)), c.T(3).n
	q, scales, zeros := newArray(I8, x.sizes), newArray(F32, []int{rows}), newArray(I32, []int{rows})
	for r := range rows {
		k := x.len() / rows
		var lo, hi float32
		for _, v := range x.f[r*k : (r+1)*k] {
			if x := float32(v); x < lo { // a NaN is neither, as in the kernel
				lo = x
			} else if x > hi {
				hi = x
			}
		}
		scale := float32(1)
		if lo != hi {
			scale = 255 / (hi - lo)
		}
		below, above := float32(lo*scale), float32(hi*scale)
		zero := 127 - above
		if (-128+below)+(127+above) > 0 {
			zero = -128 - below
		}
		z := truncInt(math.RoundToEven(float64(min(max(zero, -128), 127))))
		zeros.setInt(r, z)
		scales.set(r, float64(1/scale))
		for i := r * k; i < (r+1)*k; i++ {
			q.setInt(i, quantise8(float32(x.f[i]), scale, z))
		}
	}
	c.Put(c.T(2), q)
	c.Put(c.T(3), scales)
	c.Put(c.T(4), zeros)
}
