// Package zo holds zeroth-order estimators: they turn the losses of perturbed
// copies of a model into the coefficients of its next update.
//
// A step is a list of seeds and as many coefficients. Each seed stands for a
// direction z (the seeded normal of package lora), and the gradient estimate is
// sum_j coef_j z(seed_j). Plain descent has the rate in the coefficients:
// B <- B - sum_j coef_j z(seed_j), which the program applies inside its next
// call, so an estimator never sees a weight. An Optimizer keeps state over the
// estimates of past steps. Either way the seeds, coefficients and rates are all
// that a replay needs.
package zo

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"tabtune/lora"
)

// Estimator computes a step's coefficients.
type Estimator interface {
	// Name is the value of --estimator.
	Name() string
	// Queries is q, the number of directions a step.
	Queries() int
	// Sides says which replicas a program for this estimator has.
	Sides() lora.Sides
	// Sequential says that replicas are evaluated by calls of their own, one
	// after the other, each with Sides() == lora.Single.
	Sequential() bool
	// Spread says that every query has rows of its own, q times the batch, instead
	// of all the same.
	Spread() bool
	// Coefficients turns the mean loss of every replica (order of lora.Sides;
	// sequential estimators: L(+eps z_0), L(-eps z_0), L(+eps z_1), ...) into
	// coefs[q], already multiplied by the learning rate.
	Coefficients(coefs []float32, losses []float64, lr, eps float64) error
}

var estimators = map[string]func(q int) Estimator{
	"prge":   func(q int) Estimator { return PRGE{q} },
	"rows":   func(q int) Estimator { return Rows{PRGE{q}} },
	"mezo":   func(q int) Estimator { return MeZO{q} },
	"fzoo":   func(q int) Estimator { return FZOO{q} },
	"grzo":   func(q int) Estimator { return GRZO{q} },
	"greedy": func(q int) Estimator { return Greedy{q} },
}

// Names lists the estimators.
func Names() []string {
	names := make([]string, 0, len(estimators))
	for n := range estimators {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// New returns the estimator of that name with q queries.
func New(name string, q int) (Estimator, error) {
	if q < 1 || q > 256 {
		return nil, fmt.Errorf("queries: %d, want 1 to 256", q)
	}
	f, ok := estimators[name]
	if !ok {
		return nil, fmt.Errorf("estimator %q: want one of %s", name, strings.Join(Names(), ", "))
	}
	if q < 2 && (name == "fzoo" || name == "grzo") {
		return nil, fmt.Errorf("queries: %d, but %s divides by the spread of the queries and needs two", q, name)
	}
	return f(q), nil
}

// PerStep is how many rows a step sends through the model: each of batch rows a
// query once for every replica that sees it.
func PerStep(e Estimator, batch int) int64 {
	if e.Sides() == lora.OneSided {
		return int64(e.Queries()+1) * int64(batch)
	}
	return 2 * int64(e.Queries()) * int64(batch)
}

// Clip bounds every coefficient by limit times the median of their sizes, so that
// one odd row does not decide a step. A limit of 0 does nothing.
func Clip(coefs []float32, limit float64) {
	if limit == 0 || len(coefs) < 3 {
		return
	}
	sizes := make([]float64, len(coefs))
	for j, c := range coefs {
		sizes[j] = math.Abs(float64(c))
	}
	slices.Sort(sizes)
	most := float32(limit * sizes[len(sizes)/2])
	for j, c := range coefs {
		coefs[j] = max(-most, min(most, c))
	}
}

// Seeds fills seeds with the directions of one step of a run: splitmix64 of the
// run's seed and the direction's number, cut to 62 bits. Runs of different seeds
// and steps of one run have unrelated directions.
func Seeds(seeds []int64, run int64, step int) {
	for j := range seeds {
		x := uint64(run)*0x9E3779B97F4A7C15 + uint64(step)*uint64(len(seeds)) + uint64(j) + 1
		x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
		x = (x ^ x>>27) * 0x94D049BB133111EB
		seeds[j] = int64((x ^ x>>31) >> 2)
	}
}

// Means averages nll, replica-major with equal counts, to one loss a replica.
// A loss that is not finite is an error: the run has diverged.
func Means(losses []float64, nll []float32) error {
	if len(losses) == 0 || len(nll)%len(losses) != 0 {
		return fmt.Errorf("%d losses cannot be split over %d replicas", len(nll), len(losses))
	}
	per := len(nll) / len(losses)
	for r := range losses {
		sum := 0.0
		for _, v := range nll[r*per : (r+1)*per] {
			sum += float64(v)
		}
		if losses[r] = sum / float64(per); math.IsNaN(losses[r]) || math.IsInf(losses[r], 0) {
			return &Diverged{Replica: r}
		}
	}
	return nil
}

// Diverged reports a loss that is not a finite number.
type Diverged struct{ Replica int }

func (e *Diverged) Error() string {
	return fmt.Sprintf("the loss of replica %d is not a finite number: the run has diverged; use a lower learning rate or eps", e.Replica)
}
