package engine

import (
	"math"
	"slices"
)

// Operators that make tensors from numbers, and copies between tensors.

// fill sets every element of t to a number.
func fill(c *Call, t *tensor, x number) {
	a := newArray(t.dtype, []int{1})
	if x.kind == KindFloat {
		a.set(0, x.f)
	} else {
		a.setInt(0, x.i)
	}
	pattern := a.encode()
	if t.n == 0 {
		return
	}
	fillKernel(c, t, pattern)
}

// sizesArg resizes the output to a list of sizes.
func sizesArg(c *Call) {
	var sizes []int
	for _, s := range c.Ints(0) {
		if s < 0 || s > math.MaxInt32 {
			c.Fail("sizes %v", c.Ints(0))
			return
		}
		sizes = append(sizes, int(s))
	}
	c.Resize(c.Out(), sizes...)
}

// registerFill adds an operator that fills its output with one number.
func registerFill(name string, shape func(c *Call), value func(c *Call) number) {
	ref := func(c *Call) {
		if x := value(c); !c.failed() {
			fill(c, c.Out(), x)
		}
	}
	Register(Op{Name: name, By: "SIMD, all types", Shape: shape, Ref: ref, Kernel: func(c *Call) bool { ref(c); return true }})
}

func init() {
	constant := func(i int64) func(c *Call) number {
		return func(*Call) number { return number{kind: KindInt, i: i} }
	}
	arg := func(i int) func(c *Call) number { return func(c *Call) number { return c.Num(i) } }
	registerFill("aten::full.out", sizesArg, arg(1))
	registerFill("aten::full_like.out", shapeSame, arg(1))
	registerFill("aten::zeros.out", sizesArg, constant(0))
	registerFill("aten::ones.out", sizesArg, constant(1))
	// An uninitialised tensor is zero here, so that a run is the same every time.
	registerFill("aten::empty.out", sizesArg, constant(0))
	registerFill("dim_order_ops::_empty_dim_order.out", sizesArg, constant(0))
	registerFill("aten::fill.Scalar_out", shapeSame, arg(1))
	registerFill("aten::fill.Tensor_out", shapeSame, func(c *Call) number {
		t := c.T(1)
		if t.n != 1 {
			c.failArg(1, "has sizes %v, want one element", t.sizes)
			return number{kind: KindInt}
		}
		a := c.In(t)
		if a.f != nil {
			return number{kind: KindFloat, f: a.f[0]}
		}
		return number{kind: KindInt, i: a.i[0]}
	})
	registerFill("aten::scalar_tensor.out", func(c *Call) { c.Resize(c.Out()) }, arg(0))

	Register(Op{Name: "aten::arange.out", By: "scalar C f32, i64", Shape: func(c *Call) {
		c.arange(number{kind: KindInt}, c.Num(0), number{kind: KindInt, i: 1})
	}, Ref: func(c *Call) { c.fillArange(number{kind: KindInt}, number{kind: KindInt, i: 1}) },
		Kernel: func(c *Call) bool { return arangeKernel(c, number{kind: KindInt}, number{kind: KindInt, i: 1}) }})
	Register(Op{Name: "aten::arange.start_out", By: "scalar C f32, i64", Shape: func(c *Call) { c.arange(c.Num(0), c.Num(1), c.Num(2)) },
		Ref: func(c *Call) { c.fillArange(c.Num(0), c.Num(2)) }, Kernel: func(c *Call) bool { return arangeKernel(c, c.Num(0), c.Num(2)) }})

	Register(Op{Name: "aten::copy.out", AnyOrder: true, By: "scalar C, all types", Complex: true, Shape: func(c *Call) {
		if s := c.broadcast(c.T(0), c.T(1)); !slices.Equal(s, c.T(0).sizes) {
			c.Fail("copy of %v into %v", c.T(1).sizes, c.T(0).sizes)
		}
		shapeSame(c)
	}, Ref: func(c *Call) { c.copyRef(c.T(1), c.Out()) }, Kernel: func(c *Call) bool { return c.copyKernel(c.T(1), c.Out()) }})
	Register(Op{Name: "aten::copy_", AnyOrder: true, By: "scalar C, all types", Complex: true, Shape: func(c *Call) {
		if s := c.broadcast(c.T(0), c.T(1)); !slices.Equal(s, c.T(0).sizes) {
			c.Fail("copy of %v into %v", c.T(1).sizes, c.T(0).sizes)
		}
	}, Ref: func(c *Call) { c.copyRef(c.T(1), c.T(0)) }, Kernel: func(c *Call) bool { return c.copyKernel(c.T(1), c.T(0)) }})
	convert := func(name string) {
		Register(Op{Name: name, AnyOrder: true, By: "scalar C, all types", View: true, Shape: shapeSame, Complex: true,
			Ref: func(c *Call) { c.copyRef(c.T(0), c.Out()) }, Kernel: func(c *Call) bool { return c.copyKernel(c.T(0), c.Out()) }})
	}
	convert("aten::_to_copy.out")
	convert("dim_order_ops::_to_dim_order_copy.out")
	convert("dim_order_ops::_clone_dim_order.out")
}

