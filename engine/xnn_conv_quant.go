package engine

import (
	"fmt"
	"math"

	"tabtune/engine/pte"
)

// convQuantised appends a convolution of int8 images.
func (b *xnnBuilder) convQuantised(n *pte.XNNNode, x, w, bias, out *xnnValue) {
	g, win := b.g, &n.Window
	if w.DType != pte.XNNQCInt8 && w.DType != pte.XNNQInt8 {
		b.fail("filter of type %s", w.DType)
		return
	}
	oc, dim := w.Dims[0], 0
	if n.Kind == pte.XNNDepthwiseConv2d {
		oc, dim = w.Dims[3], 3
	}
	weight := b.weight8(w)
	static := x.DType == pte.XNNQInt8 && out.DType == pte.XNNQInt8
	if b.err != nil {
		return
	}
	if !static {
		if pointwise(n) && w.DType == pte.XNNQCInt8 {
			filter, rows := *w.XNNValue, *w
			filter.Dims, rows.XNNValue = []int{oc, w.Dims[3]}, &filter
			rows.at = b.constant(I8, filter.Dims, g.Values[weight].Data)
			b.linearQuantised(n, x, &rows, bias, out)
			return
		}
		if x.DType != pte.XNNQDInt8 || x.NonBatch != 3 || out.DType != pte.XNNF32 {
			b.fail("values of types %s, %s and %s", x.DType, w.DType, out.DType)
			return
		}
		if n.Kind == pte.XNNDepthwiseConv2d {
			b.fail("depthwise convolution of dynamically quantised images is not supported")
			return
		}
		lo, hi := b.limits(n)
		scale := b.floats(fmt.Sprintf("scales %d", w.ID), b.channelScales(w, oc, dim))
		if n.Kind == pte.XNNConvTranspose2d {
			b.node("tabtune::conv_transpose2d_qd8.out", x.at, weight, biasOrNone(b, bias, F32), b.windowArg(win), g.AddInt(int64(win.Groups)),
				g.AddInts(int64(win.AdjustHeight), int64(win.AdjustWidth)), x.scale, x.zero, scale, lo, hi, out.at)
			return
		}
		b.node("tabtune::conv2d_qd8.out", x.at, x.scale, x.zero, weight, scale, biasOrNone(b, bias, F32), b.windowArg(win), g.AddInt(int64(win.Groups)), lo, hi,
			b.columns8(win, x.Dims[3]), b.temp(F32, numel(out.Dims[:3])), out.at)
		return
	}
	lo, hi := b.range8(n, out)
	scale := b.requantisation(x, w, out, oc, dim)
	xz, oz := g.AddInt(int64(x.ZeroPoint)), g.AddInt(int64(out.ZeroPoint))
	bi := biasOrNone(b, bias, I32)
	switch n.Kind {
	case pte.XNNDepthwiseConv2d:
		b.node("tabtune::dwconv2d_qs8.out", x.at, weight, bi, b.windowArg(win), scale, xz, oz, lo, hi, out.at)
	case pte.XNNConvTranspose2d:
		b.node("tabtune::conv_transpose2d_qs8.out", x.at, weight, bi, b.windowArg(win), g.AddInt(int64(win.Groups)),
			g.AddInts(int64(win.AdjustHeight), int64(win.AdjustWidth)), scale, xz, oz, lo, hi, out.at)
	default:
		b.node("tabtune::conv2d_qs8.out", x.at, weight, bi, b.windowArg(win), g.AddInt(int64(win.Groups)), scale, xz, oz, lo, hi,
			b.columns8(win, x.Dims[3]), out.at)
	}
}

// pointwise reports whether XNNPACK takes a convolution for a linear layer of the pixels.
func pointwise(n *pte.XNNNode) bool {
	w := &n.Window
	return n.Kind == pte.XNNConv2d && w.Groups == 1 && w.Height == 1 && w.Width == 1 && w.StrideH == 1 && w.StrideW == 1 &&
		w.Top == 0 && w.Left == 0 && w.Bottom == 0 && w.Right == 0 && int64(w.GroupInputs)+int64(w.GroupOutputs) > 2
}

// pointwiseRows makes the pixels of images that pointwise convolutions read rows that are quantised each by itself, as XNNPACK does.
func pointwiseRows(x *pte.XNNGraph) {
	rows := map[uint32]bool{}
	for i := range x.Nodes {
		if n := &x.Nodes[i]; pointwise(n) {
			rows[n.Inputs[0]] = true
		}
	}
	for i := range x.Values {
		if v := &x.Values[i]; v.DType == pte.XNNQDInt8 && rows[v.ID] {
			v.NonBatch = min(v.NonBatch, 1)
		}
	}
}

// columns8 is columns for int8 images, whose patches are int16.
func (b *xnnBuilder) columns8(w *pte.XNNWindow, c int) int {
	return b.rowColumns(int(min(numel64([]int{w.Height, w.Width, c}), math.MaxInt32-8)))
}
