package engine

import (
	"math"

	"tabtune/engine/pte"
)

// windowArg adds the geometry as conv2d_nhwc and its like take it.
func (b *xnnBuilder) windowArg(w *pte.XNNWindow) int {
	return b.g.AddInts(int64(w.Height), int64(w.Width), int64(w.StrideH), int64(w.StrideW), int64(w.DilationH), int64(w.DilationW),
		int64(w.Top), int64(w.Left), int64(w.Bottom), int64(w.Right))
}

// limits adds the bounds of a node's output.
func (b *xnnBuilder) limits(n *pte.XNNNode) (lo, hi int) {
	l, h := math.Inf(-1), math.Inf(1)
	if n.Clamp {
		l, h = float64(n.Min), float64(n.Max)
	}
	return b.g.AddFloat(l), b.g.AddFloat(h)
}

// conv appends a convolution of channels-last images, plain, depthwise or transposed.
func (b *xnnBuilder) conv(n *pte.XNNNode) {
	x, w, bias := b.in(n.Inputs[0]), b.in(n.Inputs[1]), b.optional(n.Inputs[2])
	out := b.out(n.Outputs[0])
	if b.err != nil {
		return
	}
	if len(x.Dims) != 4 || len(w.Dims) != 4 || len(out.Dims) != 4 {
		b.fail("image of %v, filter of %v and result of %v, want four dimensions", x.Dims, w.Dims, out.Dims)
		return
	}
	if !xnnFloat(x.DType) {
		b.convQuantised(n, x, w, bias, out)
		return
	}
	dt := b.g.Values[out.at].DType
	float := func(v *xnnValue) int { // filters and biases are f32 whatever the images are
		if v == nil {
			return b.g.AddNone()
		}
		if !xnnFloat(v.DType) {
			b.fail("values of types %s and %s", x.DType, v.DType)
			return v.at
		}
		return b.cast(v.at, dt)
	}
	weight, biasAt := float(w), float(bias)
	if b.err != nil || !b.sameType(x, out) {
		return
	}
	lo, hi := b.limits(n)
	win := &n.Window
	switch n.Kind {
	case pte.XNNDepthwiseConv2d:
		b.node("tabtune::dwconv2d_nhwc.out", x.at, weight, biasAt, b.windowArg(win), lo, hi, out.at)
	case pte.XNNConvTranspose2d:
		b.node("tabtune::conv_transpose2d_nhwc.out", x.at, weight, biasAt, b.windowArg(win), b.g.AddInt(int64(win.Groups)),
			b.g.AddInts(int64(win.AdjustHeight), int64(win.AdjustWidth)), lo, hi, out.at)
	default:
		b.node("tabtune::conv2d_nhwc.out", x.at, weight, biasAt, b.windowArg(win), b.g.AddInt(int64(win.Groups)), lo, hi,
			b.columns(win, x.Dims[3], dt), out.at)
	}
}

// columns adds the scratch memory for patches of images with c channels.
func (b *xnnBuilder) columns(w *pte.XNNWindow, c int, dt DType) int {
	k := int(min(numel64([]int{w.Height, w.Width, c}), math.MaxInt32))
	n := int(min(numel64([]int{k, columnRows(k, dtypeSize(dt))}), math.MaxInt32))
	return b.g.temp(dt, pte.Static, n)
}

// cast returns v with element type dt.
func (b *xnnBuilder) cast(v int, dt DType) int {
	if b.g.Values[v].DType == dt {
		return v
	}
	to := b.g.temp(dt, pte.Static, b.g.Values[v].Sizes...)
	b.node("aten::_to_copy.out", v, b.g.AddBool(false), b.g.AddNone(), to)
	return to
}

// pool appends pooling of channels-last images.
func (b *xnnBuilder) pool(n *pte.XNNNode, x, out *xnnValue) {
	switch n.Kind {
	case pte.XNNMaxPooling2d:
		if x.DType == pte.XNNQUint8 || !b.sameQuant(x, out) {
			b.fail("pooling of %s", x.DType)
			return
		}
		if n.Clamp && !xnnFloat(out.DType) {
			b.fail("bounds of pooled %s", out.DType)
			return
		}
		b.clamped(n, out, func(to int) { b.node("tabtune::pool2d_nhwc.out", x.at, b.windowArg(&n.Window), b.g.AddBool(false), to) })
	case pte.XNNAvgPooling2d:
		b.real(n, x, out, func(from, to int) {
			b.node("tabtune::pool2d_nhwc.out", from, b.windowArg(&n.Window), b.g.AddBool(true), to)
		})
	case pte.XNNGlobalAvgPooling2d:
		if len(x.Dims) < 3 {
			b.fail("image of %v", x.Dims)
			return
		}
		r := int64(len(x.Dims))
		keep := n.Flags&pte.XNNKeepDims != 0
		if x.DType == pte.XNNQInt8 && out.DType == pte.XNNQInt8 && b.dynamic == pte.Static && !n.Clamp {
			b.mean8(x, out, keep)
			return
		}
		b.real(n, x, out, func(from, to int) {
			b.node("aten::mean.out", from, b.g.AddInts(r-3, r-2), b.g.AddBool(keep), b.g.AddNone(), to)
		})
	case pte.XNNStaticResizeBilinear2D:
		corners := n.Flags&pte.XNNAlignCorners != 0
		b.real(n, x, out, func(from, to int) {
			b.node("tabtune::resize_bilinear_nhwc.out", from, b.g.AddInts(int64(n.Dims[0]), int64(n.Dims[1])), b.g.AddBool(corners), to)
		})
	}
}

// mean8 appends the mean of int8 images: the sum of the numbers, exact in f32, times a scale, plus what is left of both zero points,
// rounded once.
func (b *xnnBuilder) mean8(x, out *xnnValue, keep bool) {
	r := len(x.Dims)
	n := numel64(x.Dims[r-3 : r-1])
	if n == 0 || n > 1<<17 {
		b.fail("mean of %v int8", x.Dims)
		return
	}
	g := b.g
	scale := x.Scale / out.Scale * (1 / float32(n))
	zero := float32(out.ZeroPoint) - float32(float32(int64(x.ZeroPoint)*n)*scale)
	numbers, sum, scaled, moved := b.like(x.at, F32), b.like(out.at, F32), b.like(out.at, F32), b.like(out.at, F32)
	b.node("tabtune::dequantize_i8.out", x.at, g.AddFloat(1), g.AddInt(0), numbers)
	b.node("aten::sum.IntList_out", numbers, g.AddInts(int64(r-3), int64(r-2)), g.AddBool(keep), g.AddNone(), sum)
	b.node("aten::mul.Scalar_out", sum, g.AddFloat(float64(scale)), scaled)
	b.node("aten::add.Scalar_out", scaled, g.AddFloat(float64(zero)), g.AddInt(1), moved)
	b.node("tabtune::quantize_i8.out", moved, g.AddFloat(1), g.AddInt(0), out.at)
}

// argMaxPool appends pooling with indices.
func (b *xnnBuilder) argMaxPool(n *pte.XNNNode, x, value, index *xnnValue) {
	if x.DType != pte.XNNF32 || value.DType != pte.XNNF32 {
		b.fail("pooling of %s", x.DType)
		return
	}
	b.node("tabtune::argmax_pool2d_nhwc.out", x.at, b.windowArg(&n.Window), index.at, value.at)
}
