package main

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// contestant is one side of a comparison, warm. turn measures for about so long and returns a rate, larger is better.
type contestant struct {
	name string
	turn func(ctx context.Context) (float64, error)
}

// result is what the rounds of a contest gave.
type result struct {
	names []string
	rates [][]float64 // by contestant, by round
}

// contest lets the contestants take turns. The first round is thrown away.
func (b *bench) contest(ctx context.Context, cs ...contestant) (*result, error) {
	r := &result{rates: make([][]float64, len(cs))}
	for round := range b.rounds + 1 {
		for i, c := range cs {
			v, err := c.turn(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if !(v > 0) {
				return nil, fmt.Errorf("%s: a rate of %g", c.name, v)
			}
			if round > 0 {
				r.rates[i] = append(r.rates[i], v)
			}
			fmt.Fprintf(os.Stderr, "  %-34s %10.4g\n", c.name, v)
		}
	}
	for _, c := range cs {
		r.names = append(r.names, c.name)
	}
	return r, nil
}

func (r *result) rate(name string) []float64 { return r.rates[slices.Index(r.names, name)] }

// add puts ours against peer into the report: the medians, and the median of the rounds' ratios with their range.
func (r *result) add(rep *report, name, ours, peer, unit, command string) {
	a, p := r.rate(ours), r.rate(peer)
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / p[i]
	}
	slices.Sort(ratios)
	rep.add(row{Name: name, Ours: median(a), Peer: median(p), Unit: unit, Ratio: median(ratios), Command: command,
		OursName: ours, PeerName: peer, Low: ratios[0], High: ratios[len(ratios)-1], Rounds: len(a)})
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
