package pte

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// TestEncodeValidates breaks the program of everything() in one place a case
// and expects an error that names the place. Decode applies the same checks.
func TestEncodeValidates(t *testing.T) {
	plan := func(change func(*Plan)) func(*Program) {
		return func(p *Program) { change(p.Plans[0]) }
	}
	value := func(i int, v Value) func(*Program) {
		return plan(func(p *Plan) { p.Values[i] = v })
	}
	tensor := func(i int, change func(*Tensor)) func(*Program) {
		return plan(func(p *Plan) { change(p.Values[i].(*Tensor)) })
	}
	instruction := func(in Instruction) func(*Program) {
		return plan(func(p *Plan) { p.Chains[0].Instructions[1] = in })
	}
	for _, c := range []struct {
		want   string
		change func(*Program)
	}{
		{"ExecutionPlan.name", plan(func(p *Plan) { p.Name = "" })},
		{"ExecutionPlan.name", plan(func(p *Plan) { p.Name = "empty" })},
		{"ExecutionPlan.inputs", plan(func(p *Plan) { p.Inputs[1] = 21 })},
		{"ExecutionPlan.outputs", plan(func(p *Plan) { p.Outputs[0] = -1 })},
		{"ExecutionPlan.non_const_buffer_sizes", plan(func(p *Plan) { p.NonConstBufferSizes[1] = -1 })},
		{"NonConstBufferDevice.buffer_idx", plan(func(p *Plan) { p.BufferDevices[0].Buffer = 3 })},
		{"Operator.name", plan(func(p *Plan) { p.Operators[0].Name = "" })},
		{"BackendDelegate.id", plan(func(p *Plan) { p.Delegates[0].ID = "" })},
		{"BackendDelegateDataReference.index", plan(func(p *Plan) { p.Delegates[0].Index = 1 })},
		{"BackendDelegateDataReference.index", plan(func(p *Plan) { p.Delegates[1].Index = 3 })},
		{"Chain.inputs", plan(func(p *Plan) { p.Chains[0].Inputs[0] = 21 })},
		{"Chain.outputs", plan(func(p *Plan) { p.Chains[0].Outputs[0] = -2 })},
		{"EValue.val", value(0, nil)},
		{"EValue.val", value(5, (*Tensor)(nil))},
		{"values[10]: IntList.items", value(10, IntList{2})},
		{"values[10]: IntList.items", value(10, IntList{21})},
		{"TensorList.items", value(13, TensorList{1})},
		{"OptionalTensorList.items", value(14, OptionalTensorList{-2})},
		{"OptionalTensorList.items", value(14, OptionalTensorList{1})},
		{"Tensor.scalar_type", tensor(5, func(t *Tensor) { t.ScalarType = 12 })},
		{"Tensor.sizes", tensor(5, func(t *Tensor) { t.Sizes[0] = -1 })},
		{"Tensor.sizes", tensor(5, func(t *Tensor) {
			t.Sizes, t.DimOrder = []int32{1 << 30, 1 << 30, 0, 1 << 30}, []uint8{0, 1, 2, 3}
		})},
		{"Tensor.sizes", tensor(5, func(t *Tensor) { t.Sizes, t.DimOrder = make([]int32, 17), make([]uint8, 17) })},
		{"Tensor.dim_order", tensor(5, func(t *Tensor) { t.DimOrder = []uint8{0, 0} })},
		{"Tensor.dim_order", tensor(5, func(t *Tensor) { t.DimOrder = []uint8{0, 2} })},
		{"Tensor.dim_order", tensor(5, func(t *Tensor) { t.DimOrder = nil })},
		{"Tensor.shape_dynamism", tensor(5, func(t *Tensor) { t.Dynamism = 3 })},
		{"AllocationDetails.memory_id", tensor(5, func(t *Tensor) { t.Alloc.MemoryID = 0 })},
		{"AllocationDetails.memory_id", tensor(5, func(t *Tensor) { t.Alloc.MemoryID = 3 })},
		{"AllocationDetails.memory_offset", tensor(5, func(t *Tensor) { t.Alloc.Offset++ })},
		{"AllocationDetails.memory_offset", tensor(5, func(t *Tensor) { t.Alloc.Offset = math.MaxUint64 })},
		{"Tensor.data_buffer_idx", tensor(6, func(t *Tensor) { t.Buffer = 2 })},
		{"Tensor.data_buffer_idx", tensor(6, func(t *Tensor) { t.Sizes[0] = 4 })},
		{"Tensor.data_buffer_idx", tensor(7, func(t *Tensor) { t.Buffer = 9 })},
		{"ExtraTensorInfo.mutable_data_segments_idx", tensor(7, func(t *Tensor) { t.MutableSegment = 2 })},
		{"ExtraTensorInfo.fully_qualified_name", tensor(8, func(t *Tensor) { t.Name = "" })},
		{"KernelCall.op_index", instruction(KernelCall{Op: 2})},
		{"KernelCall.args", instruction(KernelCall{Args: []int{-1}})},
		{"DelegateCall.delegate_index", instruction(DelegateCall{Delegate: 2})},
		{"DelegateCall.args", instruction(DelegateCall{Args: []int{21}})},
		{"MoveCall.move_from", instruction(MoveCall{From: 21})},
		{"MoveCall.move_to", instruction(MoveCall{To: -1})},
		{"JumpFalseCall.cond_value_index", instruction(JumpFalseCall{Cond: 21})},
		{"JumpFalseCall.cond_value_index", instruction(JumpFalseCall{Cond: 5})},
		{"JumpFalseCall.destination_instruction", instruction(JumpFalseCall{Cond: 2, Dest: 7})},
		{"JumpFalseCall.destination_instruction", instruction(JumpFalseCall{Cond: 2, Dest: -1})},
		{"FreeCall.value_index", instruction(FreeCall{Value: 21})},
		{"chains[0].instructions[1]: FreeCall.value_index", instruction(FreeCall{Value: 1})},
		{"Instruction.instr_args", instruction(nil)},
		{"SubsegmentOffsets.offsets", func(p *Program) { p.MutableSegments[1].Offsets[1] = 17 }},
		{"SubsegmentOffsets.segment_index", func(p *Program) { p.MutableSegments[0].Segment = 3 }},
		{"Program.constant_segment.offsets", func(p *Program) { p.ConstantSegment.Offsets[1] = -1 }},
		{"Program.constant_buffer", func(p *Program) { p.InlineConstants = [][]byte{{}} }},
		{"NamedData.segment_index", func(p *Program) { p.NamedData[0].Segment = 3 }},
		{"NamedData.key", func(p *Program) { p.NamedData[0].Key = "" }},
		{"NamedData.key", func(p *Program) { p.NamedData = append(p.NamedData, p.NamedData[0]) }},
	} {
		p, segments := everything()
		c.change(p)
		var out bytes.Buffer
		err := Encode(&out, p, segments)
		if err == nil || !strings.Contains(err.Error(), c.want+": ") {
			t.Errorf("want an error at %s, got %v", c.want, err)
		}
		if out.Len() != 0 {
			t.Errorf("%s: %d bytes were written", c.want, out.Len())
		}
	}
}

