package pte

import (
	"fmt"
	"math"
	"strconv"
)

// checker validates the meaning of a decoded or hand-made program. Like
// reader, it keeps the first error.
type checker struct {
	p    *Program
	file string
	at   place
	pos  int // byte offset of the object at hand, -1 if unknown
	err  error
}

func (c *checker) fail(field, format string, args ...any) {
	if c.err == nil {
		c.err = &FormatError{c.file, c.at.String(), field, int64(c.pos), fmt.Sprintf(format, args...)}
	}
}

// enter notes the object that is checked next; where lists its kind's positions.
func (c *checker) enter(method, list string, i int, where []int) {
	c.at = place{method, list, i}
	c.pos = -1
	if i < len(where) {
		c.pos = where[i]
	}
}

// validate checks everything that Decode promises. pos may be nil.
func validate(p *Program, file string, pos *positions, h header, fileSize int64) error {
	c := &checker{p: p, file: file, pos: -1}
	if pos == nil {
		pos = &positions{}
	}
	c.segments(pos.segments, h, fileSize)
	c.data(pos.named)
	names := map[string]bool{}
	for i, plan := range p.Plans {
		if c.err != nil {
			break
		}
		var pp planPositions
		pp.plan = -1
		if i < len(pos.plans) {
			pp = pos.plans[i]
		}
		c.at, c.pos = place{"", "execution_plan", i}, pp.plan
		if plan == nil {
			c.fail("Program.execution_plan", "missing")
			break
		}
		if plan.Name == "" {
			c.fail("ExecutionPlan.name", "missing")
		}
		if names[plan.Name] {
			c.fail("ExecutionPlan.name", "a second method %q", plan.Name)
		}
		names[plan.Name] = true
		c.plan(plan, &pp)
	}
	return c.err
}

// segments checks that segments are inside the file.
func (c *checker) segments(where []int, h header, fileSize int64) {
	limit := fileSize - h.segmentBase
	if h.segmentSize != 0 {
		limit = h.segmentSize
	}
	for i, s := range c.p.Segments {
		c.enter("", "segments", i, where)
		if s.Offset < 0 || s.Size < 0 {
			c.fail("DataSegment.size", "offset %d or size %d is negative", s.Offset, s.Size)
		}
		if h.segmentBase == 0 {
			if s.Size != 0 {
				c.fail("DataSegment.size", "%d bytes in a file whose header names no segments", s.Size)
			}
		} else if s.Offset > limit || s.Size > limit-s.Offset {
			c.fail("DataSegment.offset", "%d bytes from %d do not fit in the %d bytes of segments", s.Size, s.Offset, limit)
		}
	}
}

// subsegments checks that tensors' starts are inside their segment.
func (c *checker) subsegments(field string, s Subsegments) {
	if s.Segment < 0 || s.Segment >= len(c.p.Segments) {
		// One entry is the placeholder for "no data": its segment is never read.
		if len(s.Offsets) > 1 || s.Segment != 0 {
			c.fail(field+".segment_index", "index %d, there are %d segments", s.Segment, len(c.p.Segments))
		}
		return
	}
	size := c.p.Segments[s.Segment].Size
	for i, o := range s.Offsets {
		if o < 0 || o > size {
			c.fail(field+".offsets", "entry %d, %d, is outside the segment's %d bytes", i, o, size)
			return
		}
	}
}

// data checks the tables that lead to data.
func (c *checker) data(named []int) {
	c.at, c.pos = place{}, -1
	if s := c.p.ConstantSegment; s != nil {
		if len(s.Offsets) > 0 && len(c.p.InlineConstants) > 0 {
			c.fail("Program.constant_buffer", "constants are both inline and in a segment")
		}
		c.subsegments("Program.constant_segment", *s)
	}
	for i, s := range c.p.MutableSegments {
		c.enter("", "mutable_data_segments", i, nil)
		c.subsegments("SubsegmentOffsets", s)
	}
	keys := map[string]bool{}
	for i, n := range c.p.NamedData {
		c.enter("", "named_data", i, named)
		if n.Key == "" {
			c.fail("NamedData.key", "missing")
		}
		if keys[n.Key] {
			c.fail("NamedData.key", "a second %q", n.Key)
		}
		keys[n.Key] = true
		if n.Segment < 0 || n.Segment >= len(c.p.Segments) {
			c.fail("NamedData.segment_index", "index %d, there are %d segments", n.Segment, len(c.p.Segments))
		}
	}
}

