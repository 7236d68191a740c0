package session

import (
	"tabtune/lora"
	"tabtune/zo/task"
)

// estimateResult is what a run needs in device memory, weights included.
type estimateResult struct {
	Bytes int64 `json:"bytes"`
	Fits  bool  `json:"fits"`
	Limit int64 `json:"limit"`
	// ForwardTokens is how many tokens a step sends through the adapted layers.
	ForwardTokens int64 `json:"forwardTokens"`
	// Seconds is about how long it takes on this machine, with the evaluations; 0: unknown.
	Seconds float64 `json:"seconds"`
}

func (s *Session) estimate(p trainParams) (estimateResult, error) {
	c, err := s.normalise(p)
	if err != nil {
		return estimateResult{}, err
	}
	n, err := s.estimateRun(c)
	if err != nil {
		return estimateResult{}, err
	}
	n += s.dev.InUse()
	var tokens int
	for _, it := range s.data.all(s.data.train) {
		for _, r := range c.objective.rows(it, len(s.data.labels)) {
			tokens += len(r.ids)
		}
	}
	per := int64(tokens) / int64(len(s.data.train.examples))
	res := estimateResult{Bytes: n, Fits: n <= s.dev.Limit(), Limit: s.dev.Limit()}
	if c.est != nil {
		res.ForwardTokens = c.perStep() * per
	}
	if c.Minutes > 0 {
		res.Seconds = 60 * c.Minutes
	} else {
		res.Seconds = s.seconds(c, res.ForwardTokens)
	}
	return res, nil
}

// estimateRun is what the run needs besides what is in use: the weights and what is
// cached already. Programs and caches that it replaces are dropped first.
func (s *Session) estimateRun(c *runConfig) (int64, error) {
	s.dropRunner()
	if s.data.cachedTop != c.top {
		s.freePrefixes()
	}
	methods := s.data.methods()
	if c.spec.Features {
		methods = append(methods, "features")
	}
	n, err := s.programBytes(c.fullStack(), methods...)
	if err != nil {
		return 0, err
	}
	if c.ownA() {
		m, err := s.programBytes(c.inputSpec(), "prefix", "inputs")
		if err != nil {
			return 0, err
		}
		n = max(n, m+4096) // attention's scratch memory is in no plan
	}
	n += s.prefixBytes(c.top) + spanBytes(int64(12*c.Queries))
	if c.top == c.spec.Model.Layers {
		n += passing(&c.spec, c.spec.Rows) // nothing is cached
	}
	if !c.head {
		return n, nil
	}
	first, err := s.headSpec(s.model, s.data, &c.trainParams)
	if err != nil {
		return 0, err
	}
	h, err := s.programBytes(first, "prefix", "features", "scores")
	own := 2 * spanBytes(int64(4*len(first.Labels)*(first.Model.Dim+1))) // the head as a constant of the program
	return max(n+own, h+own+s.prefixBytes(first.Top)+passing(&first, first.Rows)), err
}

// programBytes is what the named methods of a program need.
func (s *Session) programBytes(spec lora.Spec, methods ...string) (int64, error) {
	r, err := s.newRunner(spec)
	if err != nil {
		return 0, err
	}
	defer r.close()
	return r.memory(methods...)
}

// methods are those that a run and its evaluations call.
func (d *dataset) methods() []string {
	out := []string{"prefix", "forward"}
	if d.kind == task.KindLabels {
		out = append(out, "scores")
	}
	if d.generates() {
		out = append(out, "decode")
	}
	return out
}

// generates tells whether evaluations generate answers.
func (d *dataset) generates() bool { return d.kind == task.KindCompletion && d.metric.Generated() }
