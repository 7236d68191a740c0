package session

import "tabtune/zo/task"

// estimateResult is what a run needs in device memory, weights included.
type estimateResult struct {
	Bytes int64 `json:"bytes"`
	Fits  bool  `json:"fits"`
	Limit int64 `json:"limit"`
	// ForwardTokens is how many tokens a step sends through the adapted layers.
	ForwardTokens int64 `json:"forwardTokens"`
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
	return estimateResult{Bytes: n, Fits: n <= s.dev.Limit(), Limit: s.dev.Limit(), ForwardTokens: 2 * int64(c.est.Queries()) * int64(c.Batch) * per}, nil
}

// estimateRun is what the run needs besides what is in use: the weights and what is
// cached already. Programs and caches that it replaces are dropped first.
func (s *Session) estimateRun(c *runConfig) (int64, error) {
	s.dropRunner()
	if s.data.cachedTop != c.top {
		s.freePrefixes()
	}
	r, err := s.newRunner(c.spec)
	if err != nil {
		return 0, err
	}
	defer r.close()
	n, err := r.memory(s.data.methods()...)
	if err != nil {
		return 0, err
	}
	n += s.prefixBytes(c.top) + spanBytes(int64(12*c.Queries))
	if c.top == c.spec.Model.Layers {
		n += r.passing(c.spec.Rows) // nothing is cached
	}
	return n, nil
}

// methods are those that a run and its evaluations call.
func (d *dataset) methods() []string {
	out := []string{"prefix", "forward"}
	if d.kind == task.KindLabels {
		out = append(out, "scores")
	}
	if d.generates() {
		out = append(out, "logits")
	}
	return out
}

// generates tells whether evaluations generate answers.
func (d *dataset) generates() bool { return d.kind == task.KindCompletion && d.metric.Generated() }
