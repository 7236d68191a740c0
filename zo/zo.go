// Package zo holds zeroth-order estimators: they turn the losses of perturbed
// copies of a model into the coefficients of its next update.
//
// A step is a list of seeds and as many coefficients. Each seed stands for a
// direction z (the seeded normal of package lora), and the update is
// B <- B - sum_j coef_j z(seed_j). The program applies it inside its next call,
// so an estimator never sees a weight, and the list is all that a replay needs.
package zo

import (
	"fmt"
	"math"

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
	// Coefficients turns the mean loss of every replica (order of lora.Sides;
	// sequential estimators: L(+eps z_0), L(-eps z_0), L(+eps z_1), ...) into
	// coefs[q], already multiplied by the learning rate.
	Coefficients(coefs []float32, losses []float64, lr, eps float64) error
}

// New returns the estimator of that name with q queries.
func New(name string, q int) (Estimator, error) {
	if q < 1 || q > 256 {
		return nil, fmt.Errorf("queries: %d, want 1 to 256", q)
	}
	switch name {
	case "prge":
		return PRGE{q}, nil
	case "mezo":
		return MeZO{q}, nil
	}
	return nil, fmt.Errorf("estimator %q: want prge or mezo", name)
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
