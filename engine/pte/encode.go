package pte

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	flatbuffers "github.com/google/flatbuffers/go"
)

const (
	// TensorAlignment is the alignment of tensors inside a segment and of
	// inline constants, as the stock exporter has it.
	TensorAlignment = 16
	// SegmentAlignment is the least alignment of a segment in the file, as the
	// stock exporter has it.
	SegmentAlignment = 128
)

// Encode writes p as a .pte file. Segment i of the file holds what segments[i]
// writes; p.Segments and p.SegmentBase are ignored, they follow from it. A
// program that Decode returned is copied by passing p.SegmentWriters().
//
// The program is validated first, as Decode would: an error then means that
// nothing was written. The same input gives the same bytes. Like the stock
// exporter, Encode writes the extended header only if there is segment data.
func Encode(w io.Writer, p *Program, segments []SegmentWriter) error {
	q := *p
	var err error
	var align, total int64
	if q.Segments, align, total, err = layout(segments); err != nil {
		return fmt.Errorf("encoding a program: %w", err)
	}
	anywhere := header{segmentBase: 1, segmentSize: math.MaxInt64}
	if err := validate(&q, "program", nil, anywhere, math.MaxInt64); err != nil {
		return fmt.Errorf("encoding a program: %w", err)
	}
	if n := sizeBound(&q); n > MaxFlatbuffer {
		return fmt.Errorf("encoding a program: it may take %d bytes without its segments, at most %d are allowed", n, int64(MaxFlatbuffer))
	}
	buf := buildProgram(&q)
	if total == 0 {
		_, err := w.Write(buf)
		return err
	}
	var head [programHeaderSize]byte
	size := int64(len(buf) + len(head))
	base := alignUp(size, align)
	copy(head[:], programMagic)
	binary.LittleEndian.PutUint32(head[4:], programHeaderSize)
	binary.LittleEndian.PutUint64(head[8:], uint64(size))
	binary.LittleEndian.PutUint64(head[16:], uint64(base))
	binary.LittleEndian.PutUint64(head[24:], uint64(total))
	return writeFile(w, buf, head[:], base, q.Segments, segments)
}

// buildProgram writes the flatbuffer of a validated program. Every vector that
// the runtime reads without a check for null is written even if it is empty.
func buildProgram(p *Program) []byte {
	b := newBuilder()
	plans := make([]flatbuffers.UOffsetT, len(p.Plans))
	for i, m := range p.Plans {
		plans[i] = b.plan(m)
	}
	planVec := b.offsets(plans)

	blobs := func(data [][]byte) flatbuffers.UOffsetT {
		offs := make([]flatbuffers.UOffsetT, len(data))
		for i, d := range data {
			v := b.aligned(d)
			b.StartObject(1)
			b.PrependUOffsetTSlot(0, v, 0)
			offs[i] = b.EndObject()
		}
		return b.offsets(offs)
	}
	constants, delegates := blobs(p.InlineConstants), blobs(p.InlineDelegateData)
	segments := b.segments(p.Segments)
	var constantSegment flatbuffers.UOffsetT
	if p.ConstantSegment != nil {
		constantSegment = b.subsegments(*p.ConstantSegment)
	}
	var mutable flatbuffers.UOffsetT
	if len(p.MutableSegments) > 0 {
		offs := make([]flatbuffers.UOffsetT, len(p.MutableSegments))
		for i, s := range p.MutableSegments {
			offs[i] = b.subsegments(s)
		}
		mutable = b.offsets(offs)
	}
	named := b.named(p.NamedData)

	b.StartObject(8)
	b.PrependUint32Slot(0, p.Version, 0)
	b.PrependUOffsetTSlot(1, planVec, 0)
	b.PrependUOffsetTSlot(2, constants, 0)
	b.PrependUOffsetTSlot(3, delegates, 0)
	b.PrependUOffsetTSlot(4, segments, 0)
	b.PrependUOffsetTSlot(5, constantSegment, 0)
	b.PrependUOffsetTSlot(6, mutable, 0)
	b.PrependUOffsetTSlot(7, named, 0)
	return b.finish(b.EndObject(), programIdentifier)
}

// builder adds the schema's recurring shapes to the flatbuffers builder.
type builder struct{ *flatbuffers.Builder }

func newBuilder() builder { return builder{flatbuffers.NewBuilder(4096)} }

// finish ends the buffer. Its length is made a multiple of 16, so that a header
// of as many bytes can be put after the identifier without breaking alignment.
func (b builder) finish(root flatbuffers.UOffsetT, identifier string) []byte {
	b.Prep(TensorAlignment, 0)
	b.FinishWithFileIdentifier(root, []byte(identifier))
	return b.FinishedBytes()
}

