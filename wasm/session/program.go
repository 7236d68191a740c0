package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tabtune/engine"
	"tabtune/engine/pte"
	"tabtune/internal/atomicfile"
	"tabtune/lora"
	"tabtune/lora/safetensors"
	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

type buildParams struct {
	trainParams
	Single bool `json:"single"` // one file, with the weights in it
}

// build writes the program that train would use to p.Out, and its weights
// beside it as .ptd or, with Single, in it.
func (s *Session) build(t *rpc.Task, p buildParams) (map[string]any, error) {
	out := p.Out
	if filepath.Ext(out) != ".pte" {
		return nil, invalid("out: %q, want a name that ends in .pte", out)
	}
	p.Out = ""
	if s.data == nil {
		if _, err := s.needModel(); err != nil {
			return nil, err
		}
		window := s.model.window
		if window == 0 {
			window = min(defaultWindow, s.model.ckpt.Config.Context)
		}
		s.data = &dataset{kind: task.KindCompletion, train: &split{}, window: window, cachedTop: -1} // scored over the vocabulary
		defer s.closeData()
	}
	if p.Estimator == "" || p.Estimator == auto { // a head alone is no program to train with
		p.Estimator = "prge"
	}
	c, err := s.normalise(p.trainParams)
	if err != nil {
		return nil, err
	}
	if c.findLayers || c.findModules || c.ownA() {
		return nil, invalid("layers, modules, subspace: what a run chooses from its data is not known to a program that is built; say which")
	}
	// Without rows nobody knows how many positions are scored: as many as forward takes rows.
	c.spec.Scored = max(c.spec.Scored, c.spec.Rows)
	r, err := s.newRunner(c.spec)
	if err != nil {
		return nil, err
	}
	r.close() // it can be loaded
	file, err := lora.Build(c.spec)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"program": out, "methods": methodNames(file), "replicas": c.spec.Replicas(), "window": c.spec.Window}
	if p.Single {
		if err := t.Emit(progress{"progress", "program", 0, 1}); err != nil {
			return nil, err
		}
		return result, atomicfile.Write(out, func(w io.Writer) error {
			return s.model.ckpt.WriteProgram(context.Background(), w, c.spec)
		})
	}
	if err := t.Emit(progress{"progress", "program", 0, 2}); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(out, func(w io.Writer) error {
		segments, err := file.SegmentWriters()
		if err != nil {
			return err
		}
		return pte.Encode(w, file, segments)
	}); err != nil {
		return nil, err
	}
	if err := t.Emit(progress{"progress", "weights", 1, 2}); err != nil {
		return nil, err
	}
	data := strings.TrimSuffix(out, ".pte") + ".ptd"
	if err := atomicfile.Write(data, func(w io.Writer) error {
		return s.model.ckpt.WriteData(context.Background(), w, s.model.dtype)
	}); err != nil {
		return nil, err
	}
	result["data"] = data
	return result, nil
}

type runParams struct {
	Program string   `json:"program"`
	Data    string   `json:"data"`
	Method  string   `json:"method"`
	Inputs  []string `json:"inputs"`
	Outputs string   `json:"outputs"`
	Profile bool     `json:"profile"` // time and bytes of each operator in the result
	Trace   string   `json:"trace"`   // file for the same as Chrome trace events
}

// openSource is a file of bounded, known size.
func openSource(path string) (*fileSource, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &fileSource{f, st.Size()}, nil
}

type fileSource struct {
	*os.File
	size int64
}

func (f *fileSource) Size() int64 { return f.size }

// ptd is a .ptd file as an engine.DataSource.
type ptd struct{ file *pte.DataFile }

// Lookup implements engine.DataSource.
func (d ptd) Lookup(name string) (engine.External, bool) {
	named, at, ok := d.file.Lookup(name)
	if !ok {
		return engine.External{}, false
	}
	e := engine.External{ReaderAt: at.Source, Off: at.Off, Size: at.Size, Untyped: named.Layout == nil}
	if l := named.Layout; l != nil {
		e.DType, e.DimOrder = l.ScalarType, l.DimOrder
		for _, n := range l.Sizes {
			e.Sizes = append(e.Sizes, int(n))
		}
	}
	return e, true
}

