package graph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"sort"

	"tabtune/engine/pte"
	"tabtune/internal/collect"
)

// alignment of tensors in segments and arenas, as the stock exporter has it.
const alignment = 16

// Program is a set of methods emitted together: they share constants (equal
// bytes are stored once) and mutable buffers of the same name (memory id 2, as
// ExecuTorch's share_mutable_buffers plan has it).
type Program struct {
	PTE       *pte.Program
	constants [][]byte
	mutable   [][]byte
	constIdx  map[uint64][]uint32 // by hash of the bytes
	seed      maphash.Seed
	zeros     []byte
	mutIdx    map[string]uint32
	mutOff    map[string]uint64
	mutEnd    uint64
}

// NewProgram returns an empty program.
func NewProgram() *Program {
	return &Program{PTE: &pte.Program{}, constIdx: map[uint64][]uint32{}, seed: maphash.MakeSeed(), mutIdx: map[string]uint32{}, mutOff: map[string]uint64{}}
}

// ConstantMethod adds a method without inputs that returns a value (int64,
// float64, bool or string), as ExecuTorch's constant_methods do.
func (p *Program) ConstantMethod(name string, value any) {
	var v pte.Value
	switch x := value.(type) {
	case int:
		v = pte.IntValue(x)
	case int64:
		v = pte.IntValue(x)
	case float64:
		v = pte.DoubleValue(x)
	case bool:
		v = pte.BoolValue(x)
	case string:
		v = pte.StringValue(x)
	default:
		panic(fmt.Sprintf("graph: constant method %s of type %T", name, value))
	}
	p.PTE.Plans = append(p.PTE.Plans, &pte.Plan{
		Name: name, EncodedIn: treeSpec(0, true), EncodedOut: treeSpec(1, false),
		Values: []pte.Value{v}, Outputs: []int{0}, Chains: []pte.Chain{{}}, NonConstBufferSizes: []int64{0},
	})
}

// Add emits a method.
func (p *Program) Add(g *Graph) {
	e := &emitter{p: p, g: g, index: map[int]int{}, ops: map[pte.Operator]int{}, ints: map[int64]int{}, null: -1,
		bools: map[bool]int{}, plan: &pte.Plan{Name: g.Name, EncodedIn: treeSpec(len(g.Inputs), true), EncodedOut: treeSpec(len(g.Outputs), false)}}
	offsets, size := planMemory(g)
	e.offsets = offsets
	for _, t := range g.Inputs {
		e.plan.Inputs = append(e.plan.Inputs, e.value(t))
	}
	chain := pte.Chain{Instructions: make([]pte.Instruction, 0, len(g.Nodes))}
	for i, n := range g.Nodes {
		if i%1024 == 0 {
			collect.Now()
		}
		args := make([]int, 0, len(n.Args)+2*len(n.Outs))
		for _, a := range n.Args {
			args = append(args, e.arg(a))
		}
		for _, o := range n.Outs {
			args = append(args, e.arg(o))
		}
		if n.Repeat {
			for _, o := range n.Outs {
				args = append(args, e.arg(o))
			}
		}
		chain.Instructions = append(chain.Instructions, pte.KernelCall{Op: e.op(n.Op), Args: args})
	}
	for _, t := range g.Outputs {
		e.plan.Outputs = append(e.plan.Outputs, e.value(t))
	}
	e.plan.Chains = []pte.Chain{chain}
	e.plan.NonConstBufferSizes = []int64{0, size}
	if e.hasBuffers {
		e.plan.NonConstBufferSizes = append(e.plan.NonConstBufferSizes, -1) // set by Finish
	}
	p.PTE.Plans = append(p.PTE.Plans, e.plan)
}

// constant returns the number, from 1 on, of a constant with these bytes.
func (p *Program) constant(data []byte) uint32 {
	key := maphash.Bytes(p.seed, data)
	for _, i := range p.constIdx[key] {
		if bytes.Equal(p.constants[i-1], data) {
			return i
		}
	}
	p.constants = append(p.constants, data)
	i := uint32(len(p.constants))
	p.constIdx[key] = append(p.constIdx[key], i)
	return i
}