func (b builder) offsets(v []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(4, len(v), 4)
	for i := len(v) - 1; i >= 0; i-- {
		b.PrependUOffsetT(v[i])
	}
	return b.EndVector(len(v))
}

// aligned writes a byte vector that starts at a multiple of TensorAlignment.
func (b builder) aligned(v []byte) flatbuffers.UOffsetT {
	b.StartVector(1, len(v), TensorAlignment)
	for i := len(v) - 1; i >= 0; i-- {
		b.PrependByte(v[i])
	}
	return b.EndVector(len(v))
}

func (b builder) ints(v []int) flatbuffers.UOffsetT {
	b.StartVector(4, len(v), 4)
	for i := len(v) - 1; i >= 0; i-- {
		b.PrependInt32(int32(v[i]))
	}
	return b.EndVector(len(v))
}

func (b builder) int32s(v []int32) flatbuffers.UOffsetT {
	b.StartVector(4, len(v), 4)
	for i := len(v) - 1; i >= 0; i-- {
		b.PrependInt32(v[i])
	}
	return b.EndVector(len(v))
}

func (b builder) int64s(v []int64) flatbuffers.UOffsetT {
	b.StartVector(8, len(v), 8)
	for i := len(v) - 1; i >= 0; i-- {
		b.PrependInt64(v[i])
	}
	return b.EndVector(len(v))
}

// one writes a table with a single field that holds an offset.
func (b builder) one(v flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartObject(1)
	b.PrependUOffsetTSlot(0, v, 0)
	return b.EndObject()
}

func (b builder) segments(v []Segment) flatbuffers.UOffsetT {
	offs := make([]flatbuffers.UOffsetT, len(v))
	for i, s := range v {
		b.StartObject(2)
		b.PrependUint64Slot(0, uint64(s.Offset), 0)
		b.PrependUint64Slot(1, uint64(s.Size), 0)
		offs[i] = b.EndObject()
	}
	return b.offsets(offs)
}

func (b builder) subsegments(s Subsegments) flatbuffers.UOffsetT {
	v := b.int64s(s.Offsets)
	b.StartObject(2)
	b.PrependUint32Slot(0, uint32(s.Segment), 0)
	b.PrependUOffsetTSlot(1, v, 0)
	return b.EndObject()
}

func (b builder) named(v []NamedData) flatbuffers.UOffsetT {
	offs := make([]flatbuffers.UOffsetT, len(v))
	for i, n := range v {
		key := b.CreateString(n.Key)
		var l flatbuffers.UOffsetT
		if n.Layout != nil {
			sizes, order := b.int32s(n.Layout.Sizes), b.CreateByteVector(n.Layout.DimOrder)
			b.StartObject(3)
			b.PrependInt8Slot(0, int8(n.Layout.ScalarType), 0)
			b.PrependUOffsetTSlot(1, sizes, 0)
			b.PrependUOffsetTSlot(2, order, 0)
			l = b.EndObject()
		}
		b.StartObject(3)
		b.PrependUOffsetTSlot(0, key, 0)
		b.PrependUint32Slot(1, uint32(n.Segment), 0)
		b.PrependUOffsetTSlot(2, l, 0)
		offs[i] = b.EndObject()
	}
	return b.offsets(offs)
}

func (b builder) plan(p *Plan) flatbuffers.UOffsetT {
	name := b.CreateString(p.Name)
	in, out := b.CreateString(p.EncodedIn), b.CreateString(p.EncodedOut)
	b.StartObject(2)
	b.PrependUOffsetTSlot(0, in, 0)
	b.PrependUOffsetTSlot(1, out, 0)
	container := b.EndObject()

	offs := make([]flatbuffers.UOffsetT, len(p.Values))
	for i, v := range p.Values {
		offs[i] = b.union(kindNumber(v), b.value(v))
	}
	values := b.offsets(offs)
	inputs, outputs := b.ints(p.Inputs), b.ints(p.Outputs)

	offs = make([]flatbuffers.UOffsetT, len(p.Chains))
	for i, c := range p.Chains {
		offs[i] = b.chain(c)
	}
	chains := b.offsets(offs)

	offs = make([]flatbuffers.UOffsetT, len(p.Operators))
	for i, o := range p.Operators {
		name, overload := b.CreateString(o.Name), b.CreateString(o.Overload)
		b.StartObject(2)
		b.PrependUOffsetTSlot(0, name, 0)
		b.PrependUOffsetTSlot(1, overload, 0)
		offs[i] = b.EndObject()
	}
	operators := b.offsets(offs)

	offs = make([]flatbuffers.UOffsetT, len(p.Delegates))
	for i, d := range p.Delegates {
		offs[i] = b.delegate(d)
	}
	delegates := b.offsets(offs)
	sizes := b.int64s(p.NonConstBufferSizes)
	var devices flatbuffers.UOffsetT
	if len(p.BufferDevices) > 0 {
		offs = make([]flatbuffers.UOffsetT, len(p.BufferDevices))
		for i, d := range p.BufferDevices {
			b.StartObject(3)
			b.PrependInt32Slot(0, int32(d.Buffer), 0)
			b.PrependInt8Slot(1, d.Type, 0)
			b.PrependInt8Slot(2, d.Index, 0)
			offs[i] = b.EndObject()
		}
		devices = b.offsets(offs)
	}

	b.StartObject(10)
	for slot, v := range []flatbuffers.UOffsetT{name, container, values, inputs, outputs, chains, operators, delegates, sizes, devices} {
		b.PrependUOffsetTSlot(slot, v, 0)
	}
	return b.EndObject()
}

