package engine

import (
	"math"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/ref"
)

// Products of int8 activations with int8 filters, as XNNPACK defines them: q = round((sum + bias) * scale) + zero point where the output
// is int8, and sum * row scale * filter scale + bias where it is f32 (dynamically quantised activations).

// eightBit is the part that linear and convolution share: an image of n by h by w by c numbers.
type eightBit struct {
	x          *tensor
	n, h, w, c int
	win        window2d
	groups     int
	oc, oh, ow int
}

// bits8 checks element types when an operator of int8 is bound.
func bits8(types ...DType) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error { return needTypes(g, n, types...) }
}

// imageOf describes a convolution of argument 0 with the filter in argument w.
func (c *Call) imageOf(w, win, groups int) eightBit {
	x, out := c.T(0), c.Out()
	return eightBit{x, x.sizes[0], x.sizes[1], x.sizes[2], x.sizes[3], c.window(win), int(c.Int(groups)), c.T(w).sizes[0], out.sizes[1], out.sizes[2]}
}

// rowsOf describes a linear layer as a convolution of images of one pixel.
func (c *Call) rowsOf(w int) eightBit {
	x, f := c.T(0), c.T(w)
	return eightBit{x, x.n / f.sizes[1], 1, 1, f.sizes[1], onePixel, 1, f.sizes[0], 1, 1}
}

// products calls gemm for every group and every run of outputs whose patches fit in columns, with the patches in place.
func (c *Call) products(e eightBit, columns *tensor, sx, scales, zeros kernel.Addr, zero int32, gemm func(first, rows, group, k int)) {
	m := e.n * e.oh * e.ow
	icg := e.c / e.groups
	k := e.win.KH * e.win.KW * icg
	k8 := (k + 7) &^ 7
	step := min(m, columns.n/k8&^1)
	d := c.windowDescriptor(e.win, e.oh, e.ow)
	if c.failed() {
		return
	}
	for first := 0; first < m; first += step {
		rows := min(step, m-first)
		for g := range e.groups {
			c.dev().I8Im2col(columns.addr, sx, e.x.addr, scales, zeros, zero, d, int32(e.h), int32(e.w), int32(e.c), int32(g*icg), int32(icg), int32(first), int32(rows))
			gemm(first, rows, g, k)
		}
	}
}

// scratch8 checks the memory for int16 patches of k numbers.
func (c *Call) scratch8(i, k int) {
	t := c.T(i)
	c.ResizeAs(t, t) // takes its memory where the plan has none for it
	if k8 := (k + 7) &^ 7; k < 1 || k > maxIntK || t.n < 2*k8 {
		c.Fail("%d elements for patches of %d, at most %d are supported", t.n, k, maxIntK)
	}
}

// linear8 is the shape rule of rows times the filter in argument w.
func (c *Call) linear8(w int) (oc, k int) {
	f := c.T(w)
	if f.dim() != 2 || f.sizes[0] == 0 {
		c.Fail("filter of %v", f.sizes)
		return 0, 0
	}
	c.linearShape(f.sizes[0], f.sizes[1])
	return f.sizes[0], f.sizes[1]
}

// zeroPoints checks int8 zero points and bounds.
func (c *Call) zeroPoints(args ...int) {
	for _, i := range args {
		if z := c.Int(i); z < math.MinInt8 || z > math.MaxInt8 {
			c.failArg(i, "%d is no int8", z)
		}
	}
}

