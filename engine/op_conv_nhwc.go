package engine

import (
	"math"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/ref"
)

// Channels-last convolution, pooling and interpolation: x [n, h, w, c], as XNNPACK has them.

// columnBytes is what the matrix of patches may take at a time: products run over so many outputs, which then come from the cache.
const columnBytes = 1 << 20

// columnRows returns how many patches of k elements of elem bytes are made at a time.
func columnRows(k, elem int) int { return max(64, columnBytes/max(1, k*elem)) &^ 1 }

func init() {
	Register(Op{Name: "tabtune::conv2d_nhwc.out",
		Schema: "tabtune::conv2d_nhwc.out(Tensor x, Tensor weight, Tensor? bias, int[] window, int groups, float lo, float hi, *, Tensor(a!) columns, Tensor(b!) out) -> Tensor(b!)",
		Check:  floating(0, 1, 2, 7),
		Shape: func(c *Call) {
			x, w, win := c.image(0), c.T(1), c.window(3)
			oc := c.weights(x, w, win, c.Int(4))
			c.vector("bias", c.OptT(2), oc)
			c.ResizeAs(c.T(7), c.T(7)) // takes its memory where the plan has none for it
			if k := win.KH * win.KW * x.sizes[3]; !c.failed() && c.T(7).n < k*columnRows(k, c.T(7).elem) {
				c.Fail("%d elements for patches of %d", c.T(7).n, k)
			}
			if !c.failed() {
				c.filtered(x, win, oc)
			}
		},
		Kernel: conv2dKernel,
		Ref: func(c *Call) {
			x, w, out := c.In(c.T(0)), c.In(c.T(1)), c.Out()
			lo, hi := c.Float(5), c.Float(6)
			bias := c.biasRef(2)
			res := newArray(out.dtype, out.sizes)
			ref.Convolve(x.f, x.sizes, w.f, w.sizes[0], int(c.Int(4)), c.window(3), out.sizes[1], out.sizes[2], func(int) float64 { return 0 },
				func(at, o, _ int, sum float64) { res.set(at, minNaN(maxNaN(sum+bias(o), lo), hi)) })
			c.Put(out, res)
		}})
	Register(Op{Name: "tabtune::dwconv2d_nhwc.out",
		Schema: "tabtune::dwconv2d_nhwc.out(Tensor x, Tensor weight, Tensor? bias, int[] window, float lo, float hi, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  floating(0, 1, 2),
		Shape:  func(c *Call) { c.depthwiseShape(c.OptT(2)) },
		Kernel: func(c *Call) bool {
			x, w, bias, out, win := c.T(0), c.T(1), c.OptT(2), c.Out(), c.window(3)
			if !f32All(x, w, bias, out) {
				return false
			}
			d := c.windowDescriptor(win, out.sizes[1], out.sizes[2])
			if !c.failed() && out.n > 0 {
				c.dev().F32Dwconv(out.addr, x.addr, w.addr, optAddr(bias), d, int32(x.sizes[0]), int32(x.sizes[1]), int32(x.sizes[2]), int32(x.sizes[3]),
					int32(out.sizes[3]/x.sizes[3]), float32(c.Float(4)), float32(c.Float(5)))
			}
			return true
		},
		Ref: func(c *Call) {
			x, w, out := c.In(c.T(0)), c.In(c.T(1)), c.Out()
			lo, hi := c.Float(4), c.Float(5)
			bias := c.biasRef(2)
			res := newArray(out.dtype, out.sizes)
			ref.Depthwise(x.f, x.sizes, w.f, out.sizes[3]/x.sizes[3], c.window(3), out.sizes[1], out.sizes[2], 0,
				func(at, o int, sum float64) { res.set(at, minNaN(maxNaN(sum+bias(o), lo), hi)) })
			c.Put(out, res)
		}})
	Register(Op{Name: "tabtune::conv_transpose2d_nhwc.out",
		Schema: "tabtune::conv_transpose2d_nhwc.out(Tensor x, Tensor weight, Tensor? bias, int[] window, int groups, int[] adjust, float lo, float hi, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  floating(0, 1, 2),
		Shape:  func(c *Call) { c.transposedShape() },
		Kernel: func(c *Call) bool {
			x, w, bias, out := c.T(0), c.T(1), c.OptT(2), c.Out()
			if !f32All(x, w, bias, out) {
				return false
			}
			d := c.windowDescriptor(c.window(3), out.sizes[1], out.sizes[2])
			if !c.failed() && out.n > 0 {
				c.dev().F32Deconv(out.addr, x.addr, w.addr, optAddr(bias), d, int32(x.sizes[0]), int32(x.sizes[1]), int32(x.sizes[2]), int32(x.sizes[3]),
					int32(out.sizes[3]), int32(c.Int(4)), float32(c.Float(6)), float32(c.Float(7)))
			}
			return true
		},
		Ref: func(c *Call) {
			x, w, out := c.In(c.T(0)), c.In(c.T(1)), c.Out()
			lo, hi := c.Float(6), c.Float(7)
			bias := c.biasRef(2)
			res := newArray(out.dtype, out.sizes)
			sums := ref.Transposed(x.f, x.sizes, w.f, out.sizes, int(c.Int(4)), c.window(3), 0)
			for k, s := range sums {
				res.set(k, minNaN(maxNaN(s+bias(k%out.sizes[3]), lo), hi))
			}
			c.Put(out, res)
		}})
	Register(Op{Name: "tabtune::pool2d_nhwc.out", Schema: "tabtune::pool2d_nhwc.out(Tensor x, int[] window, bool mean, *, Tensor(a!) out) -> Tensor(a!)",
		Check: checkSameType,
		Shape: func(c *Call) {
			x := c.image(0)
			if c.Bool(2) && !isFloat(x.dtype) {
				c.Fail("mean of %s", dtypeName(x.dtype))
			}
			c.filtered(x, c.window(1), x.sizes[3])
		},
		Kernel: poolKernel,
		Ref: func(c *Call) {
			x, out := c.In(c.T(0)), c.Out()
			win, mean := c.window(1), c.Bool(2)
			res := newArray(out.dtype, out.sizes)
			h, w, ch := x.sizes[1], x.sizes[2], x.sizes[3]
			oh, ow := out.sizes[1], out.sizes[2]
			for k := range res.len() {
				p := k / ch
				sum, n := 0.0, 0
				best := math.Inf(-1)
				win.Each(p/ow%oh, p%ow, h, w, func(_, row, col int) {
					v := x.at(((p/(oh*ow)*h+row)*w+col)*ch + k%ch)
					best, sum, n = maxNaN(best, v), sum+v, n+1
				})
				switch {
				case mean:
					res.set(k, sum/float64(max(n, 1)))
				case n == 0 && x.i != nil:
					res.setInt(k, -128)
				default:
					res.set(k, best)
				}
			}
			c.Put(out, res)
		}})
	// The largest value of each window and which tap has it, counted along the window's rows.
	Register(Op{Name: "tabtune::argmax_pool2d_nhwc.out",
		Schema: "tabtune::argmax_pool2d_nhwc.out(Tensor x, int[] window, *, Tensor(a!) index, Tensor(b!) out) -> Tensor(b!)",
		Check: func(g *Graph, n *Node) error {
			if err := needTypes(g, n, F32, F32, I32, F32); err != nil {
				return err
			}
			return nil
		},
		Shape: func(c *Call) {
			x := c.image(0)
			c.filtered(x, c.window(1), x.sizes[3])
			c.ResizeAs(c.T(2), c.Out())
		},
		Ref: func(c *Call) {
			x, out := c.In(c.T(0)), c.Out()
			win := c.window(1)
			res, index := newArray(F32, out.sizes), newArray(I32, out.sizes)
			h, w, ch := x.sizes[1], x.sizes[2], x.sizes[3]
			oh, ow := out.sizes[1], out.sizes[2]
			for k := range res.len() {
				p, best, at := k/ch, math.Inf(-1), 0
				win.Each(p/ow%oh, p%ow, h, w, func(tap, row, col int) {
					if v := x.f[((p/(oh*ow)*h+row)*w+col)*ch+k%ch]; v > best {
						best, at = v, tap
					}
				})
				res.set(k, best)
				index.setInt(k, int64(at))
			}
			c.Put(c.T(2), index)
			c.Put(out, res)
		}})
	Register(Op{Name: "tabtune::resize_bilinear_nhwc.out", Schema: "tabtune::resize_bilinear_nhwc.out(Tensor x, int[] size, bool align_corners, *, Tensor(a!) out) -> Tensor(a!)",
		Check: floating(0),
		Shape: func(c *Call) {
			x, size := c.image(0), c.Ints(1)
			if len(size) != 2 || size[0] < 1 || size[1] < 1 || size[0] > math.MaxInt32 || size[1] > math.MaxInt32 || x.sizes[1] < 1 || x.sizes[2] < 1 {
				c.Fail("resize of %v to %v", x.sizes, size)
				return
			}
			c.Resize(c.Out(), x.sizes[0], int(size[0]), int(size[1]), x.sizes[3])
		},
		Ref: resizeRef})
}

