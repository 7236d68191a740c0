package session

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tabtune/lora"
	"tabtune/wasm/rpc"
)

type benchParams struct {
	trainParams
	Seconds float64  `json:"seconds"` // about so long for each thing
	Only    []string `json:"only"`    // contestants to compare with the last of them; empty: all comparisons
	Threads int      `json:"threads"` // 0: all
	Tokens  int      `json:"tokens"`  // of a row, 0: 64
	Turns   int      `json:"turns"`   // of each contestant at least, 0: 3
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
	What    string  `json:"what"`
}

// contestant is one thing to time: run does work units of it.
type contestant struct {
	name, what, unit string
	work             float64
	run              func() error
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
	b := &bencher{s: s, t: t, m: m, p: p, threads: s.dev.Threads()}
	if p.Threads < 0 || p.Threads > b.threads {
		return nil, invalid("threads: %d, want 1 to %d", p.Threads, b.threads)
	}
	if b.p.Turns == 0 {
		b.p.Turns = 3
	}
	if b.p.Tokens == 0 {
		b.p.Tokens = benchTokens
	}
	if b.p.Tokens < 1 || b.p.Tokens > m.ckpt.Config.Context {
		return nil, invalid("tokens: %d, want 1 to the model's context %d", p.Tokens, m.ckpt.Config.Context)
	}
	if b.p.Queries == 0 {
		b.p.Queries = 4
	}
	if b.p.Batch == 0 {
		b.p.Batch = 4
	}
	if b.p.Queries < 1 || b.p.Queries > 1024 || b.p.Batch < 1 || b.p.Batch > 1024 {
		return nil, invalid("queries %d, batch %d: want 1 to 1024", p.Queries, p.Batch)
	}
	groups := [][]string{{"forward", "gemm"}, {"forward", "forward_1"}, {"prge", "sequential"}, {"prge_top", "prge"}}
	if b.threads == 1 {
		groups = slices.Delete(groups, 1, 2)
	}
	if m.dtype == lora.F32 {
		groups = append(groups, []string{"prge", "mezo"})
	}
	if len(p.Only) > 0 {
		groups = [][]string{p.Only}
	}
	if p.Threads > 0 {
		s.dev.SetThreads(p.Threads)
		defer s.dev.SetThreads(b.threads)
		b.threads = p.Threads
	}
	s.dropRunner()
	for i, names := range groups {
		if err := t.Emit(progress{"progress", "bench", int64(i), int64(len(groups))}); err != nil {
			return nil, err
		}
		if err := b.group(names); err != nil {
			return nil, err
		}
	}
	return map[string]any{"rows": b.rows, "threads": b.threads, "weightBytes": m.bytes, "peakBytes": s.dev.Peak()}, nil
}

type bencher struct {
	s       *Session
	t       *rpc.Task
	m       *model
	p       benchParams
	threads int
	rows    []benchRow
	free    []func()
}

// group compares contestants by name.
func (b *bencher) group(names []string) error {
	defer func() {
		for _, f := range b.free {
			f()
		}
		b.free = nil
	}()
	makers := map[string]func() (contestant, error){
		"forward": b.forward, "forward_1": b.forwardOnOne, "gemm": b.gemm, "prge": b.prge, "prge_top": b.prgeTop, "sequential": b.sequential, "mezo": b.mezo,
	}
	var cs []contestant
	for _, name := range names {
		make, ok := makers[name]
		if !ok {
			return invalid("only: %q, want %s", name, strings.Join(slices.Sorted(maps.Keys(makers)), ", "))
		}
		c, err := make()
		if err != nil {
			return err
		}
		c.name = name
		cs = append(cs, c)
	}
	return b.compare(cs...)
}

// runner is a program that lives as long as the group.
func (b *bencher) runner(spec lora.Spec) (*runner, error) {
	r, err := b.s.newRunner(spec)
	if err == nil {
		b.free = append(b.free, r.close)
	}
	return r, err
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
	for spent := 0.0; spent < b.p.Seconds*float64(len(cs)) || len(times[0]) < b.p.Turns; {
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
		b.rows = append(b.rows, benchRow{Name: c.name, What: c.what, Unit: c.unit, Value: c.work / mid, Spread: (times[i][len(times[i])-1] - times[i][0]) / mid})
	}
	last := b.rows[len(b.rows)-1]
	for i := first; i < len(b.rows)-1; i++ {
		b.rows[i].Ratio, b.rows[i].Against = b.rows[i].Value/last.Value, last.Name
	}
	return nil
}

const benchRows, benchTokens = 8, 64

// forward is all layers without adapter or head, 8 rows.
func (b *bencher) forward() (contestant, error) {
	spec := lora.Spec{Model: b.m.ckpt.Config, DType: b.m.dtype, Window: b.p.Tokens, Rows: 1, Scored: 1, PrefixRows: benchRows}
	r, err := b.runner(spec)
	rows := b.tokens(benchRows, b.p.Tokens)
	return contestant{what: fmt.Sprintf("all layers over %d x %d tokens, %d threads", benchRows, b.p.Tokens, b.threads), unit: "tokens/s", work: float64(benchRows * b.p.Tokens),
		run: func() error { _, _, err := r.prefixes(rows); return err }}, err
}

// forwardOnOne is forward on one thread.
func (b *bencher) forwardOnOne() (contestant, error) {
	c, err := b.forward()
	all := c.run
	c.what = fmt.Sprintf("all layers over %d x %d tokens, 1 thread", benchRows, b.p.Tokens)
	c.run = func() error {
		b.s.dev.SetThreads(1)
		defer b.s.dev.SetThreads(b.threads)
		return all()
	}
	return c, err
}

// tokens are n rows of arbitrary tokens.
func (b *bencher) tokens(n, length int) []row {
	rows := make([]row, n)
	for i := range rows {
		for j := range length {
			rows[i].ids = append(rows[i].ids, int32((i*7919+j*104729)%b.m.tok.Len()))
		}
	}
	return rows
}

// gemm is the seven products of every layer for forward's tokens, activations
// quantised already.
func (b *bencher) gemm() (contestant, error) {
	m := benchRows * b.p.Tokens
	run, free, err := b.s.products(0, b.m.ckpt.Config.Layers, m)
	if err != nil {
		return contestant{}, err
	}
	b.free = append(b.free, free)
	return contestant{what: fmt.Sprintf("the %s products of the same layers alone", b.m.dtype), unit: "tokens/s", work: float64(m), run: func() error { run(); return nil }}, nil
}
