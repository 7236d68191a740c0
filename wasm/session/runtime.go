package session

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/internal/atomicfile"
	"tabtune/lora"
	"tabtune/wasm/rpc"
)

// Runtime runs the methods of one training program (package lora documents their contract) for a runner. Inputs and outputs are in
// device memory, whoever computes.
type Runtime interface {
	// Input returns the place of input i of a method for a tensor of these sizes, to be filled before the call. Inputs have to be
	// placed anew for every call.
	Input(method string, i int, dt engine.DType, sizes ...int) (engine.View, error)
	// Call runs a method whose inputs are in place. Its one output is f32 of the given sizes, valid until the next Input.
	Call(method string, sizes ...int) (engine.View, error)
	// Memory is how many bytes of the device the methods need together: one runs at a time.
	Memory(methods ...string) (int64, error)
	// Buffer returns a mutable buffer by its fully qualified name. Where the runtime keeps its memory to itself it is a
	// copy that the runner brings up to date, and Shows is false.
	Buffer(name string) (engine.View, error)
	Shows() bool
	// Reset gives every mutable buffer its first value.
	Reset() error
	Close()
}

// engineRuntime is our own engine.
type engineRuntime struct {
	dev  *kernel.Device
	prog *engine.Program
}

// Input implements Runtime.
func (e *engineRuntime) Input(method string, i int, dt engine.DType, sizes ...int) (engine.View, error) {
	m, err := e.prog.Method(method)
	if err != nil {
		return engine.View{}, err
	}
	v, err := m.InputView(i, sizes...)
	if err == nil && v.DType != dt {
		err = fmt.Errorf("%s: input %d is %s, given %s", method, i, engine.DTypeName(v.DType), engine.DTypeName(dt))
	}
	return v, err
}

// Call implements Runtime.
func (e *engineRuntime) Call(method string, _ ...int) (engine.View, error) {
	m, err := e.prog.Method(method)
	if err != nil {
		return engine.View{}, err
	}
	if err := m.Execute(context.Background()); err != nil {
		return engine.View{}, err
	}
	return m.Output(0)
}

// Memory implements Runtime: the methods share an arena.
func (e *engineRuntime) Memory(methods ...string) (int64, error) {
	var plans []engine.MemoryPlan
	for _, name := range methods {
		m, err := e.prog.Method(name)
		if err != nil {
			return 0, err
		}
		plans = append(plans, m.Memory())
	}
	return engine.Together(plans...), nil
}

// Buffer implements Runtime.
func (e *engineRuntime) Buffer(name string) (engine.View, error) {
	m, err := e.prog.Method("forward")
	if err != nil {
		return engine.View{}, err
	}
	return m.Buffer(name)
}

// Shows implements Runtime.
func (e *engineRuntime) Shows() bool { return true }

// Reset implements Runtime.
func (e *engineRuntime) Reset() error {
	m, err := e.prog.Method("forward")
	if err != nil {
		return err
	}
	for _, name := range m.Buffers() {
		v, err := m.Buffer(name)
		if err != nil {
			return err
		}
		e.dev.MemSet(v.Addr, 0, v.Bytes())
	}
	return nil
}

// Close implements Runtime.
func (e *engineRuntime) Close() { e.prog.Close() }

// set copies a tensor to its place.
func set(dev *kernel.Device, rt Runtime, method string, i int, t engine.Tensor) error {
	v, err := rt.Input(method, i, t.DType, t.Sizes...)
	if err != nil {
		return err
	}
	dev.Write(v.Addr, t.Data)
	return nil
}

// hostRuntime has the host run the program in a runtime of its own: the stock ExecuTorch build that the user has given it. The host is asked by events of
// the task in progress, does what an event says before it resumes the task, and says how it went with runtime.answer:
//
//	{"type":"runtime","call":7,"op":"load","path":P}     load the program P, weights and all, in place of the one before
//	{"type":"runtime","call":8,"op":"execute","method":M,"inputs":[{address,bytes,dtype,sizes}],"output":{...}}
//	                                                     copy the inputs from device memory, run, copy the output back
//
// Such a runtime does not show its memory, so B here is a copy that the runner keeps up from the same seeds and coefficients.
type hostRuntime struct {
	s      *Session
	t      *rpc.Task
	path   string // of the program
	calls  int64
	inputs map[string][]hostTensor
	spans  map[string]engine.View // staging memory by method and place, as large as the largest so far
	bufs   map[string]engine.View
}

// hostTensor is a tensor of an event.
type hostTensor struct {
	Address uint32       `json:"address"`
	Bytes   int64        `json:"bytes"`
	DType   engine.DType `json:"dtype"`
	Sizes   []int        `json:"sizes"`
}

type runtimeEvent struct {
	Type   string       `json:"type"` // "runtime"
	Call   int64        `json:"call"`
	Op     string       `json:"op"`
	Path   string       `json:"path,omitempty"`
	Method string       `json:"method,omitempty"`
	Inputs []hostTensor `json:"inputs,omitempty"`
	Output *hostTensor  `json:"output,omitempty"`
}

// runtimeAnswer is what the host says of a call.
type runtimeAnswer struct {
	Call  int64  `json:"call"`
	Error string `json:"error"` // "" if it was done
}

// answerRuntime is the method runtime.answer.
func (s *Session) answerRuntime(a runtimeAnswer) (none, error) {
	s.answered = a
	return none{}, nil
}