func init() {
	static := func(c *Call, e eightBit, bias, scale *tensor, xz, oz, lo, hi, columns int) bool {
		w, out := c.T(1), c.Out()
		if out.n == 0 {
			return true
		}
		ocg := e.oc / e.groups
		c.products(e, c.T(columns), 0, 0, 0, int32(c.Int(xz)), func(first, rows, g, k int) {
			b := optAddr(bias)
			if b != 0 {
				b += kernel.Addr(4 * g * ocg)
			}
			c.dev().Qs8Gemm(out.addr+kernel.Addr(first*e.oc+g*ocg), c.T(columns).addr, w.addr+kernel.Addr(g*ocg*k), scale.addr+kernel.Addr(4*g*ocg), b, int32(rows), int32(ocg),
				int32(k), int32(e.oc), int32(c.Int(oz)), int32(c.Int(lo)), int32(c.Int(hi)))
		})
		return true
	}
	staticRef := func(c *Call, e eightBit, bias, scale *tensor, xz, oz, lo, hi int) {
		out := c.Out()
		res := newArray(I8, out.sizes)
		store := c.requantise(bias, scale, oz, lo, hi, res)
		z := c.Int(xz)
		ref.Convolve(c.In(e.x).i, []int{e.n, e.h, e.w, e.c}, c.In(c.T(1)).i, e.oc, e.groups, e.win, e.oh, e.ow, func(int) int64 { return z },
			func(at, o, _ int, sum int64) { store(at, o, sum) })
		c.Put(out, res)
	}
	Register(Op{Name: "tabtune::linear_qs8.out",
		Schema: "tabtune::linear_qs8.out(Tensor x, Tensor weight, Tensor? bias, Tensor scale, int x_zero, int zero, int lo, int hi, *, Tensor(a!) columns, Tensor(b!) out) -> Tensor(b!)",
		Check:  bits8(I8, I8, I32, F32, 0, 0, 0, 0, I16, I8),
		Shape: func(c *Call) {
			oc, k := c.linear8(1)
			c.vector("bias", c.OptT(2), oc)
			c.vector("scale", c.T(3), oc)
			c.zeroPoints(4, 5, 6, 7)
			c.scratch8(8, k)
		},
		Kernel: func(c *Call) bool { return static(c, c.rowsOf(1), c.OptT(2), c.T(3), 4, 5, 6, 7, 8) },
		Ref:    func(c *Call) { staticRef(c, c.rowsOf(1), c.OptT(2), c.T(3), 4, 5, 6, 7) }})
	Register(Op{Name: "tabtune::conv2d_qs8.out",
		Schema: "tabtune::conv2d_qs8.out(Tensor x, Tensor weight, Tensor? bias, int[] window, int groups, Tensor scale, int x_zero, int zero, int lo, int hi, *, Tensor(a!) columns, Tensor(b!) out) -> Tensor(b!)",
		Check:  bits8(I8, I8, I32, 0, 0, F32, 0, 0, 0, 0, I16, I8),
		Shape: func(c *Call) {
			x, win := c.image(0), c.window(3)
			oc := c.weights(x, c.T(1), win, c.Int(4))
			c.vector("bias", c.OptT(2), oc)
			c.vector("scale", c.T(5), oc)
			c.zeroPoints(6, 7, 8, 9)
			if !c.failed() {
				c.scratch8(10, win.KH*win.KW*x.sizes[3]/int(c.Int(4)))
				c.filtered(x, win, oc)
			}
		},
		Kernel: func(c *Call) bool { return static(c, c.imageOf(1, 3, 4), c.OptT(2), c.T(5), 6, 7, 8, 9, 10) },
		Ref:    func(c *Call) { staticRef(c, c.imageOf(1, 3, 4), c.OptT(2), c.T(5), 6, 7, 8, 9) }})
	Register(Op{Name: "tabtune::dwconv2d_qs8.out",
		Schema: "tabtune::dwconv2d_qs8.out(Tensor x, Tensor weight, Tensor? bias, int[] window, Tensor scale, int x_zero, int zero, int lo, int hi, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  bits8(I8, I8, I32, 0, F32, 0, 0, 0, 0, I8),
		Shape: func(c *Call) {
			c.zeroPoints(5, 6, 7, 8)
			c.depthwiseShape(c.OptT(2), c.T(4))
		},
		Kernel: func(c *Call) bool {
			x, out, win := c.T(0), c.Out(), c.window(3)
			if out.sizes[3] != x.sizes[3] {
				return false
			}
			d := c.windowDescriptor(win, out.sizes[1], out.sizes[2])
			if !c.failed() && out.n > 0 {
				c.dev().Qs8Dwconv(out.addr, x.addr, c.T(1).addr, optAddr(c.OptT(2)), c.T(4).addr, d, int32(x.sizes[0]), int32(x.sizes[1]), int32(x.sizes[2]), int32(x.sizes[3]),
					int32(c.Int(5)), int32(c.Int(6)), int32(c.Int(7)), int32(c.Int(8)))
			}
			return true
		},
		Ref: func(c *Call) {
			x, out := c.In(c.T(0)), c.Out()
			res := newArray(I8, out.sizes)
			ref.Depthwise(x.i, x.sizes, c.In(c.T(1)).i, out.sizes[3]/x.sizes[3], c.window(3), out.sizes[1], out.sizes[2], c.Int(5), c.requantise(c.OptT(2), c.T(4), 6, 7, 8, res))
			c.Put(out, res)
		}})
	Register(Op{Name: "tabtune::conv_transpose2d_qs8.out",
		Schema: "tabtune::conv_transpose2d_qs8.out(Tensor x, Tensor weight, Tensor? bias, int[] window, int groups, int[] adjust, Tensor scale, int x_zero, int zero, int lo, int hi, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  bits8(I8, I8, I32, 0, 0, 0, F32, 0, 0, 0, 0, I8),
		Shape: func(c *Call) {
			c.zeroPoints(7, 8, 9, 10)
			c.vector("scale", c.T(6), c.transposedShape())
		},
		Kernel: func(c *Call) bool {
			x, out := c.T(0), c.Out()
			d := c.windowDescriptor(c.window(3), out.sizes[1], out.sizes[2])
			if !c.failed() && out.n > 0 {
				c.dev().Qs8Deconv(out.addr, x.addr, c.T(1).addr, optAddr(c.OptT(2)), c.T(6).addr, d, int32(x.sizes[0]), int32(x.sizes[1]), int32(x.sizes[2]), int32(x.sizes[3]),
					int32(out.sizes[3]), int32(c.Int(4)), int32(c.Int(7)), int32(c.Int(8)), int32(c.Int(9)), int32(c.Int(10)))
			}
			return true
		},
		Ref: func(c *Call) {
			x, out := c.In(c.T(0)), c.Out()
			res := newArray(I8, out.sizes)
			store := c.requantise(c.OptT(2), c.T(6), 8, 9, 10, res)
			for k, s := range ref.Transposed(x.i, x.sizes, c.In(c.T(1)).i, out.sizes, int(c.Int(4)), c.window(3), c.Int(7)) {
				store(k, k%out.sizes[3], s)
			}
			c.Put(out, res)
		}})
	registerDynamic()
	registerTransposedDynamic()
}

