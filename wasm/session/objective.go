package session

import (
	"math"
	"slices"

	"tabtune/zo/task"
)

// objective is what training lowers. An estimator needs no derivative, so what
// counts right and wrong answers will do.
type objective string

const (
	// objNLL is the mean negative log-likelihood of the scored tokens; in a choice the
	// cross-entropy of the right option under a softmax over the options' mean
	// log-probabilities.
	objNLL objective = "nll"
	// objLikelihood, in a choice, is objNLL of the right option alone, as MeZO trains
	// COPA and ReCoRD: one row an example instead of one an option.
	objLikelihood objective = "likelihood"
	objError      objective = "error" // share of wrong labels or options
	objF1         objective = "f1"    // 1 - task.LabelF1 of the batch
)

// checkObjective reads an objective for a kind of task.
func checkObjective(name string, k task.Kind) (objective, error) {
	known := map[task.Kind][]objective{task.KindLabels: {objNLL, objError, objF1}, task.KindChoice: {objNLL, objLikelihood, objError},
		task.KindCompletion: {objNLL}}[k]
	o := objective(name)
	if name == "" {
		o = objNLL
	}
	if !slices.Contains(known, o) {
		return "", invalid("objective: %q, want one of %v in a task of kind %s", name, known, k)
	}
	return o, nil
}

// rows are what an example needs to be run for the objective. labels is the number
// of classes.
func (o objective) rows(it item, labels int) []row {
	switch {
	case o == objLikelihood:
		return []row{it.sequence(it.example.Label)}
	case len(it.prefix) > 1:
		out := make([]row, len(it.prefix))
		for k := range out {
			out[k] = it.sequence(k)
		}
		return out
	case labels > 0 && o != objNLL: // the losses of all labels at the one place
		r := it.row()
		at := r.at[0]
		r.at, r.targets = make([]int32, labels), make([]int32, labels)
		for l := range labels {
			r.at[l], r.targets[l] = at, int32(l)
		}
		return []row{r}
	}
	return []row{it.row()}
}

// loss makes one number of an example's losses, and says which label or option is
// the most likely where they tell.
func (o objective) loss(it item, rows []row, nll []float32) (loss float64, predicted int) {
	e := it.example
	switch {
	case o == objLikelihood || len(rows) == 1 && o == objNLL:
		return mean(nll), -1
	case len(rows) == 1: // one loss a label
		for l := range nll {
			if nll[l] < nll[predicted] {
				predicted = l
			}
		}
	default:
		loss, predicted = chooseLoss(e, optionLosses(rows, nll))
		if o == objNLL {
			return loss, predicted
		}
	}
	if slices.Contains(e.Right, predicted) || e.Right == nil && predicted == e.Label {
		return 0, predicted
	}
	return 1, predicted
}

// optionLosses averages the losses of each option's tokens.
func optionLosses(rows []row, nll []float32) []float64 {
	out := make([]float64, len(rows))
	for k, r := range rows {
		out[k], nll = mean(nll[:len(r.at)]), nll[len(r.at):]
	}
	return out
}

// chooseLoss is the cross-entropy of the right option, of scores that are the
// options' mean log-probabilities, and the option that scores best.
func chooseLoss(e *task.Example, losses []float64) (loss float64, predicted int) {
	for k, l := range losses {
		if l < losses[predicted] {
			predicted = k
		}
	}
	sum, right := 0.0, 0.0
	for k, l := range losses {
		p := math.Exp(losses[predicted] - l)
		sum += p
		if slices.Contains(e.Right, k) {
			right += p
		}
	}
	return math.Log(sum) - math.Log(right), predicted
}

func mean(nll []float32) float64 {
	sum := 0.0
	for _, v := range nll {
		sum += float64(v)
	}
	return sum / float64(len(nll))
}

