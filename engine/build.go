package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"tabtune/engine/pte"
	"tabtune/internal/collect"
)

// maxDims is the most dimensions a tensor may have, as in the stock runtime.
const maxDims = 16

// buildGraph turns a decoded method into a graph: values get a role, calls are bound to operators, and views that the
// exporter left out (a value that shares the place of another one, with no instruction between) become et_view nodes.
func (p *Program) buildGraph(plan *pte.Plan, filePlan bool) (*Graph, error) {
	g := &Graph{Name: plan.Name, program: p, Inputs: slices.Clone(plan.Inputs), Outputs: slices.Clone(plan.Outputs), Straight: true}
	g.Values = make([]*Value, len(plan.Values))
	for i, pv := range plan.Values {
		if i%2048 == 0 {
			collect.Now()
		}
		v, err := p.buildValue(plan, pv)
		if err != nil {
			return nil, fmt.Errorf("value %d: %w", i, err)
		}
		g.Values[i] = v
	}
	if err := g.checkRefs(); err != nil {
		return nil, err
	}
	if err := p.buildNodes(g, plan); err != nil {
		return nil, err
	}
	for _, i := range g.Inputs {
		if v := g.Values[i]; v.Kind == KindTensor {
			if v.Role == RoleConst || v.Dynamic == pte.DynamicUnbound {
				return nil, fmt.Errorf("input value %d is a constant or has unbounded sizes", i)
			}
			v.Role = RoleInput
		}
	}
	if !g.Straight || filePlan {
		g.Straight = false
		for _, v := range g.Values[len(plan.Values):] { // of delegates: the file's plan has no place for them
			if v.Kind == KindTensor && v.Role == RoleTemp {
				v.Dynamic = pte.DynamicUnbound
			}
		}
		g.markFileStates()
		return g, nil
	}
	collect.Now()
	return g, g.resolveLocations()
}

// checkRefs checks the value indices of lists, inputs and outputs.
func (g *Graph) checkRefs() error {
	in := func(i int) bool { return i >= 0 && i < len(g.Values) }
	for i, v := range g.Values {
		for k, e := range v.List {
			switch {
			case v.Kind == KindTensorList && e == -1:
			case !in(e):
				return fmt.Errorf("value %d: entry %d names value %d of %d", i, k, e, len(g.Values))
			case v.Kind == KindTensorList && g.Values[e].Kind != KindTensor,
				v.Kind == KindIntList && g.Values[e].Kind != KindInt:
				return fmt.Errorf("value %d: entry %d of the %s is a %s", i, k, v.Kind, g.Values[e].Kind)
			}
		}
	}
	for k, i := range g.Inputs {
		if !in(i) {
			return fmt.Errorf("input %d names value %d of %d", k, i, len(g.Values))
		}
	}
	for k, i := range g.Outputs {
		if !in(i) {
			return fmt.Errorf("output %d names value %d of %d", k, i, len(g.Values))
		}
	}
	return nil
}

func (p *Program) buildValue(plan *pte.Plan, pv pte.Value) (*Value, error) {
	v := &Value{Alias: -1}
	switch x := pv.(type) {
	case pte.Null, nil:
	case pte.IntValue:
		v.Kind, v.Int = KindInt, int64(x)
	case pte.BoolValue:
		v.Kind, v.Bool = KindBool, bool(x)
	case pte.DoubleValue:
		v.Kind, v.Float = KindFloat, float64(x)
	case pte.StringValue:
		v.Kind, v.Str = KindString, string(x)
	case pte.IntList:
		v.Kind, v.List = KindIntList, slices.Clone([]int(x))
	case pte.DoubleList:
		v.Kind, v.Floats = KindFloatList, slices.Clone([]float64(x))
	case pte.BoolList:
		v.Kind, v.Bools = KindBoolList, slices.Clone([]bool(x))
	case pte.TensorList:
		v.Kind, v.List = KindTensorList, slices.Clone([]int(x))
	case pte.OptionalTensorList:
		v.Kind, v.List = KindTensorList, slices.Clone([]int(x))
	case *pte.Tensor:
		return v, p.buildTensor(plan, x, v)
	default:
		return nil, fmt.Errorf("has unknown type %T", pv)
	}
	return v, nil
}

