package session

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/lora"
	"tabtune/lora/export"
	"tabtune/lora/peft"
	"tabtune/lora/replay"
	"tabtune/wasm/rpc"
	"tabtune/zo"
)

// adapter is a trained or loaded adapter. Its modules are in the order of
// spec.Adapters().
type adapter struct {
	spec   lora.Spec
	peft   peft.Adapter // the modules, then a LoRA on the output head if there is one
	labels []string     // of a classifier
}

type pathParam struct {
	Path string `json:"path"`
}

// loadAdapter reads a PEFT folder or a classifier's, a run's folder with one
// inside, or a GGUF adapter.
func (s *Session) loadAdapter(p pathParam) (map[string]any, error) {
	m, err := s.needModel()
	if err != nil {
		return nil, err
	}
	dir, classifier := p.Path, false
	for _, d := range []string{dir, filepath.Join(dir, "adapter")} {
		if _, err := os.Stat(filepath.Join(d, peft.ConfigFile)); err == nil {
			dir = d
			break
		}
		if _, err := os.Stat(filepath.Join(d, lora.ClassifierFile)); err == nil {
			dir, classifier = d, true
			break
		}
	}
	var a *adapter
	if classifier {
		if a, err = s.loadClassifier(m, dir); err != nil {
			return nil, err
		}
	} else {
		var pa *peft.Adapter
		if filepath.Ext(dir) == ".gguf" {
			pa, err = export.ReadAdapter(dir, m.ckpt)
		} else {
			pa, err = peft.Read(dir)
		}
		if err != nil {
			return nil, err
		}
		if a, err = newAdapter(m, pa); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
	}
	s.dropRunner()
	s.adapter = a
	res := map[string]any{"modules": a.spec.Modules, "layers": a.spec.Top, "rank": a.spec.Rank, "alpha": a.spec.Alpha, "head": a.spec.Head != nil}
	if c := a.spec.Classifier; c != nil {
		res["classifier"] = c.Layer
	}
	return res, nil
}

// newAdapter fits a PEFT adapter to the model: the same linear layers of all
// layers from some layer up. A layer in between that has none gets zeros.
func newAdapter(m *model, pa *peft.Adapter) (*adapter, error) {
	c := &m.ckpt.Config
	have := map[string]*peft.Module{}
	for i := range pa.Modules {
		have[pa.Modules[i].Name] = &pa.Modules[i]
	}
	spec := lora.Spec{Model: *c, DType: m.dtype, Rank: pa.Rank, Alpha: pa.Alpha, Queries: 1, Sides: lora.Single, Window: 1, Rows: 1, Scored: 1}
	for l := range c.Layers {
		for _, mod := range lora.AllModules {
			if have[lora.ModuleName(l, mod)] == nil {
				continue
			}
			spec.Top = max(spec.Top, c.Layers-l)
			if !slices.Contains(spec.Modules, mod) {
				spec.Modules = append(spec.Modules, mod)
			}
		}
	}
	out := &adapter{peft: peft.Adapter{Rank: pa.Rank, Alpha: pa.Alpha, BaseModel: pa.BaseModel}}
	if h := have[lora.HeadName]; h != nil {
		delete(have, lora.HeadName)
		if h.In != c.Dim || h.Out != c.Vocab {
			return nil, rpc.Errorf("adapter", "module %s is %d x %d, in this model %d x %d", h.Name, h.Out, h.In, c.Vocab, c.Dim)
		}
		spec.Head = &lora.HeadAdapter{Rank: h.Rank, Scale: pa.Scale(h), A: h.A, B: h.B}
	}
	if len(spec.Modules) == 0 && spec.Head == nil {
		return nil, rpc.Errorf("adapter", "the adapter has no module of this model (its first is %q)", pa.Modules[0].Name)
	}
	for _, a := range spec.Adapters() {
		mod := have[a.Name]
		delete(have, a.Name)
		if mod == nil {
			mod = &peft.Module{Name: a.Name, In: a.In, Out: a.Out, A: make([]float32, pa.Rank*a.In), B: make([]float32, pa.Rank*a.Out)}
		}
		if mod.In != a.In || mod.Out != a.Out {
			return nil, rpc.Errorf("adapter", "module %s is %d x %d, in this model %d x %d", a.Name, mod.Out, mod.In, a.Out, a.In)
		}
		if mod.Rank != 0 && mod.Rank != pa.Rank || mod.Alpha != 0 && mod.Alpha != pa.Alpha {
			return nil, rpc.Errorf("adapter", "module %s has a rank or alpha of its own (%d, %g), which is not supported", a.Name, mod.Rank, mod.Alpha)
		}
		spec.A = append(spec.A, mod.A)
		out.peft.Modules = append(out.peft.Modules, *mod)
	}
	if len(have) > 0 {
		var names []string
		for n := range have {
			names = append(names, n)
		}
		slices.Sort(names)
		return nil, rpc.Errorf("adapter", "the model has no %s", strings.Join(names[:min(3, len(names))], ", "))
	}
	if spec.Head != nil {
		out.peft.Modules = append(out.peft.Modules, headModule(spec.Head, c))
	}
	out.spec = spec
	return out, nil
}

