// Package head fits a label head exactly: multinomial logistic regression on the
// frozen model's hidden states, which is convex, needs one forward pass a row and
// no perturbation. Zeroth order starts where it ends.
//
//	minimise  sum_i -log softmax(W D^-1 (x_i - c) + b)_(y_i) + (lambda/2) |W|^2
//
// D holds the features' standard deviations, so that lambda means the same for
// every feature and every layer. With an intercept c is the mean and b is free;
// without one c = 0 and b = 0: the head is then a matrix alone, as a LoRA on the
// output head needs it. lambda is chosen by cross-validation.
//
// All sums are in float64 and in a fixed order, with products rounded before they
// are added, so the module fits the same bits wherever it runs.
package head

import (
	"fmt"
	"math"
)

// Data is a labelled set of feature vectors.
type Data struct {
	X       []float32 // [len(Y), Dim], row-major
	Dim     int
	Y       []int // class of each row, 0 to Classes-1
	Classes int
}

// Validate checks sizes, labels and that every feature is finite.
func (d *Data) Validate() error {
	if d.Dim < 1 || d.Classes < 2 || len(d.Y) == 0 || len(d.X) != len(d.Y)*d.Dim {
		return fmt.Errorf("label head: %d features for %d rows of %d, %d classes", len(d.X), len(d.Y), d.Dim, d.Classes)
	}
	for i, y := range d.Y {
		if y < 0 || y >= d.Classes {
			return fmt.Errorf("label head: row %d has class %d of %d", i, y, d.Classes)
		}
	}
	for i, x := range d.X {
		if x-x != 0 {
			return fmt.Errorf("label head: feature %d of row %d is %v", i%d.Dim, i/d.Dim, x)
		}
	}
	return nil
}

// row returns the features of row i.
func (d *Data) row(i int) []float32 { return d.X[i*d.Dim : (i+1)*d.Dim] }

// Model is a fitted head: scores W x + b, up to a constant for all classes.
type Model struct {
	Weight []float32 // [classes, dim], for features as they are
	Bias   []float32 // [classes]; zeros without an intercept
	Lambda float64
	Score  Score // on the rows that it was fitted to
}

// Score is a mean negative log-likelihood in nats and an accuracy.
type Score struct{ Loss, Accuracy float64 }

// Options of a fit.
type Options struct {
	Intercept bool
	Folds     int       // of the cross-validation; 5 when 0
	Lambdas   []float64 // tried from the first on; Lambdas() when nil
	// Progress, unless nil, is called after every fold's fit, at most Folds times
	// len(Lambdas) times. An error of it ends the search and is returned as it is.
	Progress func() error
}

// Lambdas are the penalties tried, strongest first: each fit starts from the one
// before, and the search ends when two in a row are worse than the best.
func Lambdas() []float64 { return []float64{1e4, 3e3, 1e3, 300, 100, 30, 10, 3, 1, 0.3, 0.1} }

// Choose fits the model whose penalty has the lowest cross-validated loss, and
// returns that loss and accuracy too. Rows are dealt to the folds in turn within
// their class, so every fold has the data's balance.
func Choose(d *Data, o Options) (*Model, Score, error) {
	if err := d.Validate(); err != nil {
		return nil, Score{}, err
	}
	if o.Folds == 0 {
		o.Folds = 5
	}
	if o.Lambdas == nil {
		o.Lambdas = Lambdas()
	}
	if o.Folds < 2 || o.Folds > len(d.Y) {
		return nil, Score{}, fmt.Errorf("label head: %d rows cannot be cross-validated in %d folds", len(d.Y), o.Folds)
	}
	folds := deal(d, o.Folds)
	solvers := make([]*solver, o.Folds)
	for f := range solvers {
		solvers[f] = newSolver(d, folds, f, o.Intercept)
	}
	best, at := Score{Loss: math.Inf(1)}, 0
	for k, worse := 0, 0; k < len(o.Lambdas) && worse < 2; k++ {
		if !(o.Lambdas[k] > 0) || math.IsInf(o.Lambdas[k], 0) {
			return nil, Score{}, fmt.Errorf("label head: penalty %v is not a positive number", o.Lambdas[k])
		}
		var sum Score
		for f, s := range solvers {
			s.solve(o.Lambdas[k], roughly)
			loss, hits := s.held(d, folds, f)
			sum.Loss += loss
			sum.Accuracy += hits
			if o.Progress != nil {
				if err := o.Progress(); err != nil {
					return nil, Score{}, err
				}
			}
		}
		sum.Loss /= float64(len(d.Y))
		sum.Accuracy /= float64(len(d.Y))
		if sum.Loss < best.Loss {
			best, at, worse = sum, k, 0
		} else {
			worse++
		}
	}
	return Fit(d, o.Lambdas[at], o.Intercept), best, nil
}

// Fit fits the model with one penalty. The data must be valid.
func Fit(d *Data, lambda float64, intercept bool) *Model {
	s := newSolver(d, make([]int, len(d.Y)), -1, intercept)
	s.solve(lambda, tolerance)
	m := s.model(d.Classes)
	m.Lambda = lambda
	m.Score = m.Evaluate(d)
	return m
}

// Evaluate scores the model on rows.
func (m *Model) Evaluate(d *Data) Score {
	var sc Score
	logits := make([]float64, d.Classes)
	for i, y := range d.Y {
		for k := range logits {
			logits[k] = float64(m.Bias[k])
			for j, x := range d.row(i) {
				logits[k] += float64(float64(m.Weight[k*d.Dim+j]) * float64(x))
			}
		}
		loss, hit := nll(logits, y)
		sc.Loss += loss
		if hit {
			sc.Accuracy++
		}
	}
	sc.Loss /= float64(len(d.Y))
	sc.Accuracy /= float64(len(d.Y))
	return sc
}

// nll is -log softmax(logits)[y], and whether y has the first largest logit.
func nll(logits []float64, y int) (float64, bool) {
	top, log := normaliser(logits)
	return log - (logits[y] - logits[top]), top == y
}

// normaliser returns the place of the first largest logit, and the logarithm of
// the sum of all exponentials when that one is 1.
func normaliser(logits []float64) (top int, log float64) {
	for k, l := range logits {
		if l > logits[top] {
			top = k
		}
	}
	var sum float64
	for _, l := range logits {
		sum += math.Exp(l - logits[top])
	}
	return top, math.Log(sum)
}

// deal gives every row its fold.
func deal(d *Data, folds int) []int {
	next := make([]int, d.Classes)
	out := make([]int, len(d.Y))
	for i, y := range d.Y {
		out[i] = (next[y] + y) % folds // + y: small classes do not all begin in the first fold
		next[y]++
	}
	return out
}
