package session

import (
	"encoding/json"
	"math"

	"tabtune/lora"
	"tabtune/zo"
	"tabtune/zo/task"
)

// trainParams are train.start's. Zero values take the defaults of normalise.
type trainParams struct {
	Estimator string          `json:"estimator"`
	Queries   int             `json:"queries"`
	Batch     int             `json:"batch"`
	EpsGiven  json.RawMessage `json:"eps"`   // a number or "auto"
	Eps       float64         `json:"-"`     // that number; 0: not given, or to be chosen
	Noise     string          `json:"noise"` // normal, or rademacher; fzoo's default is the latter, as its authors' is
	LR        json.RawMessage `json:"lr"`    // a number or "auto"
	Schedule  string          `json:"schedule"`
	Warmup    float64         `json:"warmup"`    // share of the run over which the rate rises
	Optimizer string          `json:"optimizer"` // of package zo; "": sgd
	Beta      *float64        `json:"beta"`      // its momentum
	Clip      float64         `json:"clip"`      // times the median coefficient; 0: none
	Average   string          `json:"average"`   // of package zo; "": the iterates alone are scored
	Subspace  string          `json:"subspace"`  // where A comes from: random (default), activations, labels, or auto: labels where rows have some
	Resample  int             `json:"resample"`  // steps after which A is another; 0: never
	Refit     int             `json:"refit"`     // steps after which a label head is fitted again; 0: never
	Head      string          `json:"head"`      // where a label head may read: any layer, or output: the final norm alone
	Patience  int             `json:"patience"`  // evaluations without a better one that end the run; 0: none
	Rank      int             `json:"rank"`
	Alpha     float64         `json:"alpha"`
	Modules   []string        `json:"modules"` // or one "auto": the best of a probe
	Layers    json.RawMessage `json:"layers"`  // the top k, "all", or "auto": the best of a probe
	Steps     int             `json:"steps"`
	Rows      int             `json:"rows"`
	Minutes   float64         `json:"minutes"`
	Seed      int64           `json:"seed"`
	EvalEvery int             `json:"evalEvery"`
	EvalRows  int             `json:"evalRows"`
	// AnswerRows is how many validation rows, at most, are answered by generation in
	// every evaluation of a task that is judged by its answers.
	AnswerRows int `json:"answerRows"`
	// Objective is what is trained: nll (default), likelihood, error or f1.
	Objective string `json:"objective"`
	// Runtime is a file for the program if the host's own runtime is to run it (runtime.go); "": our engine does.
	Runtime string `json:"runtime"`
	Out     string `json:"out"`
	Resume  bool   `json:"resume"`
}

// defaultAnswerRows keeps evaluations within a run short.
const defaultAnswerRows = 32

// runConfig is trainParams, checked and complete.
type runConfig struct {
	trainParams
	lr      float64 // 0: to be found
	findEps bool    // eps is to be chosen, where a run begins
	// findLayers and findModules: what is adapted is to be chosen too (probe.go).
	findLayers, findModules bool
	top                     int
	head                    bool // fit a label head first
	all                     bool // train all weights, not an adapter
	evalGiven               bool
	objective               objective
	est                     zo.Estimator // nil: only the head is fitted
	schedule                zo.Schedule
	spec                    lora.Spec
}

// Values of estimator besides those of package zo.
const (
	auto     = "auto"
	headOnly = "head"
)

// headExamples is how few rows can be cross-validated.
const headExamples = 2

// rateGiven says whether the learning rate is a number.
func (p *trainParams) rateGiven() bool {
	return len(p.LR) > 0 && string(p.LR) != `"auto"` && string(p.LR) != "null"
}

// automatic settles the estimator where none was named. Whoever gives one of its
// knobs wants the estimator that they belong to. Otherwise, with labels on two rows or more, the head
// is fitted first (true), and what was given as steps, rows or minutes is spent
// under it, as long as that helps; without any of them the head is all.
func (p *trainParams) automatic(d *dataset) (withHead bool) {
	if p.Estimator != "" && p.Estimator != auto {
		return false
	}
	p.Estimator = "prge"
	knobs := p.Noise != "" || p.Queries != 0 || p.Batch != 0 || p.Eps != 0 || p.Rank != 0 || p.Alpha != 0 || p.Modules != nil && !p.modulesAuto() || p.Optimizer != "" || p.rateGiven()
	if knobs {
		return false
	}
	// Other rows for every query learn most from a row (make study).
	p.Estimator, p.Queries, p.Batch = "rows", 64, 1
	if !d.labelled() {
		p.Queries = 16 // an example is several rows, or long ones
		return false
	}
	if p.Patience == 0 {
		p.Patience = 4
	}
	if p.Steps == 0 && p.Rows == 0 && p.Minutes == 0 {
		p.Estimator = headOnly
	}
	return true
}

