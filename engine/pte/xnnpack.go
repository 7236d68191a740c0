package pte

import (
	"encoding/binary"
	"fmt"
	"math"
)

// XnnpackBackend is the delegate id of programs lowered by the stock XNNPACK partitioner.
const XnnpackBackend = "XnnpackBackend"

// XNNGraph is what a call of XnnpackBackend computes: table XNNGraph of executorch/backends/xnnpack/serialization/schema.fbs,
// decoded. Ids are as in the file; whoever uses them checks that they name a value.
type XNNGraph struct {
	Values    []XNNValue
	Nodes     []XNNNode
	Constants []XNNConstant // entry 0 is reserved: no data
	Externs   int           // arguments of the delegate call that are inputs or outputs
}

// XNNDType is the element type of an XNNValue (schema enum XNNDatatype).
type XNNDType int16

// The element types of the schema.
const (
	XNNInvalid XNNDType = 0
	XNNF32     XNNDType = 1
	XNNF16     XNNDType = 2
	XNNQInt8   XNNDType = 3  // int8 with one scale and zero point
	XNNQUint8  XNNDType = 4  // uint8 with one scale and zero point
	XNNQInt32  XNNDType = 5  // bias of XNNQInt8 weights
	XNNQCInt8  XNNDType = 6  // int8 with a scale a channel
	XNNQCInt32 XNNDType = 7  // bias of XNNQCInt8 weights
	XNNQCInt4  XNNDType = 8  // 4 bits with a scale a channel
	XNNQDInt8  XNNDType = 9  // int8, quantised at run time with scale and zero point a row
	XNNQBInt4  XNNDType = 10 // 4 bits with a scale a block of a row
	XNNQPInt8  XNNDType = 11
	XNNInt32   XNNDType = 12
	XNNPF32    XNNDType = 13
	XNNBF16    XNNDType = 14
)

var xnnDTypeNames = [...]string{"invalid", "fp32", "fp16", "qint8", "quint8", "qint32", "qcint8", "qcint32", "qcint4", "qdint8", "qbint4",
	"qpint8", "int32", "pfp32", "bf16"}

func (d XNNDType) String() string {
	if d >= 0 && int(d) < len(xnnDTypeNames) {
		return xnnDTypeNames[d]
	}
	return fmt.Sprintf("datatype %d", int16(d))
}

// XNNNone is the id of a value that is absent.
const XNNNone = math.MaxUint32

// Flags of values and nodes (xnnpack.h).
const (
	XNNExternalInput    = 1
	XNNExternalOutput   = 2
	XNNTransposeWeights = 1  // of FullyConnected and BatchMatrixMultiply
	XNNAlignCorners     = 8  // of StaticResizeBilinear2D
	XNNKeepDims         = 64 // of pooling
)

// XNNValue is a tensor: table XNNTensorValue or XNNQuantizedTensorValue.
type XNNValue struct {
	ID       uint32
	DType    XNNDType
	Dims     []int // upper bounds where sizes are dynamic
	Constant int   // index into Constants, 0: computed
	External uint32
	Flags    uint32

	Scale     float32   // XNNQInt8, XNNQUint8, XNNQInt32
	ZeroPoint int32     // the same
	Channel   int       // dimension of the scales of a per-channel type
	Scales    []float32 // in the graph itself (older files)
	ScalesAt  int       // or index into Constants: f32 a channel, bf16 a block
	NumScales int
	Block     int // XNNQBInt4: elements that share a scale
	NonBatch  int // XNNQDInt8: last dimensions that share a scale
	quantKind uint8
}

// XNNConstant is constant data: in the payload, or named data of the program (Named != "").
type XNNConstant struct {
	Named  string
	Offset int64 // in the payload
	Size   int64
}

