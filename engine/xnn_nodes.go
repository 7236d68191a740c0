package engine

import (
	"slices"

	"tabtune/engine/pte"
)

// xnnUnary are the operations of one f32, f16 or bf16 tensor that core ATen has; args lists the constants after the input.
var xnnUnary = map[pte.XNNKind]struct {
	op   string
	args func(b *xnnBuilder, n *pte.XNNNode) []int
}{
	pte.XNNSigmoid: {"aten::sigmoid.out", nil}, pte.XNNFloor: {"aten::floor.out", nil}, pte.XNNCeiling: {"aten::ceil.out", nil},
	pte.XNNSquareRoot: {"aten::sqrt.out", nil}, pte.XNNReciprocalSquareRoot: {"aten::rsqrt.out", nil}, pte.XNNNegate: {"aten::neg.out", nil},
	pte.XNNAbs: {"aten::abs.out", nil}, pte.XNNLog: {"aten::log.out", nil}, pte.XNNTanh: {"aten::tanh.out", nil}, pte.XNNExp: {"aten::exp.out", nil},
	pte.XNNSin: {"aten::sin.out", nil}, pte.XNNCos: {"aten::cos.out", nil},
	pte.XNNGelu: {"aten::gelu.out", func(b *xnnBuilder, _ *pte.XNNNode) []int {
		return []int{b.g.AddValue(&Value{Kind: KindString, Str: "none"})}
	}},
	pte.XNNLeakyReLU: {"aten::leaky_relu.out", func(b *xnnBuilder, n *pte.XNNNode) []int { return []int{b.g.AddFloat(float64(n.Alpha))} }},
	pte.XNNELU: {"aten::elu.out", func(b *xnnBuilder, n *pte.XNNNode) []int {
		return []int{b.g.AddFloat(float64(n.Alpha)), b.g.AddInt(1), b.g.AddInt(1)}
	}},
}

// xnnBinary are the operations of two tensors.
var xnnBinary = map[pte.XNNKind]string{
	pte.XNNAdd: "aten::add.out", pte.XNNSubtract: "aten::sub.out", pte.XNNMultiply: "aten::mul.out", pte.XNNDiv: "aten::div.out",
	pte.XNNMinimum: "aten::minimum.out", pte.XNNMaximum: "aten::maximum.out",
}

func xnnFloat(d pte.XNNDType) bool { return d == pte.XNNF32 || d == pte.XNNF16 || d == pte.XNNBF16 }

// sameType requires values of one floating type.
func (b *xnnBuilder) sameType(vs ...*xnnValue) bool {
	for _, v := range vs {
		if v != nil && (!xnnFloat(v.DType) || v.DType != vs[0].DType) {
			b.fail("values of types %s and %s", vs[0].DType, v.DType)
		}
	}
	return b.err == nil
}

// sameQuant requires values of one type and, if they are quantised, one scale and zero point: operations that only move elements.
func (b *xnnBuilder) sameQuant(vs ...*xnnValue) bool {
	for _, v := range vs {
		if v.DType == pte.XNNQDInt8 || v.DType != vs[0].DType || v.Scale != vs[0].Scale || v.ZeroPoint != vs[0].ZeroPoint {
			b.fail("values of types %s (scale %v, zero point %d) and %s (%v, %d)", vs[0].DType, vs[0].Scale, vs[0].ZeroPoint, v.DType, v.Scale, v.ZeroPoint)
		}
	}
	return b.err == nil
}

