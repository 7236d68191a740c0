package engine

import (
	"errors"
	"fmt"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

// Options change how a program is loaded.
type Options struct {
	Data      []DataSource // where external tensors are looked up, first hit wins; then the program's own named data
	Passes    []Pass       // nil: DefaultPasses
	NoPasses  bool         // run the operators exactly as the file lists them, without views sharing memory
	FilePlan  bool         // keep the file's memory plan, offset for offset; implies NoPasses
	Reference bool         // compute with the plain-Go references instead of kernels; slow, for tests
	// ShareArena plans straight-line methods for callers that run one at a time: their arenas share memory, inputs have to be
	// set before every Execute, and outputs are valid until an input of another method is set.
	ShareArena bool
	// Consume lets Load take the file's plans apart as it goes: p is of no use afterwards, and a plan and its graph are not in memory together.
	Consume  bool
	MaxSteps int64 // most instructions one Execute may run in a method with jumps; 0: 1<<26
}

// Program is a loaded program. It and its methods are for one goroutine at a time.
type Program struct {
	file    *pte.Program // while it is loaded
	dev     *kernel.Device
	opt     Options
	graphs  map[string]*Graph
	buffers map[string][]int64 // sizes that the file's plan has for the memories of each method
	names   []string
	methods map[string]*Method
	consts  map[string]block // by Data.key
	states  map[string]block // shared mutable buffers, by name
	pool    block            // the arena of all straight-line methods, with ShareArena
	user    *Method          // whose values are in pool
	arenas  map[uint32]block // shared arenas of methods that keep the file's plan, by memory id
	retired []kernel.Addr
	observe func(Step)  // nil: nobody looks
	desc    kernel.Addr // of the last strided kernel call
	work    block       // work space of a kernel call
}

// Load checks every method of p and makes it ready to prepare: the operators exist and fit their schemas, references are in
// range, external tensors are found. It reports all missing operators at once. Device memory is taken later, when a
// method is first executed. p's source must stay unchanged while the program lives.
func Load(dev *kernel.Device, p *pte.Program, opt Options) (*Program, error) {
	if opt.MaxSteps <= 0 {
		opt.MaxSteps = 1 << 26
	}
	pr := &Program{file: p, dev: dev, opt: opt, graphs: map[string]*Graph{}, buffers: map[string][]int64{}, methods: map[string]*Method{},
		consts: map[string]block{}, states: map[string]block{}, arenas: map[uint32]block{}}
	var errs []error
	for _, plan := range p.Plans {
		if pr.graphs[plan.Name] != nil {
			return nil, fmt.Errorf("engine: two methods are named %q", plan.Name)
		}
		g, err := pr.buildGraph(plan, opt.FilePlan)
		if err != nil {
			errs = append(errs, fmt.Errorf("engine: method %q: %w", plan.Name, err))
			continue
		}
		pr.graphs[plan.Name], pr.buffers[plan.Name] = g, plan.NonConstBufferSizes
		pr.names = append(pr.names, plan.Name)
		if opt.Consume {
			*plan = pte.Plan{Name: plan.Name}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	pr.file = nil // the graphs hold what is needed of it, at a fraction of its size
	return pr, nil
}

// MethodNames returns the methods in the file's order.
func (p *Program) MethodNames() []string { return append([]string(nil), p.names...) }

// Method returns a method, prepared at the first request: passes are run and memory is planned, but not yet taken.
func (p *Program) Method(name string) (*Method, error) {
	if m := p.methods[name]; m != nil {
		return m, nil
	}
	g := p.graphs[name]
	if g == nil {
		return nil, fmt.Errorf("engine: the program has no method %q, only %q", name, p.names)
	}
	m, err := p.prepare(g)
	if err != nil {
		return nil, fmt.Errorf("engine: method %q: %w", name, err)
	}
	p.methods[name] = m
	return m, nil
}

// Close frees all device memory of the program and its methods.
func (p *Program) Close() {
	for _, m := range p.methods {
		m.Release()
		for _, b := range m.states {
			p.free(b)
		}
	}
	for _, set := range []map[string]block{p.consts, p.states} {
		for _, b := range set {
			p.free(b)
		}
	}
	for _, b := range p.arenas {
		p.free(b)
	}
	p.free(p.pool)
	p.free(p.work)
	p.pool, p.work, p.user = block{}, block{}, nil
	for _, a := range p.retired {
		p.dev.Free(a)
	}
	p.methods, p.consts, p.states, p.arenas, p.retired = map[string]*Method{}, map[string]block{}, map[string]block{}, map[uint32]block{}, nil
	p.desc = 0
}

func (p *Program) free(b block) {
	if b.owned {
		p.dev.Free(b.addr)
	}
}