// XNNNode is one operation. Which fields are used depends on Kind.
type XNNNode struct {
	Kind     XNNKind
	Inputs   []uint32 // input, filter, bias, ...
	Outputs  []uint32
	Flags    uint32
	Clamp    bool // Min and Max bound the output
	Min, Max float32
	Alpha    float32 // of ELU; negative slope of LeakyReLU; value of StaticConstantPad
	Axis     int     // of Concatenate
	Dims     []int   // permutation, shape, offsets, new height and width, or paddings before
	Dims2    []int   // sizes of StaticSlice, paddings after of StaticConstantPad
	Window   XNNWindow
}

// XNNWindow is the geometry of convolutions and pooling.
type XNNWindow struct {
	Top, Right, Bottom, Left          int // padding
	Height, Width                     int // kernel
	StrideH, StrideW                  int
	DilationH, DilationW              int
	Groups, GroupInputs, GroupOutputs int // of convolutions
	AdjustHeight, AdjustWidth         int // of ConvTranspose2d
}

// xnnHeader is the size of the header in front of the flatbuffer, and its magic at byte 4.
const (
	xnnHeader = 30
	xnnMagic  = "XH00"
)

// maxXNNPayload bounds the flatbuffer part: tables only, the weights lie elsewhere.
const maxXNNPayload = 64 << 20

// DecodeXNN decodes the payload of an XnnpackBackend call, of size bytes, for errors called name. Constants stay in src;
// those inside the payload are checked to lie in it.
func DecodeXNN(src Source, name string) (*XNNGraph, error) {
	head := make([]byte, min(xnnHeader, src.Size()))
	if err := readFull(src, head, 0); err != nil {
		return nil, fmt.Errorf("%s: reading the header: %w", name, err)
	}
	fail := func(field string, off int64, format string, args ...any) (*XNNGraph, error) {
		return nil, &FormatError{name, "", "XNNHeader." + field, off, fmt.Sprintf(format, args...)}
	}
	if len(head) < xnnHeader || string(head[4:8]) != xnnMagic {
		return fail("magic", 4, "the payload does not start with an XNNPACK header; it was made by an exporter before ExecuTorch 0.2, re-export it")
	}
	offset, size := int64(binary.LittleEndian.Uint32(head[10:])), int64(binary.LittleEndian.Uint32(head[14:]))
	base, data := int64(binary.LittleEndian.Uint32(head[18:])), binary.LittleEndian.Uint64(head[22:])
	total := src.Size()
	switch {
	case offset > total || size > total-offset || size < 8:
		return fail("flatbuffer_size", 14, "%d bytes at %d in a payload of %d", size, offset, total)
	case size > maxXNNPayload:
		return fail("flatbuffer_size", 14, "%d bytes, at most %d are supported", size, maxXNNPayload)
	case base > total || data > uint64(total-base):
		return fail("constant_data_size", 22, "%d bytes at %d in a payload of %d", data, base, total)
	}
	buf := make([]byte, size)
	if err := readFull(src, buf, offset); err != nil {
		return nil, fmt.Errorf("%s: reading the flatbuffer: %w", name, err)
	}
	if id := string(buf[4:8]); id != "XN00" && id != "XN01" {
		return fail("flatbuffer", offset+4, "file identifier %q, want XN00 or XN01", id)
	}
	r := newReader(name, buf)
	d := &xnnDecoder{r, base, int64(data)}
	root, _ := r.follow("XNNGraph", 0)
	g := d.graph(r.table("XNNGraph", root))
	if r.err != nil {
		return nil, r.err
	}
	return g, nil
}

type xnnDecoder struct {
	*reader
	base, size int64 // of the constant data in the payload
}

const (
	maxXNNDims    = 6
	maxXNNExterns = 4096
)