// useStock has the programs of a run carried out by the host's runtime until end is called; after that our engine is used again,
// with the adapter that the run has made.
func (s *Session) useStock(t *rpc.Task, c *runConfig) (end func(), err error) {
	if c.full() {
		return nil, invalid("runtime: training all weights writes them in memory, which another runtime does not show; adapt modules")
	}
	if c.head {
		return nil, invalid("runtime: the label head is fitted by our engine alone; choose the estimator prge or mezo")
	}
	if filepath.Ext(c.Runtime) != ".pte" {
		return nil, invalid("runtime: %q, want a name that ends in .pte", c.Runtime)
	}
	m := s.model
	s.stock = func(spec lora.Spec) (Runtime, error) {
		if err := atomicfile.Write(c.Runtime, func(w io.Writer) error {
			return m.ckpt.WriteProgram(context.Background(), w, spec)
		}); err != nil {
			return nil, err
		}
		return s.newHostRuntime(t, c.Runtime, &spec)
	}
	return func() {
		s.dropRunner()
		s.stock = nil
	}, nil
}

// newHostRuntime loads the program at path into the host's runtime.
func (s *Session) newHostRuntime(t *rpc.Task, path string, spec *lora.Spec) (*hostRuntime, error) {
	h := &hostRuntime{s: s, t: t, path: path, inputs: map[string][]hostTensor{}, spans: map[string]engine.View{}, bufs: map[string]engine.View{}}
	for _, a := range spec.Adapters() {
		v := engine.View{DType: engine.F32, Sizes: []int{a.Out, spec.Rank}}
		addr, err := s.dev.Alloc(v.Bytes(), 64)
		if err != nil {
			h.Close()
			return nil, err
		}
		v.Addr = addr
		h.bufs[lora.BufferName(a.Name)] = v
	}
	if err := h.Reset(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// ask emits an event and looks at the answer.
func (h *hostRuntime) ask(e runtimeEvent) error {
	h.calls++
	e.Type, e.Call = "runtime", h.calls
	h.s.answered = runtimeAnswer{}
	if err := h.t.Emit(e); err != nil {
		return err
	}
	switch a := h.s.answered; {
	case a.Call != e.Call:
		return rpc.Errorf("runtime", "the host has not answered for the runtime's %s: it has none", e.Op)
	case a.Error != "":
		return rpc.Errorf("runtime", "%s", strings.Join(strings.Fields("the runtime chosen for this run: "+e.Op+" "+e.Method+": "+a.Error), " "))
	}
	return nil
}

// Reset implements Runtime: loading the program again is the only way.
func (h *hostRuntime) Reset() error {
	for _, v := range h.bufs {
		h.s.dev.MemSet(v.Addr, 0, v.Bytes())
	}
	return h.ask(runtimeEvent{Op: "load", Path: h.path})
}

// span is staging memory for a tensor.
func (h *hostRuntime) span(key string, dt engine.DType, sizes []int) (engine.View, error) {
	v := engine.View{DType: dt, Sizes: sizes, Addr: h.spans[key].Addr}
	if have := h.spans[key]; have.Addr == 0 || have.Bytes() < v.Bytes() {
		if have.Addr != 0 {
			h.s.dev.Free(have.Addr)
			delete(h.spans, key)
		}
		addr, err := h.s.dev.Alloc(max(v.Bytes(), 1), 64)
		if err != nil {
			return v, err
		}
		v.Addr = addr
		h.spans[key] = v
	}
	return v, nil
}

func asHostTensor(v engine.View) hostTensor {
	return hostTensor{uint32(v.Addr), v.Bytes(), v.DType, append([]int{}, v.Sizes...)}
}

// Input implements Runtime.
func (h *hostRuntime) Input(method string, i int, dt engine.DType, sizes ...int) (engine.View, error) {
	v, err := h.span(fmt.Sprint(method, i), dt, sizes)
	if err != nil {
		return v, err
	}
	in := h.inputs[method]
	for len(in) <= i {
		in = append(in, hostTensor{})
	}
	in[i] = asHostTensor(v)
	h.inputs[method] = in
	return v, nil
}

// Call implements Runtime.
func (h *hostRuntime) Call(method string, sizes ...int) (engine.View, error) {
	v, err := h.span(method, engine.F32, sizes)
	if err != nil {
		return v, err
	}
	out := asHostTensor(v)
	in := h.inputs[method]
	delete(h.inputs, method)
	return v, h.ask(runtimeEvent{Op: "execute", Method: method, Inputs: in, Output: &out})
}

// Memory implements Runtime: what is kept here. The runtime's own memory is not the device's.
func (h *hostRuntime) Memory(...string) (int64, error) {
	var n int64
	for _, v := range h.spans {
		n += v.Bytes()
	}
	for _, v := range h.bufs {
		n += v.Bytes()
	}
	return n, nil
}

// Buffer implements Runtime.
func (h *hostRuntime) Buffer(name string) (engine.View, error) {
	v, ok := h.bufs[name]
	if !ok {
		return v, fmt.Errorf("the program has no mutable buffer %q", name)
	}
	return v, nil
}

// Shows implements Runtime.
func (h *hostRuntime) Shows() bool { return false }

// Close implements Runtime. The host lets go of the program when another is loaded, or at its own end.
func (h *hostRuntime) Close() {
	for _, set := range []map[string]engine.View{h.spans, h.bufs} {
		for _, v := range set {
			h.s.dev.Free(v.Addr)
		}
	}
	h.spans, h.bufs = nil, nil
}