func conv2dKernel(c *Call) bool {
	x, w, bias, columns, out, win := c.T(0), c.T(1), c.OptT(2), c.T(7), c.Out(), c.window(3)
	if !f32All(x, w, bias, columns, out) {
		return false
	}
	if out.n == 0 {
		return true
	}
	groups, lo, hi := int(c.Int(4)), float32(c.Float(5)), float32(c.Float(6))
	oh, ow := out.sizes[1], out.sizes[2]
	m, oc, ic := x.sizes[0]*oh*ow, out.sizes[3], x.sizes[3]
	ocg, icg := oc/groups, ic/groups
	k := win.KH * win.KW * icg
	step := m
	if !win.Pointwise() {
		step = min(m, columnRows(win.KH*win.KW*ic, 4))
	}
	d := c.windowDescriptor(win, oh, ow)
	if c.failed() {
		return true
	}
	for first := 0; first < m; first += step {
		rows := min(step, m-first)
		y := out.addr + kernel.Addr(4*first*oc)
		for g := range groups {
			a, lda := columns.addr, k
			if win.Pointwise() {
				a, lda = x.addr+kernel.Addr(4*(first*ic+g*icg)), ic
			} else {
				c.dev().Im2col(a, x.addr+kernel.Addr(4*g*icg), d, int32(x.sizes[1]), int32(x.sizes[2]), int32(4*ic), int32(4*icg), int32(first), int32(rows))
			}
			b := optAddr(bias)
			if b != 0 {
				b += kernel.Addr(4 * g * ocg)
			}
			c.dev().F32GemmNTClamp(y+kernel.Addr(4*g*ocg), a, w.addr+kernel.Addr(4*g*ocg*k), b, int32(rows), int32(ocg), int32(k), int32(lda), int32(k), int32(oc), lo, hi)
		}
	}
	return true
}

