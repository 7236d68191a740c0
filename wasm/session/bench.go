package session

import (
	"fmt"
	"slices"
	"tabtune/engine/kernel"

	"tabtune/lora"
	"tabtune/wasm/rpc"
	"tabtune/zo"
)

type benchParams struct {
	trainParams
	Seconds float64 `json:"seconds"` // about so long for each thing
}

// benchRow is one measurement. Ratio compares it with the row named in Against,
// measured in turns with it.
type benchRow struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"` // median
	Unit    string  `json:"unit"`
	Spread  float64 `json:"spread"` // (largest - smallest) / median
	Ratio   float64 `json:"ratio"`
	Against string  `json:"against"`
}

// contestant is one thing to time: run does work units of it.
type contestant struct {
	name, unit string
	work       float64
	run        func() error
}

// bench measures on the open model, without data: every comparison's sides take
// turns, and the medians of the turns are compared.
func (s *Session) bench(t *rpc.Task, p benchParams) (map[string]any, error) {
	m, err := s.needModel()
	if err != nil {
		return nil, err
	}
	if p.Seconds == 0 {
		p.Seconds = 2
	}
	if !(p.Seconds > 0 && p.Seconds <= 3600) {
		return nil, invalid("seconds: %g, want 0 to 3600", p.Seconds)
	}
	b := &bencher{s: s, t: t, m: m, seconds: p.Seconds, threads: s.dev.Threads()}
	defer s.dev.SetThreads(b.threads)
	s.dropRunner()
	steps := []func() error{b.forward, b.threadScaling, func() error { return b.steps(p.trainParams) }}
	for i, step := range steps {
		if err := t.Emit(progress{"progress", "bench", int64(i), int64(len(steps))}); err != nil {
			return nil, err
		}
		if err := step(); err != nil {
			return nil, err
		}
	}
	b.rows = append(b.rows, benchRow{Name: "peak device memory", Value: float64(s.dev.Peak()) / 1e6, Unit: "MB",
		Ratio: float64(s.dev.Peak()) / float64(m.info.FileBytes), Against: "model file"})
	return map[string]any{"rows": b.rows, "threads": b.threads}, nil
}

type bencher struct {
	s       *Session
	t       *rpc.Task
	m       *model
	seconds float64
	threads int
	rows    []benchRow
}

// compare times the contestants in turns and adds a row for each, with its
// ratio to the last one.
func (b *bencher) compare(cs ...contestant) error {
	times := make([][]float64, len(cs))
	for _, c := range cs { // once to warm up
		if err := c.run(); err != nil {
			return err
		}
	}
	for spent := 0.0; spent < b.seconds*float64(len(cs)) || len(times[0]) < 3; {
		for i, c := range cs {
			began := b.s.now()
			if err := c.run(); err != nil {
				return err
			}
			d := b.s.now().Sub(began).Seconds()
			spent += d
			times[i] = append(times[i], d)
			if err := b.t.Emit(progress{"progress", c.name, int64(len(times[i])), 0}); err != nil {
				return err
			}
		}
	}
	first := len(b.rows)
	for i, c := range cs {
		slices.Sort(times[i])
		mid := times[i][len(times[i])/2]
		b.rows = append(b.rows, benchRow{Name: c.name, Unit: c.unit, Value: c.work / mid, Spread: (times[i][len(times[i])-1] - times[i][0]) / mid})
	}
	last := b.rows[len(b.rows)-1]
	for i := first; i < len(b.rows)-1; i++ {
		b.rows[i].Ratio, b.rows[i].Against = b.rows[i].Value/last.Value, last.Name
	}
	return nil
}

const benchRows, benchTokens = 8, 64

// trunk is a forward of all layers without adapter or head, 8 x 64 tokens.
func (b *bencher) trunk() (*runner, func() error, error) {
	spec := lora.Spec{Model: b.m.ckpt.Config, DType: b.m.dtype, Window: benchTokens, Rows: 1, Scored: 1, PrefixRows: benchRows}
	r, err := b.s.newRunner(spec)
	if err != nil {
		return nil, nil, err
	}
	rows := b.tokens(benchRows, benchTokens)
	return r, func() error { _, _, err := r.prefixes(rows); return err }, nil
}

func (b *bencher) tokens(n, length int) []row {
	rows := make([]row, n)
	for i := range rows {
		for j := range length {
			rows[i].ids = append(rows[i].ids, int32((i*7919+j*104729)%b.m.tok.Len()))
		}
	}
	return rows
}

// forward compares the trunk with the bare matrix-product kernel on its shapes.
func (b *bencher) forward() error {
	r, run, err := b.trunk()
	if err != nil {
		return err
	}
	defer r.close()
	gemm, free, err := b.gemm(benchRows * benchTokens)
	if err != nil {
		return err
	}
	defer free()
	tokens := float64(benchRows * benchTokens)
	return b.compare(contestant{"forward", "tokens/s", tokens, run}, contestant{fmt.Sprintf("bare %s gemm", b.m.dtype), "tokens/s", tokens, gemm})
}