func (s *Session) clearAdapter(none) (none, error) {
	s.adapter = nil
	s.dropRunner()
	return none{}, nil
}

type replayParams struct {
	Path  string `json:"path"`  // the log
	Steps int    `json:"steps"` // 0: all
	// Averaged rebuilds the average of the iterates up to there in place of the last,
	// of a run that kept one.
	Averaged bool `json:"averaged"`
}

// replayAdapter rebuilds an adapter from a replay log alone.
func (s *Session) replayAdapter(t *rpc.Task, p replayParams) (map[string]any, error) {
	m, err := s.needModel()
	if err != nil {
		return nil, err
	}
	log, err := replay.ReadFile(p.Path)
	if err != nil {
		return nil, err
	}
	if log.Config.ModelSHA256 != m.info.SHA256 {
		return nil, rpc.Errorf("other_model", "%s: the run was made with another model file (%s, SHA-256 %.12s...)", p.Path, log.Config.Model, log.Config.ModelSHA256)
	}
	if len(log.Config.Modules) == 0 {
		return nil, invalid("%s: the run fitted a label head and has no steps to repeat; its adapter folder holds the head", p.Path)
	}
	var was extra
	if json.Unmarshal(log.Config.Extra, &was) == nil && was.Head { // a foreign log's extra may be anything
		return nil, invalid("%s: the run trained under a label head, which the log does not hold; its adapter folder holds both", p.Path)
	}
	spec, err := specOf(m, &log.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path, err)
	}
	n := len(log.Records)
	if p.Steps < 0 || p.Steps > n {
		return nil, invalid("steps: %d, the log has %d", p.Steps, n)
	}
	if p.Steps > 0 {
		n = p.Steps
	}
	s.adapter = nil
	r, err := s.useSpec(spec)
	if err != nil {
		return nil, err
	}
	if err := r.writeB(nil); err != nil {
		return nil, err
	}
	opt, err := zo.NewOptimizer(log.Config.Optimizer, log.Config.Beta)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path, err)
	}
	avg, err := zo.NewAverage(log.Config.Average)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path, err)
	}
	if p.Averaged && avg == nil {
		return nil, invalid("averaged: the run of %s kept no average", p.Path)
	}
	if !p.Averaged {
		avg = nil
	}
	c := &runConfig{spec: spec, trainParams: trainParams{Rank: spec.Rank, Seed: log.Config.ASeed, Optimizer: log.Config.Optimizer, Beta: &log.Config.Beta,
		Resample: log.Config.Resample}}
	u := &run{s: s, t: t, c: c, r: r, opt: opt, avg: avg}
	if err := u.repeat(log.Records[:n], s.paced(t, "progress", "replay")); err != nil {
		return nil, err
	}
	if p.Averaged && avg.Count() > 0 {
		if err := u.r.writeB(avg.Value()); err != nil {
			return nil, err
		}
	}
	bs, err := u.r.readB()
	if err != nil {
		return nil, err
	}
	whole := c.spec.Past == nil
	spec, bs = asOne(c.spec, bs)
	a := &adapter{spec: spec, peft: peft.Adapter{Rank: spec.Rank, Alpha: spec.Alpha, BaseModel: m.info.Name}}
	for i, ad := range spec.Adapters() {
		a.peft.Modules = append(a.peft.Modules, peft.Module{Name: ad.Name, In: ad.In, Out: ad.Out, A: spec.MatrixA(i), B: bs[i]})
	}
	s.adapter = a
	if !whole {
		s.dropRunner() // its program is not the adapter's
	}
	return map[string]any{"steps": n, "cut": log.Cut}, nil
}

// specOf is the program of a log's adapter.
func specOf(m *model, c *replay.Config) (lora.Spec, error) {
	spec := lora.Spec{Model: m.ckpt.Config, DType: m.dtype, Rank: c.Rank, Alpha: c.Alpha, Seed: c.ASeed, Noise: lora.Noise(c.Noise), Queries: 1, Sides: lora.Single, Window: 1, Rows: 1, Scored: 1, Top: len(c.Layers)}
	for _, mod := range lora.AllModules {
		if slices.Contains(c.Modules, lora.ModuleName(m.ckpt.Config.Layers-1, mod)) {
			spec.Modules = append(spec.Modules, mod)
		}
	}
	if err := spec.Validate(); err != nil {
		return spec, err
	}
	var names []string
	for _, a := range spec.Adapters() {
		names = append(names, a.Name)
	}
	if !slices.Equal(names, c.Modules) {
		return spec, rpc.Errorf("other_model", "the log's %d modules are not the top layers' of this model", len(c.Modules))
	}
	if len(c.A) > 0 {
		var err error
		if spec.A, err = unpackA(&spec, c.A); err != nil {
			return spec, err
		}
	}
	return spec, nil
}
