package head

import (
	"math"
	"slices"
)

// solver minimises the penalised loss on the rows outside one fold by L-BFGS
// (Nocedal and Wright, Numerical Optimization, algorithm 7.5) and keeps its
// solution as the next start.
type solver struct {
	x         []float64 // [n, dim], scaled as described at scale
	y         []int
	dim, k    int
	intercept bool
	mean, std []float64
	unit      []float64 // without an intercept: the direction of mean/std
	squeeze   float64   // and the factor along it; 1: none
	p         []float64 // [k, dim] weights, then [k] intercepts
	logits    []float64
}

// history is how many steps L-BFGS remembers.
const history = 8

// maxIterations bounds a solve. With the penalties of Lambdas some tens do; the
// bound is for data that cannot be separated well in floating point.
const maxIterations = 300

// The norm of a row's share of the gradient at which a solve ends: of the result,
// and of the fits that are only compared.
const (
	tolerance = 1e-7
	roughly   = 3e-4
)

func newSolver(d *Data, folds []int, without int, intercept bool) *solver {
	s := &solver{dim: d.Dim, k: d.Classes, intercept: intercept, mean: make([]float64, d.Dim), std: make([]float64, d.Dim)}
	for i, f := range folds {
		if f != without {
			s.y = append(s.y, d.Y[i])
			for _, v := range d.row(i) {
				s.x = append(s.x, float64(v))
			}
		}
	}
	n := float64(len(s.y))
	for i := range s.y {
		for j, v := range s.row(i) {
			s.mean[j] += v / n
		}
	}
	for i := range s.y {
		for j, v := range s.row(i) {
			s.std[j] += float64((v-s.mean[j])*(v-s.mean[j])) / n
		}
	}
	for j := range s.std {
		if s.std[j] = math.Sqrt(s.std[j]); !(s.std[j] > 1e-12*math.Abs(s.mean[j])) {
			s.std[j] = math.Inf(1) // a constant says nothing: its scaled value is 0
		}
	}
	s.squeeze = 1
	if !intercept {
		s.unit = make([]float64, d.Dim)
		for j := range s.unit {
			s.unit[j] = s.mean[j] / s.std[j]
		}
		if n := norm(s.unit); n > 1 {
			s.squeeze = 1 / n
			for j := range s.unit {
				s.unit[j] /= n
			}
		}
	}
	for i := range s.y {
		s.scale(s.row(i))
	}
	s.p = make([]float64, s.k*(s.dim+1))
	s.logits = make([]float64, s.k)
	return s
}

// scale divides features by their standard deviations after taking their means
// away. Without an intercept the means stay, and as they are far from 0 all rows
// have one large component in common, along unit; the problem is solved in
// coordinates where it is about 1, as an intercept's would be:
// w = S p, S = I - (1 - squeeze) unit unit^T, and x becomes S x.
func (s *solver) scale(x []float64) {
	for j := range x {
		if s.intercept {
			x[j] -= s.mean[j]
		}
		x[j] /= s.std[j]
	}
	s.squash(x)
}

// squash multiplies v by S.
func (s *solver) squash(v []float64) {
	if s.squeeze < 1 {
		axpy(v, (s.squeeze-1)*dot(s.unit, v), s.unit)
	}
}

func (s *solver) row(i int) []float64 { return s.x[i*s.dim : (i+1)*s.dim] }

// scores fills s.logits for scaled features x.
func (s *solver) scores(p, x []float64) {
	for c := range s.k {
		sum := p[s.k*s.dim+c]
		w := p[c*s.dim:][:len(x)]
		for j, v := range x {
			sum += float64(v * w[j])
		}
		s.logits[c] = sum
	}
}

// objective returns the penalised loss at p, over the number of rows, and its
// gradient in g.
func (s *solver) objective(p, g []float64, lambda float64) float64 {
	clear(g)
	n := float64(len(s.y))
	var loss float64
	for i, y := range s.y {
		x := s.row(i)
		s.scores(p, x)
		top, log := normaliser(s.logits)
		loss += log - (s.logits[y] - s.logits[top])
		for c := range s.k {
			r := math.Exp(-(log - (s.logits[c] - s.logits[top]))) // the probability of c
			if c == y {
				r--
			}
			r /= n
			gc := g[c*s.dim:][:len(x)]
			for j, v := range x {
				gc[j] += float64(r * v)
			}
			if s.intercept {
				g[s.k*s.dim+c] += r
			}
		}
	}
	loss /= n
	for c := range s.k { // lambda/2 |S p|^2
		pc, gc := p[c*s.dim:(c+1)*s.dim], g[c*s.dim:(c+1)*s.dim]
		loss += float64(lambda / (2 * n) * dot(pc, pc))
		axpy(gc, lambda/n, pc)
		if s.squeeze < 1 {
			along, less := dot(s.unit, pc), 1-float64(s.squeeze*s.squeeze)
			loss -= float64(lambda / (2 * n) * less * along * along)
			axpy(gc, -float64(lambda/n*less*along), s.unit)
		}
	}
	return loss
}