// gemm is every layer's seven products of m rows, activations quantised already.
func (b *bencher) gemm(m int) (run func() error, free func(), err error) {
	dev, c := b.s.dev, &b.m.ckpt.Config
	widest := max(c.Dim, c.FFN, c.Heads*c.HeadDim)
	floats := int64(4 * m * widest)
	scales := int64(4 * m * (widest/32 + 2))
	base, err := dev.Alloc(2*floats+scales, 64)
	if err != nil {
		return nil, nil, err
	}
	x, y, sx := base, base+kernel.Addr(floats), base+kernel.Addr(2*floats)
	sums := sx + kernel.Addr(4*m)
	dev.MemSet(base, 0, 2*floats+scales)
	var calls []func()
	for l := range c.Layers {
		for _, mod := range lora.AllModules {
			name := lora.ModuleName(l, mod) + ".weight"
			w := b.m.weights[name]
			n, k := int32(w.Sizes[0]), int32(w.Sizes[1])
			scale, low := b.m.weights[name+".scale"].Addr, b.m.weights[name+".min"].Addr
			switch b.m.dtype {
			case lora.F32:
				calls = append(calls, func() { dev.F32GemmNT(y, x, w.Addr, 0, int32(m), n, k, k, k, n, 1, 0) })
			case lora.Int8:
				calls = append(calls, func() { dev.I8Gemm(y, x, sx, w.Addr, scale, 0, int32(m), n, k, k, n, 0) })
			default:
				calls = append(calls, func() { dev.Q4Gemm(y, x, sx, sums, w.Addr, scale, low, 0, int32(m), n, 2*k, n, 0) })
			}
		}
	}
	return func() error {
		for _, c := range calls {
			c()
		}
		return nil
	}, func() { dev.Free(base) }, nil
}

// threadScaling compares the trunk on all threads and on one.
func (b *bencher) threadScaling() error {
	if b.threads == 1 {
		return nil
	}
	r, run, err := b.trunk()
	if err != nil {
		return err
	}
	defer r.close()
	tokens := float64(benchRows * benchTokens)
	on := func(n int) func() error {
		return func() error { b.s.dev.SetThreads(n); return run() }
	}
	err = b.compare(contestant{fmt.Sprintf("forward, %d threads", b.threads), "tokens/s", tokens, on(b.threads)}, contestant{"forward, 1 thread", "tokens/s", tokens, on(1)})
	b.s.dev.SetThreads(b.threads)
	return err
}

// steps compares a P-RGE step with MeZO steps of as many rows.
func (b *bencher) steps(p trainParams) error {
	q, batch := p.Queries, p.Batch
	if q == 0 {
		q = 4
	}
	if batch == 0 {
		batch = 4
	}
	rows := 2 * q * batch
	layers := b.m.ckpt.Config.Layers
	spec := lora.Spec{Model: b.m.ckpt.Config, DType: b.m.dtype, Modules: []string{"q", "v"}, Top: layers, Rank: 16, Alpha: 32, Queries: q, Window: benchTokens,
		Rows: rows, Scored: rows, Labels: []int32{0, 1}}
	prge, err := b.s.newRunner(spec)
	if err != nil {
		return err
	}
	defer prge.close()
	spec.Queries, spec.Sides, spec.Rows, spec.Scored = 1, lora.Single, q*batch, q*batch
	seq, err := b.s.newRunner(spec)
	if err != nil {
		return err
	}
	defer seq.close()
	few, many := [][]row{b.scoredRows(batch)}, [][]row{b.scoredRows(q * batch)}
	seeds := make([]int64, q)
	step := 0
	unit := "rows/s"
	cs := []contestant{{fmt.Sprintf("P-RGE step, q %d, b %d", q, batch), unit, float64(rows), func() error {
		step++
		zo.Seeds(seeds, 1, step)
		_, _, err := prge.forward(few, seeds, 1e-2)
		prge.update(seeds, make([]float32, q))
		return err
	}}, {fmt.Sprintf("MeZO step on the adapter, b %d", q*batch), unit, float64(rows), func() error {
		step++
		zo.Seeds(seeds[:1], 1, step)
		for _, eps := range []float32{1e-2, -1e-2} {
			if _, _, err := seq.forward(many, seeds[:1], eps); err != nil {
				return err
			}
		}
		return nil
	}}}
	if b.m.dtype == lora.F32 {
		spec.Modules = nil
		full, err := b.s.newRunner(spec)
		if err != nil {
			return err
		}
		defer full.close()
		u := &run{s: b.s, t: b.t, c: &runConfig{spec: spec}, r: full}
		cs = append(cs, contestant{fmt.Sprintf("MeZO step on all weights, b %d", q*batch), unit, float64(rows), func() error {
			step++
			zo.Seeds(seeds[:1], 1, step)
			for _, eps := range []float32{1e-4, -1e-4} {
				u.noise(seeds[0], eps)
				_, _, err := full.forward(many, nil, 0)
				u.noise(seeds[0], -eps)
				if err != nil {
					return err
				}
			}
			return u.applyFull(seeds[:1], []float32{0})
		}})
	}
	return b.compare(cs...)
}

// scoredRows are rows whose last token is scored.
func (b *bencher) scoredRows(n int) []row {
	rows := b.tokens(n, benchTokens)
	for i := range rows {
		rows[i].at, rows[i].targets = []int32{int32(len(rows[i].ids) - 1)}, []int32{0}
	}
	return rows
}
