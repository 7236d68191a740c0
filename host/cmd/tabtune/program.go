package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"tabtune/host"
)

func build(ctx context.Context, a *app, args []string) error {
	f := a.flags("build")
	m, d, t := f.modelFlags(), f.dataFlags(), f.trainFlags()
	out := f.String("out", "", "the program, a `.pte` file; its weights go beside it as .ptd")
	single := f.Bool("single", false, "write the weights into the .pte, for runtimes that take no .ptd")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	if *out == "" {
		return usagef("--out is required")
	}
	if filepath.Ext(*out) != ".pte" {
		return usagef("--out %s: want a name that ends in .pte", *out)
	}
	p, err := t.params(f)
	if err != nil {
		return err
	}
	if d.data == "" {
		d = nil // without data the loss is over the whole vocabulary
	}
	s, err := newSession(a, m, d, t.seed)
	if err != nil {
		return err
	}
	dir, err := outputDir("--out", filepath.Dir(*out))
	if err != nil {
		return err
	}
	p.Out = filepath.Join(dir, filepath.Base(*out))
	s.mounts = append(s.mounts, host.Dir(dir))
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.close()
	_, raw, err := runTask[json.RawMessage](ctx, s.engine, "build", struct {
		host.TrainParams
		Single bool `json:"single,omitempty"`
	}{p, *single}, func(p host.Progress) error {
		s.progress.bytes("writing", p.Done, p.Total)
		return nil
	})
	s.progress.clear()
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(withKey(raw, "out", p.Out))
	}
	_, err = fmt.Fprintln(a.out, *out)
	return err
}

// paths collects a flag that may be given several times.
type paths []string

// String implements flag.Value.
func (p *paths) String() string { return strings.Join(*p, " ") }

// Set implements flag.Value.
func (p *paths) Set(s string) error { *p = append(*p, s); return nil }

func run(ctx context.Context, a *app, args []string) error {
	f := a.flags("run")
	var m modelFlags
	f.engineFlags(&m)
	data := f.String("data", "", "the program's weights, a `.ptd` file")
	method := f.String("method", "forward", "the `method` to call")
	var inputs paths
	f.Var(&inputs, "inputs", "tensors \"0\", \"1\", ... of one call, a `.safetensors` file; may be given several times")
	outputs := f.String("outputs", "", "the `folder` for the results: 0.safetensors, 1.safetensors, ...")
	profile := f.Bool("profile", false, "print time and bytes of each operator on standard error, or with --json in the result")
	bundled := f.Bool("bundled", false, "the program is a .bpte file: run the test cases in it and compare, without --inputs and --outputs")
	rtol := f.Float64("rtol", 1e-3, "with --bundled: the relative `difference` allowed")
	atol := f.Float64("atol", 1e-5, "with --bundled: the absolute `difference` allowed")
	trace := f.String("trace", "", "write every operator's time to a JSON `file` that chrome://tracing and Perfetto open")
	rest, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	if *bundled {
		if len(inputs) > 0 || *outputs != "" || *profile || *trace != "" {
			return usagef("--bundled goes without --inputs, --outputs, --profile and --trace")
		}
		return runBundled(ctx, a, f, &m, bundleParams{rest[0], *data, *rtol, *atol})
	}
	type params struct {
		Program string   `json:"program"`
		Data    string   `json:"data,omitempty"`
		Method  string   `json:"method"`
		Inputs  []string `json:"inputs"`
		Outputs string   `json:"outputs"`
		Profile bool     `json:"profile,omitempty"`
		Trace   string   `json:"trace,omitempty"`
	}
	p := params{Method: *method, Profile: *profile}
	var mounts []host.Mount
	if p.Program, err = inputFile("program", rest[0]); err != nil {
		return err
	}
	mounts = append(mounts, host.File(p.Program))
	if *data != "" {
		if p.Data, err = inputFile("--data", *data); err != nil {
			return err
		}
		mounts = append(mounts, host.File(p.Data))
	}
	if len(inputs) == 0 {
		return usagef("--inputs is required")
	}
	for _, in := range inputs {
		path, err := inputFile("--inputs", in)
		if err != nil {
			return err
		}
		p.Inputs = append(p.Inputs, path)
		mounts = append(mounts, host.File(path))
	}
	if p.Outputs, err = outputDir("--outputs", *outputs); err != nil {
		return err
	}
	mounts = append(mounts, host.Dir(p.Outputs))
	if *trace != "" {
		dir, err := outputDir("--trace", filepath.Dir(*trace))
		if err != nil {
			return err
		}
		p.Trace = filepath.Join(dir, filepath.Base(*trace))
		mounts = append(mounts, host.Dir(dir))
	}
	o, err := m.options(a, mounts...)
	if err != nil {
		return err
	}
	e, err := a.open(ctx, o)
	if err != nil {
		return err
	}
	defer e.Close()
	bar := progress{app: a}
	result, raw, err := runTask[runResult](ctx, e, "run", p, func(p host.Progress) error {
		bar.update("running", p.Done, p.Total, fmt.Sprintf("call %d of %d", p.Done, p.Total), -1)
		return nil
	})
	bar.clear()
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(withKey(raw, "calls", len(inputs)))
	}
	if *profile {
		if err := writeProfile(a.err, result.Profile); err != nil {
			return err
		}
	}
	for i := range inputs {
		if _, err := fmt.Fprintln(a.out, filepath.Join(*outputs, fmt.Sprintf("%d.safetensors", i))); err != nil {
			return err
		}
	}
	return nil
}

