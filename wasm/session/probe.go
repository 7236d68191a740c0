package session

import (
	"encoding/json"
	"slices"

	"tabtune/lora"
	"tabtune/lora/replay"
	"tabtune/zo"
)

// The probe that chooses layers and modules: so many directions, two calls of them,
// on so many training rows.
const (
	probeQueries = 8
	probeRows    = 8
	probeCalls   = 2
)

// probeEvent tells of a choice that was tried.
type probeEvent struct {
	Type    string   `json:"type"` // "probe"
	Layers  int      `json:"layers"`
	Modules []string `json:"modules"`
	Gain    float64  `json:"gain"` // |g|^2 / tr H (zo.Sensitivity), by the layers that a row then passes
	Chosen  bool     `json:"chosen,omitempty"`
}

func isAuto(raw json.RawMessage) bool { return string(raw) == `"auto"` }

// autoModules is the one value of modules that has them chosen.
const autoModules = "auto"

// depths are those that are compared: doubling, and all layers.
func depths(layers int) []int {
	var out []int
	for k := 1; k < layers; k *= 2 {
		out = append(out, k)
	}
	return append(out, layers)
}

// moduleSets are the sets of modules that are compared.
var moduleSets = [][]string{{"q", "v"}, {"q", "k", "v", "o"}, {"gate", "up", "down"}, {"q", "k", "v", "o", "gate", "up", "down"}}

// findPlace chooses the depth, then the modules, whose gain from a step is the
// largest for what a row costs there: the layers it passes, as those below are run
// once and cached. What does not fit into memory is not tried.
func (u *run) findPlace() error {
	if !u.c.findLayers && !u.c.findModules {
		return nil
	}
	try := func(specs []lora.Spec) error {
		best, at := -1.0, -1
		var list []probeEvent
		for i, s := range specs {
			gain, ok, err := u.probe(s)
			if err != nil {
				return err
			}
			if !ok {
				list = append(list, probeEvent{})
				continue
			}
			e := probeEvent{Type: "probe", Layers: s.Top, Modules: s.Modules, Gain: gain / float64(s.Top)}
			list = append(list, e)
			if err := u.t.Emit(e); err != nil {
				return err
			}
			if e.Gain > best {
				best, at = e.Gain, i
			}
		}
		if at < 0 {
			return nil // none fits: that is for the run's own program to say
		}
		list[at].Chosen = true
		u.place(specs[at].Top, specs[at].Modules)
		return u.t.Emit(list[at])
	}
	if u.c.findLayers {
		var specs []lora.Spec
		for _, k := range depths(u.c.spec.Model.Layers) {
			s := u.c.spec
			s.Top = k
			specs = append(specs, s)
		}
		if err := try(specs); err != nil {
			return err
		}
	}
	if u.c.findModules {
		var specs []lora.Spec
		for _, m := range moduleSets {
			s := u.c.spec
			s.Modules = m
			specs = append(specs, s)
		}
		if err := try(specs); err != nil {
			return err
		}
	}
	u.s.cacheFor(u.c.top)
	var err error
	u.r, err = u.s.programFor(u.c.spec)
	return err
}

// place adapts these modules of so many layers.
func (u *run) place(top int, modules []string) {
	u.c.top, u.c.spec.Top, u.c.spec.Modules, u.c.Modules = top, top, modules, modules
}

// placeOf is what a log's run chose.
func (u *run) placeOf(c *replay.Config) {
	if !u.c.findLayers && !u.c.findModules {
		return
	}
	top, modules := u.c.top, u.c.spec.Modules
	if u.c.findLayers {
		top = min(max(1, len(c.Layers)), u.c.spec.Model.Layers)
	}
	if u.c.findModules {
		modules = nil
		for _, m := range lora.AllModules {
			if slices.Contains(c.Modules, lora.ModuleName(u.c.spec.Model.Layers-1, m)) {
				modules = append(modules, m)
			}
		}
	}
	u.place(top, modules)
}

// probe measures the gain of adapting what spec says, with no step done. It is false
// where the program does not fit.
func (u *run) probe(spec lora.Spec) (gain float64, ok bool, err error) {
	items := u.s.data.probe(probeRows)
	rows, positions := u.s.data.bounds(objNLL, len(items), 2*probeQueries, spec.Model.Vocab)
	spec.Queries, spec.Sides, spec.A, spec.Decode, spec.Features = probeQueries, lora.TwoSided, nil, u.s.data.generates(), false
	reps := spec.Replicas()
	spec.Rows, spec.Scored = reps*rows, max(reps*positions, reps*rows)
	need, err := u.s.programBytes(spec, u.s.data.methods()...)
	if err != nil {
		return 0, false, err
	}
	u.s.dropRunner()
	u.s.cacheFor(spec.Top)
	if u.s.fits("the probe", need+passing(&spec, spec.Rows)) != nil {
		return 0, false, nil
	}
	r, err := u.s.programFor(spec)
	if err != nil {
		return 0, false, err
	}
	at, _, err := u.s.evaluate(u.t, r, items, 0)
	if err != nil {
		return 0, false, err
	}
	var plus, minus []float64
	for call := range probeCalls {
		seeds := make([]int64, probeQueries)
		zo.Seeds(seeds, u.c.Seed, call)
		nll, err := r.exampleLosses(objNLL, [][]item{items}, seeds, float32(u.c.Eps))
		if err != nil {
			return 0, false, err
		}
		losses := make([]float64, reps)
		if err := zo.Means(losses, nll); err != nil {
			return 0, true, nil // far too sensitive for this eps: nothing is gained there
		}
		plus, minus = append(plus, losses[:probeQueries]...), append(minus, losses[probeQueries:]...)
		u.rows += int64(reps * len(items))
	}
	u.rows += int64(len(items))
	return zo.Sensitivity(plus, minus, at.Loss, u.c.Eps), true, nil
}
