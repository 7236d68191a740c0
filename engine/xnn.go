package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"tabtune/engine/pte"
)

// A call of XnnpackBackend becomes nodes of the method's graph while a program is built: XNNPACK's operations are core ATen
// operators, or operators of this engine where ATen has none (channels-last convolutions and pooling, int8 arithmetic).
// Passes, memory plan and kernels are then the same for both, and nothing of the delegate is left. What each operation
// computes is defined by XNNPACK (github.com/google/XNNPACK) and by executorch/backends/xnnpack/runtime/XNNCompiler.cpp.

// xnnBuilder adds one delegate call to a graph.
type xnnBuilder struct {
	g       *Graph
	x       *pte.XNNGraph
	payload io.ReaderAt
	key     string // of the payload, for Data.key
	args    []int  // of the delegate call, by external id
	index   int    // instruction, for errors
	values  map[uint32]*xnnValue
	dynamic pte.Dynamism
	nodes   []*Node
	after   []*Node // copies to outputs
	err     error
}

// xnnValue is a value of the XNNPACK graph and its tensor.
type xnnValue struct {
	*pte.XNNValue
	at          int // value of the graph
	scale, zero int // XNNQDInt8: f32 and i32 tensors of the rows' parameters
	written     bool
}

// maxXNNScales bounds the scales of one weight that are read into memory while loading.
const maxXNNScales = 1 << 24

// xnnCall returns the nodes that compute delegate call args of graph g.
func (p *Program) xnnCall(g *Graph, d *pte.Delegate, args []int, index int) ([]*Node, error) {
	for i, a := range args {
		if a < 0 || a >= len(g.Values) {
			return nil, fmt.Errorf("argument %d names value %d of %d", i, a, len(g.Values))
		}
	}
	s, err := p.file.DelegateData(d)
	if err != nil {
		return nil, err
	}
	payload := s.Reader()
	x, err := pte.DecodeXNN(payload, "XNNPACK payload")
	if err != nil {
		return nil, err
	}
	b := &xnnBuilder{g: g, x: x, payload: payload, key: fmt.Sprintf("delegate %v %d", d.Inline, d.Index), args: args, index: index,
		values: make(map[uint32]*xnnValue, len(x.Values))}
	for _, a := range args {
		if v := g.Values[a]; v.Kind == KindTensor && v.Dynamic > b.dynamic {
			b.dynamic = v.Dynamic
		}
	}
	pointwiseRows(x)
	for i := range x.Values {
		if err := b.value(&x.Values[i]); err != nil {
			return nil, fmt.Errorf("XNNPACK payload: xvalues[%d] (id %d): %w", i, x.Values[i].ID, err)
		}
	}
	for i := range x.Nodes {
		n := &x.Nodes[i]
		b.add(n)
		if b.err != nil {
			return nil, fmt.Errorf("XNNPACK payload: xnodes[%d] (%s): %w", i, n.Kind, b.err)
		}
	}
	for i := range x.Values {
		if v := b.values[x.Values[i].ID]; v.Flags&pte.XNNExternalOutput != 0 && !v.written {
			return nil, fmt.Errorf("XNNPACK payload: xvalues[%d] (id %d): no node computes this output", i, v.ID)
		}
	}
	return append(b.nodes, b.after...), nil
}

