// Command study trains with every estimator at equal rows and writes what came of
// it: docs/study-ROWS.md, with plots; docs/STUDY.md is written by hand. A run that is done is kept under -work and not
// repeated; one that was interrupted goes on from its log.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/host"
	"tabtune/internal/assets"
	"tabtune/internal/atomicfile"
)

// setting is a way to train. Rows and Seed are filled in for each run.
type setting struct {
	Name  string
	Note  string // a line for the table
	Alone bool   // its rows are its own: the head takes one pass
	host.TrainParams
}

// settings are compared at equal rows: all on q and v of the top four layers, rank
// 16, unless said otherwise.
func settings() []setting {
	adapter := func(p host.TrainParams) host.TrainParams {
		if p.Rank == 0 {
			p.Rank, p.Alpha = 16, 32
		}
		p.Modules, p.Layers = []string{"q", "v"}, host.Layers(4)
		if p.LR == nil {
			p.LR = host.AutoLR
		}
		return p
	}
	return []setting{
		{"paper", "P-RGE as MobiZO publishes it: q 4, b 4, rate 5e-5", false, adapter(host.TrainParams{Estimator: "prge", Queries: 4, Batch: 4, LR: host.LR(5e-5), Schedule: "constant"})},
		{"prge", "P-RGE, q 8, b 8, rate found", false, adapter(host.TrainParams{Estimator: "prge", Queries: 8, Batch: 8})},
		{"prge-0.5", "P-RGE, q 8, b 8, rate 0.5", false, adapter(host.TrainParams{Estimator: "prge", Queries: 8, Batch: 8, LR: host.LR(0.5)})},
		{"rows", "other rows for every query: q 64, b 1, rate found", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1})},
		{"rows-1", "other rows for every query: q 64, b 1, rate 1", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, LR: host.LR(1)})},
		{"rows-2", "other rows for every query: q 64, b 1, rate 2", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, LR: host.LR(2)})},
		{"momentum", "rows with momentum 0.9, rate 1", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, LR: host.LR(1), Optimizer: "momentum"})},
		{"muon", "rows with ZO-Muon, rate 0.2", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, LR: host.LR(0.2), Optimizer: "muon"})},
		{"mopi", "rows with ZO-MOPI, rate 0.2", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, LR: host.LR(0.2), Optimizer: "mopi"})},
		{"scalar", "rows with one second moment a matrix, rate found", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, Optimizer: "scalar"})},
		{"hizoo", "P-RGE with HiZOO, q 8, b 8, rate found", false, adapter(host.TrainParams{Estimator: "prge", Queries: 8, Batch: 8, Optimizer: "hizoo"})},
		{"average", "rows at the constant rate 1, with the average of the iterates", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, LR: host.LR(1), Schedule: "constant", Average: "tail"})},
		{"agzo", "rows, A from the activations, rate found", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, Subspace: "activations"})},
		{"labels", "rows, A of rank 2 from what tells labels apart, rate found", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, Subspace: "labels", Rank: 2, Alpha: 4})},
		{"lozo", "rows in random subspaces of rank 4, another every 20 steps, rate found", false, adapter(host.TrainParams{Estimator: "rows", Queries: 64, Batch: 1, Rank: 4, Alpha: 8, Resample: 20})},
		{"fzoo", "FZOO, 15 signs and the centre, b 8, rate 0.06", false, adapter(host.TrainParams{Estimator: "fzoo", Queries: 15, Batch: 8, LR: host.LR(0.06)})},
		{"grzo", "GRZO, n 64, rate found", false, adapter(host.TrainParams{Estimator: "grzo", Queries: 64, Batch: 1})},
		{"mezo", "MeZO on the adapter: q 1, b 16, rate found", false, adapter(host.TrainParams{Estimator: "mezo", Queries: 1, Batch: 16})},
		{"head", "the exact label head alone", true, host.TrainParams{Estimator: "head"}},
	}
}

// record is a finished run.
type record struct {
	Task    string           `json:"task"`
	Setting string           `json:"setting"`
	Seed    int64            `json:"seed"`
	Result  host.TrainResult `json:"result"`
	Curve   []point          `json:"curve"`
}

// point is an evaluation.
type point struct {
	Rows     int64   `json:"rows"`
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
}

// fullRows is the budget of the study that make study runs.
const fullRows = 25600

