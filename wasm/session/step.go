package session

import (
	"errors"
	"slices"

	"tabtune/zo"
)

// losses returns the mean loss of every perturbed copy on the batch.
func (u *run) losses(items []item, seeds []int64) ([]float64, error) {
	eps := float32(u.c.Eps)
	if !u.c.est.Sequential() {
		if u.c.est.Spread() {
			return u.spreadLosses(items, seeds, eps)
		}
		groups := [][]item{items}
		losses, err := u.r.exampleLosses(u.c.objective, groups, seeds, eps)
		if err != nil {
			return nil, err
		}
		out := make([]float64, u.c.spec.Replicas())
		return out, zo.Means(out, losses)
	}
	out := make([]float64, 2*len(seeds))
	for j := range seeds {
		for side, sign := range []float32{1, -1} {
			losses, err := u.perturbed(items, seeds[j:j+1], sign*eps)
			if err != nil {
				return nil, err
			}
			if err := zo.Means(out[2*j+side:2*j+side+1], losses); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// spreadLosses is losses where every query has examples of its own, for both signs.
// The queries go through the program in several calls of its own number of them
// (see spreadQueries), those with short examples first.
func (u *run) spreadLosses(items []item, seeds []int64, eps float32) ([]float64, error) {
	groups := slices.Collect(slices.Chunk(items, u.c.Batch))
	order, width := make([]int, len(seeds)), make([]int, len(seeds))
	for j := range order {
		order[j] = j
		for _, it := range groups[j] {
			width[j] = max(width[j], longest(u.c.objective.rows(it, len(u.r.spec.Labels))))
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return width[a] - width[b] })
	out := make([]float64, 2*len(seeds))
	q := u.c.spec.Queries
	for part := range slices.Chunk(order, q) {
		call, directions := make([][]item, 2*q), make([]int64, q)
		for i, j := range part {
			call[i], call[q+i], directions[i] = groups[j], groups[j], seeds[j]
		}
		losses, err := u.r.exampleLosses(u.c.objective, call, directions, eps)
		if err != nil {
			return nil, err
		}
		means := make([]float64, 2*q)
		if err := zo.Means(means, losses); err != nil {
			return nil, err
		}
		for i, j := range part {
			out[j], out[len(seeds)+j] = means[i], means[q+i]
		}
	}
	return out, nil
}

// spreadQueries is how many of q queries with rows of their own go through the
// program at once: the fewest that make spreadRows rows, so that rows of like
// length share a call.
func spreadQueries(q, batch int) int {
	for n := 1; n < q; n++ {
		if q%n == 0 && 2*n*batch >= spreadRows {
			return n
		}
	}
	return q
}

const spreadRows = 16

// batch returns the examples of a step, their prefixes cached.
func (u *run) batch(step int64) ([]item, error) {
	index, err := u.sampler.Batch(step)
	if err != nil {
		return nil, err
	}
	items := make([]item, len(index))
	for i, x := range index {
		items[i] = u.s.data.train.item(x)
	}
	return items, u.s.cache(u.t, u.r, items)
}

// advance does one step at the given rate and returns its loss.
func (u *run) advance(step int, lr float64) (loss float64, seeds []int64, coefs []float32, err error) {
	items, err := u.batch(int64(step))
	if err != nil {
		return 0, nil, nil, err
	}
	seeds, coefs = make([]int64, u.c.est.Queries()), make([]float32, u.c.est.Queries())
	zo.Seeds(seeds, u.c.Seed, step)
	losses, err := u.losses(items, seeds)
	if err != nil {
		return 0, nil, nil, err
	}
	rate := lr
	if u.opt != nil {
		rate = 1 // the optimizer's step is what the rate scales
	}
	if err := u.c.est.Coefficients(coefs, losses, rate, u.c.Eps); err != nil {
		return 0, nil, nil, err
	}
	zo.Clip(coefs, u.c.Clip)
	for _, l := range losses {
		loss += l / float64(len(losses))
	}
	if _, ok := u.opt.(zo.Curved); ok {
		plus, minus := sides(u.c.est, losses)
		bends := make([]float32, len(seeds))
		zo.Bends(bends, plus, minus, u.c.Eps)
		seeds, coefs = append(seeds, seeds...), append(coefs, bends...)
	}
	if u.opt != nil {
		return loss, seeds, coefs, u.r.step(u.opt, seeds, coefs, float32(lr))
	}
	return loss, seeds, coefs, u.apply(seeds, coefs)
}

// sides splits the losses of a two-sided estimator.
func sides(e zo.Estimator, losses []float64) (plus, minus []float64) {
	if !e.Sequential() {
		return losses[:len(losses)/2], losses[len(losses)/2:]
	}
	for j := 0; j < len(losses); j += 2 {
		plus, minus = append(plus, losses[j]), append(minus, losses[j+1])
	}
	return plus, minus
}

// apply leaves the update for the next forward, or does it now where the program
// holds fewer directions than the step has.
func (u *run) apply(seeds []int64, coefs []float32) error {
	if u.c.full() {
		return u.applyFull(seeds, coefs)
	}
	if len(seeds) > len(u.r.lastSeeds) {
		return u.r.apply(seeds, coefs)
	}
	u.r.update(seeds, coefs)
	return nil
}

// findLR runs the range test from the initial adapter and goes back to it.
func (u *run) findLR() error {
	if u.c.full() {
		return invalid("lr: the learning-rate finder needs an adapter; give a number when all weights are trained")
	}
	probe := u.s.data.probe(64)
	at, _, err := u.s.evaluate(u.t, u.r, probe, 0)
	if err != nil {
		return err
	}
	f := zo.NewFinder(1.0/1024, at.Loss)
	for step := 0; ; step++ {
		_, _, _, err := u.advance(step, f.LR())
		var diverged *zo.Diverged
		if errors.As(err, &diverged) {
			break
		}
		if err != nil {
			return err
		}
		if err := u.r.flush(); err != nil {
			return err
		}
		if at, _, err = u.s.evaluate(u.t, u.r, probe, 0); err != nil {
			return err
		}
		if err := u.t.Emit(map[string]any{"type": "lr", "lr": f.LR(), "loss": at.Loss, "trying": true}); err != nil {
			return err
		}
		if f.Observe(at.Loss) {
			break
		}
	}
	u.c.lr = f.Choose()
	if u.opt, err = zo.NewOptimizer(u.c.Optimizer, *u.c.Beta); err != nil { // as it was
		return err
	}
	return u.r.writeB(nil)
}

// findEps chooses the size of the perturbation from the slopes of the first step's
// batch at several sizes, before any update.
func (u *run) findEps() error {
	items, err := u.batch(0)
	if err != nil {
		return err
	}
	seeds := make([]int64, u.c.est.Queries())
	zo.Seeds(seeds, u.c.Seed, 0)
	candidates := zo.EpsCandidates()
	slopes := make([][]float64, len(candidates))
	for k, eps := range candidates {
		u.c.Eps = eps
		coefs := make([]float32, len(seeds))
		losses, err := u.losses(items, seeds)
		if err == nil {
			err = u.c.est.Coefficients(coefs, losses, 1, eps)
		}
		var diverged *zo.Diverged
		if errors.As(err, &diverged) && k > 0 { // too large, and so are those after it
			candidates, slopes = candidates[:k], slopes[:k]
			break
		}
		if err != nil {
			return err
		}
		for _, c := range coefs {
			slopes[k] = append(slopes[k], float64(c))
		}
	}
	u.c.Eps = zo.ChooseEps(candidates, slopes)
	return u.t.Emit(map[string]any{"type": "eps", "eps": u.c.Eps})
}