func (b *xnnBuilder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// xnnDTypes are the engine's types of XNNPACK's. 4-bit weights are bytes here and get their shape where they are used.
var xnnDTypes = map[pte.XNNDType]DType{
	pte.XNNF32: F32, pte.XNNF16: F16, pte.XNNBF16: BF16, pte.XNNQInt8: I8, pte.XNNQUint8: U8, pte.XNNQInt32: I32, pte.XNNQCInt8: I8,
	pte.XNNQCInt32: I32, pte.XNNQCInt4: U8, pte.XNNQBInt4: U8, pte.XNNQDInt8: I8, pte.XNNInt32: I32,
}

// value makes the tensor of an XNNPACK value.
func (b *xnnBuilder) value(x *pte.XNNValue) error {
	if b.values[x.ID] != nil || x.ID == pte.XNNNone {
		return fmt.Errorf("the id is used twice or reserved")
	}
	dt, ok := xnnDTypes[x.DType]
	if !ok {
		return fmt.Errorf("element type %s is not supported", x.DType)
	}
	sizes := slices.Clone(x.Dims)
	if x.DType == pte.XNNQCInt4 || x.DType == pte.XNNQBInt4 {
		if len(sizes) != 2 {
			return fmt.Errorf("4-bit weights with sizes %v, want two dimensions", sizes)
		}
		sizes[1] = (sizes[1] + 1) / 2
	}
	if numel64(sizes) > math.MaxInt32 {
		return fmt.Errorf("sizes %v are too large", sizes)
	}
	v := &xnnValue{XNNValue: x, at: -1, scale: -1, zero: -1}
	b.values[x.ID] = v
	external := x.Flags & (pte.XNNExternalInput | pte.XNNExternalOutput)
	switch {
	case x.Constant != 0:
		data, err := b.data(x.Constant, numel64(sizes)*int64(dtypeSize(dt)))
		if err != nil {
			return err
		}
		v.at, v.written = b.constant(dt, sizes, data), true
		return nil
	case external == 0:
		v.at = b.temp(dt, sizes...)
	case external == pte.XNNExternalInput|pte.XNNExternalOutput:
		return fmt.Errorf("is both an input and an output")
	default:
		return b.external(v, dt, sizes, external == pte.XNNExternalInput)
	}
	if x.DType == pte.XNNQDInt8 {
		rows := sizes[:len(sizes)-x.NonBatch]
		v.scale, v.zero = b.temp(F32, numel(rows)), b.temp(I32, numel(rows))
	}
	return nil
}

// external binds a value to an argument of the delegate call, which XNNPACK sees in its order in memory.
func (b *xnnBuilder) external(v *xnnValue, dt DType, sizes []int, input bool) error {
	if int64(v.External) >= int64(len(b.args)) {
		return fmt.Errorf("external id %d, the call has %d arguments", v.External, len(b.args))
	}
	arg := b.args[v.External]
	t := b.g.Values[arg]
	if t.Kind != KindTensor {
		return fmt.Errorf("argument %d is a %s, want a tensor", v.External, t.Kind)
	}
	v.written = input
	if v.DType == pte.XNNQDInt8 {
		return fmt.Errorf("argument %d is dynamically quantised", v.External)
	}
	if t.DType != dt && (input || t.DType != I64 || dt != I32) {
		return fmt.Errorf("argument %d is %s, want %s", v.External, dtypeName(t.DType), dtypeName(dt))
	}
	if t.DType == dt && len(t.Sizes) == len(sizes) && contiguousOrder(t.DimOrder, t.Sizes) {
		v.at = arg
		return nil
	}
	if t.NumElements() != numel64(sizes) {
		return fmt.Errorf("argument %d has sizes %v, the value %v", v.External, t.Sizes, sizes)
	}
	v.at = b.temp(dt, sizes...)
	from, to, list := arg, v.at, &b.nodes
	if !input {
		from, to, list = v.at, arg, &b.after
	}
	*list = append(*list, b.bound("tabtune::reinterpret.out", from, to))
	return b.err
}

// data finds constant i, of which size bytes are needed.
func (b *xnnBuilder) data(i int, size int64) (*Data, error) {
	c := b.x.Constants[i]
	if c.Size < size {
		return nil, fmt.Errorf("constant %d has %d bytes, %d are needed", i, c.Size, size)
	}
	if c.Named != "" {
		return b.g.program.externalData(c.Named, &Value{DType: U8, Sizes: []int{int(size)}})
	}
	return &Data{key: fmt.Sprintf("%s+%d", b.key, c.Offset), src: b.payload, off: c.Offset}, nil
}

// constant adds a constant tensor.
func (b *xnnBuilder) constant(dt DType, sizes []int, data *Data) int {
	return b.g.AddValue(&Value{Kind: KindTensor, DType: dt, Sizes: sizes, DimOrder: rowMajor(len(sizes)), Role: RoleConst, Data: data})
}

// floats adds a constant f32 vector. Vectors with the same name must be the same.
func (b *xnnBuilder) floats(name string, x []float32) int {
	raw := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(v))
	}
	return b.constant(F32, []int{len(x)}, &Data{key: fmt.Sprintf("%s %d %s", b.key, b.index, name), src: bytes.NewReader(raw)})
}

// temp adds a computed tensor; sizes are bounds if the call has dynamic arguments.
func (b *xnnBuilder) temp(dt DType, sizes ...int) int {
	return b.g.temp(dt, b.dynamic, slices.Clone(sizes)...)
}

// like adds a computed tensor with the sizes of value v.
func (b *xnnBuilder) like(v int, dt DType) int { return b.temp(dt, b.g.Values[v].Sizes...) }

