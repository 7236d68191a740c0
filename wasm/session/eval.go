package session

import (
	"encoding/json"
	"math"
	"slices"

	"tabtune/lora"
	"tabtune/wasm/rpc"
)

type evalParams struct {
	Split string `json:"split"` // "val" (default) or "train"
	// Layers is how many top layers the run that follows adapts (or "all"): what
	// the layers below compute is kept for it.
	Layers json.RawMessage `json:"layers"`
}

type prediction struct {
	Row       int     `json:"row"`       // of the file, from 1
	Text      string  `json:"text"`      // of the example
	Label     int     `json:"label"`     // index into the labels
	Predicted int     `json:"predicted"` // index into the labels
	Loss      float64 `json:"loss"`
}

type evalResult struct {
	Accuracy    float64      `json:"accuracy"`
	Loss        float64      `json:"loss"`
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
	r := s.runner
	if r == nil || r.spec.Labels == nil || !slices.Equal(r.spec.Labels, d.labelTokens()) || r.spec.Window < d.window {
		spec := s.inferenceSpec(m, d.window)
		if s.adapter == nil {
			if spec.Top, err = topLayers(p.Layers, &m.ckpt.Config); err != nil {
				return evalResult{}, err
			}
		}
		spec.Labels = d.labelTokens()
		spec.Rows = 32
		spec.Scored = spec.Rows
		if r, err = s.useSpec(spec); err != nil {
			return evalResult{}, err
		}
	}
	need, err := r.memory("prefix", "scores")
	if err != nil {
		return evalResult{}, err
	}
	if err := s.fits("this evaluation", need); err != nil {
		return evalResult{}, err
	}
	s.cacheFor(r.spec.Top)
	sc, pred, err := s.evaluate(t, r, set)
	return evalResult{Accuracy: sc.Accuracy, Loss: sc.Loss, Rows: len(pred), Predictions: pred}, err
}

// inferenceSpec is the program for the current adapter, or for none.
func (s *Session) inferenceSpec(m *model, window int) lora.Spec {
	spec := lora.Spec{Model: m.ckpt.Config, DType: m.dtype, Window: window, Rows: 1, Scored: 1, Top: min(4, m.ckpt.Config.Layers)}
	if a := s.adapter; a != nil {
		spec = a.spec
		spec.Model, spec.DType, spec.Window = m.ckpt.Config, m.dtype, window
		spec.Labels, spec.Rows, spec.Scored = nil, 1, 1
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
		bs := make([][]float32, len(s.adapter.peft.Modules))
		for i, m := range s.adapter.peft.Modules {
			bs[i] = m.B
		}
		if err := r.writeB(bs); err != nil {
			r.close()
			return nil, err
		}
	}
	s.runner = r
	return r, nil
}

// evaluate scores examples with r, longest together, and returns the predictions
// in the order of set.
func (s *Session) evaluate(t *rpc.Task, r *runner, set []item) (score, []prediction, error) {
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
	for _, p := range preds {
		if p.Predicted == p.Label {
			sc.Accuracy++
		}
		sc.Loss += p.Loss
	}
	sc.Accuracy /= float64(len(preds))
	if sc.Loss /= float64(len(preds)); math.IsNaN(sc.Loss) || math.IsInf(sc.Loss, 0) {
		sc.Loss = math.MaxFloat64 // JSON has no infinity; worse than any other
	}
	return sc, preds, nil
}
