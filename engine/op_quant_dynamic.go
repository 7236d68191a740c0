package engine

import (
	"fmt"
	"math"
	"slices"
)

// Operators of quantized_decomposed that choose parameters at run time, work token by token, or mix types.

// chooseQParams maps [lo, hi], widened to hold 0, to [qmin, qmax]. Scales below 6.1e-5 are cut off, as in the stock runtime.
func chooseQParams(lo, hi float32, qmin, qmax int64) (scale float64, zero int64) {
	const smallest = float32(6.1e-5)
	lo, hi = min(lo, 0), max(hi, 0)
	steps := float64(qmax - qmin)
	scale = (float64(hi) - float64(lo)) / steps
	if float32(scale) == 0 || math.IsInf(float64(1/float32(scale)), 0) {
		scale = 0.1
	}
	if scale < float64(smallest) {
		grow := smallest / float32(scale)
		scale = float64(smallest)
		switch {
		case lo == 0:
			hi = smallest * float32(steps)
		case hi == 0:
			lo = -smallest * float32(steps)
		default:
			lo, hi = lo*grow, hi*grow
		}
	}
	fromLo, fromHi := float64(qmin)-float64(lo)/scale, float64(qmax)-float64(hi)/scale
	// The estimate from the end with the smaller terms has the smaller error.
	first := fromHi
	if math.Abs(float64(qmin))-math.Abs(float64(lo)/scale) < math.Abs(float64(qmax))-math.Abs(float64(hi)/scale) {
		first = fromLo
	}
	if first != first {
		return scale, qmin
	}
	return scale, min(max(int64(math.RoundToEven(float64(float32(min(max(first, float64(qmin)), float64(qmax)))))), qmin), qmax)
}

// bounds returns the extremes of a row, which is not empty.
func bounds(x []float64) (lo, hi float32) {
	return float32(slices.Min(x)), float32(slices.Max(x))
}

func checkQParams(in, scale int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		a, s, z := g.Values[n.Args[in]], g.Values[n.Args[scale]], g.Values[n.Args[scale+1]]
		if a.DType != F32 || s.DType != F64 || z.DType != I64 {
			return fmt.Errorf("parameters %s and %s of %s, want f64 and i64 of f32", dtypeName(s.DType), dtypeName(z.DType), dtypeName(a.DType))
		}
		return nil
	}
}

// lastSizes is the shape with the last dimension replaced by 1, one entry a token.
func lastSizes(sizes []int) []int {
	out := slices.Clone(sizes)
	out[len(out)-1] = 1
	return out
}

