package pte

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

const (
	programIdentifier = "ET12"
	programMagic      = "eh00"
	headSize          = 64 // covers the largest known header
	programHeaderMin  = 24 // magic, length, program size, segment base offset
	programHeaderSize = 32 // with segment data size

	// MaxFlatbuffer bounds the part of a file that is read into memory: the
	// flatbuffer, which holds the structure of a program and not its weights.
	// (Files written before 2024-09 keep weights there too.)
	MaxFlatbuffer = 256 << 20

	maxSchemaVersion = 0
)

// header is the extended header that stands between a flatbuffer's file
// identifier and the rest of it.
type header struct {
	present     bool
	programSize int64 // bytes from the start of the file to the end of the flatbuffer
	segmentBase int64
	segmentSize int64 // 0 if the header does not say
}

// Decode reads and validates a program. name is used in errors.
//
// Only the flatbuffer part is read into memory; constants, delegates and named
// data stay in src (see ConstantData, MutableInit, DelegateData, SegmentData),
// which must remain readable as long as the program is used. Every index of the
// result is in range, every tensor's sizes are non-negative and bounded, and
// every range is inside the file. Errors about the content are *FormatError.
func Decode(src Source, name string) (*Program, error) {
	head, err := readHead(src, name, programIdentifier, "an ExecuTorch program")
	if err != nil {
		return nil, err
	}
	h, err := parseProgramHeader(head, src.Size(), name)
	if err != nil {
		return nil, err
	}
	buf, err := readFlatbuffer(src, name, h.programSize)
	if err != nil {
		return nil, err
	}
	d := &decoder{reader: newReader(name, buf)}
	p := d.program()
	if d.err != nil {
		return nil, d.err
	}
	p.Source = src
	p.SegmentBase = h.segmentBase
	if err := validate(p, name, d.positions, h, src.Size()); err != nil {
		return nil, err
	}
	return p, nil
}

// readHead reads the first bytes and checks the file identifier.
func readHead(src Source, name, identifier, what string) ([]byte, error) {
	size := src.Size()
	if size < 8 {
		return nil, &FormatError{name, "", "file", 0, fmt.Sprintf("%d bytes are too few for %s", size, what)}
	}
	head := make([]byte, min(size, headSize))
	if err := readFull(src, head, 0); err != nil {
		return nil, fmt.Errorf("%s: reading the header: %w", name, err)
	}
	if got := string(head[4:8]); got != identifier {
		return nil, &FormatError{name, "", "file_identifier", 4, fmt.Sprintf("%q where %q marks %s", got, identifier, what)}
	}
	return head, nil
}

func readFlatbuffer(src Source, name string, n int64) ([]byte, error) {
	if n > MaxFlatbuffer {
		return nil, &FormatError{name, "", "program_size", 0, fmt.Sprintf("a flatbuffer of %d bytes; at most %d are read", n, int64(MaxFlatbuffer))}
	}
	buf := make([]byte, n)
	if err := readFull(src, buf, 0); err != nil {
		return nil, fmt.Errorf("%s: reading the flatbuffer: %w", name, err)
	}
	return buf, nil
}