// add appends the nodes of one operation.
func (b *xnnBuilder) add(n *pte.XNNNode) {
	switch n.Kind {
	case pte.XNNFullyConnected:
		b.linear(n)
		return
	case pte.XNNConv2d, pte.XNNDepthwiseConv2d, pte.XNNConvTranspose2d:
		b.conv(n)
		return
	}
	ins := make([]*xnnValue, len(n.Inputs))
	for i, id := range n.Inputs {
		ins[i] = b.in(id)
	}
	if b.err != nil {
		return
	}
	outs := make([]*xnnValue, len(n.Outputs))
	for i, id := range n.Outputs {
		outs[i] = b.out(id)
	}
	if b.err != nil {
		return
	}
	x, out := ins[0], outs[0]
	if op, ok := xnnBinary[n.Kind]; ok {
		b.binary(n, op, x, ins[1], out)
		return
	}
	if u, ok := xnnUnary[n.Kind]; ok {
		b.unary(n, x, out, func(from, to int) {
			args := []int{from}
			if u.args != nil {
				args = append(args, u.args(b, n)...)
			}
			b.node(u.op, append(args, to)...)
		})
		return
	}
	switch n.Kind {
	case pte.XNNConvert:
		b.convert(x, out)
	case pte.XNNMaxPooling2d, pte.XNNAvgPooling2d, pte.XNNGlobalAvgPooling2d, pte.XNNStaticResizeBilinear2D:
		b.pool(n, x, out)
	case pte.XNNArgMaxPooling2d:
		b.argMaxPool(n, x, out, outs[1])
	case pte.XNNClamp:
		b.unary(n, x, out, func(from, to int) {
			lo, hi := b.g.AddNone(), b.g.AddNone()
			if n.Clamp {
				lo, hi = b.g.AddFloat(float64(n.Min)), b.g.AddFloat(float64(n.Max))
			}
			b.node("aten::clamp.out", from, lo, hi, to)
		})
	case pte.XNNHardswish:
		b.unary(n, x, out, b.hardswish)
	case pte.XNNSquare:
		b.unary(n, x, out, func(from, to int) { b.node("aten::mul.out", from, from, to) })
	case pte.XNNSoftmax:
		b.unary(n, x, out, func(from, to int) { b.node("aten::_softmax.out", from, b.g.AddInt(-1), b.g.AddBool(false), to) })
	case pte.XNNPReLU:
		b.prelu(x, ins[1], out)
	case pte.XNNBatchMatrixMultiply:
		b.bmm(n, x, ins[1], out)
	case pte.XNNStaticTranspose, pte.XNNStaticReshape, pte.XNNStaticSlice, pte.XNNStaticConstantPad, pte.XNNCopy,
		pte.XNNConcatenate2, pte.XNNConcatenate3, pte.XNNConcatenate4, pte.XNNConcatenate5:
		b.move(n, ins, out)
	default:
		b.fail("this operation with %s is not supported", x.DType)
	}
}

// unary appends an operation of one floating tensor.
func (b *xnnBuilder) unary(n *pte.XNNNode, x, out *xnnValue, apply func(from, to int)) {
	b.resized(out, x)
	if f := xnnReal(n); f != nil && x.DType == pte.XNNQInt8 && out.DType == pte.XNNQInt8 {
		b.lookup(x, out, f)
		return
	}
	b.real(n, x, out, apply)
}

func (b *xnnBuilder) binary(n *pte.XNNNode, op string, x, y, out *xnnValue) {
	if !xnnFloat(out.DType) {
		b.binaryQuantised(n, op, x, y, out)
		return
	}
	if !b.sameType(x, y, out) {
		return
	}
	b.clamped(n, out, func(to int) {
		if n.Kind == pte.XNNAdd || n.Kind == pte.XNNSubtract {
			b.node(op, x.at, y.at, b.g.AddInt(1), to)
		} else {
			b.node(op, x.at, y.at, to)
		}
	})
}

// hardswish is x * clamp(x + 3, 0, 6) / 6.
func (b *xnnBuilder) hardswish(x, out int) {
	g, dt := b.g, b.g.Values[x].DType
	moved, bounded, product := b.like(x, dt), b.like(x, dt), b.like(x, dt)
	b.node("aten::add.Scalar_out", x, g.AddFloat(3), g.AddInt(1), moved)
	b.node("aten::clamp.out", moved, g.AddInt(0), g.AddInt(6), bounded)
	b.node("aten::mul.out", bounded, x, product)
	b.node("aten::mul.Scalar_out", product, g.AddFloat(1.0/6), out)
}