// union writes a table whose only field is a union: EValue or Instruction.
func (b builder) union(kind byte, v flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartObject(2)
	b.PrependByteSlot(0, kind, 0)
	b.PrependUOffsetTSlot(1, v, 0)
	return b.EndObject()
}

// value writes the table of a value's kind.
func (b builder) value(v Value) flatbuffers.UOffsetT {
	switch v := v.(type) {
	case IntValue:
		b.StartObject(1)
		b.PrependInt64Slot(0, int64(v), 0)
	case BoolValue:
		b.StartObject(1)
		b.PrependBoolSlot(0, bool(v), false)
	case DoubleValue:
		b.StartObject(1)
		// By bits: the builder leaves out what equals 0, and -0 does.
		b.PrependUint64Slot(0, math.Float64bits(float64(v)), 0)
	case StringValue:
		return b.one(b.CreateString(string(v)))
	case *Tensor:
		return b.tensor(v)
	case IntList:
		items := make([]int64, len(v))
		for i, x := range v {
			items[i] = int64(x)
		}
		return b.one(b.int64s(items))
	case DoubleList:
		items := make([]int64, len(v))
		for i, x := range v {
			items[i] = int64(math.Float64bits(x))
		}
		return b.one(b.int64s(items))
	case BoolList:
		items := make([]byte, len(v))
		for i, x := range v {
			if x {
				items[i] = 1
			}
		}
		return b.one(b.CreateByteVector(items))
	case TensorList:
		return b.one(b.ints(v))
	case OptionalTensorList:
		return b.one(b.ints(v))
	default: // Null
		b.StartObject(0)
	}
	return b.EndObject()
}

func (b builder) tensor(t *Tensor) flatbuffers.UOffsetT {
	sizes, order := b.int32s(t.Sizes), b.CreateByteVector(t.DimOrder)
	var alloc, extra flatbuffers.UOffsetT
	if a := t.Alloc; a != nil {
		b.StartObject(3)
		b.PrependUint32Slot(0, a.MemoryID, 0)
		b.PrependUint32Slot(1, uint32(a.Offset), 0)
		b.PrependUint32Slot(2, uint32(a.Offset>>32), 0)
		alloc = b.EndObject()
	}
	if t.MutableSegment != 0 || t.Name != "" || t.External || t.DeviceType != 0 || t.DeviceIndex != 0 {
		var name flatbuffers.UOffsetT
		if t.Name != "" {
			name = b.CreateString(t.Name)
		}
		var location int8
		if t.External {
			location = 1
		}
		b.StartObject(5)
		b.PrependUint64Slot(0, uint64(t.MutableSegment), 0)
		b.PrependUOffsetTSlot(1, name, 0)
		b.PrependInt8Slot(2, location, 0)
		b.PrependInt8Slot(3, t.DeviceType, 0)
		b.PrependInt8Slot(4, t.DeviceIndex, 0)
		extra = b.EndObject()
	}
	b.StartObject(10)
	b.PrependInt8Slot(0, int8(t.ScalarType), 0)
	b.PrependUOffsetTSlot(2, sizes, 0)
	b.PrependUOffsetTSlot(3, order, 0)
	b.PrependUint32Slot(5, t.Buffer, 0)
	b.PrependUOffsetTSlot(6, alloc, 0)
	b.PrependInt8Slot(8, int8(t.Dynamism), 0)
	b.PrependUOffsetTSlot(9, extra, 0)
	return b.EndObject()
}

func (b builder) chain(c Chain) flatbuffers.UOffsetT {
	offs := make([]flatbuffers.UOffsetT, len(c.Instructions))
	for i, in := range c.Instructions {
		kind, v := b.instruction(in)
		offs[i] = b.union(kind, v)
	}
	instructions := b.offsets(offs)
	inputs, outputs := b.ints(c.Inputs), b.ints(c.Outputs)
	b.StartObject(4)
	b.PrependUOffsetTSlot(0, inputs, 0)
	b.PrependUOffsetTSlot(1, outputs, 0)
	b.PrependUOffsetTSlot(2, instructions, 0)
	return b.EndObject()
}

