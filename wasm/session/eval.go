package session

import (
	"encoding/json"
	"math"
	"slices"

	"tabtune/lora"
	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

type evalParams struct {
	Split string `json:"split"` // "val" (default) or "train"
	// Layers is how many top layers the run that follows adapts (or "all"): what
	// the layers below compute is kept for it.
	Layers json.RawMessage `json:"layers"`
	// AnswerRows is how many rows, at most, are answered by generation in a task that
	// is judged by its answers; 0: all.
	AnswerRows int `json:"answerRows"`
}

type prediction struct {
	Row       int     `json:"row"`       // of the file, from 1
	Text      string  `json:"text"`      // of the example
	Label     int     `json:"label"`     // index into the labels, or of the right option; -1: none
	Predicted int     `json:"predicted"` // the same
	Loss      float64 `json:"loss"`
	// In completions: what was to come, what was generated, and how well that fits.
	Answer     string   `json:"answer,omitempty"`
	Output     *string  `json:"output,omitempty"`
	F1         *float64 `json:"f1,omitempty"`
	ExactMatch *float64 `json:"exactMatch,omitempty"`
}

type evalResult struct {
	Accuracy float64 `json:"accuracy"`
	Loss     float64 `json:"loss"`
	metrics
	Rows        int          `json:"rows"`
	Predictions []prediction `json:"predictions"`
}

// eval scores a split with the current adapter, or the model as it is.
func (s *Session) eval(t *rpc.Task, p evalParams) (evalResult, error) {
	m, err := s.needModel()
	if err != nil {
		return evalResult{}, err
	}
	d, err := s.needData()
	if err != nil {
		return evalResult{}, err
	}
	set := d.val
	switch p.Split {
	case "", "val":
	case "train":
		set = d.all(d.train)
	default:
		return evalResult{}, invalid("split: %q, want val or train", p.Split)
	}
	if len(set) == 0 {
		return evalResult{}, invalid("there are no rows to evaluate")
	}
	if s.adapter != nil && s.adapter.spec.Classifier != nil && !slices.Equal(s.adapter.labels, d.Labels) {
		return evalResult{}, rpc.Errorf("adapter", "the classifier's labels are %q, the data's %q", s.adapter.labels, d.Labels)
	}
	r, err := s.evaluator(m, d, p.Layers)
	if err != nil {
		return evalResult{}, err
	}
	methods := []string{"prefix", "forward"}
	if d.kind == task.KindLabels {
		methods[1] = "scores"
	}
	if d.generates() {
		methods = append(methods, "decode")
	}
	need, err := r.memory(methods...)
	if err != nil {
		return evalResult{}, err
	}
	if err := s.fits("this evaluation", need); err != nil {
		return evalResult{}, err
	}
	s.cacheFor(r.spec.Top)
	if p.AnswerRows < 0 {
		return evalResult{}, invalid("answerRows: %d, want 0 or more", p.AnswerRows)
	}
	if p.AnswerRows == 0 {
		p.AnswerRows = len(set)
	}
	sc, pred, err := s.evaluate(t, r, set, p.AnswerRows)
	return evalResult{Accuracy: sc.Accuracy, Loss: sc.Loss, metrics: sc.metrics, Rows: len(pred), Predictions: pred}, err
}

// evaluator returns a program that can score the data: the one in use, or a new
// one for the current adapter.
func (s *Session) evaluator(m *model, d *dataset, layers json.RawMessage) (*runner, error) {
	tokens := d.labelTokens()
	_, positions := d.bounds(objNLL, 1, 1, m.ckpt.Config.Vocab)
	if r := s.runner; r != nil && (r.spec.Labels == nil) == (tokens == nil) && slices.Equal(r.spec.Labels, tokens) && r.spec.Window >= d.window &&
		r.spec.Scored/r.spec.Replicas()*r.spec.Replicas() >= positions && (!d.generates() || r.spec.Decode) {
		return r, nil
	}
	spec := s.inferenceSpec(m, d.window)
	if s.adapter == nil {
		var err error
		if spec.Top, err = topLayers(layers, &m.ckpt.Config); err != nil {
			return nil, err
		}
	}
	spec.Labels = tokens
	spec.Rows = 32
	spec.Scored = spec.Rows
	if tokens == nil {
		_, spec.Scored = d.bounds(objNLL, spec.Rows, 1, m.ckpt.Config.Vocab)
	}
	spec.Decode = d.generates()
	return s.useSpec(spec)
}

// inferenceSpec is the program for the current adapter, or for none.
func (s *Session) inferenceSpec(m *model, window int) lora.Spec {
	spec := lora.Spec{Model: m.ckpt.Config, DType: m.dtype, Window: window, Rows: 1, Scored: 1, Top: min(4, m.ckpt.Config.Layers)}
	if a := s.adapter; a != nil {
		spec = a.spec
		spec.Model, spec.DType, spec.Window = m.ckpt.Config, m.dtype, window
		spec.Labels, spec.Rows, spec.Scored, spec.Features = nil, 1, 1, false
		spec.Queries, spec.Sides = 1, lora.Single
	}
	return spec
}

// useSpec makes a program the session's runner, with the current adapter in it.
func (s *Session) useSpec(spec lora.Spec) (*runner, error) {
	s.dropRunner()
	r, err := s.newRunner(spec)
	if err != nil {
		return nil, err
	}
	if s.adapter != nil && len(spec.Modules) > 0 {
		bs := make([][]float32, len(spec.Adapters()))
		for i := range bs {
			bs[i] = s.adapter.peft.Modules[i].B
		}
		if err := r.writeB(bs); err != nil {
			r.close()
			return nil, err
		}
	}
	s.runner = r
	return r, nil
}

// evaluate scores examples with r, short ones first, and returns the predictions
// in the order of set. Where the task is judged by generated answers, the first so
// many rows are answered.
func (s *Session) evaluate(t *rpc.Task, r *runner, set []item, answers int) (score, []prediction, error) {
	var sc score
	var preds []prediction
	var err error
	switch s.data.kind {
	case task.KindLabels:
		sc, preds, err = s.evaluateLabels(t, r, set)
	default:
		sc, preds, err = s.evaluateTokens(t, r, set)
		if err == nil && answers > 0 && s.data.generates() {
			err = s.evaluateAnswers(t, r, set[:min(answers, len(set))], &sc, preds)
		}
	}
	if math.IsNaN(sc.Loss) || math.IsInf(sc.Loss, 0) {
		sc.Loss = math.MaxFloat64 // JSON has no infinity; worse than any other
	}
	for i := range preds {
		if l := &preds[i].Loss; math.IsNaN(*l) || math.IsInf(*l, 0) {
			*l = math.MaxFloat64
		}
	}
	if p := sc.Perplexity; p != nil && !(*p <= math.MaxFloat64) {
		*p = math.MaxFloat64
	}
	return sc, preds, err
}

func (s *Session) evaluateLabels(t *rpc.Task, r *runner, set []item) (score, []prediction, error) {
	order := make([]int, len(set))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(set[a].example.IDs) - len(set[b].example.IDs) })
	preds := make([]prediction, len(set))
	progress := s.paced(t, "progress", "eval")
	labels := len(r.spec.Labels)
	var done int
	for len(order) > 0 {
		n := min(r.spec.Rows, len(order))
		items, rows := make([]item, n), make([]row, n)
		for i, x := range order[:n] {
			items[i] = set[x]
		}
		if err := s.cache(t, r, items); err != nil {
			return score{}, nil, err
		}
		for i, it := range items {
			rows[i] = it.row()
		}
		logp, err := r.scores(rows)
		if err != nil {
			return score{}, nil, err
		}
		for i, x := range order[:n] {
			e := set[x].example
			l := logp[i*labels : (i+1)*labels]
			best := 0
			for j := range l {
				if l[j] > l[best] {
					best = j
				}
			}
			preds[x] = prediction{Row: e.Row, Text: e.Text, Label: e.Label, Predicted: best, Loss: -float64(l[e.Label])}
		}
		order = order[n:]
		done += n
		if err := progress(int64(done), int64(len(set))); err != nil {
			return score{}, nil, err
		}
	}
	var sc score
	right, predicted := make([]int, len(preds)), make([]int, len(preds))
	for i, p := range preds {
		if right[i], predicted[i] = p.Label, p.Predicted; p.Predicted == p.Label {
			sc.Accuracy++
		}
		sc.Loss += p.Loss
	}
	sc.Accuracy /= float64(len(preds))
	sc.Loss /= float64(len(preds))
	if s.data.metric == task.F1 {
		f1 := task.LabelF1(right, predicted, labels)
		sc.F1 = &f1
	}
	return sc, preds, nil
}