// bound makes a node; nil where it fails.
func (b *xnnBuilder) bound(op string, args ...int) *Node {
	n, err := b.g.NewNode(op, args...)
	if err != nil {
		if b.err == nil {
			b.err = err
		}
		return nil
	}
	n.Index = b.index
	return n
}

// node makes a node and appends it.
func (b *xnnBuilder) node(op string, args ...int) {
	if b.err == nil {
		if n := b.bound(op, args...); b.err == nil {
			b.nodes = append(b.nodes, n)
		}
	}
}

// in returns an input of a node. It must have been computed.
func (b *xnnBuilder) in(id uint32) *xnnValue {
	v := b.values[id]
	if v == nil || !v.written {
		b.fail("value %d is not there or not computed before it is read", id)
		return nil
	}
	return v
}

// optional is in for an input that may be absent.
func (b *xnnBuilder) optional(id uint32) *xnnValue {
	if id == pte.XNNNone {
		return nil
	}
	return b.in(id)
}

// out returns an output of a node, once.
func (b *xnnBuilder) out(id uint32) *xnnValue {
	v := b.values[id]
	if v == nil || v.written {
		b.fail("output value %d is not there, an input, or written twice", id)
		return nil
	}
	v.written = true
	return v
}

// clamped calls make with the tensor to write and bounds the result if the node says so.
func (b *xnnBuilder) clamped(n *pte.XNNNode, out *xnnValue, make func(to int)) {
	if !n.Clamp {
		make(out.at)
		return
	}
	to := b.like(out.at, b.g.Values[out.at].DType)
	make(to)
	b.node("aten::clamp.out", to, b.g.AddFloat(float64(n.Min)), b.g.AddFloat(float64(n.Max)), out.at)
}

// scales reads the scales of a per-channel or blockwise weight.
func (b *xnnBuilder) scales(v *xnnValue) []float32 {
	n := v.NumScales
	if n > maxXNNScales {
		b.fail("value %d has %d scales, at most %d are supported", v.ID, n, maxXNNScales)
		return nil
	}
	if v.ScalesAt == 0 {
		return v.Scales
	}
	size := 4
	if v.DType == pte.XNNQBInt4 {
		size = 2
	}
	data, err := b.data(v.ScalesAt, int64(size*n))
	if err == nil && data.src == nil {
		err = fmt.Errorf("scales are in device memory, not in a file")
	}
	raw := make([]byte, size*n)
	if err == nil {
		_, err = readAtFull(data.src, raw, data.off)
	}
	if err != nil {
		b.fail("scales of value %d: %w", v.ID, err)
		return nil
	}
	s := make([]float32, n)
	for i := range s {
		if size == 2 {
			s[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		} else {
			s[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	}
	return s
}

func rowMajor(rank int) []uint8 {
	order := make([]uint8, rank)
	for i := range order {
		order[i] = uint8(i)
	}
	return order
}

func init() {
	// The bytes of x as they lie in memory, with the sizes and dim order of the output; i32 values may become i64.
	Register(Op{Name: "tabtune::reinterpret.out", Schema: "tabtune::reinterpret.out(Tensor x, *, Tensor(a!) out) -> Tensor(a!)", AnyOrder: true,
		Check: func(g *Graph, n *Node) error {
			x, out := g.Values[n.Args[0]], g.Values[n.Args[1]]
			if x.DType != out.DType && (x.DType != I32 || out.DType != I64) {
				return fmt.Errorf("reinterpretation of %s as %s", dtypeName(x.DType), dtypeName(out.DType))
			}
			return nil
		},
		Shape: func(c *Call) {
			x, out := c.T(0), c.Out()
			sizes := physical(x)
			if out.dim() == len(sizes) {
				logical := make([]int, len(sizes))
				for i, d := range out.order {
					logical[d] = sizes[i]
				}
				c.Resize(out, logical...)
			} else if out.n != x.n {
				c.Fail("%v as %v", x.sizes, out.sizes)
			} else {
				c.ResizeAs(out, out)
			}
		},
		Kernel: func(c *Call) bool {
			x, out := c.T(0), c.Out()
			if x.n > 0 && x.dtype == out.dtype {
				c.dev().MemCopy(out.addr, x.addr, x.bytes())
			}
			return x.dtype == out.dtype
		},
		Ref: func(c *Call) { c.Put(c.Out(), c.In(c.T(0))) }})
}

// physical returns a tensor's sizes in the order of memory.
func physical(t *tensor) []int {
	sizes := slices.Clone(t.sizes)
	if len(t.order) == len(sizes) {
		for i, d := range t.order {
			sizes[i] = t.sizes[d]
		}
	}
	return sizes
}