func (d *xnnDecoder) graph(t table) *XNNGraph {
	g := &XNNGraph{}
	t.each(8, "constant_data", "ConstantDataOffset", func(i int, e table) {
		d.at = place{"", "constant_data", i}
		g.Constants = append(g.Constants, d.constant(i, e))
	})
	d.at = place{}
	if n := t.u32(3, "num_externs"); n > maxXNNExterns {
		t.fail("num_externs", t.pos, "%d, at most %d are supported", n, maxXNNExterns)
	} else {
		g.Externs = int(n)
	}
	t.each(2, "xvalues", "XValue", func(i int, e table) {
		d.at = place{"", "xvalues", i}
		g.Values = append(g.Values, d.value(e, len(g.Constants)))
	})
	t.each(1, "xnodes", "XNode", func(i int, e table) {
		d.at = place{"", "xnodes", i}
		g.Nodes = append(g.Nodes, d.node(e))
	})
	return g
}

func (d *xnnDecoder) constant(i int, t table) XNNConstant {
	c := XNNConstant{Named: t.str(2, "named_key")}
	c.Size = t.size64(1, "size")
	if c.Named != "" || i == 0 {
		return c
	}
	off := t.u64(0, "offset")
	if off > uint64(d.size) || c.Size > d.size-int64(off) {
		t.fail("offset", t.pos, "%d bytes at %d are outside the constant data of %d bytes", c.Size, off, d.size)
		return c
	}
	c.Offset = d.base + int64(off)
	return c
}

func (d *xnnDecoder) value(t table, constants int) XNNValue {
	var v XNNValue
	switch kind := t.u8(0, "xvalue_union_type"); kind {
	case 1:
		if c, ok := t.child(1, "xvalue_union", "XNNTensorValue"); ok {
			d.tensor(&v, c, constants)
		}
	case 2:
		if c, ok := t.child(1, "xvalue_union", "XNNQuantizedTensorValue"); ok {
			if b, ok := c.child(0, "tensor_value", "XNNTensorValue"); ok {
				d.tensor(&v, b, constants)
			} else {
				c.fail("tensor_value", c.pos, "is absent")
			}
			d.quant(&v, c, constants)
		}
	default:
		t.fail("xvalue_union_type", t.pos, "type %d is not known", kind)
	}
	if d.err == nil && v.DType == XNNInvalid {
		t.fail("xvalue_union", t.pos, "has no element type")
	}
	if q := v.quantKind; d.err == nil {
		ok := true
		switch v.DType {
		case XNNQInt8, XNNQUint8, XNNQInt32:
			ok = q == 2
		case XNNQCInt8, XNNQCInt32, XNNQCInt4:
			ok = q == 1
		case XNNQDInt8:
			ok = q == 3
		case XNNQBInt4:
			ok = q == 4
		default:
			ok = q == 0
		}
		if !ok {
			t.fail("xvalue_union", t.pos, "quantisation parameters of kind %d do not fit %s", q, v.DType)
		}
	}
	return v
}

func (d *xnnDecoder) tensor(v *XNNValue, t table, constants int) {
	if p, ok := t.field(0, "datatype", 2); ok {
		v.DType = XNNDType(d.u16(p))
	}
	if v.DType < 0 || int(v.DType) >= len(xnnDTypeNames) {
		t.fail("datatype", t.pos, "%d is not known", v.DType)
	}
	v.Dims = t.sizes(2, "dims")
	if n := t.u32(1, "num_dims"); int(n) != len(v.Dims) || n > maxXNNDims {
		t.fail("num_dims", t.pos, "%d with %d dims, at most %d are supported", n, len(v.Dims), maxXNNDims)
	}
	v.Constant = t.index(3, "constant_buffer_idx", constants)
	v.External, v.Flags, v.ID = t.u32(4, "external_id"), t.u32(5, "flags"), t.u32(6, "id_out")
	if v.Flags&^(XNNExternalInput|XNNExternalOutput) != 0 {
		t.fail("flags", t.pos, "%#x has unknown bits", v.Flags)
	}
	if t.slots > 7 {
		if p, ok := t.field(7, "dq_datatype", 2); ok && d.u16(p) != 0 {
			t.fail("dq_datatype", p, "dynamic quantisation of this old form is not supported, re-export the program")
		}
	}
}