func init() {
	const ns = "quantized_decomposed::"
	Register(Op{Name: ns + "choose_qparams.Tensor_out", Check: checkQParams(0, 5), Shape: func(c *Call) {
		if lo, hi := c.Int(1), c.Int(2); c.T(0).n == 0 || lo >= hi || lo < math.MinInt32 || hi > math.MaxInt32 {
			c.Fail("parameters of %v for [%d, %d]", c.T(0).sizes, lo, hi)
		}
		for _, i := range []int{5, 6} {
			if t := c.T(i); t.dynamic != 0 && t.dim() == 1 {
				c.Resize(t, 1)
			}
		}
		oneElement(c, 5, 6)
	}, Ref: func(c *Call) {
		lo, hi := bounds(c.In(c.T(0)).f)
		scale, zero := chooseQParams(lo, hi, c.Int(1), c.Int(2))
		c.putFloats(c.T(5), []float64{scale})
		c.putFloats(c.T(6), []float64{float64(zero)})
	}})
	Register(Op{Name: ns + "choose_qparams_per_token_asymmetric.out", Check: checkQParams(0, 2), Shape: func(c *Call) {
		in := c.T(0)
		if in.dim() == 0 || in.sizes[in.dim()-1] == 0 {
			c.Fail("parameters of the rows of %v", in.sizes)
			return
		}
		c.Resize(c.T(2), lastSizes(in.sizes)...)
		c.Resize(c.T(3), lastSizes(in.sizes)...)
	}, Ref: func(c *Call) {
		in := c.In(c.T(0))
		scale, zero := make([]float64, c.T(2).n), make([]float64, c.T(2).n)
		for r := range scale {
			n := in.len() / len(scale)
			lo, hi := bounds(in.f[r*n : (r+1)*n])
			s, z := chooseQParams(lo, hi, -128, 127)
			scale[r], zero[r] = s, float64(z)
		}
		c.putFloats(c.T(2), scale)
		c.putFloats(c.T(3), zero)
	}})
	token := func(c *Call) {
		in := c.T(0)
		if in.dim() == 0 {
			c.Fail("a tensor without dimensions has no rows")
			return
		}
		for i := 1; i <= 2; i++ {
			if t := c.T(i); t.n != numel(in.sizes[:in.dim()-1]) {
				c.failArg(i, "has sizes %v for the rows of %v", t.sizes, in.sizes)
			}
		}
		shapeSame(c)
	}
	perToken := func(c *Call) channels {
		q := c.perChannel(0)
		q.row = c.T(0).sizes[c.T(0).dim()-1]
		return q
	}
	Register(Op{Name: ns + "quantize_per_token.out", Check: checkQuant(-1, 0), Shape: token,
		Ref: func(c *Call) { quantize(c, perToken(c), c.Int(3), c.Int(4)) }})
	Register(Op{Name: ns + "dequantize_per_token.out", Check: checkQuant(0, -1), Shape: token, Ref: func(c *Call) { dequantize(c, perToken(c)) }})

	// Arguments: a, its scale, zero point, range, the same of b, then of the output.
	Register(Op{Name: ns + "add.out", Check: func(g *Graph, n *Node) error {
		a, b, out := g.Values[n.Args[0]], g.Values[n.Args[5]], g.Values[n.Args[14]]
		if a.DType != b.DType || a.DType != out.DType || a.DType != U8 && a.DType != I8 {
			return fmt.Errorf("sum of %s and %s as %s", dtypeName(a.DType), dtypeName(b.DType), dtypeName(out.DType))
		}
		return nil
	}, Shape: func(c *Call) {
		if !slices.Equal(c.T(0).sizes, c.T(5).sizes) {
			c.Fail("sum of %v and %v", c.T(0).sizes, c.T(5).sizes)
		}
		shapeSame(c)
	}, Ref: func(c *Call) {
		a, b := c.In(c.T(0)), c.In(c.T(5))
		res := newArray(c.Out().dtype, a.sizes)
		real := func(x *array, k, arg int) float32 { return float32(x.i[k]-c.Int(arg+1)) * float32(c.Float(arg)) }
		inverse := 1 / float32(c.Float(10))
		for k := range res.len() {
			sum := real(a, k, 1) + real(b, k, 6)
			q := truncInt(float64(c.Int(11)) + math.RoundToEven(float64(inverse*sum)))
			res.setInt(k, min(max(q, c.Int(12)), c.Int(13)))
		}
		c.Put(c.Out(), res)
	}})
	mixed := func(name string, out int, columns func(w *tensor) (k, n int), weight func(w *array, i, j, k, n int) float64) {
		Register(Op{Name: ns + name, Check: func(g *Graph, n *Node) error {
			x, w, s := g.Values[n.Args[0]], g.Values[n.Args[1]], g.Values[n.Args[2]]
			if w.DType != I8 || x.DType != s.DType || x.DType != F32 && x.DType != F16 || !isFloat(g.Values[n.Args[out]].DType) {
				return fmt.Errorf("product of %s with %s scaled by %s", dtypeName(x.DType), dtypeName(w.DType), dtypeName(s.DType))
			}
			return nil
		}, Shape: func(c *Call) {
			x, w, s := c.T(0), c.T(1), c.T(2)
			if !c.None(3) {
				c.failArg(3, "zero points are not supported")
			}
			if x.dim() != 2 || w.dim() != 2 || s.dim() < 1 || s.dim() > 2 || s.sizes[0] != w.sizes[0] || s.dim() == 2 && (s.sizes[1] == 0 || out == 4) {
				c.Fail("product of %v with %v scaled by %v", x.sizes, w.sizes, s.sizes)
				return
			}
			k, n := columns(w)
			if x.sizes[1] != k {
				c.Fail("product of %v with %v", x.sizes, w.sizes)
				return
			}
			c.Resize(c.Out(), x.sizes[0], n)
		}, Ref: func(c *Call) {
			x, w, s := c.In(c.T(0)), c.In(c.T(1)), c.In(c.T(2))
			k, n := columns(c.T(1))
			scaled := newArray(F64, w.sizes)
			groups := s.len() / max(w.sizes[0], 1)
			size := (w.sizes[1] + groups - 1) / max(groups, 1)
			for e := range w.len() {
				row, col := e/w.sizes[1], e%w.sizes[1]
				scaled.f[e] = float64(w.i[e]) * s.at(row*groups+col/max(size, 1))
			}
			res := newArray(c.Out().dtype, c.Out().sizes)
			for i := range x.sizes[0] {
				for j := range n {
					sum := 0.0
					for p := range k {
						sum += x.f[i*k+p] * weight(scaled, p, j, k, n)
					}
					res.set(i*n+j, sum)
				}
			}
			c.Put(c.Out(), res)
		}})
	}
	mixed("mixed_mm.out", 4, func(w *tensor) (int, int) { return w.sizes[0], w.sizes[1] }, func(w *array, p, j, _, n int) float64 { return w.f[p*n+j] })
	mixed("mixed_linear.out", 5, func(w *tensor) (int, int) { return w.sizes[1], w.sizes[0] }, func(w *array, p, j, k, _ int) float64 { return w.f[j*k+p] })

	for _, bits := range []int{2, 4} {
		for _, dtype := range []bool{false, true} {
			name := fmt.Sprintf("%sembedding_%dbit.out", ns, bits)
			if dtype {
				name = fmt.Sprintf("%sembedding_%dbit.dtype_out", ns, bits)
			}
			Register(Op{Name: name, Check: func(g *Graph, n *Node) error {
				if w, out := g.Values[n.Args[0]], g.Values[n.Args[len(n.Args)-1]]; w.DType != U8 || !isFloat(out.DType) || !isFloat(g.Values[n.Args[1]].DType) {
					return fmt.Errorf("rows of %s scaled by %s", dtypeName(w.DType), dtypeName(g.Values[n.Args[1]].DType))
				}
				return checkIndex(5)(g, n)
			}, Shape: func(c *Call) { c.packedRowsShape(bits) }, Ref: func(c *Call) { c.packedRows(bits) }})
		}
	}
}

