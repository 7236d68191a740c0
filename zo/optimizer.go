package zo

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Optimizer turns the gradient estimates of B into steps and keeps its state
// between them. It is a deterministic function of the estimates, in float64, so
// a log of seeds, coefficients and rates rebuilds the adapter.
//
// Plain descent has none: the program applies it.
type Optimizer interface {
	// Step overwrites g f32[rows, cols], the estimate for matrix i, with d; the
	// update is B_i <- B_i - rate d.
	Step(i, rows, cols int, g []float32)
}

var optimizers = map[string]func(beta float64) Optimizer{
	"momentum": func(b float64) Optimizer { return &Momentum{Beta: b} },
	"adam":     func(b float64) Optimizer { return &Adam{Beta: b} },
	"radazo":   func(b float64) Optimizer { return &Adam{Beta: b, Refined: true} },
	"scalar":   func(b float64) Optimizer { return &Adam{Beta: b, Scalar: true} },
	"muon":     func(b float64) Optimizer { return &Muon{Momentum: Momentum{Beta: b}} },
	"hizoo":    func(b float64) Optimizer { return &HiZOO{Beta: b} },
	"mopi":     func(b float64) Optimizer { return &MOPI{Momentum: Momentum{Beta: b}} },
}

// OptimizerNames lists the optimizers.
func OptimizerNames() []string { return slices.Sorted(maps.Keys(optimizers)) }

// DefaultBeta is the momentum of optimizers where none is given.
const DefaultBeta = 0.9

// NewOptimizer returns the optimizer of that name with momentum beta, in its
// first state. "" and "sgd" give nil: plain descent.
func NewOptimizer(name string, beta float64) (Optimizer, error) {
	if name == "" || name == "sgd" {
		return nil, nil
	}
	f, ok := optimizers[name]
	if !ok {
		return nil, fmt.Errorf("optimizer %q: want sgd or one of %s", name, strings.Join(OptimizerNames(), ", "))
	}
	if !(beta >= 0 && beta < 1) {
		return nil, fmt.Errorf("beta: %g, want 0 to below 1", beta)
	}
	return f(beta), nil
}

// moments holds one vector a matrix, zeros at first.
type moments map[int][]float64

func (m *moments) of(i, n int) []float64 {
	if *m == nil {
		*m = moments{}
	}
	if (*m)[i] == nil {
		(*m)[i] = make([]float64, n)
	}
	return (*m)[i]
}

// Momentum is an exponential mean of the estimates:
//
//	m <- beta m + (1 - beta) g,  d = m
type Momentum struct {
	Beta float64
	m    moments
}

// Step implements Optimizer.
func (o *Momentum) Step(i, _, _ int, g []float32) {
	for k, m := range o.mean(i, g) {
		g[k] = float32(m)
	}
}

func (o *Momentum) mean(i int, g []float32) []float64 {
	m := o.m.of(i, len(g))
	for k, x := range g {
		m[k] = float64(o.Beta*m[k]) + float64((1-o.Beta)*float64(x))
	}
	return m
}

// Adam divides an exponential mean of the estimates by the root of one of their
// squares (arXiv 1412.6980; on zeroth-order estimates: AdaMeZO, arXiv
// 2605.00650), bias-corrected:
//
//	m <- beta m + (1 - beta) g,  v <- beta2 v + (1 - beta2) s
//	d = (m / (1 - beta^t)) / (sqrt(v / (1 - beta2^t)) + 1e-8)
//
// s is g^2; m^2 if Refined (R-AdaZO, arXiv 2502.01014: the variance of one
// estimate hides its scale); the mean of g^2 over the matrix if Scalar, so that
// the step keeps the estimate's direction.
type Adam struct {
	Beta            float64
	Refined, Scalar bool
	m, v            moments
	t               map[int]int
}

const (
	adamBeta2 = 0.99
	adamEps   = 1e-8
)

// Step implements Optimizer.
func (o *Adam) Step(i, _, _ int, g []float32) {
	if o.t == nil {
		o.t = map[int]int{}
	}
	o.t[i]++
	t := float64(o.t[i])
	m, size := o.m.of(i, len(g)), len(g)
	if o.Scalar {
		size = 1
	}
	v := o.v.of(i, size)
	var mean float64
	for k, x := range g {
		m[k] = float64(o.Beta*m[k]) + float64((1-o.Beta)*float64(x))
		mean += float64(float64(x) * float64(x) / float64(len(g)))
	}
	for k := range v {
		s := mean
		switch {
		case o.Scalar:
		case o.Refined:
			s = m[k] * m[k]
		default:
			s = float64(g[k]) * float64(g[k])
		}
		v[k] = float64(adamBeta2*v[k]) + float64((1-adamBeta2)*s)
	}
	cm, cv := 1-math.Pow(o.Beta, t), 1-math.Pow(adamBeta2, t)
	for k := range g {
		g[k] = float32(m[k] / cm / (math.Sqrt(v[k%size]/cv) + adamEps))
	}
}
