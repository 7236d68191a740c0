package pte

import "math"

// XNNKind is the type of an XNNNode (schema union XNodeUnion, without the XNN of its names).
type XNNKind uint8

// The node types of the schema.
const (
	XNNAdd XNNKind = iota + 1
	XNNFullyConnected
	XNNSoftmax
	XNNSigmoid
	XNNStaticTranspose
	XNNClamp
	XNNConv2d
	XNNDiv
	XNNStaticResizeBilinear2D
	XNNStaticConstantPad
	XNNAvgPooling2d
	XNNMinimum
	XNNDepthwiseConv2d
	XNNMaxPooling2d
	XNNMultiply
	XNNSubtract
	XNNFloor
	XNNConvert
	XNNGlobalAvgPooling2d
	XNNStaticReshape
	XNNArgMaxPooling2d
	XNNSquareRoot
	XNNCeiling
	XNNHardswish
	XNNLeakyReLU
	XNNMaximum
	XNNNegate
	XNNSquare
	XNNELU
	XNNAbs
	XNNPReLU
	XNNConcatenate2
	XNNConcatenate3
	XNNConcatenate4
	XNNStaticSlice
	XNNScaledDotProductAttention
	XNNBatchMatrixMultiply
	XNNConcatenate5
	XNNConvTranspose2d
	XNNReciprocalSquareRoot
	XNNLog
	XNNGelu
	XNNTanh
	XNNExp
	XNNSin
	XNNCopy
	XNNCos
)

var xnnKindNames = [...]string{"", "Add", "FullyConnected", "Softmax", "Sigmoid", "StaticTranspose", "Clamp", "Conv2d", "Div",
	"StaticResizeBilinear2D", "StaticConstantPad", "AvgPooling2d", "Minimum", "DepthwiseConv2d", "MaxPooling2d", "Multiply", "Subtract",
	"Floor", "Convert", "GlobalAvgPooling2d", "StaticReshape", "ArgMaxPooling2d", "SquareRoot", "Ceiling", "Hardswish", "LeakyReLU",
	"Maximum", "Negate", "Square", "ELU", "Abs", "PReLU", "Concatenate2", "Concatenate3", "Concatenate4", "StaticSlice",
	"ScaledDotProductAttention", "BatchMatrixMultiply", "Concatenate5", "ConvTranspose2d", "ReciprocalSquareRoot", "Log", "Gelu", "Tanh",
	"Exp", "Sin", "Copy", "Cos"}

func (k XNNKind) String() string { return xnnKindNames[k] }

func (d *xnnDecoder) node(t table) XNNNode {
	kind := t.u8(0, "xnode_union_type")
	if kind == 0 || int(kind) >= len(xnnKindNames) {
		t.fail("xnode_union_type", t.pos, "node type %d is not known", kind)
		return XNNNode{}
	}
	n := XNNNode{Kind: XNNKind(kind)}
	c, ok := t.child(1, "xnode_union", "XNN"+n.Kind.String())
	if !ok {
		t.fail("xnode_union", t.pos, "is absent")
		return n
	}
	if m, ok := t.child(3, "output_min_max", "OutputMinMax"); ok {
		n.Clamp, n.Min, n.Max = true, m.f32(0, "output_min"), m.f32(1, "output_max")
		if !(n.Min <= n.Max) {
			m.fail("output_min", m.pos, "[%v, %v] is empty", n.Min, n.Max)
		}
		if math.IsInf(float64(n.Min), -1) && math.IsInf(float64(n.Max), 1) {
			n.Clamp = false
		}
	}
	ids := func(inputs, outputs int, names ...string) { // ids in slot order, then flags
		for i, name := range names[:inputs] {
			n.Inputs = append(n.Inputs, c.u32(i, name))
		}
		for i, name := range names[inputs:] {
			n.Outputs = append(n.Outputs, c.u32(inputs+i, name))
		}
		n.Flags = c.u32(inputs+outputs, "flags")
	}
	from := func(slot int) { // input, output and flags behind other fields
		n.Inputs, n.Outputs = []uint32{c.u32(slot, "input_id")}, []uint32{c.u32(slot+1, "output_id")}
		n.Flags = c.u32(slot+2, "flags")
	}
	switch n.Kind {
	case XNNAdd, XNNDiv, XNNMinimum, XNNMultiply, XNNSubtract, XNNMaximum, XNNPReLU, XNNBatchMatrixMultiply:
		ids(2, 1, "input1_id", "input2_id", "output_id")
	case XNNFullyConnected:
		ids(3, 1, "input1_id", "filter_id", "bias_id", "output_id")
	case XNNConv2d, XNNDepthwiseConv2d, XNNConvTranspose2d:
		d.conv(&n, c)
	case XNNAvgPooling2d, XNNMaxPooling2d:
		d.pool(&n, c)
	case XNNArgMaxPooling2d:
		w := &n.Window
		for i, p := range []*int{&w.Top, &w.Right, &w.Bottom, &w.Left, &w.Height, &w.Width} {
			*p = c.size(i, "window")
		}
		w.StrideH, w.StrideW, w.DilationH, w.DilationW = w.Height, w.Width, 1, 1
		n.Inputs = []uint32{c.u32(6, "input_id")}
		n.Outputs = []uint32{c.u32(7, "output_value_id"), c.u32(8, "output_index_id")}
		n.Flags = c.u32(9, "flags")
	case XNNStaticTranspose, XNNStaticReshape:
		n.Dims = c.sizes(1, "dims")
		if k := c.u32(0, "num_dims"); int(k) != len(n.Dims) || k > maxXNNDims {
			c.fail("num_dims", c.pos, "%d with %d dims, at most %d are supported", k, len(n.Dims), maxXNNDims)
		}
		from(2)
	case XNNStaticSlice:
		n.Dims, n.Dims2 = c.sizes(1, "offsets"), c.sizes(2, "sizes")
		if k := c.u32(0, "num_dims"); int(k) != len(n.Dims) || len(n.Dims) != len(n.Dims2) || k > maxXNNDims {
			c.fail("num_dims", c.pos, "%d with %d offsets and %d sizes", k, len(n.Dims), len(n.Dims2))
		}
		from(3)
	case XNNStaticResizeBilinear2D:
		n.Dims = []int{c.size(0, "new_height"), c.size(1, "new_width")}
		from(2)
	case XNNStaticConstantPad:
		n.Dims, n.Dims2, n.Alpha = c.sizes(0, "pre_paddings"), c.sizes(1, "post_paddings"), c.f32(2, "padding_value")
		if len(n.Dims) != len(n.Dims2) || len(n.Dims) > maxXNNDims {
			c.fail("pre_paddings", c.pos, "%d paddings before and %d after", len(n.Dims), len(n.Dims2))
		}
		from(3)
	case XNNELU, XNNLeakyReLU:
		n.Alpha = c.f32(0, "alpha")
		from(1)
	case XNNConcatenate2, XNNConcatenate3, XNNConcatenate4, XNNConcatenate5:
		d.cat(&n, c)
	case XNNScaledDotProductAttention:
		ids(5, 1, "query_id", "key_id", "value_id", "scale_id", "mask_id", "output_id")
	default:
		from(0)
	}
	return n
}

