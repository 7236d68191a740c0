package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tabtune/host"
)

func train(ctx context.Context, a *app, args []string) error {
	f := a.flags("train")
	m, d, t := f.modelFlags(), f.dataFlags(), f.trainFlags()
	out := f.String("out", "", "the run's `folder`; one that holds an unfinished run is continued")
	restart := f.Bool("restart", false, "begin anew in --out instead of continuing what is there")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	p, err := t.params(f)
	if err != nil {
		return err
	}
	s, err := newSession(a, m, d, t.seed)
	if err != nil {
		return err
	}
	if p.Out, err = outputDir("--out", *out); err != nil {
		return err
	}
	s.mounts = append(s.mounts, host.Dir(p.Out))
	p.Resume = !*restart
	if err := s.start(ctx); err != nil {
		return err
	}
	defer s.close()
	if *restart {
		if err := removeRun(p.Out); err != nil {
			return err
		}
	}
	result, raw, err := runTask[host.TrainResult](ctx, s.engine, "train", p, s.trainEvent)
	s.progress.clear()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("interrupted; the run is kept in %s: give the same command again to continue it%w", *out, quiet{err})
		}
		return err
	}
	if f.json {
		return a.printJSON(raw)
	}
	if err := a.printScores(s.info.Kind, result); err != nil {
		return err
	}
	if h := result.Head; h != nil {
		fmt.Fprintf(a.out, "label head on layer %d, fitted to %d rows, penalty %g; cross-validated accuracy %.3f, loss %.4f\n", h.Layer, h.Rows, h.Lambda, h.Accuracy, h.Loss)
	}
	if result.Steps == 0 { // a head alone
		_, err = fmt.Fprintf(a.out, "%d rows in %s, peak memory %s\nadapter: %s\n", result.Rows, duration(result.Seconds), size(result.PeakBytes), filepath.Join(*out, "adapter"))
		return err
	}
	_, err = fmt.Fprintf(a.out, "%d steps, %d rows in %s (%.0f rows/s), peak memory %s, learning rate %.3g\nadapter: %s\n", result.Steps, result.Rows,
		duration(result.Seconds), result.RowsPerSecond, size(result.PeakBytes), result.LR, filepath.Join(*out, "adapter"))
	return err
}

// removeRun takes away what makes a folder a run's. Its adapter stays until the
// new run writes one.
func removeRun(dir string) error {
	for _, name := range []string{"replay.log", "metrics.jsonl", "run.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--restart: %w", err)
		}
	}
	return nil
}

// quiet carries an error's identity without its words.
type quiet struct{ err error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.err }

// session is an engine with a model, and data where the command takes some, and the bar that tells of it.
type session struct {
	app      *app
	model    *modelFlags
	path     string
	data     *host.DataParams
	ignore   []string // codes of warnings that say nothing here
	mounts   []host.Mount
	info     host.DataInfo
	engine   engine
	progress progress
}

// newSession checks the flags and files of model and data; d may be nil.
func newSession(a *app, m *modelFlags, d *dataFlags, seed int64) (*session, error) {
	path, mount, err := m.modelPath()
	if err != nil {
		return nil, err
	}
	if m.window < 0 {
		return nil, usagef("--window %d: must not be negative", m.window)
	}
	s := &session{app: a, model: m, path: path, mounts: []host.Mount{mount}, progress: progress{app: a}}
	if d != nil {
		p, mounts, err := d.params(m.window, seed)
		if err != nil {
			return nil, err
		}
		s.data = &p
		s.mounts = append(s.mounts, mounts...)
	}
	return s, nil
}

// start opens the module, the model and the data.
func (s *session) start(ctx context.Context) (err error) {
	o, err := s.model.options(s.app, s.mounts...)
	if err != nil {
		return err
	}
	if s.engine, err = s.app.open(ctx, o); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	info, _, err := runTask[host.ModelInfo](ctx, s.engine, "model.open",
		host.ModelParams{Path: s.path, DType: s.model.dtype, Window: s.model.window},
		func(p host.Progress) error {
			s.progress.bytes(p.Phase, p.Done, p.Total)
			return nil
		})
	s.progress.clear()
	if err != nil {
		return err
	}
	s.progress.printf("%s: %s, %.1f M parameters, %d layers, weights %s as %s", info.Name, info.Architecture,
		float64(info.Parameters)/1e6, info.Layers, size(info.WeightBytes), info.DType)
	if s.data == nil {
		return nil
	}
	data, _, err := runTask[host.DataInfo](ctx, s.engine, "data.open", s.data, func(p host.Progress) error {
		s.progress.update("data", p.Done, p.Total, "", -1)
		return nil
	})
	s.progress.clear()
	if err != nil {
		return err
	}
	s.info = data
	s.progress.printf("%d training and %d validation rows; %s", data.TrainRows, data.ValRows, kindText(data))
	for _, w := range data.Warnings {
		if !slices.Contains(s.ignore, w.Code) {
			s.progress.printf("warning: %s", w.Message)
		}
	}
	return nil
}

func (s *session) close() {
	s.progress.clear()
	if err := s.engine.Close(); err != nil {
		fmt.Fprintf(s.app.err, "closing: %v\n", err)
	}
}