func (p *Program) buildTensor(plan *pte.Plan, t *pte.Tensor, v *Value) error {
	v.Kind, v.DType, v.Dynamic, v.Name = KindTensor, t.ScalarType, t.Dynamism, t.Name
	size := dtypeSize(t.ScalarType)
	if size == 0 {
		return fmt.Errorf("tensor has unsupported element type %s", dtypeName(t.ScalarType))
	}
	if len(t.Sizes) > maxDims {
		return fmt.Errorf("tensor has %d dimensions, at most %d are supported", len(t.Sizes), maxDims)
	}
	for d, s := range t.Sizes {
		if s < 0 {
			return fmt.Errorf("tensor has size %d in dimension %d", s, d)
		}
		v.Sizes = append(v.Sizes, int(s))
	}
	if v.NumElements() > math.MaxInt32 { // kernels count in 32 bits
		return fmt.Errorf("tensor of sizes %v is too large", v.Sizes)
	}
	v.DimOrder = slices.Clone(t.DimOrder)
	seen := make([]bool, len(t.Sizes))
	for _, d := range t.DimOrder {
		if int(d) >= len(seen) || seen[d] || len(t.DimOrder) != len(t.Sizes) {
			return fmt.Errorf("dim order %v does not fit sizes %v", t.DimOrder, t.Sizes)
		}
		seen[d] = true
	}
	if t.DeviceType != 0 {
		return fmt.Errorf("tensor is planned for device type %d; only CPU tensors are supported, re-export without a device", t.DeviceType)
	}
	if t.Alloc != nil {
		id := int(t.Alloc.MemoryID)
		if id <= 0 || id >= len(plan.NonConstBufferSizes) {
			return fmt.Errorf("memory id %d, but the method has %d buffers", id, len(plan.NonConstBufferSizes))
		}
		if end := plan.NonConstBufferSizes[id]; t.Alloc.Offset > uint64(end) || v.Bytes() > end-int64(t.Alloc.Offset) {
			return fmt.Errorf("bytes %d at offset %d are outside memory %d of %d bytes", v.Bytes(), t.Alloc.Offset, id, end)
		}
		a := *t.Alloc
		v.file = &a
	}
	var err error
	switch {
	case t.External:
		v.Data, err = p.externalData(t.Name, v)
		if err != nil {
			return err
		}
		v.Role = RoleConst
		if t.Alloc != nil {
			v.Role = RoleState
		}
	case t.Buffer > 0 && t.Alloc != nil:
		v.Role = RoleState
		if t.MutableSegment < 0 || t.MutableSegment >= len(p.file.MutableSegments) {
			return fmt.Errorf("names mutable segment %d of %d", t.MutableSegment, len(p.file.MutableSegments))
		}
		v.Data, err = p.segmentData(&p.file.MutableSegments[t.MutableSegment], t.Buffer, v.Bytes())
	case t.Buffer > 0:
		v.Role = RoleConst
		if t.Dynamism == pte.DynamicUnbound {
			return errors.New("constant with unbounded sizes")
		}
		if p.file.ConstantSegment != nil && len(p.file.ConstantSegment.Offsets) > 0 {
			v.Data, err = p.segmentData(p.file.ConstantSegment, t.Buffer, v.Bytes())
		} else {
			v.Data, err = p.inlineData(t.Buffer, v.Bytes())
		}
	}
	return err
}

func (p *Program) buildNodes(g *Graph, plan *pte.Plan) error {
	var errs []error
	missing := map[string]bool{}
	for ci := range plan.Chains {
		starts := make([]int, 0, len(plan.Chains[ci].Instructions)+1) // of each instruction in Nodes, for jumps
		for k, ins := range plan.Chains[ci].Instructions {
			starts = append(starts, len(g.Nodes))
			if k%2048 == 0 {
				collect.Now()
			}
			n := &Node{Index: k}
			switch x := ins.(type) {
			case pte.KernelCall:
				if x.Op < 0 || x.Op >= len(plan.Operators) {
					return fmt.Errorf("instruction %d: operator %d of %d", k, x.Op, len(plan.Operators))
				}
				n.Op, n.Args = plan.Operators[x.Op].String(), slices.Clone(x.Args)
			case pte.DelegateCall:
				if x.Delegate < 0 || x.Delegate >= len(plan.Delegates) {
					return fmt.Errorf("instruction %d calls delegate %d of %d", k, x.Delegate, len(plan.Delegates))
				}
				d := &plan.Delegates[x.Delegate]
				if d.ID != pte.XnnpackBackend {
					return fmt.Errorf("instruction %d calls delegate %q, which is not available: only operators and %s are; re-export the program without that partitioner or with XnnpackPartitioner", k, d.ID, pte.XnnpackBackend)
				}
				nodes, err := p.xnnCall(g, d, x.Args, k)
				if err != nil {
					errs = append(errs, fmt.Errorf("instruction %d (delegate %s): %w", k, d.ID, err))
				}
				g.Nodes = append(g.Nodes, nodes...)
				continue
			case pte.MoveCall:
				n.Op, n.kind, n.Args = "move", nodeMove, []int{x.From, x.To}
				g.Straight = false
			case pte.JumpFalseCall:
				n.Op, n.kind, n.Args, n.target = "jump_false", nodeJumpFalse, []int{x.Cond}, x.Dest // an instruction, until all are read
				if x.Dest < 0 || x.Dest > len(plan.Chains[ci].Instructions) {
					return fmt.Errorf("instruction %d jumps to instruction %d of %d", k, x.Dest, len(plan.Chains[ci].Instructions))
				}
				g.Straight = false
			case pte.FreeCall:
				n.Op, n.kind, n.Args = "free", nodeFree, []int{x.Value}
			default:
				return fmt.Errorf("instruction %d has unknown type %T", k, ins)
			}
			for i, a := range n.Args {
				if a < 0 || a >= len(g.Values) {
					return fmt.Errorf("instruction %d (%s): argument %d names value %d of %d", k, n.Op, i, a, len(g.Values))
				}
			}
			g.Nodes = append(g.Nodes, n)
			if n.kind != nodeOp {
				continue
			}
			err := g.bind(n)
			if strings.HasPrefix(n.Op, fusedPrefix) { // made by passes alone: they trust what these operators are given
				err = &MissingOperator{Name: n.Op}
			}
			if err != nil {
				var m *MissingOperator
				if errors.As(err, &m) {
					if !missing[m.Name] {
						missing[m.Name] = true
						errs = append(errs, m)
					}
					continue
				}
				errs = append(errs, fmt.Errorf("instruction %d (%s): %w", k, n.Op, err))
			}
		}
		starts = append(starts, len(g.Nodes))
		for _, n := range g.Nodes[starts[0]:] {
			if n.kind == nodeJumpFalse {
				n.target = starts[n.target]
			}
		}
	}
	if len(errs) > 0 {
		if len(errs) > 50 {
			errs = append(errs[:50], fmt.Errorf("and %d more", len(errs)-50))
		}
		return errors.Join(errs...)
	}
	if g.Straight { // memory is planned, nothing to free
		g.Nodes = slices.DeleteFunc(g.Nodes, func(n *Node) bool { return n.kind == nodeFree })
	}
	return nil
}