// registerDynamic adds the products whose activations were quantised at run time.
func registerDynamic() {
	dynamic := func(c *Call, e eightBit, sw, bias *tensor, block, columns, sx int) {
		out, w := c.Out(), c.T(3)
		if out.n == 0 {
			return
		}
		ocg := e.oc / e.groups
		c.products(e, c.T(columns), c.T(sx).addr, c.T(1).addr, c.T(2).addr, 0, func(first, rows, g, k int) {
			b := optAddr(bias)
			if b != 0 {
				b += kernel.Addr(4 * g * ocg)
			}
			c.dev().Qd8Gemm(out.addr+kernel.Addr(4*(first*e.oc+g*ocg)), c.T(columns).addr, c.T(sx).addr, w.addr+kernel.Addr(g*ocg*k), sw.addr+kernel.Addr(4*g*ocg), b,
				int32(rows), int32(ocg), int32(k), int32(block), int32(e.oc))
		})
	}
	Register(Op{Name: "tabtune::linear_qd8.out",
		Schema: "tabtune::linear_qd8.out(Tensor x, Tensor scale, Tensor zero, Tensor weight, Tensor weight_scale, Tensor? bias, int block, *, Tensor(a!) columns, Tensor(b!) row_scale, Tensor(c!) out) -> Tensor(c!)",
		Check:  bits8(I8, F32, I32, I8, F32, F32, 0, I16, F32, F32),
		Shape: func(c *Call) {
			oc, k := c.linear8(3)
			block := c.Int(6)
			scales := oc
			if block != 0 && (block < 8 || block%8 != 0 || int64(k)%block != 0) {
				c.Fail("blocks of %d in rows of %d", block, k)
			} else if block != 0 {
				scales = oc * (k / int(block))
			}
			c.vector("filter scale", c.T(4), scales)
			c.vector("bias", c.OptT(5), oc)
			c.scratch8(7, k)
			if k > 0 {
				rows := c.T(0).n / k
				c.vector("scale", c.T(1), rows)
				c.vector("zero point", c.T(2), rows)
				c.Resize(c.T(8), rows)
			}
		},
		Kernel: func(c *Call) bool {
			dynamic(c, c.rowsOf(3), c.T(4), c.OptT(5), int(c.Int(6)), 7, 8)
			return true
		},
		Ref: func(c *Call) {
			out, block := c.Out(), int(c.Int(6))
			oc, k := c.T(3).sizes[0], c.T(3).sizes[1]
			x, w, zero := c.In(c.T(0)).i, c.In(c.T(3)).i, c.In(c.T(2)).i
			scale, sw, bias := c.In(c.T(1)), c.In(c.T(4)), c.biasRef(5)
			res := newArray(F32, out.sizes)
			if block == 0 {
				block = k
			}
			for i := range res.len() {
				r, o := i/oc, i%oc
				var y float32
				for b := range k / block {
					var sum int64
					for j := b * block; j < (b+1)*block; j++ {
						sum += (x[r*k+j] - zero[r]) * w[o*k+j]
					}
					y += float32(float32(sum) * float32(sw.at(b*oc+o)))
				}
				res.set(i, float64(float32(y*float32(scale.at(r))))+bias(o))
			}
			c.Put(out, res)
		}})
	Register(Op{Name: "tabtune::conv2d_qd8.out",
		Schema: "tabtune::conv2d_qd8.out(Tensor x, Tensor scale, Tensor zero, Tensor weight, Tensor weight_scale, Tensor? bias, int[] window, int groups, float lo, float hi, *, Tensor(a!) columns, Tensor(b!) row_scale, Tensor(c!) out) -> Tensor(c!)",
		Check:  bits8(I8, F32, I32, I8, F32, F32, 0, 0, 0, 0, I16, F32, F32),
		Shape: func(c *Call) {
			x, win := c.image(0), c.window(6)
			oc := c.weights(x, c.T(3), win, c.Int(7))
			c.vector("filter scale", c.T(4), oc)
			c.vector("bias", c.OptT(5), oc)
			c.vector("scale", c.T(1), x.sizes[0])
			c.vector("zero point", c.T(2), x.sizes[0])
			if !c.failed() {
				c.scratch8(10, win.KH*win.KW*x.sizes[3]/int(c.Int(7)))
				c.filtered(x, win, oc)
				c.Resize(c.T(11), c.Out().n/max(oc, 1))
			}
		},
		Kernel: func(c *Call) bool {
			dynamic(c, c.imageOf(3, 6, 7), c.T(4), c.OptT(5), 0, 10, 11)
			out := c.Out()
			if lo, hi := float32(c.Float(8)), float32(c.Float(9)); out.n > 0 && (lo > float32(math.Inf(-1)) || hi < float32(math.Inf(1))) {
				c.dev().F32Clamp(out.addr, out.addr, lo, hi, int32(out.n))
			}
			return true
		},
		Ref: func(c *Call) {
			out, e := c.Out(), c.imageOf(3, 6, 7)
			zero, scale, sw, bias := c.In(c.T(2)).i, c.In(c.T(1)), c.In(c.T(4)), c.biasRef(5)
			res := newArray(F32, out.sizes)
			lo, hi := c.Float(8), c.Float(9)
			ref.Convolve(c.In(e.x).i, e.x.sizes, c.In(c.T(3)).i, e.oc, e.groups, e.win, e.oh, e.ow, func(image int) int64 { return zero[image] },
				func(at, o, image int, sum int64) {
					y := float32(float32(float32(sum)*float32(scale.at(image))) * float32(sw.at(o)))
					res.set(at, min(max(float64(y)+bias(o), lo), hi))
				})
			c.Put(out, res)
		}})
}