// initial is what a buffer holds at first, nil for nothing. All that begin as zeros share them.
func (p *Program) initial(t *Tensor) []byte {
	if t.zeros > len(p.zeros) {
		p.zeros = make([]byte, t.zeros)
	}
	if t.zeros > 0 {
		return p.zeros[:t.zeros:t.zeros]
	}
	return t.Data
}

// Finish lays out the segments and returns the program. Its Source holds the
// segments in memory, so it can be loaded or encoded at once.
func (p *Program) Finish() *pte.Program {
	data := &pieces{}
	lay := func(blobs [][]byte) pte.Subsegments {
		start := data.Size()
		sub := pte.Subsegments{Segment: len(p.PTE.Segments), Offsets: []int64{0}} // entry 0 is reserved
		for _, b := range blobs {
			sub.Offsets = append(sub.Offsets, data.add(b)-start)
		}
		p.PTE.Segments = append(p.PTE.Segments, pte.Segment{Offset: start, Size: data.Size() - start})
		data.align()
		return sub
	}
	if len(p.constants) > 0 {
		sub := lay(p.constants)
		p.PTE.ConstantSegment = &sub
	}
	if len(p.mutable) > 0 {
		p.PTE.MutableSegments = []pte.Subsegments{lay(p.mutable)}
	}
	for _, plan := range p.PTE.Plans {
		if s := plan.NonConstBufferSizes; len(s) == 3 {
			s[2] = int64(p.mutEnd)
		}
	}
	p.PTE.Source = data
	return p.PTE
}

type emitter struct {
	p          *Program
	g          *Graph
	plan       *pte.Plan
	index      map[int]int // tensor or scalar id -> value index
	ops        map[pte.Operator]int
	ints       map[int64]int
	bools      map[bool]int
	null       int
	offsets    map[int]uint64
	hasBuffers bool
}

func (e *emitter) add(v pte.Value) int {
	e.plan.Values = append(e.plan.Values, v)
	return len(e.plan.Values) - 1
}

func (e *emitter) op(o pte.Operator) int {
	if i, ok := e.ops[o]; ok {
		return i
	}
	e.plan.Operators = append(e.plan.Operators, o)
	e.ops[o] = len(e.plan.Operators) - 1
	return e.ops[o]
}

func (e *emitter) arg(a any) int {
	switch x := a.(type) {
	case *Tensor:
		return e.value(x)
	case *Scalar:
		if i, ok := e.index[x.id]; ok {
			return i
		}
		e.index[x.id] = e.add(pte.IntValue(0))
		return e.index[x.id]
	case int64:
		if i, ok := e.ints[x]; ok {
			return i
		}
		e.ints[x] = e.add(pte.IntValue(x))
		return e.ints[x]
	case float64:
		return e.add(pte.DoubleValue(x))
	case string:
		return e.add(pte.StringValue(x))
	case bool:
		if i, ok := e.bools[x]; ok {
			return i
		}
		e.bools[x] = e.add(pte.BoolValue(x))
		return e.bools[x]
	case nil:
		if e.null < 0 {
			e.null = e.add(pte.Null{})
		}
		return e.null
	case []any:
		l := make(pte.IntList, len(x))
		for i, v := range x {
			l[i] = e.arg(v)
		}
		return e.add(l)
	case []*Tensor:
		l := make(pte.TensorList, len(x))
		for i, v := range x {
			l[i] = e.value(v)
		}
		return e.add(l)
	case optional:
		l := make(pte.OptionalTensorList, len(x))
		for i, v := range x {
			l[i] = e.value(v)
		}
		return e.add(l)
	}
	panic(fmt.Sprintf("graph: argument of type %T", a))
}