func poolKernel(c *Call) bool {
	x, out, win := c.T(0), c.Out(), c.window(1)
	if out.n == 0 {
		return true
	}
	n, h, w, ch := int32(x.sizes[0]), int32(x.sizes[1]), int32(x.sizes[2]), int32(x.sizes[3])
	if x.dtype != F32 && x.dtype != I8 {
		return false
	}
	d := c.windowDescriptor(win, out.sizes[1], out.sizes[2])
	switch {
	case c.failed():
	case x.dtype == I8:
		c.dev().I8MaxPool(out.addr, x.addr, d, n, h, w, ch)
	default:
		c.dev().F32Pool(out.addr, x.addr, d, n, h, w, ch, int32(b2i(c.Bool(2))))
	}
	return true
}

// depthwiseShape is the shape rule of a convolution with the filter [1, kh, kw, out] in argument 1 and the window in argument 3.
func (c *Call) depthwiseShape(vectors ...*tensor) {
	x, w, win := c.image(0), c.T(1), c.window(3)
	if w.dim() != 4 || w.sizes[0] != 1 || w.sizes[1] != win.KH || w.sizes[2] != win.KW || x.sizes[3] == 0 || w.sizes[3]%x.sizes[3] != 0 {
		c.Fail("filter of %v, kernel %dx%d, for an image of %v", w.sizes, win.KH, win.KW, x.sizes)
		return
	}
	for _, v := range vectors {
		c.vector("bias or scale", v, w.sizes[3])
	}
	if !c.failed() {
		c.filtered(x, win, w.sizes[3])
	}
}

// biasRef returns the bias in argument i by channel, 0 if there is none.
func (c *Call) biasRef(i int) func(channel int) float64 {
	t := c.OptT(i)
	if t == nil {
		return func(int) float64 { return 0 }
	}
	return c.In(t).at
}

// resizeRef interpolates between the four nearest pixels; without aligned corners the centres of pixels lie at halves.
func resizeRef(c *Call) {
	x, out := c.In(c.T(0)), c.Out()
	corners := c.Bool(2)
	res := newArray(out.dtype, out.sizes)
	h, w, ch := x.sizes[1], x.sizes[2], x.sizes[3]
	oh, ow := out.sizes[1], out.sizes[2]
	source := func(o, in, outSize int) (lo, hi int, f float64) {
		var s float64
		if corners {
			if outSize > 1 {
				s = float64(o) * float64(float32(in-1)/float32(outSize-1))
			}
		} else {
			s = max(0, (float64(o)+0.5)*float64(float32(in)/float32(outSize))-0.5)
		}
		lo = min(int(s), in-1)
		return lo, min(lo+1, in-1), s - float64(lo)
	}
	for k := range res.len() {
		p, cc := k/ch, k%ch
		y0, y1, fy := source(p/ow%oh, h, oh)
		x0, x1, fx := source(p%ow, w, ow)
		at := func(row, col int) float64 { return x.f[((p/(oh*ow)*h+row)*w+col)*ch+cc] }
		top := at(y0, x0) + (at(y0, x1)-at(y0, x0))*fx
		bottom := at(y1, x0) + (at(y1, x1)-at(y1, x0))*fx
		res.set(k, top+(bottom-top)*fy)
	}
	c.Put(out, res)
}
