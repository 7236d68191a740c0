package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tabtune/internal/atomicfile"
	"tabtune/lora/replay"
	"tabtune/wasm/rpc"
)

// runFiles are the files of a run's folder.
type runFiles struct {
	dir     string
	log     *replay.Writer
	metrics *os.File
	resumed *replay.Log
	state   runState
}

// runState is run.json.
type runState struct {
	Version  string        `json:"version"`
	Model    modelInfo     `json:"model"`
	Data     dataInfo      `json:"data"`
	Config   replay.Config `json:"config"`
	Step     int           `json:"step"`
	Rows     int64         `json:"rows"`
	Seconds  float64       `json:"seconds"`
	Done     bool          `json:"done"`
	ZeroShot score         `json:"zeroShot"`
	Last     score         `json:"last"`
	Best     score         `json:"best"`
}

func (f *runFiles) path(name string) string { return filepath.Join(f.dir, name) }

func (u *run) config() replay.Config {
	m, c := u.s.model, u.c
	cfg := replay.Config{Model: m.info.Name, ModelSHA256: m.info.SHA256, DataSHA256: u.s.data.hash, DType: string(m.dtype), Window: c.spec.Window,
		ASeed: c.Seed, A: u.packed, Resample: c.Resample, Rank: c.Rank, Alpha: c.Alpha, Estimator: c.Estimator, Queries: c.Queries, Batch: c.Batch, Eps: c.Eps, LR: c.lr,
		Schedule: c.Schedule, Steps: c.Steps, Seed: c.Seed, Noise: string(c.spec.Noise)}
	if u.avg != nil {
		cfg.Average = c.Average
	}
	if u.opt != nil {
		cfg.Optimizer, cfg.Beta = c.Optimizer, *c.Beta
	}
	for _, a := range c.spec.Adapters() {
		cfg.Modules = append(cfg.Modules, a.Name)
	}
	for l := c.spec.Model.Layers - c.spec.Top; l < c.spec.Model.Layers; l++ {
		cfg.Layers = append(cfg.Layers, l)
	}
	cfg.Extra, _ = json.Marshal(extra{u.s.data.rowParams, c.EvalRows, c.EvalEvery, c.trained(), c.head, c.trainParams.Head, c.Warmup, c.Clip, c.Patience, c.Refit, c.Subspace, c.findLayers, c.findModules}) // strings and numbers only
	return cfg
}

// extra is what else decides how a run goes on and which adapter is its best.
type extra struct {
	rowParams
	EvalRows  int    `json:"evalRows"`
	EvalEvery int    `json:"evalEvery"`
	Objective string `json:"objective,omitempty"`
	Head      bool   `json:"head,omitempty"` // fitted before the first step

	HeadOn   string  `json:"headOn,omitempty"`
	Warmup   float64 `json:"warmup,omitempty"`
	Clip     float64 `json:"clip,omitempty"`
	Patience int     `json:"patience,omitempty"`
	Refit    int     `json:"refit,omitempty"`
	Subspace string  `json:"subspace,omitempty"`

	LayersAuto  bool `json:"layersAuto,omitempty"`
	ModulesAuto bool `json:"modulesAuto,omitempty"`
}

// openRun makes the run's folder, or finds the log to continue from.
func openRun(u *run) (*runFiles, error) {
	f := &runFiles{dir: u.c.Out}
	if err := os.MkdirAll(f.dir, 0o777); err != nil {
		return nil, err
	}
	path := f.path("replay.log")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return f, nil
	} else if err != nil {
		return nil, err
	}
	if !u.c.Resume {
		return nil, rpc.Errorf("run_exists", "%s holds a run already; continue it, or choose another folder", f.dir)
	}
	log, w, err := replay.Resume(path, -1)
	if err != nil {
		return nil, err
	}
	if err := u.sameRun(log.Config); err != nil {
		w.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.log, f.resumed = w, log
	return f, nil
}

// sameRun compares a log's header with what was asked for now. The rate and the
// steps between evaluations may be the log's, and a run may be continued for
// longer.
func (u *run) sameRun(old replay.Config) error {
	var was extra
	if !u.c.evalGiven && json.Unmarshal(old.Extra, &was) == nil && was.EvalEvery > 0 {
		u.c.EvalEvery = was.EvalEvery
	}
	u.placeOf(&old)
	now := u.config()
	if u.c.lr == 0 {
		now.LR = old.LR
	}
	if u.c.findEps {
		now.Eps = old.Eps
	}
	now.Steps = old.Steps
	now.A, old.A = nil, nil // subspace says whether there are any
	a, b := settings(old), settings(now)
	keys := maps.Clone(a) // a setting that is off is absent: neither header has all
	maps.Copy(keys, b)
	var diff []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		switch x, y := fmt.Sprint(a[k]), fmt.Sprint(b[k]); {
		case x == y:
		case len(x)+len(y) < 200:
			diff = append(diff, fmt.Sprintf("%s was %s, now %s", k, x, y))
		default:
			diff = append(diff, k)
		}
	}
	if len(diff) == 0 {
		return nil
	}
	return rpc.Errorf("other_run", "the run there has other settings (%s); continue it with the same ones, or choose another folder", strings.Join(diff, "; "))
}

// settings is a log's header by name, the writer's own fields among the others.
func settings(c replay.Config) map[string]any {
	m := map[string]any{}
	more := c.Extra
	c.Extra = nil
	b, _ := json.Marshal(c)
	for _, b := range [][]byte{b, more} {
		json.Unmarshal(b, &m) // a foreign log's extra may be anything: what is missing counts as different
	}
	return m
}