func (e *emitter) value(t *Tensor) int {
	if i, ok := e.index[t.id]; ok {
		return i
	}
	v := &pte.Tensor{ScalarType: t.DType, Name: t.Name}
	for i, d := range t.Shape {
		v.Sizes = append(v.Sizes, int32(e.g.Max(d)))
		v.DimOrder = append(v.DimOrder, uint8(i))
		if !d.Static() {
			v.Dynamism = pte.DynamicBound
		}
	}
	switch t.Kind {
	case Constant:
		v.Buffer = e.p.constant(t.Data)
	case External:
		v.External = true
	case Buffer:
		e.hasBuffers = true
		if _, ok := e.p.mutOff[t.Name]; !ok {
			n := ElemSize(t.DType)
			for _, d := range t.Shape {
				n *= e.g.Max(d)
			}
			e.p.mutOff[t.Name] = e.p.mutEnd
			e.p.mutEnd += (uint64(n) + alignment - 1) / alignment * alignment
			if data := e.p.initial(t); data != nil {
				e.p.mutable = append(e.p.mutable, data)
				e.p.mutIdx[t.Name] = uint32(len(e.p.mutable))
			}
		}
		v.Buffer = e.p.mutIdx[t.Name] // 0: no initial value
		v.Alloc = &pte.Alloc{MemoryID: 2, Offset: e.p.mutOff[t.Name]}
	default:
		off, ok := e.offsets[t.id]
		if !ok {
			panic(fmt.Sprintf("graph %s: a %v tensor is used but not planned", e.g.Name, t.Shape))
		}
		v.Alloc = &pte.Alloc{MemoryID: 1, Offset: off}
	}
	e.index[t.id] = e.add(v)
	return e.index[t.id]
}

// planMemory gives every input and temporary an offset in one arena: greedy by
// size, first gap that no tensor alive at the same time occupies.
func planMemory(g *Graph) (offsets map[int]uint64, size int64) {
	type span struct {
		id, first, last int
		size            uint64
		off             uint64
	}
	spans := map[int]*span{}
	touch := func(t *Tensor, at int) {
		if t.Kind != Temp && t.Kind != Input {
			return
		}
		s := spans[t.id]
		if s == nil {
			n := 1
			for _, d := range t.Shape {
				n *= g.Max(d)
			}
			bytes := uint64(n * ElemSize(t.DType))
			s = &span{id: t.id, first: at, size: (bytes + alignment - 1) / alignment * alignment}
			spans[t.id] = s
		}
		s.last = at
	}
	for _, t := range g.Inputs {
		touch(t, -1)
	}
	for i, n := range g.Nodes {
		for _, list := range [][]any{n.Args, n.Outs} {
			for _, a := range list {
				switch x := a.(type) {
				case *Tensor:
					touch(x, i)
				case []*Tensor:
					for _, t := range x {
						touch(t, i)
					}
				case optional:
					for _, t := range x {
						touch(t, i)
					}
				}
			}
		}
	}
	for _, t := range g.Outputs {
		touch(t, len(g.Nodes))
	}
	order := make([]*span, 0, len(spans))
	for _, s := range spans {
		order = append(order, s)
	}
	sort.Slice(order, func(i, j int) bool {
		if order[i].size != order[j].size {
			return order[i].size > order[j].size
		}
		return order[i].id < order[j].id
	})
	offsets = map[int]uint64{}
	var placed []*span // by offset
	for _, s := range order {
		var off uint64
		for _, p := range placed {
			if p.last < s.first || s.last < p.first {
				continue
			}
			if off+s.size <= p.off {
				break
			}
			off = max(off, p.off+p.size)
		}
		s.off = off
		offsets[s.id] = off
		size = max(size, int64(off+s.size))
		at := sort.Search(len(placed), func(i int) bool { return placed[i].off > off })
		placed = append(placed, nil)
		copy(placed[at+1:], placed[at:])
		placed[at] = s
	}
	return offsets, size
}

// treeSpec is the container description that ExecuTorch's Python API reads
// (torch.utils._pytree, protocol 1): a tuple of n leaves, or (args, kwargs).
func treeSpec(n int, inputs bool) string {
	type spec struct {
		Type     any    `json:"type"`
		Context  any    `json:"context"`
		Children []spec `json:"children_spec"`
	}
	leaves := make([]spec, n)
	for i := range leaves {
		leaves[i] = spec{Children: []spec{}}
		leaves[i].Context = "null"
	}
	tuple := spec{Type: "builtins.tuple", Context: "null", Children: leaves}
	if inputs {
		tuple = spec{Type: "builtins.tuple", Context: "null", Children: []spec{tuple, {Type: "builtins.dict", Context: "[]", Children: []spec{}}}}
	}
	b, err := json.Marshal([]any{1, tuple})
	if err != nil {
		panic(err) // plain data always marshals
	}
	return string(b)
}