func TestHeaderErrors(t *testing.T) {
	put := func(off int, v uint64) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
	}
	for _, c := range []struct {
		want   string
		change func([]byte)
	}{
		{"bad.pte: file_identifier at byte 4: ", func(b []byte) { b[7] = '3' }},
		{"extended_header.length at byte 12: ", func(b []byte) { b[12] = 23 }},
		{"extended_header.program_size at byte 16: ", put(16, 10)},
		{"extended_header.program_size at byte 16: ", put(16, math.MaxUint64)},
		{"extended_header.segment_base_offset at byte 24: ", put(24, 64)},
		{"extended_header.segment_base_offset at byte 24: ", put(24, 1<<63)},
		{"extended_header.segment_data_size at byte 32: ", put(32, 1<<20)},
		{"segments[0]: DataSegment.size at byte ", put(24, 0)},
		{"Program at byte 0: ", func(b []byte) { binary.LittleEndian.PutUint32(b, 0) }},
		{"Program at byte 0: ", func(b []byte) { binary.LittleEndian.PutUint32(b, 1<<31) }},
	} {
		data := bytes.Clone(load(t, "linear.pte"))
		c.change(data)
		if c.want == "segments[0]: DataSegment.size at byte " {
			binary.LittleEndian.PutUint64(data[32:], 0)
		}
		_, err := Decode(bytes.NewReader(data), "bad.pte")
		var e *FormatError
		if !errors.As(err, &e) || e.File != "bad.pte" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error at %q, got %v", c.want, err)
		}
	}
}

// TestSharingIsBounded builds a flatbuffer whose values are all one table, which
// would decode to far more than the file holds.
func TestSharingIsBounded(t *testing.T) {
	b := newBuilder()
	list := b.union(kindDoubleList, b.value(make(DoubleList, 10_000)))
	offs := make([]uint32, 10_000)
	b.StartVector(4, len(offs), 4)
	for range offs {
		b.PrependUOffsetT(list)
	}
	values := b.EndVector(len(offs))
	name := b.CreateString("forward")
	b.StartObject(10)
	b.PrependUOffsetTSlot(0, name, 0)
	b.PrependUOffsetTSlot(2, values, 0)
	plan := b.EndObject()
	b.StartVector(4, 1, 4)
	b.PrependUOffsetT(plan)
	plans := b.EndVector(1)
	b.StartObject(8)
	b.PrependUOffsetTSlot(1, plans, 0)
	data := b.finish(b.EndObject(), programIdentifier)
	_, err := Decode(bytes.NewReader(data), "bomb.pte")
	if err == nil || !strings.Contains(err.Error(), "again and again") {
		t.Errorf("error %v", err)
	}
}

type failing struct{ bytes.Reader }

func (*failing) Size() int64 { return 1000 }
func (*failing) ReadAt(p []byte, off int64) (int, error) {
	return 0, io.ErrClosedPipe
}

func TestReadErrorIsKept(t *testing.T) {
	if _, err := Decode(&failing{}, "a.pte"); !errors.Is(err, io.ErrClosedPipe) || !strings.HasPrefix(err.Error(), "a.pte: ") {
		t.Errorf("error %v", err)
	}
	if _, err := Decode(bytes.NewReader([]byte("x")), "a.pte"); err == nil {
		t.Error("one byte was accepted")
	}
}