func (c *checker) plan(p *Plan, pos *planPositions) {
	method := strconv.Quote(p.Name)
	c.at, c.pos = place{method: method}, pos.plan
	for i, n := range p.NonConstBufferSizes {
		if n < 0 {
			c.fail("ExecutionPlan.non_const_buffer_sizes", "entry %d is negative: %d", i, n)
		}
	}
	for i, d := range p.BufferDevices {
		if d.Buffer < 0 || d.Buffer >= len(p.NonConstBufferSizes) {
			c.fail("NonConstBufferDevice.buffer_idx", "entry %d: index %d, there are %d buffers", i, d.Buffer, len(p.NonConstBufferSizes))
		}
	}
	c.indices("ExecutionPlan.inputs", p.Inputs, len(p.Values))
	c.indices("ExecutionPlan.outputs", p.Outputs, len(p.Values))
	for i, v := range p.Values {
		c.enter(method, "values", i, pos.values)
		if c.value(p, v); c.err != nil {
			return
		}
	}
	for i, o := range p.Operators {
		c.enter(method, "operators", i, pos.operators)
		if o.Name == "" {
			c.fail("Operator.name", "missing")
		}
	}
	for i, d := range p.Delegates {
		c.enter(method, "delegates", i, pos.delegates)
		if d.ID == "" {
			c.fail("BackendDelegate.id", "missing")
		}
		n, what := len(c.p.Segments), "segments"
		if d.Inline {
			n, what = len(c.p.InlineDelegateData), "inline blobs"
		}
		if d.Index < 0 || d.Index >= n {
			c.fail("BackendDelegateDataReference.index", "index %d, there are %d %s", d.Index, n, what)
		}
	}
	for i, chain := range p.Chains {
		c.enter(method, "chains", i, pos.chains)
		c.indices("Chain.inputs", chain.Inputs, len(p.Values))
		c.indices("Chain.outputs", chain.Outputs, len(p.Values))
		var where []int
		if i < len(pos.instructions) {
			where = pos.instructions[i]
		}
		list := fmt.Sprintf("chains[%d].instructions", i)
		for j, in := range chain.Instructions {
			c.enter(method, list, j, where)
			if c.instruction(p, in, len(chain.Instructions)); c.err != nil {
				return
			}
		}
	}
}

// indices checks that all of v are in 0..n-1.
func (c *checker) indices(field string, v []int, n int) {
	for i, x := range v {
		if x < 0 || x >= n {
			c.fail(field, "entry %d: value index %d, there are %d values", i, x, n)
			return
		}
	}
}

func (c *checker) index(field string, x, n int) bool {
	if x < 0 || x >= n {
		c.fail(field, "index %d, there are %d", x, n)
		return false
	}
	return true
}

func (c *checker) value(p *Plan, v Value) {
	switch v := v.(type) {
	case *Tensor:
		if v == nil {
			c.fail("EValue.val", "missing")
			return
		}
		c.tensor(p, v)
	case IntList:
		for i, x := range v {
			if !c.index("IntList.items", x, len(p.Values)) {
				return
			}
			if _, ok := p.Values[x].(IntValue); !ok {
				c.fail("IntList.items", "entry %d: value %d is a %s, not an Int", i, x, kindOf(p.Values[x]))
				return
			}
		}
	case TensorList:
		for i, x := range v {
			if !c.index("TensorList.items", x, len(p.Values)) {
				return
			}
			if _, ok := p.Values[x].(*Tensor); !ok {
				c.fail("TensorList.items", "entry %d: value %d is a %s, not a Tensor", i, x, kindOf(p.Values[x]))
				return
			}
		}
	case OptionalTensorList:
		for i, x := range v {
			if x == -1 {
				continue
			}
			if !c.index("OptionalTensorList.items", x, len(p.Values)) {
				return
			}
			switch p.Values[x].(type) {
			case *Tensor, Null:
			default:
				c.fail("OptionalTensorList.items", "entry %d: value %d is a %s, neither a Tensor nor Null", i, x, kindOf(p.Values[x]))
				return
			}
		}
	case Null, IntValue, BoolValue, DoubleValue, StringValue, DoubleList, BoolList:
	default:
		c.fail("EValue.val", "missing")
	}
}

