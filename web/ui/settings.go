package ui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Settings are the knobs of a run as text, as they stand in the form.
type Settings struct {
	Estimator string
	Layers    string // a number of top layers, "all" or "auto"
	Modules   string // comma-separated, or "auto"
	Rank      string
	Alpha     string
	Queries   string
	Batch     string
	Eps       string // a number, or "auto"
	LR        string // a number, or "auto"
	Schedule  string
	Optimizer string // of optimizers; "": sgd
	Average   string // "tail" or a decay; "": none
	Refit     string // steps; "": never
	Subspace  string // "", random, activations, labels or auto
	Resample  string // steps; "": never
	Steps     string
	EvalEvery string
	Seed      string
	Threads   string
	DType     string
	Runtime   string // address of a stock ExecuTorch build on the page's origin; "": our engine
}

// DefaultSettings is the run that the learning target is stated for: 1,000 sentences, the top four layers, 150 steps.
func DefaultSettings(threads int) Settings {
	return Settings{
		Estimator: "prge", Layers: "4", Modules: "q,v", Rank: "16", Alpha: "32", Queries: "8", Batch: "8", Eps: "0.01", LR: "auto", Schedule: "linear", Subspace: "auto",
		Steps: "150", EvalEvery: "25", Seed: "0", Threads: strconv.Itoa(threads), DType: "int8",
	}
}

// Estimators as train.start names them. With auto and head most knobs are the module's to choose, and stay out of the request.
var (
	estimators = []string{"auto", "head", "prge", "rows", "fzoo", "grzo", "greedy", "mezo"}
	optimizers = []string{"", "sgd", "momentum", "adam", "radazo", "scalar", "muon", "mopi", "hizoo"}
	subspaces  = []string{"random", "activations", "labels", "auto"}
	chosen     = []string{"optimizer", "rank", "queries", "batch", "alpha", "eps", "lr", "layers", "modules"}
)

// Modules that an adapter can sit on.
var modules = []string{"q", "k", "v", "o", "gate", "up", "down"}

// Train checks the settings and returns the parameters of train.start and estimate, without out and resume.
// An error names the knob as the form labels it.
func (s Settings) Train() (map[string]any, error) {
	p := map[string]any{"estimator": s.Estimator, "schedule": s.Schedule}
	if !slices.Contains(estimators, s.Estimator) {
		return nil, fmt.Errorf("Estimator: %q is not one of %s", s.Estimator, strings.Join(estimators, ", "))
	}
	if s.Schedule != "linear" && s.Schedule != "constant" {
		return nil, fmt.Errorf("Schedule: choose linear or constant")
	}
	for _, f := range []struct {
		label, key, text string
		lo, hi           int
	}{
		{"Rank", "rank", s.Rank, 1, 256}, {"Queries", "queries", s.Queries, 1, 256}, {"Batch", "batch", s.Batch, 1, 256}, {"Steps", "steps", s.Steps, 1, 1_000_000},
		{"Validate every", "evalEvery", s.EvalEvery, 1, 1_000_000}, {"Seed", "seed", s.Seed, 0, 1 << 52},
	} {
		n, err := strconv.Atoi(strings.TrimSpace(f.text))
		if err != nil || n < f.lo || n > f.hi {
			return nil, fmt.Errorf("%s: %q is not a whole number from %d to %d", f.label, f.text, f.lo, f.hi)
		}
		p[f.key] = n
	}
	for _, f := range []struct{ label, key, text string }{{"Alpha", "alpha", s.Alpha}, {"Epsilon", "eps", s.Eps}, {"Learning rate", "lr", s.LR}} {
		if f.key != "alpha" && strings.TrimSpace(f.text) == "auto" {
			p[f.key] = "auto"
			continue
		}
		x, err := strconv.ParseFloat(strings.TrimSpace(f.text), 64)
		if err != nil || !(x > 0 && x <= 1e6) {
			return nil, fmt.Errorf("%s: %q is not a positive number", f.label, f.text)
		}
		p[f.key] = x
	}
	if l := strings.TrimSpace(s.Layers); l == "all" || l == "auto" {
		p["layers"] = l
	} else if n, err := strconv.Atoi(l); err == nil && n >= 1 && n <= 1000 {
		p["layers"] = n
	} else {
		return nil, fmt.Errorf("Layers: %q is neither a number of top layers nor \"all\" or \"auto\"", s.Layers)
	}
	var mods []string
	for _, m := range strings.FieldsFunc(s.Modules, func(r rune) bool { return r == ',' || r == ' ' }) {
		if !slices.Contains(modules, m) && (m != "auto" || strings.TrimSpace(s.Modules) != m) {
			return nil, fmt.Errorf("Modules: %q is not one of %s", m, strings.Join(modules, ", "))
		}
		if slices.Contains(mods, m) {
			return nil, fmt.Errorf("Modules: %q is named twice", m)
		}
		mods = append(mods, m)
	}
	if len(mods) == 0 {
		return nil, fmt.Errorf("Modules: name at least one of %s", strings.Join(modules, ", "))
	}
	p["modules"] = mods
	if o := strings.TrimSpace(s.Optimizer); !slices.Contains(optimizers, o) {
		return nil, fmt.Errorf("Optimizer: %q is not one of %s", s.Optimizer, strings.Join(optimizers[1:], ", "))
	} else if o != "" {
		p["optimizer"] = o
	}
	if a := strings.TrimSpace(s.Average); a != "" {
		if d, err := strconv.ParseFloat(a, 64); a != "tail" && (err != nil || !(d > 0 && d < 1)) {
			return nil, fmt.Errorf("Average: %q is neither tail nor a number between 0 and 1", s.Average)
		}
		p["average"] = a
	}
	if a := strings.TrimSpace(s.Subspace); slices.Contains(subspaces, a) {
		p["subspace"] = a
	} else if a != "" {
		return nil, fmt.Errorf("Subspace: %q is not one of %s", s.Subspace, strings.Join(subspaces, ", "))
	}
	for _, f := range []struct{ label, key, text string }{{"Fit the head again", "refit", s.Refit}, {"New subspace", "resample", s.Resample}} {
		r := strings.TrimSpace(f.text)
		if r == "" {
			continue
		}
		n, err := strconv.Atoi(r)
		if err != nil || n < 1 || n > 1_000_000 {
			return nil, fmt.Errorf("%s: %q is not a number of steps", f.label, f.text)
		}
		p[f.key] = n
	}
	if p["refit"] != nil && s.Estimator != "auto" {
		return nil, fmt.Errorf("Fit the head again: only the estimator Automatic has a label head")
	}
	if s.Estimator == "auto" || s.Estimator == "head" {
		for _, key := range chosen {
			delete(p, key)
		}
	}
	if r := strings.TrimSpace(s.Runtime); r != "" {
		if !strings.HasSuffix(r, ".js") && !strings.HasSuffix(r, ".mjs") {
			return nil, fmt.Errorf("Runtime: %q is not the address of a script (executorch.js)", r)
		}
		p["runtime"] = r
	}
	return p, nil
}

// FileName makes a name that the page's storage takes from the name of a picked file.
func FileName(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	s := strings.TrimLeft(b.String(), ".-_")
	if len(s) > 100 {
		s = s[len(s)-100:]
		s = strings.TrimLeft(s, ".-_")
	}
	if s == "" {
		return "file"
	}
	return s
}
