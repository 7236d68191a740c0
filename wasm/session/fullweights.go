package session

import (
	"slices"

	"tabtune/engine/kernel"
	"tabtune/lora"
)

// MeZO's own form (arXiv 2305.17333, algorithm 1) perturbs all weights in place:
// W + eps z, a forward, W - eps z, a forward, then back and the update. The
// weights are written in device memory, so a runtime that hides them cannot do
// this; and they must be f32, since eps z is far below an int8 step.

// fullWeights turns the configuration into one that trains all weights.
func (c *runConfig) fullWeights(m *model) error {
	if c.Estimator != "mezo" {
		return invalid("modules: %s (all of them) needs the estimator mezo", fullModules)
	}
	if m.dtype != lora.F32 {
		return invalid("modules: %s needs dtype f32; the model is open as %s", fullModules, m.dtype)
	}
	if c.Out != "" {
		return invalid("modules: %s trains the weights in memory and has no adapter to save; leave the output folder out", fullModules)
	}
	c.top = c.spec.Model.Layers
	c.all, c.spec.Modules, c.spec.Top, c.spec.Queries = true, nil, c.top, 1
	return nil
}

// noise adds scale*z(seed) to every weight.
func (u *run) noise(seed int64, scale float32) {
	names := make([]string, 0, len(u.s.model.weights))
	for name := range u.s.model.weights {
		names = append(names, name)
	}
	slices.Sort(names)
	var base int64
	for _, name := range names {
		w := u.s.model.weights[name]
		n := w.Size / 4
		u.s.dev.ZoAxpy(0, kernel.Addr(w.Addr), seed, scale, base, int32(n))
		base += n
	}
}

// perturbed returns the losses at +-eps z(seed) for a sequential estimator.
func (u *run) perturbed(items []item, seed []int64, eps float32) ([]float32, error) {
	if !u.c.full() {
		return u.r.exampleLosses(u.c.objective, [][]item{items}, seed, eps)
	}
	u.noise(seed[0], eps)
	losses, err := u.r.exampleLosses(u.c.objective, [][]item{items}, nil, 0)
	u.noise(seed[0], -eps)
	return losses, err
}

func (u *run) applyFull(seeds []int64, coefs []float32) error {
	for j, s := range seeds {
		u.noise(s, -coefs[j])
	}
	return nil
}