func (s *solver) solve(lambda, tolerance float64) {
	size := len(s.p)
	g, q, next := make([]float64, size), make([]float64, size), make([]float64, size)
	gNext := make([]float64, size)
	var steps, changes [][]float64
	var rho []float64
	f := s.objective(s.p, g, lambda)
	for range maxIterations {
		if norm(g) < tolerance {
			return
		}
		direction(q, g, steps, changes, rho)
		slope := dot(g, q)
		if !(slope < 0) {
			steps, changes, rho = nil, nil, nil
			direction(q, g, nil, nil, nil)
			slope = dot(g, q)
		}
		step := 1.0
		if len(steps) == 0 {
			step = min(1, 1/norm(g))
		}
		fNext := math.Inf(1)
		for range 40 { // halve until the loss falls enough (Armijo)
			for j := range next {
				next[j] = s.p[j] + float64(step*q[j])
			}
			if fNext = s.objective(next, gNext, lambda); fNext <= f+float64(1e-4*step*slope) {
				break
			}
			step /= 2
		}
		if !(fNext < f) {
			return // floating point can do no better
		}
		ds, dg := make([]float64, size), make([]float64, size)
		for j := range ds {
			ds[j], dg[j] = next[j]-s.p[j], gNext[j]-g[j]
		}
		if c := dot(ds, dg); c > 1e-12*norm(ds)*norm(dg) {
			if len(steps) == history {
				steps, changes, rho = steps[1:], changes[1:], rho[1:]
			}
			steps, changes, rho = append(steps, ds), append(changes, dg), append(rho, 1/c)
		}
		s.p, next = next, s.p
		g, gNext = gNext, g
		f = fNext
	}
}

// direction is -H g by the two-loop recursion.
func direction(q, g []float64, steps, changes [][]float64, rho []float64) {
	for j := range q {
		q[j] = -g[j]
	}
	alpha := make([]float64, len(steps))
	for i := len(steps) - 1; i >= 0; i-- {
		alpha[i] = rho[i] * dot(steps[i], q)
		axpy(q, -alpha[i], changes[i])
	}
	if n := len(steps); n > 0 {
		scale := dot(steps[n-1], changes[n-1]) / dot(changes[n-1], changes[n-1])
		for j := range q {
			q[j] *= scale
		}
	}
	for i := range steps {
		axpy(q, alpha[i]-float64(rho[i]*dot(changes[i], q)), steps[i])
	}
}

func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += float64(v * b[i])
	}
	return sum
}

func axpy(y []float64, a float64, x []float64) {
	for i, v := range x {
		y[i] += float64(a * v)
	}
}

func norm(a []float64) float64 { return math.Sqrt(dot(a, a)) }

// model undoes the scaling.
func (s *solver) model(classes int) *Model {
	m := &Model{Weight: make([]float32, classes*s.dim), Bias: make([]float32, classes)}
	for c := range classes {
		b := s.p[classes*s.dim+c]
		p := slices.Clone(s.p[c*s.dim : (c+1)*s.dim])
		s.squash(p)
		for j := range p {
			w := p[j] / s.std[j]
			m.Weight[c*s.dim+j] = float32(w)
			if s.intercept {
				b -= float64(w * s.mean[j])
			}
		}
		m.Bias[c] = float32(b)
	}
	return m
}

// held is the summed loss, and the hits, of the rows in fold f.
func (s *solver) held(d *Data, folds []int, f int) (loss, hits float64) {
	x := make([]float64, s.dim)
	for i, of := range folds {
		if of != f {
			continue
		}
		for j, v := range d.row(i) {
			x[j] = float64(v)
		}
		s.scale(x)
		s.scores(s.p, x)
		l, hit := nll(s.logits, d.Y[i])
		loss += l
		if hit {
			hits++
		}
	}
	return loss, hits
}