func (b builder) instruction(in Instruction) (kind byte, v flatbuffers.UOffsetT) {
	call := func(index int, args []int) flatbuffers.UOffsetT {
		v := b.ints(args)
		b.StartObject(2)
		b.PrependInt32Slot(0, int32(index), 0)
		b.PrependUOffsetTSlot(1, v, 0)
		return b.EndObject()
	}
	pair := func(x, y int) flatbuffers.UOffsetT {
		b.StartObject(2)
		b.PrependInt32Slot(0, int32(x), 0)
		b.PrependInt32Slot(1, int32(y), 0)
		return b.EndObject()
	}
	switch in := in.(type) {
	case KernelCall:
		return callKernel, call(in.Op, in.Args)
	case DelegateCall:
		return callDelegate, call(in.Delegate, in.Args)
	case MoveCall:
		return callMove, pair(in.From, in.To)
	case JumpFalseCall:
		return callJumpFalse, pair(in.Cond, in.Dest)
	case FreeCall:
		b.StartObject(1)
		b.PrependInt32Slot(0, int32(in.Value), 0)
		return callFree, b.EndObject()
	}
	return 0, 0 // validate refuses other types
}

func (b builder) delegate(d Delegate) flatbuffers.UOffsetT {
	id := b.CreateString(d.ID)
	location := int8(1)
	if d.Inline {
		location = 0
	}
	b.StartObject(2)
	b.PrependInt8Slot(0, location, 0)
	b.PrependUint32Slot(1, uint32(d.Index), 0)
	processed := b.EndObject()
	offs := make([]flatbuffers.UOffsetT, len(d.CompileSpecs))
	for i, s := range d.CompileSpecs {
		key, value := b.CreateString(s.Key), b.CreateByteVector(s.Value)
		b.StartObject(2)
		b.PrependUOffsetTSlot(0, key, 0)
		b.PrependUOffsetTSlot(1, value, 0)
		offs[i] = b.EndObject()
	}
	specs := b.offsets(offs)
	b.StartObject(3)
	b.PrependUOffsetTSlot(0, id, 0)
	b.PrependUOffsetTSlot(1, processed, 0)
	b.PrependUOffsetTSlot(2, specs, 0)
	return b.EndObject()
}

// sizeBound returns an upper bound of the flatbuffer's bytes, because the
// builder panics above 2 GiB. A table takes at most 128 bytes with its vtable
// and padding, an element of a list at most 8.
func sizeBound(p *Program) int64 {
	const tables = 128
	n := int64(16*tables) + tables*int64(len(p.Segments))
	blobs := func(data [][]byte) {
		for _, d := range data {
			n += tables + int64(len(d))
		}
	}
	blobs(p.InlineConstants)
	blobs(p.InlineDelegateData)
	if p.ConstantSegment != nil {
		n += 8 * int64(len(p.ConstantSegment.Offsets))
	}
	for _, s := range p.MutableSegments {
		n += tables + 8*int64(len(s.Offsets))
	}
	for _, d := range p.NamedData {
		n += 3*tables + int64(len(d.Key))
	}
	for _, m := range p.Plans {
		n += 4*tables + int64(len(m.Name)+len(m.EncodedIn)+len(m.EncodedOut)) + 8*int64(len(m.Inputs)+len(m.Outputs)+len(m.NonConstBufferSizes))
		n += tables * int64(len(m.BufferDevices))
		for _, v := range m.Values {
			n += 2 * tables
			switch v := v.(type) {
			case *Tensor:
				n += 3*tables + int64(len(v.Name)) + 8*MaxDims
			case StringValue:
				n += int64(len(v))
			case IntList:
				n += 8 * int64(len(v))
			case DoubleList:
				n += 8 * int64(len(v))
			case BoolList:
				n += int64(len(v))
			case TensorList:
				n += 8 * int64(len(v))
			case OptionalTensorList:
				n += 8 * int64(len(v))
			}
		}
		for _, o := range m.Operators {
			n += tables + int64(len(o.Name)+len(o.Overload))
		}
		for _, d := range m.Delegates {
			n += 2*tables + int64(len(d.ID))
			for _, s := range d.CompileSpecs {
				n += tables + int64(len(s.Key)+len(s.Value))
			}
		}
		for _, c := range m.Chains {
			n += tables + 8*int64(len(c.Inputs)+len(c.Outputs))
			for _, in := range c.Instructions {
				n += 2 * tables
				switch in := in.(type) {
				case KernelCall:
					n += 8 * int64(len(in.Args))
				case DelegateCall:
					n += 8 * int64(len(in.Args))
				}
			}
		}
	}
	return n
}