// copyRef copies with broadcasting, conversion and any dim orders.
func (c *Call) copyRef(src, dst *tensor) {
	in := c.In(src).convert(dst.dtype)
	b, e := in.encode(), dst.elem
	out := make([]byte, 0, dst.bytes())
	walk(dst.sizes, func(off []int) { out = append(out, b[off[0]*e:(off[0]+1)*e]...) }, broadcastStrides(in.sizes, dst.sizes))
	c.PutBytes(dst, out)
}

// copyKernel copies between tensors of one type, or converts between contiguous ones of the same sizes where a kernel exists.
func (c *Call) copyKernel(src, dst *tensor) bool {
	if src.dtype == dst.dtype {
		ss := orderStrides(src.sizes, src.order)
		lead := dst.dim() - src.dim()
		j := moveJob{src: src, dst: dst, sizes: dst.sizes, srcSt: make([]int, dst.dim()), dstSt: orderStrides(dst.sizes, dst.order)}
		for d := range j.srcSt {
			if d >= lead && src.sizes[d-lead] != 1 {
				j.srcSt[d] = ss[d-lead]
			}
		}
		return j.runKernel(c)
	}
	if !slices.Equal(src.sizes, dst.sizes) || !slices.Equal(orderStrides(src.sizes, src.order), orderStrides(dst.sizes, dst.order)) {
		return false
	}
	return convertKernel(c, src, dst)
}

// arange sets the output to the number of steps from start below end.
func (c *Call) arange(start, end, step number) {
	var n float64
	switch {
	case step.float() == 0 || math.IsNaN(step.float()) || math.IsNaN(start.float()) || math.IsNaN(end.float()):
		c.Fail("arange from %v to %v by %v", start.float(), end.float(), step.float())
		return
	case start.kind != KindFloat && end.kind != KindFloat && step.kind != KindFloat:
		n = math.Ceil((float64(end.i) - float64(start.i)) / float64(step.i))
	default:
		n = math.Ceil((end.float() - start.float()) / step.float())
	}
	if n < 0 || n > math.MaxInt32 {
		c.Fail("arange from %v to %v by %v", start.float(), end.float(), step.float())
		return
	}
	c.Resize(c.Out(), int(n))
}

func (c *Call) fillArange(start, step number) {
	out := c.Out()
	if c.failed() || out.n == 0 {
		return
	}
	a := newArray(out.dtype, out.sizes)
	for k := range a.len() {
		if start.kind != KindFloat && step.kind != KindFloat {
			a.setInt(k, start.i+int64(k)*step.i)
		} else {
			a.set(k, start.float()+float64(k)*step.float())
		}
	}
	c.Put(out, a)
}
