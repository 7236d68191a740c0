package session

import (
	"math"
	"slices"
	"strings"

	"tabtune/wasm/rpc"
	"tabtune/zo/task"
)

// evaluateTokens scores choices and completions by the losses of their tokens.
func (s *Session) evaluateTokens(t *rpc.Task, r *runner, set []item) (score, []prediction, error) {
	nll := make([][][]float32, len(set)) // of each example's sequences
	type place struct{ i, k int }
	var order []place
	for i, it := range set {
		nll[i] = make([][]float32, len(it.prefix))
		for k := range it.prefix {
			order = append(order, place{i, k})
		}
	}
	length := func(p place) int { return len(set[p.i].example.Sequences[p.k].IDs) }
	slices.SortStableFunc(order, func(a, b place) int { return length(a) - length(b) })
	progress := s.paced(t, "progress", "eval")
	total := len(order)
	for len(order) > 0 {
		rows := make([]row, min(len(order), r.spec.Rows))
		for i, p := range order[:len(rows)] {
			rows[i] = set[p.i].sequence(p.k)
		}
		n := r.room(rows)
		slots := make([]slot, n)
		for i, p := range order[:n] {
			slots[i] = slot{set[p.i], p.k}
		}
		if err := s.cacheSlots(t, r, slots); err != nil {
			return score{}, nil, err
		}
		for i := range slots {
			rows[i] = slots[i].row()
		}
		losses, err := r.losses(rows[:n])
		if err != nil {
			return score{}, nil, err
		}
		for i, p := range order[:n] {
			nll[p.i][p.k] = losses[i]
		}
		order = order[n:]
		if err := progress(int64(total-len(order)), int64(total)); err != nil {
			return score{}, nil, err
		}
	}
	var sc score
	preds := make([]prediction, len(set))
	var tokens, sum float64
	for i, it := range set {
		e := it.example
		p := prediction{Row: e.Row, Text: e.Text, Label: e.Label, Predicted: -1}
		if s.data.kind == task.KindChoice {
			losses := make([]float64, len(nll[i]))
			for k := range losses {
				losses[k] = mean(nll[i][k])
			}
			p.Loss, p.Predicted = chooseLoss(e, losses)
			if slices.Contains(e.Right, p.Predicted) {
				sc.Accuracy++
				p.Label = p.Predicted // one of several that are right
			}
		} else {
			p.Loss, p.Answer = mean(nll[i][0]), e.Answers[0]
			tokens += float64(len(nll[i][0]))
			sum += p.Loss * float64(len(nll[i][0]))
		}
		preds[i] = p
		sc.Loss += p.Loss
	}
	sc.Accuracy /= float64(len(set))
	sc.Loss /= float64(len(set))
	if s.data.kind == task.KindCompletion {
		perplexity := math.Exp(sum / tokens)
		sc.Perplexity = &perplexity
	}
	return sc, preds, nil
}

// evaluateAnswers generates the answers of rows and compares them with the right
// ones. The accuracy of such a task is the share of exact matches.
func (s *Session) evaluateAnswers(t *rpc.Task, r *runner, set []item, sc *score, preds []prediction) error {
	var exact, f1 float64
	progress := s.paced(t, "progress", "answers")
	for i, it := range set {
		text, err := s.answer(r, it.example.IDs)
		if err != nil {
			return err
		}
		em, f := task.AnswerScores(text, it.example.Answers)
		preds[i].Output, preds[i].ExactMatch, preds[i].F1 = &text, &em, &f
		exact, f1 = exact+em, f1+f
		if err := progress(int64(i+1), int64(len(set))); err != nil {
			return err
		}
	}
	exact /= float64(len(set))
	f1 /= float64(len(set))
	sc.Accuracy, sc.ExactMatch, sc.F1, sc.Answered = exact, &exact, &f1, len(set)
	return nil
}

// answer continues a prompt with the most likely tokens, up to the token or the text
// that ends an answer: what generate gives.
func (s *Session) answer(r *runner, prompt []int32) (string, error) {
	m, d := s.model, s.data
	ids, cached, text := slices.Clone(prompt), 0, ""
	for len(ids) < min(len(prompt)+d.answer, r.spec.Window) {
		logits, err := r.decode(ids[cached:], cached)
		if err != nil {
			return "", err
		}
		cached = len(ids)
		id := sample(logits[:m.tok.Len()], 0, nil)
		if id == m.tok.EOS() || m.endOfTurn(id) {
			break
		}
		ids = append(ids, id)
		text = m.tok.Decode(ids[len(prompt):])
		if d.stop == "" {
			continue
		}
		if answer, _, ended := strings.Cut(strings.TrimLeft(text, " "), d.stop); ended {
			text = answer
			break
		}
	}
	return strings.TrimSpace(text), nil
}

// better tells whether a score beats the best so far: by the loss, but where the task
// is judged by generated answers by those, and by the loss only between equals.
func (a score) better(best score, d *dataset) bool {
	if d.generates() && a.F1 != nil && best.F1 != nil {
		x, y := *a.F1, *best.F1
		if d.metric == task.ExactMatch {
			x, y = *a.ExactMatch, *best.ExactMatch
		}
		if x != y {
			return x > y
		}
	}
	return a.Loss < best.Loss
}
