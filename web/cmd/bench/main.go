// Command bench measures Tabtune beside its peers on this machine, in turns, and writes docs/benchmarks.json and docs/BENCHMARKS.md:
//
//	go run ./web/cmd/bench                 # everything
//	go run ./web/cmd/bench -only forward   # the groups whose name begins so; the others keep their last results
//	go run ./web/cmd/bench -short docs/bench-baseline.json    # no peers: fails when a ratio has fallen
//
// The peers come from their registries at the versions of peers/package-lock.json and peers/requirements.txt, and are kept in the cache.
// Each group of contestants is opened and warmed, then takes turns: round after round, each measures for a few seconds. A ratio is
// the median over rounds of (ours / peer) within the round, so that a machine that slows down slows both.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	b := &bench{}
	flag.StringVar(&b.only, "only", "", "run the groups whose names begin with this; the other rows of docs/benchmarks.json stay")
	flag.IntVar(&b.rounds, "rounds", 5, "turns of each contestant")
	flag.Float64Var(&b.seconds, "seconds", 2, "length of a turn")
	flag.StringVar(&b.dist, "dist", "web/dist", "the built page")
	flag.StringVar(&b.out, "out", "docs", "folder to write to")
	flag.StringVar(&b.match, "programs", "", "of the group programs, those whose names contain this")
	flag.BoolVar(&b.profile, "profile", false, "of the group programs, print what operators took")
	short := flag.String("short", "", "measure only what needs no peer, and fail where a ratio is 20% worse than in this file")
	update := flag.Bool("update", false, "with -short: write the file")
	flag.Parse()
	if b.rounds < 1 || !(b.seconds > 0) {
		return fmt.Errorf("-rounds %d -seconds %g: want at least one round of some time", b.rounds, b.seconds)
	}
	if *short != "" {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx, shortTime)
		defer end()
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.close()
	if *short != "" {
		return b.short(ctx, *short, *update)
	}
	kept, err := readReport(b.out)
	if err != nil {
		return err
	}
	b.report = kept
	for _, g := range groups {
		if !strings.HasPrefix(g.name, b.only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", time.Now().Format(time.TimeOnly), g.name)
		if err := g.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		if err := b.report.write(b.out); err != nil { // what is measured is kept, whatever comes after
			return err
		}
	}
	return nil
}

// bench is what the groups share.
type bench struct {
	only      string
	match     string
	profile   bool
	rounds    int
	seconds   float64
	dist, out string

	peers  string // folder with node_modules and the converted models
	python string
	assets string
	url    string // of the server
	report *report
	ends   []func()
}

func (b *bench) close() {
	for i := len(b.ends) - 1; i >= 0; i-- {
		b.ends[i]()
	}
	b.ends = nil
}