// registerTransposedDynamic adds the transposed convolution of images that were quantised at run time.
func registerTransposedDynamic() {
	Register(Op{Name: "tabtune::conv_transpose2d_qd8.out",
		Schema: "tabtune::conv_transpose2d_qd8.out(Tensor x, Tensor weight, Tensor? bias, int[] window, int groups, int[] adjust, Tensor scale, Tensor zero, Tensor weight_scale, float lo, float hi, *, Tensor(a!) out) -> Tensor(a!)",
		Check:  bits8(I8, I8, F32, 0, 0, 0, F32, I32, F32, 0, 0, F32),
		Shape: func(c *Call) {
			c.vector("filter scale", c.T(8), c.transposedShape())
			if images := c.T(0); !c.failed() {
				c.vector("scale", c.T(6), images.sizes[0])
				c.vector("zero point", c.T(7), images.sizes[0])
			}
		},
		Ref: func(c *Call) {
			x, w, out := c.In(c.T(0)), c.In(c.T(1)), c.Out()
			scale, zero, sw, bias := c.In(c.T(6)), c.In(c.T(7)).i, c.In(c.T(8)), c.biasRef(2)
			lo, hi, oc := c.Float(9), c.Float(10), out.sizes[3]
			res := newArray(F32, out.sizes)
			images, one := max(out.sizes[0], 1), append([]int{1}, x.sizes[1:]...)
			in, size := x.len()/images, res.len()/images
			for image := range out.sizes[0] {
				sums := ref.Transposed(x.i[image*in:(image+1)*in], one, w.i, append([]int{1}, out.sizes[1:]...), int(c.Int(4)), c.window(3), zero[image])
				for k, sum := range sums {
					y := float32(float32(float32(sum)*float32(scale.at(image))) * float32(sw.at(k%oc)))
					res.set(image*size+k, min(max(float64(y)+bias(k%oc), lo), hi))
				}
			}
			c.Put(out, res)
		}})
}