// trainEvent shows an event of a run.
func (s *session) trainEvent(e host.TrainEvent) error {
	switch e.Type {
	case "prefix":
		s.progress.update("prefix", e.Done, e.Total, "frozen layers, once a row", -1)
	case "head":
		s.progress.printf("label head on layer %d: cross-validated accuracy %.3f, loss %.4f", e.Layer, e.Accuracy, e.Loss)
	case "progress":
		s.progress.update(e.Phase, e.Done, e.Total, "", -1)
	case "eps":
		s.progress.printf("perturbation %.3g", e.Eps)
	case "probe":
		what := fmt.Sprintf("top %d layers, %s", e.Layers, strings.Join(e.Modules, ","))
		if e.Chosen {
			s.progress.printf("adapting the %s", what)
		} else {
			s.progress.printf("%s: gain %.3g", what, e.Gain)
		}
	case "lr":
		s.progress.printf("learning rate %.3g", e.LR)
	case "eval":
		best := ""
		if e.Averaged {
			best = "  average of the iterates"
		}
		if e.Best {
			best += "  best so far"
		}
		s.progress.printf("step %4d  validation %s%s", e.Step, scoreText(s.info.Kind, e.Accuracy, e.Loss, e.Metrics), best)
	case "step":
		total := int64(e.Steps)
		if total == 0 { // a run by time: the module knows how long is left
			total = int64(e.Step) + 1
		}
		left := e.SecondsLeft
		if left == 0 {
			left = -1
		}
		s.progress.update("training", int64(e.Step), total, fmt.Sprintf("step %d  loss %.4f  %.0f rows/s", e.Step, e.Loss, e.RowsPerSecond), left)
	}
	return nil
}

func eval(ctx context.Context, a *app, args []string) error {
	f := a.flags("eval")
	m, d := f.modelFlags(), f.dataFlags()
	adapter := f.String("adapter", "", "the adapter's `folder`, or a run's, or a GGUF adapter")
	seed := f.Int64("seed", 0, "seed of the split, when --val-rows is given: the one that train was given")
	answerRows := f.Int("answer-rows", 0, "generate at most `N` answers, where the metric needs them (0: all)")
	predictions := f.String("predictions", "", "write every row's prediction to this `file`, one JSON object a line")
	if _, err := f.parse(args, 0); err != nil {
		return err
	}
	if *answerRows < 0 {
		return usagef("--answer-rows %d: must not be negative", *answerRows)
	}
	s, err := newSession(a, m, d, *seed)
	if err != nil {
		return err
	}
	if s.data.Val == nil { // no split asked for: every row of the file
		s.data.Val = &host.ValParams{Path: s.data.Path}
	}
	if s.data.TrainRows == 0 { // nothing is trained, so one row does, and what is said of it does not matter
		s.data.TrainRows = 1
		s.ignore = []string{"train-and-validation", "class-missing", "imbalance"}
	}
	dir, err := s.useAdapter(*adapter)
	if err != nil {
		return err
	}
	if err := s.startWith(ctx, dir); err != nil {
		return err
	}
	defer s.close()
	params := map[string]any{"split": "val"}
	if *answerRows > 0 {
		params["answerRows"] = *answerRows
	}
	result, raw, err := runTask[host.EvalResult](ctx, s.engine, "eval", params, func(p host.Progress) error {
		s.progress.update("eval", p.Done, p.Total, fmt.Sprintf("%s, %d of %d", p.Phase, p.Done, p.Total), -1)
		return nil
	})
	s.progress.clear()
	if err != nil {
		return err
	}
	if *predictions != "" {
		if err := writePredictions(*predictions, result.Predictions); err != nil {
			return err
		}
	}
	if f.json {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return fmt.Errorf("eval: value: %w", err)
		}
		delete(object, "predictions")
		return a.printJSON(object)
	}
	_, err = fmt.Fprintf(a.out, "%s  %d rows\n", scoreText(s.info.Kind, result.Accuracy, result.Loss, result.Metrics), result.Rows)
	return err
}

// useAdapter checks --adapter and mounts it; "" means none.
func (s *session) useAdapter(path string) (dir string, err error) {
	if path == "" {
		return "", nil
	}
	if strings.EqualFold(filepath.Ext(path), ".gguf") {
		if dir, err = inputFile("--adapter", path); err != nil {
			return "", err
		}
		s.mounts = append(s.mounts, host.File(dir))
		return dir, nil
	}
	if dir, err = adapterPath(path); err != nil {
		return "", err
	}
	s.mounts = append(s.mounts, host.Mount{Path: dir})
	return dir, nil
}

// startWith starts the session and loads an adapter into it, unless dir is "".
func (s *session) startWith(ctx context.Context, dir string) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	if dir == "" {
		return nil
	}
	if err := s.engine.Call(ctx, "adapter.load", map[string]string{"path": dir}, nil); err != nil {
		s.close()
		return err
	}
	return nil
}

func writePredictions(name string, rows []host.Prediction) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--predictions: %w", err)
	}
	defer f.Close()
	e := json.NewEncoder(f)
	for _, r := range rows {
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("--predictions: %w", err)
		}
	}
	return f.Close()
}