// prelu is max(x, 0) + slope * min(x, 0), with a slope for each channel, the last dimension.
func (b *xnnBuilder) prelu(x, slope, out *xnnValue) {
	if !b.sameType(x, out) || !b.sameType(x, slope) {
		return
	}
	zero := b.g.AddInt(0)
	low, high := b.like(x.at, b.g.Values[x.at].DType), b.like(x.at, b.g.Values[x.at].DType)
	scaled := b.like(x.at, b.g.Values[x.at].DType)
	b.node("aten::clamp.out", x.at, b.g.AddNone(), zero, low)
	b.node("aten::mul.out", low, slope.at, scaled)
	b.node("aten::relu.out", x.at, high)
	b.node("aten::add.out", high, scaled, b.g.AddInt(1), out.at)
}

// bmm multiplies [..., m, k] by [..., k, n].
func (b *xnnBuilder) bmm(n *pte.XNNNode, x, y, out *xnnValue) {
	if !b.sameType(x, y, out) {
		return
	}
	if n.Flags&pte.XNNTransposeWeights != 0 {
		b.fail("a transposed second operand is not supported")
		return
	}
	if len(x.Dims) == 3 {
		b.node("aten::bmm.out", x.at, y.at, out.at)
		return
	}
	r := len(x.Dims)
	if r != len(y.Dims) || r != len(out.Dims) || r < 2 || !slices.Equal(x.Dims[:r-2], y.Dims[:r-2]) {
		b.fail("product of %v and %v", x.Dims, y.Dims)
		return
	}
	flat := func(v *xnnValue) int {
		d := v.Dims
		t := b.temp(b.g.Values[v.at].DType, numel(d[:r-2]), d[r-2], d[r-1])
		b.node("aten::view_copy.out", v.at, b.g.AddInts(-1, int64(d[r-2]), int64(d[r-1])), t)
		return t
	}
	p := b.temp(b.g.Values[out.at].DType, numel(out.Dims[:r-2]), out.Dims[r-2], out.Dims[r-1])
	b.node("aten::bmm.out", flat(x), flat(y), p)
	b.node("aten::view_copy.out", p, b.sizes(out.Dims), out.at)
}

// sizes adds a list for a view; where the graph is dynamic the first dimension is inferred.
func (b *xnnBuilder) sizes(dims []int) int {
	l := make([]int64, len(dims))
	for i, d := range dims {
		l[i] = int64(d)
	}
	if b.dynamic != pte.Static && len(l) > 0 {
		l[0] = -1
	}
	return b.g.AddInts(l...)
}

// linear is y = x w^T + bias over the last dimension; w is [out, in], or [in, out] with XNNTransposeWeights.
func (b *xnnBuilder) linear(n *pte.XNNNode) {
	x, w, bias := b.in(n.Inputs[0]), b.in(n.Inputs[1]), b.optional(n.Inputs[2])
	out := b.out(n.Outputs[0])
	if b.err != nil {
		return
	}
	if !xnnFloat(x.DType) {
		b.linearQuantised(n, x, w, bias, out)
		return
	}
	if !b.sameType(x, w, out) {
		return
	}
	biasAt := b.g.AddNone()
	dt := b.g.Values[out.at].DType
	if bias != nil {
		biasAt = b.cast(bias.at, dt) // bf16 products have an f32 bias
	}
	weight := w.at
	if n.Flags&pte.XNNTransposeWeights != 0 {
		if len(w.Dims) != 2 {
			b.fail("weight of sizes %v, want two dimensions", w.Dims)
			return
		}
		weight = b.temp(b.g.Values[w.at].DType, w.Dims[1], w.Dims[0])
		b.node("aten::permute_copy.out", w.at, b.g.AddInts(1, 0), weight)
	}
	b.clamped(n, out, func(to int) { b.node("aten::linear.out", x.at, weight, biasAt, to) })
}

