package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"tabtune/internal/atomicfile"
)

// The short form compares what needs no peer, in Chromium, with a checked-in baseline of ratios. Both sides of a ratio take turns on the same
// machine, so the baseline holds for slower and for busy machines too; a ratio that looks worse is measured again before it counts.

// tolerated is how much of its baseline a ratio may lose.
const tolerated = 0.20

// tries is how often a ratio that looks worse is measured, and shortTime what the whole may take.
const (
	tries     = 3
	shortTime = 5 * time.Minute
)

// baseline is a ratio by name, larger being better. What it does not name is measured and printed.
type baseline map[string]float64

// shortPairs are measured with the session's own turns: a contestant against another, both on as many threads, since how two threads compare
// with one says more about what else the machine is doing.
var shortPairs = [][2]string{{"forward", "gemm"}, {"prge", "sequential"}, {"prge_top", "prge"}}

// short measures and compares; with update it writes the baseline instead.
func (b *bench) short(ctx context.Context, path string, update bool) error {
	want := baseline{}
	if data, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(data, &want); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	} else if !update {
		return err
	}
	t, opened, end, err := b.ours(ctx, "Q4_1", "int8")
	if err != nil {
		return err
	}
	defer end()
	got := baseline{}
	var worse []string
	for _, pair := range shortPairs {
		name := pair[0] + "_vs_" + pair[1]
		for try := range tries {
			r, err := b.ratio(t, pair)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(os.Stderr, "  %-22s %.3f (baseline %.3f)\n", name, r, want[name])
			got[name] = max(got[name], r)
			if update || !falls(want, name, got[name]) {
				break
			}
			if try == tries-1 {
				worse = append(worse, fmt.Sprintf("%s is %.3f, the baseline %.3f", name, got[name], want[name]))
			}
		}
	}
	var m struct{ Device, Module float64 }
	if err := t.method("memory", nil, &m); err != nil {
		return err
	}
	const name = "weights_vs_memory"
	got[name] = opened.Info.WeightBytes / (m.Device + m.Module)
	fmt.Fprintf(os.Stderr, "  %-22s %.3f (baseline %.3f)\n", name, got[name], want[name])
	if !update && falls(want, name, got[name]) {
		worse = append(worse, fmt.Sprintf("%s is %.3f, the baseline %.3f", name, got[name], want[name]))
	}
	if update {
		data, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			return err
		}
		return atomicfile.Write(path, func(w io.Writer) error { _, err := w.Write(append(data, '\n')); return err })
	}
	if len(worse) > 0 {
		return fmt.Errorf("slower than before: %v", worse)
	}
	return nil
}

// falls tells whether a ratio has lost more than is tolerated.
func falls(want baseline, name string, got float64) bool { return got < (1-tolerated)*want[name] }

// ratio lets two contestants of the session take turns.
func (b *bench) ratio(t *tab, pair [2]string) (float64, error) {
	var r struct{ Rows []struct{ Ratio float64 } }
	p := map[string]any{"only": pair[:], "seconds": b.seconds, "turns": b.rounds, "queries": 4, "batch": 2, "tokens": 32}
	if err := t.method("bench.start", p, &r); err != nil {
		return 0, err
	}
	if len(r.Rows) != 2 || !(r.Rows[0].Ratio > 0) {
		return 0, fmt.Errorf("bench gave %v", r.Rows)
	}
	return r.Rows[0].Ratio, nil
}
