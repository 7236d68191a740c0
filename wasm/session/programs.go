package session

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/engine/pte"
	"tabtune/internal/atomicfile"
	"tabtune/wasm/rpc"
)

// Programs that the host keeps open and calls with tensors of its own. No tensor byte passes through a request or a response:
// program.inputs answers where in device memory the host has to put its bytes, program.execute where the results are.
//
//	program.open {path, data}                       -> {program, methods}     the operators are not looked at yet
//	program.meta {program, method}                  -> methodMeta
//	program.load {program, method}                  -> {arena, constants, buffers}  bytes; names all missing operators
//	program.inputs {program, method, inputs}        -> {places}
//	program.execute {program, method}               -> {outputs}              valid until the next program.inputs
//	program.observe {program, on}                   -> {}                     begins an empty profile, or ends it
//	program.profile {program, trace, etdump}        -> {rows, dropped}        and writes the files named, if any
//	program.close {program}                         -> {}

// Codes of errors, after those of the stock runtime.
const (
	codeInvalidProgram  = "invalid_program"
	codeInvalidArgument = "invalid_argument"
	codeMissingOperator = "operator_missing"
	codeOutOfMemory     = "out_of_memory"
)

// maxPrograms bounds how many programs are open at once.
const maxPrograms = 256

// program is an open program.
type program struct {
	id      int64
	files   []io.Closer
	file    *pte.Program
	data    []engine.DataSource
	prog    *engine.Program // nil until a method is loaded
	profile *engine.Profile // nil: not observed
}