// move appends an operation that only moves elements.
func (b *xnnBuilder) move(n *pte.XNNNode, ins []*xnnValue, out *xnnValue) {
	if !b.sameQuant(append(slices.Clone(ins), out)...) {
		return
	}
	x, g := ins[0], b.g
	switch n.Kind {
	case pte.XNNStaticTranspose:
		perm := make([]int64, len(n.Dims))
		for i, d := range n.Dims {
			perm[i] = int64(d)
		}
		b.node("aten::permute_copy.out", x.at, g.AddInts(perm...), out.at)
	case pte.XNNStaticReshape:
		dims := make([]int64, len(n.Dims))
		for i, d := range n.Dims {
			dims[i] = int64(d)
			if d == 0 {
				dims[i] = -1
			}
		}
		b.node("aten::view_copy.out", x.at, g.AddInts(dims...), out.at)
	case pte.XNNCopy:
		b.node("aten::view_copy.out", x.at, b.sizes(out.Dims), out.at)
	case pte.XNNStaticSlice:
		b.slice(n, x, out)
	case pte.XNNStaticConstantPad:
		b.pad(n, x, out)
	default:
		list := make([]int, len(ins))
		for i, v := range ins {
			list[i] = v.at
		}
		b.node("aten::cat.out", g.AddValue(&Value{Kind: KindTensorList, List: list}), g.AddInt(int64(n.Axis)), out.at)
	}
}

// slice takes sizes[d] elements from offsets[d] on, a size of 0 meaning all that follow, one dimension after the other.
func (b *xnnBuilder) slice(n *pte.XNNNode, x, out *xnnValue) {
	if len(n.Dims) != len(x.Dims) {
		b.fail("slice of %d dimensions of %v", len(n.Dims), x.Dims)
		return
	}
	from, sizes := x.at, slices.Clone(x.Dims)
	var dims []int
	for d := range n.Dims {
		if n.Dims[d] != 0 || n.Dims2[d] != 0 && n.Dims2[d] != x.Dims[d] {
			dims = append(dims, d)
		}
	}
	if len(dims) == 0 {
		b.node("aten::view_copy.out", x.at, b.sizes(out.Dims), out.at)
	}
	for i, d := range dims {
		start, size := n.Dims[d], n.Dims2[d]
		if size == 0 {
			size = max(x.Dims[d]-start, 0)
		}
		if start+size > x.Dims[d] {
			b.fail("elements %d to %d of %v in dimension %d", start, start+size, x.Dims, d)
			return
		}
		sizes[d] = size
		to := out.at
		if i < len(dims)-1 {
			to = b.temp(b.g.Values[x.at].DType, sizes...)
		}
		b.node("aten::slice_copy.Tensor_out", from, b.g.AddInt(int64(d)), b.g.AddInt(int64(start)), b.g.AddInt(int64(start+size)), b.g.AddInt(1), to)
		from = to
	}
}

// pad surrounds a tensor with a value, quantised as the tensor is.
func (b *xnnBuilder) pad(n *pte.XNNNode, x, out *xnnValue) {
	if len(n.Dims) != len(x.Dims) {
		b.fail("padding of %d dimensions of %v", len(n.Dims), x.Dims)
		return
	}
	var pads []int64
	for d := len(n.Dims) - 1; d >= 0; d-- {
		pads = append(pads, int64(n.Dims[d]), int64(n.Dims2[d]))
	}
	value := b.g.AddFloat(float64(n.Alpha))
	if !xnnFloat(x.DType) {
		value = b.g.AddInt(x.quantise(n.Alpha))
	}
	b.node("aten::constant_pad_nd.out", x.at, b.g.AddInts(pads...), value, out.at)
}