// exampleLosses runs the perturbed copies over examples and returns the objective
// of every example in every replica, replica-major. One group of examples is for
// all replicas; else each replica has its own, all of the same length. Examples
// go through the model by length, in as many calls as are the least work (see
// plan): every row's losses are the same whatever else is in the call.
func (r *runner) exampleLosses(o objective, groups [][]item, seeds []int64, eps float32) ([]float32, error) {
	reps, labels, n := r.spec.Replicas(), len(r.spec.Labels), len(groups[0])
	rows := make([][][]row, len(groups)) // of each group's examples, the short ones first
	order := make([][]int, len(groups))  // where those stand in the group
	for g, items := range groups {
		all := make([][]row, n)
		for i, it := range items {
			all[i] = o.rows(it, labels)
			order[g] = append(order[g], i)
		}
		slices.SortStableFunc(order[g], func(a, b int) int { return longest(all[a]) - longest(all[b]) })
		for _, i := range order[g] {
			rows[g] = append(rows[g], all[i])
		}
	}
	out := make([]float32, reps*n)
	predicted := make([]int, reps*n)
	lo := 0
	for _, hi := range r.plan(rows) {
		call := make([][]row, len(groups))
		for g := range call {
			call[g] = slices.Concat(rows[g][lo:hi]...)
		}
		pad(call)
		nll, per, err := r.forward(call, seeds, eps)
		if err != nil {
			return nil, err
		}
		for k := range reps {
			g := k % len(groups)
			at := nll[k*per : (k+1)*per]
			for i := lo; i < hi; i++ {
				m, x := scored(rows[g][i]), order[g][i]
				loss, p := o.loss(groups[g][x], rows[g][i], at[:m])
				out[k*n+x], predicted[k*n+x] = float32(loss), p
				at = at[m:]
			}
		}
		lo = hi
	}
	if o == objF1 {
		for k := range reps {
			right := make([]int, n)
			for i, it := range groups[k%len(groups)] {
				right[i] = it.example.Label
			}
			loss := float32(1 - task.LabelF1(right, predicted[k*n:(k+1)*n], labels))
			for i := range n {
				out[k*n+i] = loss
			}
		}
	}
	return out, nil
}

// callTokens is what a call costs besides its tokens, in tokens: reading the
// weights and making the directions once more. From timing runs on movie reviews.
const callTokens = 128

// plan cuts examples into calls: it returns the end of each. All rows of a call are
// as long as its longest, so short examples, which come first, go in calls
// of their own where that saves more than a call costs.
func (r *runner) plan(rows [][][]row) (ends []int) {
	n, copies := len(rows[0]), r.spec.Replicas()/len(rows)
	// cost[hi] is that of the examples before hi; from[hi] is where the last call begins.
	cost, from := make([]int, n+1), make([]int, n+1)
	for hi := 1; hi <= n; hi++ {
		count, marks := make([]int, len(rows)), make([]int, len(rows)) // rows and scored positions of each group
		width := 1
		for lo := hi - 1; lo >= 0; lo-- {
			most, places := 0, 0
			for g := range rows {
				e := rows[g][lo]
				count[g], marks[g], width = count[g]+len(e), marks[g]+scored(e), max(width, longest(e))
				most, places = max(most, count[g]), max(places, marks[g])
			}
			if lo < hi-1 && !r.holds(most, places) {
				break
			}
			c := cost[lo] + callTokens + most*len(rows)*copies*width
			if lo == hi-1 || c < cost[hi] {
				cost[hi], from[hi] = c, lo
			}
		}
	}
	for hi := n; hi > 0; hi = from[hi] {
		ends = append(ends, hi)
	}
	slices.Reverse(ends)
	return ends
}

// holds reports whether so many rows and scored positions a replica fit one call.
func (r *runner) holds(rows, positions int) bool {
	reps := r.spec.Replicas()
	return rows*reps <= r.spec.Rows && positions*reps <= r.spec.Scored
}

// pad gives all groups the same number of rows: those added score nothing.
func pad(groups [][]row) {
	most := 0
	for _, g := range groups {
		most = max(most, len(g))
	}
	for i, g := range groups {
		for len(g) < most {
			g = append(g, row{ids: g[0].ids, prefix: g[0].prefix})
		}
		groups[i] = g
	}
}

// maxLogits bounds the scores over the vocabulary that one call keeps, in bytes.
const maxLogits = 64 << 20

// bounds are the rows and scored positions a replica that a call of the program
// takes for a batch, at least one example's, and the most positions of one row.
func (d *dataset) bounds(o objective, batch, reps, vocab int) (rows, positions int) {
	var one, example int
	most := 1
	for _, list := range [][]item{d.all(d.train), d.val} {
		for _, it := range list {
			r := o.rows(it, len(d.labels))
			most, example = max(most, len(r)), max(example, scored(r))
			for k := range it.prefix {
				one = max(one, len(it.example.Sequences[k].At))
			}
		}
	}
	example = max(example, 1)
	positions = batch * example
	if d.kind != task.KindLabels {
		least := max(example, (one+reps-1)/reps) // evaluation deals the positions of a row out to the replicas
		positions = max(least, min(positions, maxLogits/(4*vocab*reps)))
	}
	return batch * most, positions
}
