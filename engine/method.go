package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
	"tabtune/internal/collect"
)

// tensor is a tensor at run time.
type tensor struct {
	dtype   DType
	elem    int // bytes of an element
	sizes   []int
	n       int // elements
	bound   int64
	dynamic pte.Dynamism
	order   []uint8
	addr    kernel.Addr
	own     bool // unbounded: addr is an allocation of this tensor
	value   int
}

func (t *tensor) bytes() int64 { return int64(t.n) * int64(t.elem) }
func (t *tensor) dim() int     { return len(t.sizes) }

// slot is a value at run time.
type slot struct {
	kind Kind
	i    int64
	f    float64
	b    bool
	t    *tensor
}

// Method is one prepared method of a program.
type Method struct {
	p      *Program
	g      *Graph
	slots  []slot
	plan   memoryPlan       // of a straight-line method
	arenas map[uint32]block // memory by id; id 1 alone in a straight-line method
	sizes  map[uint32]int64 // of the arenas, by id
	shared map[uint32]bool  // ids of arenas that belong to the program
	states map[string]block // buffers of this method alone
	set    []bool           // inputs that have been given
	own    []*tensor        // the tensor of each value, nil for other kinds; a move makes slots share them
	moved  bool             // the method has moves: slots may be other values' until restored
	bound  bool             // memory is allocated and addresses are set
	call   Call
	draws  uint64 // random operators run so far
}

// prepare runs the passes and plans memory.
func (p *Program) prepare(g *Graph) (*Method, error) {
	m := &Method{p: p, g: g, arenas: map[uint32]block{}, sizes: map[uint32]int64{}, shared: map[uint32]bool{}, states: map[string]block{}, set: make([]bool, len(g.Inputs))}
	if g.Straight {
		if !p.opt.NoPasses {
			passes := p.opt.Passes
			if passes == nil {
				passes = DefaultPasses()
			}
			if err := g.runPasses(passes); err != nil {
				return nil, err
			}
			for _, n := range g.Nodes {
				if err := g.bind(n); err != nil {
					return nil, fmt.Errorf("after the passes: %s: %w", n.Op, err)
				}
			}
			aliasViews(g)
			aliasInPlace(g)
		}
		g.forget()
		m.plan = g.planMemory()
		m.sizes[1] = m.plan.size
		if m.plan.size == 0 {
			delete(m.sizes, 1)
		}
	} else {
		for id, n := range p.buffers[g.Name] {
			if id > 0 && n > 0 {
				m.sizes[uint32(id)] = n
			}
		}
		for _, v := range g.Values {
			if v.Role == RoleState && v.Name != "" && v.file != nil && v.file.MemoryID >= 2 {
				m.shared[v.file.MemoryID] = true
			}
		}
	}
	collect.Now()
	m.slots = make([]slot, len(g.Values))
	for i, v := range g.Values {
		s := &m.slots[i]
		s.kind, s.i, s.f, s.b = v.Kind, v.Int, v.Float, v.Bool
		if v.Kind != KindTensor {
			continue
		}
		s.t = &tensor{dtype: v.DType, elem: dtypeSize(v.DType), sizes: slices.Clone(v.Sizes), n: int(v.NumElements()), bound: v.Bytes(),
			dynamic: v.Dynamic, order: v.DimOrder, value: i}
	}
	m.own = make([]*tensor, len(m.slots))
	for i := range m.slots {
		m.own[i] = m.slots[i].t
	}
	for _, n := range g.Nodes {
		switch {
		case n.kind == nodeMove:
			m.moved = true
		case n.Op == "executorch_prim::et_view.default" && !g.Straight && g.Values[n.Args[2]].file == nil:
			n.InAl = true // the file gives it no memory of its own
		}
	}
	m.call.m = m
	return m, nil
}

// MemoryPlan says what a method needs, in bytes of device memory.
type MemoryPlan struct {
	Arena     int64 // inputs, outputs and everything between
	Constants int64 // of this method; shared with other methods
	Buffers   int64 // mutable buffers

	each map[string]int64 // constants by what is in them
}

// Together is what methods of one program need whose arena is shared: one runs at a
// time, and equal constants are one.
func Together(plans ...MemoryPlan) int64 {
	var arena, constants, buffers int64
	seen := map[string]bool{}
	for _, p := range plans {
		arena, buffers = max(arena, p.Arena), max(buffers, p.Buffers)
		for key, n := range p.each {
			if !seen[key] {
				seen[key] = true
				constants += n
			}
		}
	}
	return arena + constants + buffers
}