// start writes the state of a new run and then begins its log: a folder with a
// log can be continued.
func (f *runFiles) start(u *run) (err error) {
	if err := f.checkpoint(u, false); err != nil {
		return err
	}
	f.log, err = replay.Create(f.path("replay.log"), u.config())
	return err
}

func (f *runFiles) metric(e any) error {
	if f.metrics == nil {
		var err error
		how := os.O_APPEND
		if f.resumed == nil {
			how = os.O_TRUNC // of a run that was stopped before its log began
		}
		if f.metrics, err = os.OpenFile(f.path("metrics.jsonl"), os.O_CREATE|os.O_WRONLY|how, 0o666); err != nil {
			return err
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = f.metrics.Write(append(b, '\n'))
	return err
}

func (f *runFiles) close() {
	if f.log != nil {
		f.log.Close() // every record was flushed when it was appended
	}
	if f.metrics != nil {
		f.metrics.Close()
	}
}

// checkpoint writes run.json and, with last, says that the run is done. The
// adapter is written whenever the best one has changed.
func (f *runFiles) checkpoint(u *run, last bool) error {
	st := runState{Version: Version, Model: u.s.model.info, Data: u.s.data.info, Config: u.config(), Step: u.step, Rows: u.rows,
		Seconds: (u.before + u.spent).Seconds(), Done: last, ZeroShot: u.res.ZeroShot, Best: u.res.Best,
		Last: score{Step: u.step, Accuracy: u.res.Accuracy, Loss: u.res.Loss, metrics: u.res.metrics}}
	if !u.c.full() && (f.state.Best.Step != st.Best.Step || f.state.Best.Loss != st.Best.Loss || f.state.Version == "") {
		if err := writeAdapter(f.path("adapter"), u.adapter(), u.s.data.Labels); err != nil {
			return err
		}
	}
	f.state = st
	st.Config.A = nil // the log has them
	return atomicfile.Write(f.path("run.json"), func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(st)
	})
}

// restore continues a run: B is rebuilt from the log alone, the scores come from
// run.json.
func (u *run) restore(log *replay.Log) error {
	f := u.files
	b, err := os.ReadFile(f.path("run.json"))
	if err == nil {
		err = json.Unmarshal(b, &f.state)
	}
	if err != nil {
		return fmt.Errorf("continuing the run: %s: %w", f.path("run.json"), err)
	}
	if u.c.full() {
		return invalid("a run over all weights cannot be continued")
	}
	fixed := f.state.Rows - u.rowsOf(f.state.Step) // before the first step
	u.c.lr = log.Config.LR
	if u.c.findEps {
		u.c.Eps = log.Config.Eps
	}
	if f.state.Step > len(log.Records) {
		// The log has lost its end, which the same steps will give again. Every score
		// before the best one was worse, so nothing is missed by forgetting that too.
		f.state.Step, f.state.Last = len(log.Records), score{}
		if f.state.Best.Step > len(log.Records) {
			f.state.Best = f.state.ZeroShot
		}
	}
	// The head is a function of model and data and is fitted again.
	u.res.ZeroShot, u.res.Best = f.state.ZeroShot, f.state.ZeroShot
	if err := u.keepBest(); err != nil {
		return err
	}
	if err := u.stageHead(); err != nil {
		return err
	}
	if u.c.ownA() {
		if err := u.useSubspace(log.Config.A); err != nil {
			return fmt.Errorf("%s: %w", f.path("replay.log"), err)
		}
	}
	progress := u.s.paced(u.t, "progress", "replay")
	if err := u.r.writeB(nil); err != nil {
		return err
	}
	best := f.state.Best.Step
	if err := u.repeat(log.Records[:best], progress); err != nil {
		return err
	}
	if best > 0 {
		u.res.Head = nil
		if u.head != nil {
			u.res.Head = &u.headInfo
		}
	}
	keep := u.keepBest
	if f.state.Best.Averaged {
		keep = func() error { return u.averaged(u.keepBest) }
	}
	if best > 0 || !u.c.head {
		if err := keep(); err != nil {
			return err
		}
	}
	if err := u.repeat(log.Records[best:], progress); err != nil {
		return err
	}
	u.waited = f.state.Step/u.c.EvalEvery - best/u.c.EvalEvery // the step evaluated last counts, evalStep below counts its own
	u.rows = fixed + u.rowsOf(u.step)
	if f.state.Step > 0 { // with what the head took, which is again in before
		u.before = time.Duration(f.state.Seconds * float64(u.step) / float64(f.state.Step) * float64(time.Second))
	}
	u.res.ZeroShot, u.res.Best = f.state.ZeroShot, f.state.Best
	u.res.Accuracy, u.res.Loss, u.res.metrics = f.state.Last.Accuracy, f.state.Last.Loss, f.state.Last.metrics
	if err := u.emitPast(); err != nil {
		return err
	}
	if err := u.t.Emit(map[string]any{"type": "lr", "lr": u.c.lr}); err != nil {
		return err
	}
	if u.step > f.state.Step && u.evalDue() {
		return u.evalStep() // the step was logged, its score was not
	}
	return nil
}

// rowsOf is how many rows so many steps take, and what is done between them.
func (u *run) rowsOf(steps int) int64 {
	n := int64(steps) * u.c.perStep()
	if u.c.Refit > 0 {
		n += int64(steps/u.c.Refit) * int64(len(u.headRows(2*u.c.top+1)))
	}
	return n
}

// emitPast tells the host what the run has seen, so that a chart can go on.
func (u *run) emitPast() error {
	if err := u.t.Emit(evalEvent{"eval", u.res.ZeroShot, false}); err != nil {
		return err
	}
	if u.res.Best.Step > 0 {
		return u.t.Emit(evalEvent{"eval", u.res.Best, true})
	}
	return nil
}
