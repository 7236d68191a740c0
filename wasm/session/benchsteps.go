package session

import (
	"fmt"

	"tabtune/lora"
	"tabtune/zo"
)

// Training steps to time: all of them send 2 q b rows through the model.

// benchTop is how many layers prge_top adapts.
const benchTop = 4

// stepSpec is the program of a P-RGE step that adapts q and v of the top layers.
func (b *bencher) stepSpec(top int) lora.Spec {
	rows := 2 * b.p.Queries * b.p.Batch
	return lora.Spec{Model: b.m.ckpt.Config, DType: b.m.dtype, Modules: []string{"q", "v"}, Top: top, Rank: 16, Alpha: 32, Queries: b.p.Queries, Window: b.p.Tokens,
		Rows: rows, Scored: rows, Labels: []int32{0, 1}}
}

func (b *bencher) step(what string, run func(seeds []int64) error) contestant {
	q, batch := b.p.Queries, b.p.Batch
	seeds, n := make([]int64, q), 0
	return contestant{what: fmt.Sprintf("%s, q %d, b %d, %d tokens, %s, %d threads", what, q, batch, b.p.Tokens, b.m.dtype, b.threads), unit: "rows/s", work: float64(2 * q * batch),
		run: func() error {
			n++
			zo.Seeds(seeds, 1, n)
			return run(seeds)
		}}
}

// prge is a step with all layers adapted.
func (b *bencher) prge() (contestant, error) {
	r, err := b.runner(b.stepSpec(b.m.ckpt.Config.Layers))
	rows := b.scoredRows(b.p.Batch, b.p.Tokens)
	return b.step("P-RGE step, all layers", func(seeds []int64) error { return r.benchStep(rows, seeds) }), err
}

// prgeTop is a step with the top layers adapted, whose prefixes are cached: the
// rest of the model ran once an example, before.
func (b *bencher) prgeTop() (contestant, error) {
	top := min(benchTop, b.m.ckpt.Config.Layers)
	r, err := b.runner(b.stepSpec(top))
	if err != nil {
		return contestant{}, err
	}
	rows, free, err := r.withPrefixes(b.scoredRows(b.p.Batch, b.p.Tokens))
	b.free = append(b.free, free)
	return b.step(fmt.Sprintf("P-RGE step, top %d layers, cached prefixes", top), func(seeds []int64) error { return r.benchStep(rows, seeds) }), err
}

func (r *runner) benchStep(rows []row, seeds []int64) error {
	_, _, err := r.forward([][]row{rows}, seeds, 1e-2)
	r.update(seeds, make([]float32, len(seeds)))
	return err
}

// scoredRows are rows whose last token is scored.
func (b *bencher) scoredRows(n, length int) []row {
	rows := b.tokens(n, length)
	for i := range rows {
		rows[i].at, rows[i].targets = []int32{int32(length - 1)}, []int32{0}
	}
	return rows
}

// sequential is MeZO on the same adapter: q directions of b rows, one replica a call.
func (b *bencher) sequential() (contestant, error) {
	spec := b.stepSpec(b.m.ckpt.Config.Layers)
	spec.Queries, spec.Sides, spec.Rows, spec.Scored = 1, lora.Single, b.p.Batch, b.p.Batch
	r, err := b.runner(spec)
	rows := b.scoredRows(b.p.Batch, b.p.Tokens)
	return b.step("the same directions one after the other", func(seeds []int64) error {
		for j := range seeds {
			for _, eps := range []float32{1e-2, -1e-2} {
				if _, _, err := r.forward([][]row{rows}, seeds[j:j+1], eps); err != nil {
					return err
				}
			}
		}
		return nil
	}), err
}

// mezo is a MeZO step on all weights (f32): one direction, 2 q b rows in two
// forwards, as the paper compares at equal rows.
func (b *bencher) mezo() (contestant, error) {
	if b.m.dtype != lora.F32 {
		return contestant{}, invalid("mezo: all weights are perturbed in f32; the model is open as %s", b.m.dtype)
	}
	n := b.p.Queries * b.p.Batch
	spec := b.stepSpec(b.m.ckpt.Config.Layers)
	spec.Modules, spec.Queries, spec.Sides, spec.Rows, spec.Scored = nil, 1, lora.Single, n, n
	r, err := b.runner(spec)
	u := &run{s: b.s, t: b.t, c: &runConfig{spec: spec}, r: r}
	rows := b.scoredRows(n, b.p.Tokens)
	return b.step("MeZO step, all weights", func(seeds []int64) error {
		for _, eps := range []float32{1e-4, -1e-4} {
			u.noise(seeds[0], eps)
			_, _, err := r.forward([][]row{rows}, nil, 0)
			u.noise(seeds[0], -eps)
			if err != nil {
				return err
			}
		}
		return u.applyFull(seeds[:1], []float32{0})
	}), err
}