// Memory returns what the method needs, whether it is allocated yet or not.
func (m *Method) Memory() MemoryPlan {
	var p MemoryPlan
	for _, n := range m.sizes {
		p.Arena += n
	}
	p.each = map[string]int64{}
	for i, v := range m.g.Values {
		if v.Kind != KindTensor || v.Alias >= 0 || !m.used(i) {
			continue
		}
		switch {
		case v.Role == RoleConst && v.Data != nil && v.Data.addr == 0 && p.each[v.Data.key] == 0:
			n := (v.Bytes() + 63) &^ 63 // as they are allocated
			p.each[v.Data.key] = n
			p.Constants += n
		case v.Role == RoleState && m.g.Straight:
			p.Buffers += v.Bytes()
		}
	}
	return p
}

// Graph returns the method as it will run, for inspection.
func (m *Method) Graph() *Graph { return m.g }

func (m *Method) used(v int) bool {
	return len(m.g.Uses(v)) > 0 || len(m.g.Defs(v)) > 0 || m.g.IsOutput(v) || m.g.IsInput(v)
}

// bind allocates the method's memory, loads constants and sets every tensor's address.
func (m *Method) bind() error {
	if err := m.takePool(); err != nil {
		return err
	}
	if m.bound {
		return nil
	}
	if err := m.bindAll(); err != nil {
		m.Release()
		var oom *kernel.OutOfMemory
		if errors.As(err, &oom) {
			mem := m.Memory()
			return fmt.Errorf("engine: method %q needs %d bytes of planned memory, %d of constants and %d of buffers; %d of %d bytes are in use: %w",
				m.g.Name, mem.Arena, mem.Constants, mem.Buffers, m.p.dev.InUse(), m.p.dev.Limit(), err)
		}
		return fmt.Errorf("engine: method %q: %w", m.g.Name, err)
	}
	m.bound = true
	return nil
}

// pooled reports whether the method's arena is the program's pool.
func (m *Method) pooled() bool { return m.g.Straight && m.p.opt.ShareArena }

// takePool makes the program's pool large enough and this method its user. The
// inputs that it was given before are lost then.
func (m *Method) takePool() error {
	p := m.p
	if !m.pooled() || p.user == m {
		return nil
	}
	if need := m.sizes[1]; p.pool.size < need {
		p.free(p.pool)
		p.pool, p.user = block{}, nil
		for _, other := range p.methods {
			other.bound = false
		}
		addr, err := p.dev.Alloc(need, align)
		if err != nil {
			return fmt.Errorf("engine: method %q needs %d bytes of planned memory; %d of %d bytes are in use: %w", m.g.Name, need, p.dev.InUse(), p.dev.Limit(), err)
		}
		p.pool = block{addr: addr, size: need, owned: true}
	}
	p.user = m
	clear(m.set)
	return nil
}

func (m *Method) bindAll() error {
	p := m.p
	for id, n := range m.sizes {
		if m.pooled() {
			m.arenas[id] = block{addr: p.pool.addr, size: n}
			continue
		}
		if m.shared[id] {
			if b, ok := p.arenas[id]; ok && b.size >= n {
				continue
			} else if ok {
				return fmt.Errorf("memory %d is shared between methods with different sizes %d and %d", id, b.size, n)
			}
		}
		addr, err := p.dev.Alloc(n, align)
		if err != nil {
			return fmt.Errorf("memory %d: %w", id, err)
		}
		b := block{addr: addr, size: n, owned: true}
		if m.shared[id] {
			p.arenas[id] = b
		} else {
			m.arenas[id] = b
		}
		if !m.g.Straight {
			p.dev.MemSet(addr, 0, n)
			if err := m.initFileStates(id, addr); err != nil {
				return err
			}
		}
	}
	for i, v := range m.g.Values {
		if v.Kind != KindTensor || v.Alias >= 0 || !m.used(i) {
			continue
		}
		t := m.own[i]
		var b block
		var err error
		switch {
		case v.Role == RoleConst:
			b, err = p.loadBlock(p.consts, v.Data.key, v.Data, max(v.Bytes(), 1))
		case !m.g.Straight:
			if v.file == nil {
				continue // set by et_view, or allocated when its size is known
			}
			b = m.arenas[v.file.MemoryID]
			if m.shared[v.file.MemoryID] {
				b = p.arenas[v.file.MemoryID]
			}
			b.addr += kernel.Addr(v.file.Offset)
		case v.Role == RoleState:
			b, err = m.stateBlock(i, v)
		default:
			off, ok := m.plan.offset[i]
			if !ok {
				continue
			}
			b = block{addr: m.arenas[1].addr + kernel.Addr(off)}
		}
		if err != nil {
			return fmt.Errorf("value %d (%s %s): %w", i, v.Name, v, err)
		}
		t.addr = b.addr
	}
	for i, v := range m.g.Values { // static views of buffers have no node that sets their address
		if v.Kind == KindTensor && v.Alias >= 0 {
			m.own[i].addr = m.own[m.g.Root(i)].addr
		}
	}
	return nil
}