func (p *program) close() error {
	if p.prog != nil {
		p.prog.Close()
	}
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

type openProgramParams struct {
	Path string   `json:"path"`
	Data []string `json:"data"` // .ptd files, the first that has a tensor wins
}

type openProgramResult struct {
	Program int64    `json:"program"`
	Methods []string `json:"methods"`
}

func (s *Session) openProgram(p openProgramParams) (r openProgramResult, err error) {
	if len(s.programs) >= maxPrograms {
		return r, rpc.Errorf(rpc.CodeBusy, "%d programs are open already; close one first", maxPrograms)
	}
	o := &program{}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	src, err := openSource(p.Path)
	if err != nil {
		return r, err
	}
	o.files = append(o.files, src)
	if o.file, err = pte.Decode(src, p.Path); err != nil {
		return r, rpc.Errorf(codeInvalidProgram, "%v", err)
	}
	for _, path := range p.Data {
		d, err := openSource(path)
		if err != nil {
			return r, err
		}
		o.files = append(o.files, d)
		file, err := pte.DecodeData(d, path)
		if err != nil {
			return r, rpc.Errorf("invalid_external_data", "%v", err)
		}
		o.data = append(o.data, ptd{file})
	}
	r.Methods = methodNames(o.file)
	if s.programs == nil {
		s.programs = map[int64]*program{}
	}
	s.lastProgram++
	o.id, r.Program = s.lastProgram, s.lastProgram
	s.programs[o.id] = o
	return r, nil
}

type programParam struct {
	Program int64  `json:"program"`
	Method  string `json:"method"`
}

func (s *Session) program(id int64) (*program, error) {
	if p := s.programs[id]; p != nil {
		return p, nil
	}
	return nil, rpc.Errorf("invalid_state", "program %d is not open", id)
}

func (s *Session) closeProgram(p programParam) (none, error) {
	o, err := s.program(p.Program)
	if err != nil {
		return none{}, err
	}
	delete(s.programs, p.Program)
	return none{}, o.close()
}

// plan returns a method as the file has it.
func (s *Session) plan(p programParam) (*program, *pte.Plan, error) {
	o, err := s.program(p.Program)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(o.file.Plans, func(plan *pte.Plan) bool { return plan.Name == p.Method })
	if i < 0 {
		return nil, nil, rpc.Errorf(codeInvalidArgument, "the program has no method %q", p.Method)
	}
	return o, o.file.Plans[i], nil
}

// loaded returns a method that is ready to run.
func (s *Session) loaded(p programParam) (*program, *pte.Plan, *engine.Method, error) {
	o, plan, err := s.plan(p)
	if err != nil {
		return nil, nil, nil, err
	}
	if o.prog == nil {
		if o.prog, err = engine.Load(s.dev, o.file, engine.Options{Data: o.data}); err != nil {
			var missing *engine.MissingOperator
			if errors.As(err, &missing) {
				return nil, nil, nil, rpc.Errorf(codeMissingOperator, "%v", err)
			}
			return nil, nil, nil, coded(codeInvalidProgram, err)
		}
		if o.profile != nil {
			o.prog.Observe(o.profile.Add)
		}
	}
	m, err := o.prog.Method(p.Method)
	if err != nil {
		return nil, nil, nil, coded(codeInvalidProgram, err)
	}
	return o, plan, m, nil
}

// coded gives an error the code, unless it is about memory.
func coded(code string, err error) error {
	var oom *kernel.OutOfMemory
	if errors.As(err, &oom) {
		code = codeOutOfMemory
	}
	return rpc.Errorf(code, "%v", err)
}

type loadResult struct {
	Arena     int64 `json:"arena"`
	Constants int64 `json:"constants"`
	Buffers   int64 `json:"buffers"`
}

func (s *Session) loadProgram(p programParam) (loadResult, error) {
	_, _, m, err := s.loaded(p)
	if err != nil {
		return loadResult{}, err
	}
	need := m.Memory()
	return loadResult{need.Arena, need.Constants, need.Buffers}, nil
}

// given is an input: a tensor, whose bytes come later, or a number. Integers are decimal strings, which every reader of JSON
// keeps whole.
type given struct {
	Tag   string         `json:"tag"` // "None", "Tensor", "Int", "Double" or "Bool"
	DType pte.ScalarType `json:"dtype"`
	Sizes []int          `json:"sizes"`
	Order []int          `json:"order"` // dimensions from the outermost in memory; absent: 0, 1, ...
	Value string         `json:"value"`
}

type inputsParams struct {
	programParam
	Inputs []given `json:"inputs"`
}

// place is where the bytes of a tensor are in device memory.
type place struct {
	Address uint32 `json:"address"`
	Bytes   int64  `json:"bytes"`
}

type inputsResult struct {
	Places []place `json:"places"` // one an input; 0 bytes of what is no tensor
}

// programInputs checks the inputs and sets all but the tensors' bytes. Numbers have to be those that the program was exported with:
// the exporter has built them in.
func (s *Session) programInputs(p inputsParams) (r inputsResult, err error) {
	_, plan, m, err := s.loaded(p.programParam)
	if err != nil {
		return r, err
	}
	if len(p.Inputs) != len(plan.Inputs) {
		return r, rpc.Errorf(codeInvalidArgument, "%d inputs, method %q takes %d", len(p.Inputs), p.Method, len(plan.Inputs))
	}
	r.Places = make([]place, len(p.Inputs))
	for i, in := range p.Inputs {
		want := plan.Values[plan.Inputs[i]]
		if tag := tagOf(want); in.Tag != tag {
			return r, rpc.Errorf(codeInvalidArgument, "input %d is a %s, given %s", i, tag, in.Tag)
		}
		t, ok := want.(*pte.Tensor)
		if !ok {
			if got := valueOf(want); !asExported(want, in.Value) {
				return r, rpc.Errorf(codeInvalidArgument, "input %d is always %s, given %s: the program was exported for this value", i, got, in.Value)
			}
			continue
		}
		switch {
		case t.ScalarType != in.DType:
			return r, rpc.Errorf(codeInvalidArgument, "input %d is %s, given %s", i, engine.DTypeName(t.ScalarType), engine.DTypeName(in.DType))
		case len(t.Sizes) != len(in.Sizes):
			return r, rpc.Errorf(codeInvalidArgument, "input %d has %d dimensions, given sizes %v", i, len(t.Sizes), in.Sizes)
		case len(in.Order) > 0 && !slices.Equal(in.Order, dimOrder(t)):
			return r, rpc.Errorf(codeInvalidArgument, "input %d has dimension order %v, given %v", i, t.DimOrder, in.Order)
		}
		v, err := m.InputView(i, in.Sizes...)
		if err != nil {
			return r, coded(codeInvalidArgument, err)
		}
		r.Places[i] = place{uint32(v.Addr), v.Bytes()}
	}
	return r, nil
}

// result is an output.
type result struct {
	Tag   string         `json:"tag"`
	DType pte.ScalarType `json:"dtype"`
	Sizes []int          `json:"sizes,omitempty"`
	Order []int          `json:"order,omitempty"`
	Place place          `json:"place"`
	Value string         `json:"value,omitempty"`
}

type executeResult struct {
	Outputs []result `json:"outputs"`
}

func (s *Session) executeProgram(p programParam) (r executeResult, err error) {
	_, plan, m, err := s.loaded(p)
	if err != nil {
		return r, err
	}
	if err := m.Execute(context.Background()); err != nil {
		return r, coded("internal_error", err)
	}
	r.Outputs = make([]result, len(plan.Outputs))
	for i, value := range plan.Outputs {
		o := &r.Outputs[i]
		o.Tag = tagOf(plan.Values[value])
		switch o.Tag {
		case "None":
			continue
		case "Tensor", "Int", "Double", "Bool":
		default:
			o.Value = valueOf(plan.Values[value])
			continue
		}
		v, err := m.Output(i)
		if err != nil {
			return r, coded("internal_error", err)
		}
		switch x := v.Scalar.(type) {
		case nil:
			o.DType, o.Sizes, o.Place = v.DType, v.Sizes, place{uint32(v.Addr), v.Bytes()}
			if t, ok := plan.Values[value].(*pte.Tensor); ok && len(t.DimOrder) == len(v.Sizes) {
				o.Order = dimOrder(t)
			}
		case int64:
			o.Value = strconv.FormatInt(x, 10)
		case float64:
			o.Value = strconv.FormatFloat(x, 'g', -1, 64)
		case bool:
			o.Value = strconv.FormatBool(x)
		}
	}
	return r, nil
}

// tagOf names the type of a value as the stock runtime's tags do.
func tagOf(v pte.Value) string {
	switch v.(type) {
	case *pte.Tensor:
		return "Tensor"
	case pte.StringValue:
		return "String"
	case pte.DoubleValue:
		return "Double"
	case pte.IntValue:
		return "Int"
	case pte.BoolValue:
		return "Bool"
	case pte.BoolList:
		return "ListBool"
	case pte.DoubleList:
		return "ListDouble"
	case pte.IntList:
		return "ListInt"
	case pte.TensorList:
		return "ListTensor"
	case pte.OptionalTensorList:
		return "ListOptionalTensor"
	}
	return "None"
}

// valueOf writes a number.
func valueOf(v pte.Value) string {
	switch x := v.(type) {
	case pte.IntValue:
		return strconv.FormatInt(int64(x), 10)
	case pte.DoubleValue:
		return strconv.FormatFloat(float64(x), 'g', -1, 64)
	case pte.BoolValue:
		return strconv.FormatBool(bool(x))
	case pte.StringValue:
		return strconv.Quote(string(x))
	}
	return ""
}

// asExported compares as Method::set_input of the stock runtime does: floats may differ by 1e-4 + 1e-5 |v|.
func asExported(v pte.Value, text string) bool {
	x, ok := v.(pte.DoubleValue)
	if !ok {
		return valueOf(v) == text
	}
	want := float64(x)
	got, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return false
	}
	return got == want || math.IsNaN(got) && math.IsNaN(want) || math.Abs(got-want) <= 1e-4+math.Abs(1e-5*want)
}