func (d *xnnDecoder) quant(v *XNNValue, t table, constants int) {
	v.quantKind = t.u8(1, "quant_params_type")
	names := [...]string{"", "PerChannelQuant", "PerTensorQuant", "PerTokenDynamicQuant", "PerChannelGroupQuant"}
	if v.quantKind == 0 || int(v.quantKind) >= len(names) {
		t.fail("quant_params_type", t.pos, "type %d is not known", v.quantKind)
		return
	}
	c, ok := t.child(2, "quant_params", names[v.quantKind])
	if !ok {
		t.fail("quant_params", t.pos, "is absent")
		return
	}
	switch v.quantKind {
	case 1:
		v.Scales, v.Channel = c.floats(0, "scale"), int(c.i32(1, "channel_dim"))
		v.ScalesAt, v.NumScales = c.index(2, "scale_buffer_idx", constants), int(c.u32(3, "num_scales"))
	case 2:
		v.Scale, v.ZeroPoint = c.f32(0, "scale"), c.i32(1, "zero_point")
		if !(v.Scale > 0) || math.IsInf(float64(v.Scale), 0) {
			c.fail("scale", c.pos, "%v is not positive and finite", v.Scale)
		}
		low, high := int32(math.MinInt8), int32(math.MaxInt8)
		switch v.DType {
		case XNNQUint8:
			low, high = 0, math.MaxUint8
		case XNNQInt32:
			low, high = 0, 0
		}
		if v.ZeroPoint < low || v.ZeroPoint > high {
			c.fail("zero_point", c.pos, "%d is outside [%d, %d]", v.ZeroPoint, low, high)
		}
	case 3:
		v.NonBatch = int(c.i32(0, "num_nonbatch_dims"))
		if v.NonBatch < 1 || v.NonBatch > len(v.Dims) {
			c.fail("num_nonbatch_dims", c.pos, "%d of %d dimensions", v.NonBatch, len(v.Dims))
		}
	case 4:
		v.Scales, v.Channel, v.Block = c.floats(0, "scale"), int(c.i32(1, "channel_dim")), int(c.i32(2, "group_size"))
		v.ScalesAt, v.NumScales = c.index(4, "scale_buffer_idx", constants), int(c.u32(5, "num_scales"))
	}
	if v.quantKind == 1 || v.quantKind == 4 {
		if v.ScalesAt == 0 {
			v.NumScales = len(v.Scales)
		}
		if v.Channel < 0 || v.Channel >= len(v.Dims) {
			c.fail("channel_dim", c.pos, "%d of %d dimensions", v.Channel, len(v.Dims))
		}
	}
}

// sizes reads a vector of unsigned 32-bit numbers that fit in an int32.
func (t table) sizes(slot int, field string) []int {
	pos, n := t.vector(slot, field, 4)
	v := make([]int, n)
	for i := range v {
		x := t.r.u32(pos + 4*i)
		if x > math.MaxInt32 {
			t.fail(field, pos+4*i, "%d is too large", x)
			return nil
		}
		v[i] = int(x)
	}
	return v
}

// size reads an unsigned 32-bit number that fits in an int32.
func (t table) size(slot int, field string) int {
	x := t.u32(slot, field)
	if x > math.MaxInt32 {
		t.fail(field, t.pos, "%d is too large", x)
		return 0
	}
	return int(x)
}

// index reads an index into a list of n entries; 0 stands for none.
func (t table) index(slot int, field string, n int) int {
	i := t.size(slot, field)
	if i > 0 && i >= n {
		t.fail(field, t.pos, "entry %d of %d", i, n)
		return 0
	}
	return i
}

func (t table) f32(slot int, field string) float32 { return math.Float32frombits(t.u32(slot, field)) }

func (t table) floats(slot int, field string) []float32 {
	pos, n := t.vector(slot, field, 4)
	if n == 0 {
		return nil
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = math.Float32frombits(t.r.u32(pos + 4*i))
	}
	return v
}