// requantise returns the reference of storing a sum: bias and scale by channel, the zero point and bounds in arguments.
func (c *Call) requantise(bias, scale *tensor, zero, lo, hi int, res *array) func(at, channel int, sum int64) {
	s := c.In(scale)
	var b *array
	if bias != nil {
		b = c.In(bias)
	}
	z, l, h := c.Int(zero), c.Int(lo), c.Int(hi)
	return func(at, o int, sum int64) {
		if b != nil {
			sum += b.i[o]
		}
		f := float32(float32(int32(sum)) * float32(s.at(o)))
		res.setInt(at, min(max(truncInt(math.RoundToEven(float64(min(f, float32(h-z)))))+z, l), h))
	}
}

// transposedShape is the shape rule of transposed convolutions: window, groups and adjustment in arguments 3 to 5. It returns the channels.
func (c *Call) transposedShape() int {
	x, w, win := c.image(0), c.T(1), c.window(3)
	oc := c.weights(x, w, win, c.Int(4))
	c.vector("bias", c.OptT(2), oc)
	adjust := c.Ints(5)
	if c.failed() || len(adjust) != 2 || adjust[0] < 0 || adjust[1] < 0 || adjust[0] > maxWindow || adjust[1] > maxWindow {
		c.Fail("adjustment %v", adjust)
		return 0
	}
	oh := (x.sizes[1]-1)*win.SH + (win.KH-1)*win.DH + 1 - win.Top - win.Bottom + int(adjust[0])
	ow := (x.sizes[2]-1)*win.SW + (win.KW-1)*win.DW + 1 - win.Left - win.Right + int(adjust[1])
	if oh < 1 || ow < 1 || oh > maxImage || ow > maxImage || oc == 0 || x.sizes[3] == 0 {
		c.Fail("output of %d by %d with %d channels from %d", oh, ow, oc, x.sizes[3])
		return 0
	}
	c.Resize(c.Out(), x.sizes[0], oh, ow, oc)
	return oc
}