type observeParams struct {
	Program int64 `json:"program"`
	On      bool  `json:"on"`
}

func (s *Session) observeProgram(p observeParams) (none, error) {
	o, err := s.program(p.Program)
	if err != nil {
		return none{}, err
	}
	o.profile = nil
	if p.On {
		o.profile = engine.NewProfile()
	}
	if o.prog != nil {
		if o.prog.Observe(nil); p.On {
			o.prog.Observe(o.profile.Add)
		}
	}
	return none{}, nil
}

type profileParams struct {
	Program int64  `json:"program"`
	Trace   string `json:"trace"`  // file for Chrome trace events; "": none
	ETDump  string `json:"etdump"` // file for an ETDump; "": none
}

type profileResult struct {
	Rows    []engine.ProfileRow `json:"rows"`
	Dropped int                 `json:"dropped"` // steps that neither file has
}

func (s *Session) profileProgram(p profileParams) (r profileResult, err error) {
	o, err := s.program(p.Program)
	if err != nil {
		return r, err
	}
	if o.profile == nil {
		return r, rpc.Errorf("invalid_state", "program %d is not observed", p.Program)
	}
	for _, f := range []struct {
		path  string
		write func(io.Writer) error
	}{{p.Trace, o.profile.WriteTrace}, {p.ETDump, o.profile.WriteETDump}} {
		if f.path == "" {
			continue
		}
		if err := atomicfile.Write(f.path, f.write); err != nil {
			return r, err
		}
	}
	return profileResult{o.profile.Rows(), o.profile.Dropped}, nil
}