// labelled says whether there are labels, on rows enough to cross-validate a head.
func (d *dataset) labelled() bool {
	return d.kind == task.KindLabels && len(d.train.examples) >= headExamples
}

// settleSubspace puts what it stands for in the place of "auto": labels where there are
// some, no head has learned them already, and nothing else that was asked for is in the
// way. The subspace of labels has as many directions as there are labels, which is the
// rank that it takes by itself.
func (p *trainParams) settleSubspace(d *dataset, withHead bool) error {
	n := len(d.labels)
	if p.Subspace == auto {
		p.Subspace = ""
		if d.labelled() && !withHead && (p.Rank == 0 || p.Rank >= n) && p.Resample == 0 && p.Runtime == "" && !p.allWeights() {
			p.Subspace = fromLabels
		}
	}
	if p.Subspace != fromLabels {
		return nil
	}
	if !d.labelled() {
		return invalid("subspace: %s needs rows with labels, %d or more", fromLabels, headExamples)
	}
	if p.Rank == 0 {
		p.Rank = n
	}
	if p.Rank < n {
		return invalid("rank: %d, the subspace of %d labels has %d directions", p.Rank, n, n)
	}
	if p.Alpha == 0 {
		p.Alpha = 2 * float64(p.Rank)
	}
	return nil
}

func (p *trainParams) checkHead() error {
	if p.Head != "" && p.Head != "any" && p.Head != "output" {
		return invalid("head: %q, want any or output", p.Head)
	}
	return nil
}

// normaliseHead is normalise for a run that fits a head and nothing else.
func (s *Session) normaliseHead(m *model, d *dataset, p trainParams) (*runConfig, error) {
	if d.kind != task.KindLabels {
		return nil, invalid("estimator: head needs data with labels")
	}
	if n := len(d.train.examples); n < headExamples {
		return nil, invalid("estimator: head needs %d training rows, there is %d", headExamples, n)
	}
	c := &runConfig{trainParams: p, head: true, lr: 1}
	c.Steps, c.Rows, c.Minutes, c.EvalEvery = 0, 0, 0, 1
	c.Rank, c.Alpha = len(d.labels), float64(len(d.labels)) // of the LoRA on the output head
	var err error
	c.spec, err = s.headSpec(m, d, &p)
	c.top = c.spec.Top
	return c, err
}

// perStep is how many rows a step sends through the adapted layers.
func (c *runConfig) perStep() int64 {
	if c.est == nil {
		return 0
	}
	return zo.PerStep(c.est, c.Batch)
}

// headSpec is the program that gives a head its features: of the top half of the
// layers, of as many as asked for, or of the last alone.
func (s *Session) headSpec(m *model, d *dataset, p *trainParams) (lora.Spec, error) {
	c := m.ckpt.Config
	spec := lora.Spec{Model: c, DType: m.dtype, Top: (c.Layers + 1) / 2, Window: d.window, Labels: d.labelTokens(), Queries: 1, Sides: lora.Single,
		Rows: 16, Scored: 16, Features: true}
	if p.Head == "output" {
		spec.Top = min(4, c.Layers)
	}
	if len(p.Layers) > 0 && string(p.Layers) != "null" && !isAuto(p.Layers) {
		top, err := topLayers(p.Layers, &c)
		if err != nil {
			return spec, err
		}
		spec.Top = top
	}
	if err := spec.Validate(); err != nil {
		return spec, invalid("%v", err)
	}
	return spec, nil
}