func (c *checker) tensor(p *Plan, t *Tensor) {
	bytes, err := t.NumBytes()
	if err != nil {
		field := "Tensor.sizes"
		if t.ScalarType.Size() == 0 {
			field = "Tensor.scalar_type"
		}
		c.fail(field, "%v", err)
		return
	}
	if err := checkDimOrder(t.DimOrder, len(t.Sizes)); err != nil {
		c.fail("Tensor.dim_order", "%v", err)
		return
	}
	if t.Dynamism < Static || t.Dynamism > DynamicUnbound {
		c.fail("Tensor.shape_dynamism", "value %d is not known", t.Dynamism)
	}
	if t.Alloc != nil {
		id := int64(t.Alloc.MemoryID)
		if id < 1 || id >= int64(len(p.NonConstBufferSizes)) {
			c.fail("AllocationDetails.memory_id", "memory %d, valid are 1 to %d", id, len(p.NonConstBufferSizes)-1)
			return
		}
		have := p.NonConstBufferSizes[id]
		if t.Alloc.Offset > math.MaxInt64 || bytes > have || int64(t.Alloc.Offset) > have-bytes {
			c.fail("AllocationDetails.memory_offset", "%d bytes from %d do not fit in memory %d of %d bytes", bytes, t.Alloc.Offset, id, have)
			return
		}
	}
	switch {
	case t.External:
		if t.Name == "" {
			c.fail("ExtraTensorInfo.fully_qualified_name", "missing for a tensor outside the file")
		}
	case t.IsConstant() || t.HasInit():
		// The same rule that reads the data says whether it is there.
		if field, msg := c.p.locate(t, bytes, nil); msg != "" {
			c.fail(field, "%s", msg)
		}
	}
}

func (c *checker) instruction(p *Plan, in Instruction, instructions int) {
	switch in := in.(type) {
	case KernelCall:
		c.index("KernelCall.op_index", in.Op, len(p.Operators))
		c.indices("KernelCall.args", in.Args, len(p.Values))
	case DelegateCall:
		c.index("DelegateCall.delegate_index", in.Delegate, len(p.Delegates))
		c.indices("DelegateCall.args", in.Args, len(p.Values))
	case MoveCall:
		c.index("MoveCall.move_from", in.From, len(p.Values))
		c.index("MoveCall.move_to", in.To, len(p.Values))
	case JumpFalseCall:
		if c.index("JumpFalseCall.cond_value_index", in.Cond, len(p.Values)) {
			t, ok := p.Values[in.Cond].(*Tensor)
			if _, isBool := p.Values[in.Cond].(BoolValue); !isBool && !(ok && t.ScalarType == Bool) {
				c.fail("JumpFalseCall.cond_value_index", "value %d is neither a Bool nor a bool tensor", in.Cond)
			}
		}
		// A jump to the end of the chain finishes it.
		c.index("JumpFalseCall.destination_instruction", in.Dest, instructions+1)
	case FreeCall:
		if c.index("FreeCall.value_index", in.Value, len(p.Values)) {
			if _, ok := p.Values[in.Value].(*Tensor); !ok {
				c.fail("FreeCall.value_index", "value %d is a %s, not a Tensor", in.Value, kindOf(p.Values[in.Value]))
			}
		}
	default:
		c.fail("Instruction.instr_args", "missing")
	}
}

// kindOf returns the schema's name of a value's kind.
func kindOf(v Value) string { return kindNames[kindNumber(v)] }

// kindNumber returns the union member of a value, 0 if v is nil.
func kindNumber(v Value) byte {
	switch v.(type) {
	case Null:
		return kindNull
	case IntValue:
		return kindInt
	case BoolValue:
		return kindBool
	case DoubleValue:
		return kindDouble
	case *Tensor:
		return kindTensor
	case StringValue:
		return kindString
	case IntList:
		return kindIntList
	case DoubleList:
		return kindDoubleList
	case BoolList:
		return kindBoolList
	case TensorList:
		return kindTensorList
	case OptionalTensorList:
		return kindOptionalTensorList
	}
	return 0
}