// dimOrder is a tensor's dimension order as numbers: encoding/json would write bytes in base64.
func dimOrder(t *pte.Tensor) []int {
	order := make([]int, len(t.DimOrder))
	for i, d := range t.DimOrder {
		order[i] = int(d)
	}
	return order
}

type tensorMeta struct {
	Sizes   []int32        `json:"sizes"`
	Order   []int          `json:"order"`
	DType   pte.ScalarType `json:"dtype"`
	Planned bool           `json:"planned"` // its memory comes from the program's plan
	Bytes   int64          `json:"bytes"`
	Name    string         `json:"name"`
	Dynamic bool           `json:"dynamic"` // Sizes are upper bounds
}

type methodMeta struct {
	Name         string        `json:"name"`
	InputTags    []string      `json:"inputTags"`
	Inputs       []*tensorMeta `json:"inputs"` // null of what is no tensor
	OutputTags   []string      `json:"outputTags"`
	Outputs      []*tensorMeta `json:"outputs"`
	Attributes   []*tensorMeta `json:"attributes"` // the tensors that have a name
	Planned      []int64       `json:"planned"`    // bytes of each planned buffer
	Backends     []string      `json:"backends"`
	Instructions int           `json:"instructions"`
}

// programMeta describes a method by the file alone, as MethodMeta of the stock runtime does.
func (s *Session) programMeta(p programParam) (*methodMeta, error) {
	_, plan, err := s.plan(p)
	if err != nil {
		return nil, err
	}
	describe := func(t *pte.Tensor) *tensorMeta {
		m := &tensorMeta{Sizes: t.Sizes, Order: dimOrder(t), DType: t.ScalarType, Planned: t.Alloc != nil, Name: t.Name, Dynamic: t.Dynamism != pte.Static}
		m.Bytes = int64(engine.DTypeSize(t.ScalarType))
		for _, n := range t.Sizes {
			m.Bytes *= int64(n)
		}
		return m
	}
	list := func(values []int) (tags []string, metas []*tensorMeta) {
		tags, metas = make([]string, len(values)), make([]*tensorMeta, len(values))
		for i, v := range values {
			tags[i] = tagOf(plan.Values[v])
			if t, ok := plan.Values[v].(*pte.Tensor); ok {
				metas[i] = describe(t)
			}
		}
		return tags, metas
	}
	m := &methodMeta{Name: plan.Name, Attributes: []*tensorMeta{}, Planned: []int64{}, Backends: []string{}}
	m.InputTags, m.Inputs = list(plan.Inputs)
	m.OutputTags, m.Outputs = list(plan.Outputs)
	for _, v := range plan.Values {
		if t, ok := v.(*pte.Tensor); ok && t.Name != "" {
			m.Attributes = append(m.Attributes, describe(t))
		}
	}
	if len(plan.NonConstBufferSizes) > 1 {
		m.Planned = plan.NonConstBufferSizes[1:]
	}
	for _, d := range plan.Delegates {
		if !slices.Contains(m.Backends, d.ID) {
			m.Backends = append(m.Backends, d.ID)
		}
	}
	for _, c := range plan.Chains {
		m.Instructions += len(c.Instructions)
	}
	return m, nil
}