// run calls one method of a program once for each input file, in order; mutable
// buffers keep their values in between.
func (s *Session) run(t *rpc.Task, p runParams) (map[string]any, error) {
	src, err := openSource(p.Program)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	file, err := pte.Decode(src, p.Program)
	if err != nil {
		return nil, err
	}
	var opt engine.Options
	if p.Data != "" {
		d, err := openSource(p.Data)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		data, err := pte.DecodeData(d, p.Data)
		if err != nil {
			return nil, err
		}
		opt.Data = append(opt.Data, ptd{data})
	}
	prog, err := engine.Load(s.dev, file, opt)
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	m, err := prog.Method(p.Method)
	if err != nil {
		return nil, err
	}
	var profile *engine.Profile
	if p.Profile || p.Trace != "" {
		profile = engine.NewProfile()
		prog.Observe(profile.Add)
	}
	for i, in := range p.Inputs {
		if err := call(prog, m, in, filepath.Join(p.Outputs, strconv.Itoa(i)+".safetensors")); err != nil {
			return nil, fmt.Errorf("%s: %w", in, err)
		}
		if err := t.Emit(progress{"progress", "run", int64(i + 1), int64(len(p.Inputs))}); err != nil {
			return nil, err
		}
	}
	result := map[string]any{"calls": len(p.Inputs), "peakBytes": s.dev.Peak()}
	if p.Profile {
		result["profile"] = profile.Rows()
	}
	if p.Trace != "" {
		if err := atomicfile.Write(p.Trace, profile.WriteTrace); err != nil {
			return nil, fmt.Errorf("trace: %w", err)
		}
	}
	return result, nil
}

var safeTypes = map[engine.DType]safetensors.DType{
	engine.F32: "F32", engine.F64: "F64", engine.F16: "F16", engine.BF16: "BF16", engine.I64: "I64", engine.I32: "I32",
	engine.I16: "I16", engine.I8: "I8", engine.U8: "U8", engine.Bool: "BOOL",
}

func call(prog *engine.Program, m *engine.Method, in, out string) error {
	f, closer, err := safetensors.Open(in)
	if err != nil {
		return err
	}
	defer closer.Close()
	for i, info := range m.Inputs() {
		t, err := f.Tensor(strconv.Itoa(i))
		if err != nil {
			return fmt.Errorf("input %d (%s%v): %w", i, engine.DTypeName(info.DType), info.Sizes, err)
		}
		raw, err := t.Raw()
		if err != nil {
			return err
		}
		var dt engine.DType
		known := false
		for e, name := range safeTypes {
			if name == t.DType {
				dt, known = e, true
			}
		}
		if !known {
			return fmt.Errorf("input %d: dtype %s is not supported", i, t.DType)
		}
		x := engine.Tensor{DType: dt, Data: raw}
		for _, n := range t.Shape {
			x.Sizes = append(x.Sizes, int(n))
		}
		if err := m.SetInput(i, x); err != nil {
			return err
		}
	}
	if err := m.Execute(context.Background()); err != nil {
		return err
	}
	var tensors []safetensors.Out
	for i := range m.Outputs() {
		v, err := m.Output(i)
		if err != nil {
			return err
		}
		x := prog.Read(v)
		name, ok := safeTypes[x.DType]
		if !ok {
			return fmt.Errorf("output %d: dtype %s cannot be written to safetensors", i, engine.DTypeName(x.DType))
		}
		shape := make([]int64, len(x.Sizes))
		for k, n := range x.Sizes {
			shape[k] = int64(n)
		}
		tensors = append(tensors, safetensors.Raw(strconv.Itoa(i), name, shape, x.Data))
	}
	return atomicfile.Write(out, func(w io.Writer) error { return safetensors.Write(w, tensors, nil) })
}

func (s *Session) inspect(p pathParam) (map[string]any, error) {
	src, err := openSource(p.Path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	file, err := pte.Decode(src, p.Path)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	if err := pte.Print(&b, file); err != nil {
		return nil, err
	}
	ops := map[string]int{}
	methods := []map[string]any{}
	for _, plan := range file.Plans {
		n := 0
		for _, chain := range plan.Chains {
			n += len(chain.Instructions)
			for _, i := range chain.Instructions {
				if k, ok := i.(pte.KernelCall); ok {
					ops[plan.Operators[k.Op].String()]++
				}
			}
		}
		methods = append(methods, map[string]any{"name": plan.Name, "instructions": n, "inputs": len(plan.Inputs), "outputs": len(plan.Outputs)})
	}
	names := make([]string, 0, len(ops))
	for n := range ops {
		names = append(names, n)
	}
	slices.Sort(names)
	return map[string]any{"text": b.String(), "methods": methods, "operators": names}, nil
}

func methodNames(p *pte.Program) []string {
	names := make([]string, len(p.Plans))
	for i, plan := range p.Plans {
		names[i] = plan.Name
	}
	return names
}