// withKey returns a task's value as an object that has at least the given key.
func withKey(raw json.RawMessage, key string, value any) map[string]any {
	object := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&object) != nil || object == nil {
		object = map[string]any{}
	}
	if _, ok := object[key]; !ok {
		object[key] = value
	}
	return object
}

func inspect(ctx context.Context, a *app, args []string) error {
	f := a.flags("inspect")
	rest, err := f.parse(args, 1)
	if err != nil {
		return err
	}
	path, err := inputFile("program", rest[0])
	if err != nil {
		return err
	}
	e, err := a.open(ctx, host.Options{Mounts: []host.Mount{host.File(path)}, Stderr: a.err})
	if err != nil {
		return err
	}
	defer e.Close()
	var raw json.RawMessage
	if err := e.Call(ctx, "inspect", map[string]string{"path": path}, &raw); err != nil {
		return err
	}
	if f.json {
		return a.printJSON(raw)
	}
	var r struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("inspect: result: %w", err)
	}
	_, err = fmt.Fprintln(a.out, strings.TrimRight(r.Text, "\n"))
	return err
}

func bench(ctx context.Context, a *app, args []string) error {
	f := a.flags("bench")
	m, t := f.modelFlags(), f.trainFlags()
	seconds := f.Float64("seconds", 2, "measure each thing for about `S` seconds")
	only := f.String("only", "", "compare these `NAMES`, separated by commas, with the last of them")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	if !(*seconds > 0 && *seconds <= 3600) {
		return usagef("--seconds %v: want more than 0", *seconds)
	}
	p, err := t.params(f)
	if err != nil {
		return err
	}
	s, err := newSession(a, m, nil, 0)
	if err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.close()
	params := struct {
		host.TrainParams
		Seconds float64  `json:"seconds"`
		Only    []string `json:"only,omitempty"`
	}{TrainParams: p, Seconds: *seconds}
	if *only != "" {
		params.Only = strings.Split(*only, ",")
	}
	_, raw, err := runTask[json.RawMessage](ctx, s.engine, "bench", params, func(p host.Progress) error {
		s.progress.update("bench", p.Done, p.Total, p.Phase, -1)
		return nil
	})
	s.progress.clear()
	if err != nil {
		return err
	}
	if f.json {
		return a.printJSON(withRows(raw))
	}
	return a.printTable(raw)
}

// withRows puts a list of results into an object, which the last line of output has to be.
func withRows(raw json.RawMessage) any {
	if b := bytes.TrimSpace(raw); len(b) > 0 && b[0] == '[' {
		return map[string]json.RawMessage{"rows": raw}
	}
	return raw
}

// printTable prints a list of flat objects, or an object whose member "rows" is one, with a column for each key in the
// order of the first object.
func (a *app) printTable(raw json.RawMessage) error {
	var object struct {
		Rows json.RawMessage `json:"rows"`
	}
	if json.Unmarshal(raw, &object) == nil && object.Rows != nil {
		raw = object.Rows
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(raw, &rows); err != nil {
		return fmt.Errorf("bench: value: %w", err)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	var columns []string
	for _, row := range rows {
		keys, values, err := orderedObject(row)
		if err != nil {
			return fmt.Errorf("bench: row: %w", err)
		}
		if columns == nil {
			columns = keys
			fmt.Fprintln(w, strings.Join(columns, "\t"))
		}
		cells := make([]string, len(columns))
		for i, k := range columns {
			cells[i] = values[k]
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// orderedObject reads a flat JSON object with the order of its keys.
func orderedObject(raw json.RawMessage) (keys []string, values map[string]string, err error) {
	values = map[string]string{}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, fmt.Errorf("want an object, got %v %v", t, err)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, nil, err
		}
		name, _ := key.(string)
		keys = append(keys, name)
		if x, ok := v.(float64); ok {
			values[name] = fmt.Sprintf("%.4g", x)
		} else if v != nil {
			values[name] = fmt.Sprint(v)
		}
	}
	return keys, values, nil
}