// readFull fills p or fails.
func readFull(src Source, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// parseProgramHeader reads the extended header, or describes a file without one.
func parseProgramHeader(head []byte, size int64, name string) (header, error) {
	if len(head) < 12 || string(head[8:12]) != programMagic {
		return header{programSize: size}, nil
	}
	fail := func(field string, off int64, format string, args ...any) (header, error) {
		return header{}, &FormatError{name, "", "extended_header." + field, off, fmt.Sprintf(format, args...)}
	}
	if len(head) < 8+programHeaderMin {
		return fail("length", 12, "the file ends inside the header")
	}
	length := binary.LittleEndian.Uint32(head[12:])
	if length < programHeaderMin {
		return fail("length", 12, "%d bytes, at least %d are needed", length, programHeaderMin)
	}
	program := binary.LittleEndian.Uint64(head[16:])
	base := binary.LittleEndian.Uint64(head[24:])
	var data uint64
	if length >= programHeaderSize {
		if len(head) < 8+programHeaderSize {
			return fail("length", 12, "the file ends inside the header")
		}
		data = binary.LittleEndian.Uint64(head[32:])
	}
	if program > uint64(size) || program < 8+uint64(length) {
		return fail("program_size", 16, "%d bytes in a file of %d with a header of %d", program, size, length)
	}
	if base != 0 && (base < program || base > uint64(size)) {
		return fail("segment_base_offset", 24, "%d, between the flatbuffer's end %d and the file's end %d is valid", base, program, size)
	}
	if data != 0 && (base == 0 || data > uint64(size)-base) {
		return fail("segment_data_size", 32, "%d bytes from %d do not fit in the file's %d", data, base, size)
	}
	return header{true, int64(program), int64(base), int64(data)}, nil
}

// positions remembers where decoded objects stand in the file, so that
// validation can say. A nil *positions knows nothing.
type positions struct {
	segments, named []int
	plans           []planPositions
}

type planPositions struct {
	plan                         int
	values, operators, delegates []int
	chains                       []int
	instructions                 [][]int // by chain
}

type decoder struct {
	*reader
	positions *positions
}

func (d *decoder) program() *Program {
	d.positions = &positions{}
	root, ok := d.follow("Program", 0)
	if !ok {
		return nil
	}
	t := d.table("Program", root)
	p := &Program{Version: t.u32(0, "version")}
	if p.Version > maxSchemaVersion {
		t.fail("version", t.pos, "version %d is newer than %d, the newest that is known", p.Version, maxSchemaVersion)
		return nil
	}
	t.each(1, "execution_plan", "ExecutionPlan", func(_ int, e table) {
		p.Plans = append(p.Plans, d.plan(e))
		d.at = place{}
	})
	t.each(2, "constant_buffer", "Buffer", func(i int, e table) {
		d.at = place{"", "constant_buffer", i}
		p.InlineConstants = append(p.InlineConstants, e.bytes(0, "storage"))
	})
	t.each(3, "backend_delegate_data", "BackendDelegateInlineData", func(i int, e table) {
		d.at = place{"", "backend_delegate_data", i}
		p.InlineDelegateData = append(p.InlineDelegateData, e.bytes(0, "data"))
	})
	p.Segments = d.segments(t, 4)
	if c, ok := t.child(5, "constant_segment", "SubsegmentOffsets"); ok {
		d.at = place{}
		if s := d.subsegments(c); len(s.Offsets) > 0 {
			p.ConstantSegment = &s
		}
	}
	t.each(6, "mutable_data_segments", "SubsegmentOffsets", func(i int, e table) {
		d.at = place{"", "mutable_data_segments", i}
		p.MutableSegments = append(p.MutableSegments, d.subsegments(e))
	})
	t.each(7, "named_data", "NamedData", func(i int, e table) {
		d.at = place{"", "named_data", i}
		d.positions.named = append(d.positions.named, e.pos)
		p.NamedData = append(p.NamedData, NamedData{Key: e.str(0, "key"), Segment: int(e.u32(1, "segment_index"))})
	})
	d.at = place{}
	return p
}

func (d *decoder) segments(t table, slot int) []Segment {
	var s []Segment
	t.each(slot, "segments", "DataSegment", func(i int, e table) {
		d.at = place{"", "segments", i}
		d.positions.segments = append(d.positions.segments, e.pos)
		s = append(s, Segment{Offset: e.size64(0, "offset"), Size: e.size64(1, "size")})
	})
	d.at = place{}
	return s
}

func (d *decoder) subsegments(t table) Subsegments {
	return Subsegments{Segment: int(t.u32(0, "segment_index")), Offsets: t.int64s(1, "offsets")}
}

func (d *decoder) plan(t table) *Plan {
	p := &Plan{Name: t.str(0, "name")}
	method := strconv.Quote(p.Name)
	at := func(list string, i int) { d.at = place{method, list, i} }
	at("", 0)
	pos := planPositions{plan: t.pos}
	if c, ok := t.child(1, "container_meta_type", "ContainerMetadata"); ok {
		p.EncodedIn, p.EncodedOut = c.str(0, "encoded_inp_str"), c.str(1, "encoded_out_str")
	}
	t.each(2, "values", "EValue", func(i int, e table) {
		at("values", i)
		pos.values = append(pos.values, e.pos)
		p.Values = append(p.Values, d.value(e))
	})
	at("", 0)
	p.Inputs, p.Outputs = t.ints(3, "inputs"), t.ints(4, "outputs")
	t.each(5, "chains", "Chain", func(i int, e table) {
		at("chains", i)
		c := Chain{Inputs: e.ints(0, "inputs"), Outputs: e.ints(1, "outputs")}
		var where []int
		e.each(2, "instructions", "Instruction", func(j int, e table) {
			at(fmt.Sprintf("chains[%d].instructions", i), j)
			where = append(where, e.pos)
			c.Instructions = append(c.Instructions, d.instruction(e))
		})
		pos.chains = append(pos.chains, e.pos)
		pos.instructions = append(pos.instructions, where)
		p.Chains = append(p.Chains, c)
	})
	t.each(6, "operators", "Operator", func(i int, e table) {
		at("operators", i)
		pos.operators = append(pos.operators, e.pos)
		p.Operators = append(p.Operators, Operator{Name: e.str(0, "name"), Overload: e.str(1, "overload")})
	})
	t.each(7, "delegates", "BackendDelegate", func(i int, e table) {
		at("delegates", i)
		pos.delegates = append(pos.delegates, e.pos)
		p.Delegates = append(p.Delegates, d.delegate(e))
	})
	at("", 0)
	p.NonConstBufferSizes = t.int64s(8, "non_const_buffer_sizes")
	t.each(9, "non_const_buffer_device", "NonConstBufferDevice", func(i int, e table) {
		at("non_const_buffer_device", i)
		p.BufferDevices = append(p.BufferDevices, BufferDevice{
			Buffer: int(e.i32(0, "buffer_idx")), Type: e.i8(1, "device_type"), Index: e.i8(2, "device_index"),
		})
	})
	d.positions.plans = append(d.positions.plans, pos)
	return p
}

// The schema's union KernelTypes.
const (
	kindNull = iota + 1
	kindInt
	kindBool
	kindDouble
	kindTensor
	kindString
	kindIntList
	kindDoubleList
	kindBoolList
	kindTensorList
	kindOptionalTensorList
)

var kindNames = [...]string{"", "Null", "Int", "Bool", "Double", "Tensor", "String", "IntList", "DoubleList", "BoolList", "TensorList", "OptionalTensorList"}

func (d *decoder) value(e table) Value {
	kind := int(e.u8(0, "val_type"))
	if d.err != nil {
		return Null{}
	}
	if kind == 0 || kind >= len(kindNames) {
		e.fail("val_type", e.pos, "kind %d is not known", kind)
		return Null{}
	}
	if kind == kindNull {
		return Null{}
	}
	t, ok := e.child(1, "val", kindNames[kind])
	if !ok {
		e.fail("val", e.pos, "missing")
		return Null{}
	}
	switch kind {
	case kindInt:
		return IntValue(t.u64(0, "int_val"))
	case kindBool:
		return BoolValue(t.bool(0, "bool_val"))
	case kindDouble:
		return DoubleValue(math.Float64frombits(t.u64(0, "double_val")))
	case kindTensor:
		return d.tensor(t)
	case kindString:
		return StringValue(t.str(0, "string_val"))
	case kindIntList:
		items := t.int64s(0, "items")
		v := make(IntList, len(items))
		for i, n := range items {
			if int64(int(n)) != n {
				t.fail("items", t.pos, "index %d is too large", n)
			}
			v[i] = int(n)
		}
		return v
	case kindDoubleList:
		items := t.int64s(0, "items")
		v := make(DoubleList, len(items))
		for i, n := range items {
			v[i] = math.Float64frombits(uint64(n))
		}
		return v
	case kindBoolList:
		items := t.bytes(0, "items")
		v := make(BoolList, len(items))
		for i, b := range items {
			v[i] = b != 0
		}
		return v
	case kindTensorList:
		return append(TensorList{}, t.ints(0, "items")...)
	default:
		return append(OptionalTensorList{}, t.ints(0, "items")...)
	}
}

func (d *decoder) tensor(t table) *Tensor {
	v := &Tensor{
		ScalarType: ScalarType(t.i8(0, "scalar_type")),
		Sizes:      t.int32s(2, "sizes"),
		DimOrder:   bytes.Clone(t.bytes(3, "dim_order")),
		Buffer:     t.u32(5, "data_buffer_idx"),
		Dynamism:   Dynamism(t.i8(8, "shape_dynamism")),
	}
	if o := t.i32(1, "storage_offset"); o != 0 {
		t.fail("storage_offset", t.pos, "%d, only 0 is supported", o)
	}
	if a, ok := t.child(6, "allocation_info", "AllocationDetails"); ok {
		v.Alloc = &Alloc{
			MemoryID: a.u32(0, "memory_id"),
			Offset:   uint64(a.u32(1, "memory_offset_low")) | uint64(a.u32(2, "memory_offset_high"))<<32,
		}
	}
	if x, ok := t.child(9, "extra_tensor_info", "ExtraTensorInfo"); ok {
		segment := x.size64(0, "mutable_data_segments_idx")
		if segment > math.MaxInt32 {
			x.fail("mutable_data_segments_idx", x.pos, "index %d is too large", segment)
		}
		v.MutableSegment = int(segment)
		v.Name = x.str(1, "fully_qualified_name")
		location := x.u8(2, "location")
		if location > 1 {
			x.fail("location", x.pos, "location %d is not known", location)
		}
		v.External = location == 1
		v.DeviceType, v.DeviceIndex = x.i8(3, "device_type"), x.i8(4, "device_index")
	}
	return v
}

// The schema's union InstructionArguments.
const (
	callKernel = iota + 1
	callDelegate
	callMove
	callJumpFalse
	callFree
)

var callNames = [...]string{"", "KernelCall", "DelegateCall", "MoveCall", "JumpFalseCall", "FreeCall"}

func (d *decoder) instruction(e table) Instruction {
	kind := int(e.u8(0, "instr_args_type"))
	if d.err != nil {
		return nil
	}
	if kind == 0 || kind >= len(callNames) {
		e.fail("instr_args_type", e.pos, "instruction %d is not known", kind)
		return nil
	}
	t, ok := e.child(1, "instr_args", callNames[kind])
	if !ok {
		e.fail("instr_args", e.pos, "missing")
		return nil
	}
	switch kind {
	case callKernel:
		return KernelCall{Op: int(t.i32(0, "op_index")), Args: t.ints(1, "args")}
	case callDelegate:
		return DelegateCall{Delegate: int(t.i32(0, "delegate_index")), Args: t.ints(1, "args")}
	case callMove:
		return MoveCall{From: int(t.i32(0, "move_from")), To: int(t.i32(1, "move_to"))}
	case callJumpFalse:
		return JumpFalseCall{Cond: int(t.i32(0, "cond_value_index")), Dest: int(t.i32(1, "destination_instruction"))}
	default:
		return FreeCall{Value: int(t.i32(0, "value_index"))}
	}
}

func (d *decoder) delegate(t table) Delegate {
	v := Delegate{ID: t.str(0, "id")}
	ref, ok := t.child(1, "processed", "BackendDelegateDataReference")
	if !ok {
		t.fail("processed", t.pos, "missing")
		return v
	}
	location := ref.u8(0, "location")
	if location > 1 {
		ref.fail("location", ref.pos, "location %d is not known", location)
	}
	v.Inline = location == 0
	v.Index = int(ref.u32(1, "index"))
	t.each(2, "compile_specs", "CompileSpec", func(_ int, e table) {
		v.CompileSpecs = append(v.CompileSpecs, CompileSpec{Key: e.str(0, "key"), Value: bytes.Clone(e.bytes(1, "value"))})
	})
	return v
}
