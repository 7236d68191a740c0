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
	Eps       float64         `json:"eps"`
	Noise     string          `json:"noise"` // normal, or rademacher; fzoo's default is the latter, as its authors' is
	LR        json.RawMessage `json:"lr"`    // a number or "auto"
	Schedule  string          `json:"schedule"`
	Warmup    float64         `json:"warmup"`    // share of the run over which the rate rises
	Optimizer string          `json:"optimizer"` // of package zo; "": sgd
	Beta      *float64        `json:"beta"`      // its momentum
	Clip      float64         `json:"clip"`      // times the median coefficient; 0: none
	Head      string          `json:"head"`      // where a label head may read: any layer, or output: the final norm alone
	Patience  int             `json:"patience"`  // evaluations without a better one that end the run; 0: none
	Rank      int             `json:"rank"`
	Alpha     float64         `json:"alpha"`
	Modules   []string        `json:"modules"`
	Layers    json.RawMessage `json:"layers"` // the top k, or "all"
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
	lr        float64 // 0: to be found
	findEps   bool    // eps is to be chosen, where a run begins
	top       int
	head      bool // fit a label head first
	all       bool // train all weights, not an adapter
	evalGiven bool
	objective objective
	est       zo.Estimator // nil: only the head is fitted
	schedule  zo.Schedule
	spec      lora.Spec
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
	knobs := p.Noise != "" || p.Queries != 0 || p.Batch != 0 || p.Eps != 0 || p.Rank != 0 || p.Alpha != 0 || p.Modules != nil || p.Optimizer != "" || p.rateGiven()
	if knobs {
		return false
	}
	// Other rows for every query learn most from a row (make study).
	p.Estimator, p.Queries, p.Batch = "rows", 64, 1
	if d.kind != task.KindLabels || len(d.train.examples) < headExamples {
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
	if len(p.Layers) > 0 && string(p.Layers) != "null" {
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
	named := p.Estimator != "" && p.Estimator != auto
	withHead := p.automatic(d)
	if p.Estimator == headOnly {
		return s.normaliseHead(m, d, p)
	}
	def(&p.Queries, map[string]int{"mezo": 1}[p.Estimator])
	def(&p.Queries, 4)
	def(&p.Batch, 4)
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
	if len(p.Modules) == 0 {
		p.Modules = []string{"q", "v"}
	}
	c := &runConfig{trainParams: p, head: withHead, findEps: !named && p.Estimator == "rows"}
	if c.top, err = topLayers(p.Layers, &m.ckpt.Config); err != nil {
		return nil, err
	}
	if p.rateGiven() {
		if err := json.Unmarshal(p.LR, &c.lr); err != nil || !(c.lr > 0) {
			return nil, invalid("lr: %s, want a positive number or \"auto\"", p.LR)
		}
	}
	if !(p.Eps > 0 && p.Eps < 10) {
		return nil, invalid("eps: %g, want a number between 0 and 10", p.Eps)
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
	if len(p.Modules) == 1 && p.Modules[0] == fullModules {
		if err := c.fullWeights(m); err != nil {
			return nil, err
		}
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
	c.spec.Decode = d.generates()
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

// topLayers reads a number of layers or "all"; nothing means 4.
func topLayers(raw json.RawMessage, c *lora.Config) (int, error) {
	top := min(4, c.Layers)
	switch {
	case len(raw) == 0 || string(raw) == "null":
	case string(raw) == `"all"`:
		top = c.Layers
	default:
		if err := json.Unmarshal(raw, &top); err != nil || top < 1 || top > c.Layers {
			return 0, invalid("layers: %s, want 1 to %d or \"all\"", raw, c.Layers)
		}
	}
	return top, nil
}

// fullModules is the value of modules that trains all weights instead of an
// adapter (MeZO's own form).
const fullModules = "weights"

func (c *runConfig) full() bool { return c.all }

// trained is the objective's name in a log: none for the usual one.
func (c *runConfig) trained() string {
	if c.objective == objNLL {
		return ""
	}
	return string(c.objective)
}