func (d *xnnDecoder) cat(n *XNNNode, c table) {
	n.Axis = c.size(0, "axis")
	count := 2 + int(n.Kind-XNNConcatenate2)
	if n.Kind == XNNConcatenate5 {
		count = 5
	}
	for i, slot := range []int{1, 2, 3, 4, 7}[:count] {
		n.Inputs = append(n.Inputs, c.u32(slot, "input"+string(rune('1'+i))+"_id"))
	}
	n.Outputs, n.Flags = []uint32{c.u32(5, "output_id")}, c.u32(6, "flags")
}

func (d *xnnDecoder) conv(n *XNNNode, c table) {
	w := &n.Window
	for i, f := range []struct {
		name string
		to   *int
	}{{"padding_top", &w.Top}, {"padding_right", &w.Right}, {"padding_bottom", &w.Bottom}, {"padding_left", &w.Left},
		{"kernel_height", &w.Height}, {"kernel_width", &w.Width}, {"subsampling_height", &w.StrideH}, {"subsampling_width", &w.StrideW},
		{"dilation_height", &w.DilationH}, {"dilation_width", &w.DilationW}, {"group_input_channels", &w.GroupInputs},
		{"group_output_channels", &w.GroupOutputs}, {"groups", &w.Groups}, {"adjustment_height", &w.AdjustHeight},
		{"adjustment_width", &w.AdjustWidth}} {
		*f.to = c.size(i, f.name)
	}
	d.window(c, w)
	if w.Groups < 1 || w.GroupInputs < 1 || w.GroupOutputs < 1 {
		c.fail("groups", c.pos, "%d groups of %d to %d channels", w.Groups, w.GroupInputs, w.GroupOutputs)
	}
	n.Inputs = []uint32{c.u32(15, "input1_id"), c.u32(16, "filter_id"), c.u32(17, "bias_id")}
	n.Outputs, n.Flags = []uint32{c.u32(18, "output_id")}, c.u32(19, "flags")
}

func (d *xnnDecoder) pool(n *XNNNode, c table) {
	w := &n.Window
	for i, f := range []struct {
		name string
		to   *int
	}{{"padding_top", &w.Top}, {"padding_right", &w.Right}, {"padding_bottom", &w.Bottom}, {"padding_left", &w.Left},
		{"pooling_height", &w.Height}, {"pooling_width", &w.Width}, {"stride_height", &w.StrideH}, {"stride_width", &w.StrideW},
		{"dilation_height", &w.DilationH}, {"dilation_width", &w.DilationW}} {
		*f.to = c.size(i, f.name)
	}
	if n.Kind == XNNAvgPooling2d {
		w.DilationH, w.DilationW = 1, 1 // the field is unused and 0
	}
	d.window(c, w)
	n.Inputs, n.Outputs, n.Flags = []uint32{c.u32(10, "input_id")}, []uint32{c.u32(11, "output_id")}, c.u32(12, "flags")
}

// maxXNNWindow bounds kernel sizes, strides, dilations and paddings, so that sizes computed from them do not overflow.
const maxXNNWindow = 1 << 20

func (d *xnnDecoder) window(c table, w *XNNWindow) {
	for _, x := range []int{w.Height, w.Width, w.StrideH, w.StrideW, w.DilationH, w.DilationW} {
		if x < 1 || x > maxXNNWindow {
			c.fail("kernel_height", c.pos, "kernel %dx%d, stride %dx%d, dilation %dx%d: all must be from 1 to %d", w.Height, w.Width, w.StrideH, w.StrideW,
				w.DilationH, w.DilationW, maxXNNWindow)
			return
		}
	}
	for _, x := range []int{w.Top, w.Right, w.Bottom, w.Left, w.AdjustHeight, w.AdjustWidth, w.Groups, w.GroupInputs, w.GroupOutputs} {
		if x > maxXNNWindow {
			c.fail("padding_top", c.pos, "padding, adjustment, or channels of %d, at most %d are supported", x, maxXNNWindow)
			return
		}
	}
}