// packedRowsShape checks a table with 8/bits values a byte, its scales [rows] or [rows, groups], and sizes the output.
func (c *Call) packedRowsShape(bits int) {
	w, s := c.T(0), c.T(1)
	if w.dim() != 2 || s.dim() < 1 || s.dim() > 2 || s.sizes[0] != w.sizes[0] {
		c.Fail("rows of %v scaled by %v", w.sizes, s.sizes)
		return
	}
	width := w.sizes[1] * (8 / bits)
	if s.dim() == 2 && (s.sizes[1] == 0 || width%s.sizes[1] != 0) {
		c.Fail("rows of %v scaled by %v", w.sizes, s.sizes)
		return
	}
	if z := c.OptT(2); z != nil && z.n != s.n {
		c.failArg(2, "has sizes %v for scales %v", z.sizes, s.sizes)
		return
	}
	c.Resize(c.Out(), append(slices.Clone(c.T(5).sizes), width)...)
}

// packedRows gathers rows of 2- or 4-bit values, which stand for -2..1 or -8..7. Of two in a byte the first has the high bits, of
// four the low ones.
func (c *Call) packedRows(bits int) {
	w, out := c.In(c.T(0)), c.Out()
	idx := c.In(c.T(5))
	q := c.perChannel(0)
	per := 8 / bits
	packed := w.sizes[1]
	groups := c.T(1).n / max(w.sizes[0], 1)
	size := packed * per / max(groups, 1)
	res := newArray(out.dtype, out.sizes)
	for k, x := range idx.i {
		i := c.indexOf(5, k, x, w.sizes[0])
		if c.failed() {
			return
		}
		for j := range packed * per {
			b, at := w.i[i*packed+j/per], j%per
			if bits == 4 {
				at = 1 - at
			}
			v := b>>(at*bits)&(1<<bits-1) - 1<<(bits-1)
			g := i*groups + j/size
			res.set(k*packed*per+j, float64((float32(v)-float32(q.zero(g)))*float32(q.scale(g))))
		}
	}
	c.PutBytes(out, res.encode())
}