// place is where the file's plan puts a tensor.
type place struct {
	id     uint32
	offset uint64
}

// resolveLocations finds tensors that are read but that nothing has written, in a straight-line graph. The exporter leaves
// a static view out and gives its value the place of the viewed one, so such a value is a view of the last one written
// at that place. If there is none it is a mutable buffer.
func (g *Graph) resolveLocations() error {
	at := make(map[place]int)
	done := make([]bool, len(g.Values))
	note := func(v int) {
		if x := g.Values[v]; x.Kind == KindTensor {
			done[v] = true
			if x.file != nil {
				at[place{x.file.MemoryID, x.file.Offset}] = v
			}
		}
	}
	for i, v := range g.Values {
		if v.Role == RoleState {
			note(i)
		}
	}
	for _, i := range g.Inputs {
		note(i)
	}
	out := make([]*Node, 0, len(g.Nodes))
	read := func(v int) error {
		x := g.Values[v]
		if x.Kind != KindTensor || done[v] || x.Role == RoleConst {
			return nil
		}
		if x.file == nil {
			if x.NumElements() == 0 || x.Dynamic == pte.DynamicUnbound {
				note(v)
				return nil
			}
			return fmt.Errorf("value %d (%s) is read before anything writes it and has no planned memory", v, x)
		}
		src, ok := at[place{x.file.MemoryID, x.file.Offset}]
		if !ok || g.Values[src].Bytes() != x.Bytes() {
			x.Role = RoleState
			note(v)
			return nil
		}
		if s := g.Values[src]; s.Role == RoleState && s.DType == x.DType {
			done[v], x.Role, x.Alias = true, RoleState, src
			return nil
		}
		dims := make([]int64, len(x.Sizes))
		for i, s := range x.Sizes {
			dims[i] = int64(s)
		}
		n, err := g.NewNode("executorch_prim::et_view.default", src, g.AddInts(dims...), v)
		if err != nil {
			return err
		}
		out = append(out, n)
		note(v)
		return nil
	}
	for _, n := range g.Nodes {
		var err error
		g.visit(n, func(v int, _, only bool) {
			if !only && err == nil {
				err = read(v)
			}
		})
		if err != nil {
			return fmt.Errorf("instruction %d (%s): %w", n.Index, n.Op, err)
		}
		out = append(out, n)
		g.visit(n, func(v int, write, _ bool) {
			if write && v < len(done) {
				note(v)
			}
		})
		done = append(done, make([]bool, len(g.Values)-len(done))...)
	}
	for k, o := range g.Outputs {
		if err := read(o); err != nil {
			return fmt.Errorf("output %d: %w", k, err)
		}
	}
	g.Nodes = out
	g.invalidate()
	return nil
}

// markFileStates gives the role of a mutable buffer to named tensors that no node computes (in-place writes aside), in a graph that keeps the file's plan. There
// the role only decides what Method.Buffer finds: memory is shared by place anyway.
func (g *Graph) markFileStates() {
	written := make([]bool, len(g.Values))
	for _, n := range g.Nodes {
		g.visit(n, func(v int, _, only bool) { written[v] = written[v] || only })
	}
	for i, v := range g.Values {
		if v.Kind == KindTensor && v.Role == RoleTemp && v.file != nil && !written[i] && v.Name != "" {
			v.Role = RoleState
		}
	}
}