func main() {
	rows := flag.Int("rows", fullRows, "rows through the model that every run may use")
	seeds := flag.Int("seeds", 5, "runs of every setting")
	work := flag.String("work", "build/study", "folder of the runs")
	out := flag.String("out", "docs", "folder of the report")
	only := flag.String("only", "", "run these settings, separated by commas")
	tasks := flag.String("tasks", "all", "run these tasks, separated by commas")
	done := flag.Bool("done", false, "run nothing: report what is done")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	sets, err := dataSets(*tasks)
	if err == nil {
		err = run(ctx, sets, *rows, *seeds, *work, *out, *only, *done)
	}
	if err != nil {
		log.Fatal("study: ", err)
	}
}

func run(ctx context.Context, sets []dataSet, rows, seeds int, work, out, only string, done bool) error {
	var names []string
	if only != "" {
		names = strings.Split(only, ",")
	}
	for _, n := range names {
		if !slices.ContainsFunc(settings(), func(s setting) bool { return s.Name == n }) {
			return fmt.Errorf("no setting %q", n)
		}
	}
	var all []record
	for seed := range int64(seeds) {
		for i := range sets {
			d := &sets[i]
			for _, s := range settings() {
				if len(names) > 0 && !slices.Contains(names, s.Name) || !d.has(s) {
					continue
				}
				r, err := one(ctx, d, s, seed, d.rows(rows), work, done)
				if errors.Is(err, errNotDone) {
					continue
				}
				if err != nil {
					return fmt.Errorf("%s, %s, seed %d: %w", d.Name, s.Name, seed, err)
				}
				b := r.Result.Best
				log.Printf("%-9s %-9s seed %d: %s %.3f, loss %.4f at step %d of %d", d.Name, s.Name, seed, d.Metric, d.quality(b), b.Loss, b.Step, r.Result.Steps)
				all = append(all, r)
			}
			if len(all) == 0 {
				continue
			}
			if err := report(all, sets, rows, out); err != nil { // after every task: there is something to read early
				return err
			}
		}
	}
	return nil
}

// errNotDone is what one answers of a run that it is not to make.
var errNotDone = errors.New("not done")

// one makes a run, or reads it if it was made before; a run to be read alone that was not made is errNotDone.
func one(ctx context.Context, d *dataSet, s setting, seed int64, rows int, work string, read bool) (record, error) {
	dir, err := filepath.Abs(filepath.Join(work, fmt.Sprintf("%s-%s-%d-%d", d.Name, s.Name, rows, seed)))
	if err != nil {
		return record{}, err
	}
	r := record{Task: d.Name, Setting: s.Name, Seed: seed}
	done := filepath.Join(dir, "record.json")
	if b, err := os.ReadFile(done); err == nil {
		return r, json.Unmarshal(b, &r)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if read {
		return r, errNotDone
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return r, err
	}
	cache, err := assets.Dir()
	if err != nil {
		return r, err
	}
	data, err := d.files(work)
	if err != nil {
		return r, err
	}
	model := filepath.Join(cache, assets.Model)
	h, err := host.Open(ctx, host.Options{Mounts: []host.Mount{host.File(model), host.File(data.Path), host.File(data.Val.Path), host.Dir(dir)}})
	if err != nil {
		return r, err
	}
	defer h.Close()
	if _, err := h.OpenModel(ctx, host.ModelParams{Path: model}, nil); err != nil {
		return r, err
	}
	if _, err := h.OpenData(ctx, data); err != nil {
		return r, err
	}
	p := s.TrainParams
	p.Seed, p.Out, p.Resume = seed, dir, true
	if !s.Alone {
		p.Rows = rows
		p.EvalEvery = max(1, rows/8/perStep(p))
	}
	var at int64
	r.Result, err = h.Train(ctx, p, func(e host.TrainEvent) error {
		switch e.Type {
		case "step":
			at = e.Rows
		case "eval":
			p := point{at, e.Accuracy, e.Loss}
			if n := len(r.Curve); !e.Averaged || n == 0 {
				r.Curve = append(r.Curve, p)
			} else if p.Loss < r.Curve[n-1].Loss { // of the same step
				r.Curve[n-1] = p
			}
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	return r, atomicfile.Write(done, func(w io.Writer) error { return json.NewEncoder(w).Encode(r) })
}

func perStep(p host.TrainParams) int {
	if p.Estimator == "fzoo" {
		return (p.Queries + 1) * p.Batch
	}
	return 2 * p.Queries * p.Batch
}

// of are the records of a setting; ofTask those of a task.
func of(all []record, name string) []record {
	return slices.DeleteFunc(slices.Clone(all), func(r record) bool { return r.Setting != name })
}

func ofTask(all []record, name string) []record {
	return slices.DeleteFunc(slices.Clone(all), func(r record) bool { return r.Task != name })
}