// initFileStates fills the mutable buffers with initial values in the arena of memory id.
func (m *Method) initFileStates(id uint32, arena kernel.Addr) error {
	for i, v := range m.g.Values {
		if v.Kind == KindTensor && v.Role == RoleState && v.Data != nil && v.file != nil && v.file.MemoryID == id {
			if err := m.p.fillBlock(arena+kernel.Addr(v.file.Offset), v.Data, v.Bytes()); err != nil {
				return fmt.Errorf("initial value of buffer %d (%s): %w", i, v.Name, err)
			}
		}
	}
	return nil
}

// stateBlock returns the memory of a mutable buffer. Buffers with the same name in memory 2 or above are one in all methods:
// that is how the exporter plans shared buffers (MemoryPlanningPass, share_mutable_buffers).
func (m *Method) stateBlock(i int, v *Value) (block, error) {
	set, key := m.states, fmt.Sprintf("buffer %d", i)
	if v.Name != "" && v.file != nil && v.file.MemoryID >= 2 {
		set, key = m.p.states, "buffer "+v.Name
		if b, ok := set[key]; ok && b.size != max(v.Bytes(), 1) {
			return block{}, fmt.Errorf("has %d bytes here and %d in another method", v.Bytes(), b.size)
		}
	}
	return m.p.loadBlock(set, key, v.Data, max(v.Bytes(), 1))
}

// Release frees the method's planned memory. Mutable buffers and constants stay; inputs have to be set again.
func (m *Method) Release() {
	for id, b := range m.arenas {
		m.p.free(b)
		delete(m.arenas, id)
	}
	m.restore()
	for _, t := range m.own {
		if t != nil {
			if t.own {
				m.p.dev.Free(t.addr)
				t.own = false
			}
			t.addr = 0
		}
	}
	clear(m.set)
	m.bound = false
}

// restore undoes what moves of the last run did to the slots.
func (m *Method) restore() {
	if !m.moved {
		return
	}
	for i, v := range m.g.Values {
		m.slots[i].kind, m.slots[i].t = v.Kind, m.own[i]
	}
}

// Execute runs the method on the inputs set before. Outputs and buffers are valid until the next call. After an error
// buffers may be partly updated.
func (m *Method) Execute(ctx context.Context) error {
	if err := m.bind(); err != nil {
		return err
	}
	m.restore()
	for k, i := range m.g.Inputs {
		if m.slots[i].kind == KindTensor && !m.set[k] {
			return fmt.Errorf("engine: method %q: input %d is not set", m.g.Name, k)
		}
	}
	steps := int64(0)
	for pc := 0; pc < len(m.g.Nodes); pc++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("engine: method %q: %w", m.g.Name, err)
		}
		if steps++; steps > m.p.opt.MaxSteps {
			return fmt.Errorf("engine: method %q: stopped after %d instructions, it may never end", m.g.Name, m.p.opt.MaxSteps)
		}
		n := m.g.Nodes[pc]
		switch n.kind {
		case nodeOp:
			if err := m.run(n); err != nil {
				return fmt.Errorf("engine: method %q: node %d (instruction %d, %s): %w", m.g.Name, pc, n.Index, n.Op, err)
			}
		case nodeMove:
			m.slots[n.Args[1]] = m.slots[n.Args[0]]
		case nodeJumpFalse:
			yes, err := m.truth(n.Args[0])
			if err != nil {
				return fmt.Errorf("engine: method %q: instruction %d (jump): %w", m.g.Name, n.Index, err)
			}
			if !yes {
				pc = n.target - 1
			}
		case nodeFree:
			if t := m.slots[n.Args[0]].t; t != nil && t.own {
				m.p.dev.Free(t.addr)
				t.addr, t.own = 0, false
			}
		}
	}
	if m.pooled() {
		clear(m.set) // their memory has been used for other values
	}
	return nil
}

// truth reads a jump's condition: a bool, or a bool tensor all of whose elements must be true.
func (m *Method) truth(v int) (bool, error) {
	s := &m.slots[v]
	switch {
	case s.kind == KindBool:
		return s.b, nil
	case s.kind == KindTensor && s.t.dtype == Bool && s.t.addr != 0:
		b := make([]byte, s.t.n)
		m.p.dev.Read(b, s.t.addr)
		return !slices.Contains(b, 0), nil
	}
	return false, fmt.Errorf("condition is a %s", m.g.Values[v])
}