func (s *Session) normalise(p trainParams) (*runConfig, error) {
	m, err := s.needModel()
	if err != nil {
		return nil, err
	}
	d, err := s.needData()
	if err != nil {
		return nil, err
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if err := p.checkHead(); err != nil {
		return nil, err
	}
	if err := p.readEps(); err != nil {
		return nil, err
	}
	named := p.Estimator != "" && p.Estimator != auto
	withHead := p.automatic(d)
	if p.Estimator == headOnly {
		return s.normaliseHead(m, d, p)
	}
	def(&p.Queries, map[string]int{"mezo": 1}[p.Estimator])
	def(&p.Queries, 4)
	def(&p.Batch, 4)
	if err := p.settleSubspace(d, withHead); err != nil {
		return nil, err
	}
	def(&p.Rank, 16)
	if p.Eps == 0 {
		p.Eps = 1e-2
	}
	if p.Alpha == 0 {
		p.Alpha = 32
	}
	if p.Schedule == "" {
		p.Schedule = "linear"
	}
	findModules := p.modulesAuto()
	if len(p.Modules) == 0 || findModules {
		p.Modules = []string{"q", "v"}
	}
	c := &runConfig{trainParams: p, head: withHead, findEps: p.epsAuto() || !named && p.Estimator == "rows",
		findLayers: isAuto(p.Layers), findModules: findModules}
	if c.top, err = topLayers(p.Layers, &m.ckpt.Config); err != nil {
		return nil, err
	}
	if p.rateGiven() {
		if err := json.Unmarshal(p.LR, &c.lr); err != nil || !(c.lr > 0) {
			return nil, invalid("lr: %s, want a positive number or \"auto\"", p.LR)
		}
	}
	if p.Batch < 1 || p.Batch > 4096 {
		return nil, invalid("batch: %d, want 1 to 4096", p.Batch)
	}
	if c.est, err = zo.New(p.Estimator, p.Queries); err != nil {
		return nil, invalid("%v", err)
	}
	if c.Beta == nil {
		beta := zo.DefaultBeta
		c.Beta = &beta
	}
	if _, err = zo.NewOptimizer(p.Optimizer, *c.Beta); err != nil {
		return nil, invalid("%v", err)
	}
	if !(p.Clip >= 0) || math.IsInf(p.Clip, 0) || p.Patience < 0 {
		return nil, invalid("clip and patience are not negative")
	}
	if c.schedule, err = zo.NewSchedule(p.Schedule, p.Warmup); err != nil {
		return nil, invalid("%v", err)
	}
	given := 0
	for _, set := range []bool{p.Steps != 0, p.Rows != 0, p.Minutes != 0} {
		if set {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, invalid("give one of steps, rows and minutes")
	case given == 0:
		c.Steps = 200
	case p.Steps < 0 || p.Rows < 0 || p.Minutes < 0 || math.IsNaN(p.Minutes) || math.IsInf(p.Minutes, 0):
		return nil, invalid("steps, rows and minutes are positive numbers")
	}
	if c.objective, err = checkObjective(p.Objective, d.kind); err != nil {
		return nil, err
	}
	def(&c.AnswerRows, defaultAnswerRows)
	if c.AnswerRows < 0 {
		return nil, invalid("answerRows: %d, want more than 0", c.AnswerRows)
	}
	if p.Rows > 0 {
		c.Steps = max(1, p.Rows/int(c.perStep()))
	}
	noise := lora.Noise(p.Noise)
	switch {
	case p.Noise == "normal":
		noise = lora.Normal
	case p.Noise == "" && p.Estimator == "fzoo":
		noise = lora.Rademacher
	}
	c.spec = lora.Spec{Model: m.ckpt.Config, DType: m.dtype, Noise: noise, Modules: p.Modules, Top: c.top, Rank: p.Rank, Alpha: p.Alpha,
		Queries: p.Queries, Sides: c.est.Sides(), Seed: p.Seed, Window: d.window, Labels: d.labelTokens()}
	if c.est.Sequential() {
		c.spec.Queries = 1
	}
	if c.est.Spread() {
		c.spec.Queries = spreadQueries(p.Queries, p.Batch)
	}
	if p.allWeights() {
		if err := c.fullWeights(m); err != nil {
			return nil, err
		}
	}
	if err := c.checkState(); err != nil {
		return nil, err
	}
	if c.Runtime != "" && c.Optimizer != "" && c.Optimizer != "sgd" {
		return nil, invalid("optimizer: %s changes the adapter's matrices in memory, which another runtime does not show; use sgd", c.Optimizer)
	}
	if c.all && noise != lora.Normal {
		return nil, invalid("noise: %s needs an adapter; all weights are perturbed by the normal", noise)
	}
	if c.all && c.Optimizer != "" && c.Optimizer != "sgd" {
		return nil, invalid("optimizer: %s needs an adapter; all weights are trained by sgd", c.Optimizer)
	}
	reps := c.spec.Replicas()
	rows, positions := d.bounds(c.objective, p.Batch, reps, m.ckpt.Config.Vocab)
	// Evaluation takes as many rows at once, but at least 16 where that costs little.
	c.spec.Rows = max(reps*rows, (16+reps-1)/reps*reps)
	c.spec.Scored = reps * positions
	if d.kind == task.KindLabels {
		c.spec.Scored = max(c.spec.Scored, c.spec.Rows)
	}
	c.spec.Decode, c.spec.Features = d.generates(), c.Refit > 0
	if err := c.spec.Validate(); err != nil {
		return nil, invalid("%v", err)
	}
	c.evalGiven = c.EvalEvery != 0
	if !c.evalGiven {
		c.EvalEvery = max(10, min(c.Steps/6, 50))
	}
	if c.EvalEvery < 0 || c.EvalRows < 0 {
		return nil, invalid("evalEvery and evalRows are not negative")
	}
	return c, nil
}

// epsAuto says whether eps is to be chosen where the run begins.
func (p *trainParams) epsAuto() bool { return isAuto(p.EpsGiven) }

// modulesAuto says whether the modules are to be chosen.
func (p *trainParams) modulesAuto() bool { return len(p.Modules) == 1 && p.Modules[0] == autoModules }

// readEps reads eps, unless it is left out or "auto".
func (p *trainParams) readEps() error {
	if len(p.EpsGiven) == 0 || string(p.EpsGiven) == "null" || p.epsAuto() {
		return nil
	}
	if err := json.Unmarshal(p.EpsGiven, &p.Eps); err != nil || p.Eps != 0 && !(p.Eps > 0 && p.Eps < 10) {
		return invalid("eps: %s, want a number between 0 and 10 or \"auto\"", p.EpsGiven)
	}
	return nil
}

// checkState checks what a run keeps or does between its steps.
func (c *runConfig) checkState() error {
	if _, err := zo.NewAverage(c.Average); err != nil {
		return invalid("%v", err)
	}
	if opt, _ := zo.NewOptimizer(c.Optimizer, 0); opt != nil {
		if _, ok := opt.(zo.Curved); ok && (c.Queries < 2 || c.Estimator != "prge" && c.Estimator != "mezo") {
			return invalid("optimizer: %s compares how losses of two directions or more bend on the same rows; use prge or mezo, queries 2 or more", c.Optimizer)
		}
	}
	switch {
	case c.epsAuto() && c.Estimator == "greedy":
		return invalid("eps: greedy has no slopes to compare; give a number")
	case c.epsAuto() && c.all:
		return invalid("eps: it is chosen for adapters; give a number when all weights are trained")
	case c.Average != "" && (c.all || c.Runtime != ""):
		return invalid("average: it needs an adapter that can be read and written, and our engine")
	case (c.findLayers || c.findModules) && (c.all || c.Runtime != ""):
		return invalid("layers, modules: they are chosen for adapters, and with our engine; say which")
	case c.Subspace != "" && c.Subspace != "random" && !c.ownA():
		return invalid("subspace: %q, want random, %s, %s or %s", c.Subspace, fromInputs, fromLabels, auto)
	case c.Resample < 0:
		return invalid("resample: %d, want a number of steps, or 0", c.Resample)
	case (c.ownA() || c.Resample > 0) && (c.all || c.Runtime != ""):
		return invalid("subspace, resample: they need an adapter whose program may change, and our engine")
	case c.ownA() && c.Resample > 0:
		return invalid("resample: its subspaces are random; leave subspace out")
	case c.Resample > 0 && 2*c.Rank > maxStackRank:
		return invalid("resample: rank %d leaves no room for a second subspace; want %d at most", c.Rank, maxStackRank/2)
	case c.Refit < 0:
		return invalid("refit: %d, want a number of steps, or 0", c.Refit)
	case c.Refit > 0 && !c.head:
		return invalid("refit: there is no label head to fit again; the estimator auto has one where rows have labels")
	}
	return nil
}

// topLayers reads a number of layers or "all"; nothing, and "auto" until the probe, means 4.
func topLayers(raw json.RawMessage, c *lora.Config) (int, error) {
	top := min(4, c.Layers)
	switch {
	case len(raw) == 0 || string(raw) == "null" || isAuto(raw): // auto: what a run begins with
	case string(raw) == `"all"`:
		top = c.Layers
	default:
		if err := json.Unmarshal(raw, &top); err != nil || top < 1 || top > c.Layers {
			return 0, invalid("layers: %s, want 1 to %d, \"all\" or \"auto\"", raw, c.Layers)
		}
	}
	return top, nil
}

// fullModules is the value of modules that trains all weights instead of an
// adapter (MeZO's own form).
const fullModules = "weights"

func (p *trainParams) allWeights() bool { return len(p.Modules) == 1 && p.Modules[0] == fullModules }

func (c *runConfig) full() bool { return c.all }

// manyPrograms says whether a run ends with another program than it began with.
func (c *runConfig) manyPrograms() bool {
	return c.head || c.Resample > 0 || c.ownA() || c.findLayers || c.findModules
}

// trained is the objective's name in a log: none for the usual one.
func (c *runConfig) trained() string {
	if c.objective == objNLL {
		return ""
	}
	return string(c.objective)
}
