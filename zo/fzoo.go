package zo

import (
	"fmt"
	"math"

	"tabtune/lora"
)

// FZOO is one-sided with a step that adapts to the losses' spread (arXiv
// 2506.09034): l_0 = L(B), l_i = L(B + eps u_i), N = q,
//
//	sigma = std(l_i),  B <- B - lr (1/N) sum_i (l_i - l_0)/sigma u_i
//
// q+1 forwards a step. Where the losses do not differ the step is 0.
type FZOO struct{ Q int }

// Name, Queries, Sides, Sequential and Spread implement Estimator.
func (FZOO) Name() string      { return "fzoo" }
func (e FZOO) Queries() int    { return e.Q }
func (FZOO) Sides() lora.Sides { return lora.OneSided }
func (FZOO) Sequential() bool  { return false }
func (FZOO) Spread() bool      { return false }

// Coefficients takes L(B), then L(B + eps u_i) for all i. The result does not
// depend on eps: what it scales is divided out.
func (e FZOO) Coefficients(coefs []float32, losses []float64, lr, _ float64) error {
	if len(losses) != e.Q+1 || len(coefs) != e.Q {
		return fmt.Errorf("fzoo: %d losses and %d coefficients for %d queries", len(losses), len(coefs), e.Q)
	}
	normalise(coefs, losses[1:], losses[0], lr/float64(e.Q))
	return nil
}

// GRZO is two-sided with rows of its own for every query and a step that adapts
// to the spread of the differences (arXiv 2606.02857), n = q rows or groups of
// rows:
//
//	d_i = L(B + eps z_i; x_i) - L(B - eps z_i; x_i)
//	B <- B - lr (1/(2 eps n)) sum_i d_i/std(d) z_i
//
// The paper makes its z_i from one normal and signs of rows and columns, to store
// one; here each is a normal of its own, which costs nothing as none is stored.
type GRZO struct{ Q int }

// Name, Queries, Sides, Sequential and Spread implement Estimator.
func (GRZO) Name() string      { return "grzo" }
func (e GRZO) Queries() int    { return e.Q }
func (GRZO) Sides() lora.Sides { return lora.TwoSided }
func (GRZO) Sequential() bool  { return false }
func (GRZO) Spread() bool      { return true }

// Coefficients takes L(B + eps z_i; x_i) for all i, then L(B - eps z_i; x_i).
func (e GRZO) Coefficients(coefs []float32, losses []float64, lr, eps float64) error {
	if len(losses) != 2*e.Q || len(coefs) != e.Q {
		return fmt.Errorf("grzo: %d losses and %d coefficients for %d queries", len(losses), len(coefs), e.Q)
	}
	d := make([]float64, e.Q)
	for i := range d {
		d[i] = losses[i] - losses[e.Q+i]
	}
	normalise(coefs, d, 0, lr/(2*eps*float64(e.Q)))
	return nil
}

// normalise sets coefs[i] = scale (v[i] - centre) / std(v), or 0 where the
// standard deviation (of a sample) is nothing but rounding.
func normalise(coefs []float32, v []float64, centre, scale float64) {
	var mean, square, size float64
	for _, x := range v {
		mean += x / float64(len(v))
		size = max(size, math.Abs(x))
	}
	for _, x := range v {
		square += (x - mean) * (x - mean)
	}
	std := math.Sqrt(square / float64(len(v)-1))
	for i, x := range v {
		coefs[i] = 0
		if std > 1e-9*size { // losses are float32
			coefs[i] = float32(scale * (x - centre) / std)
		}
	}
}

// Greedy moves to the best of the copies that were evaluated instead of averaging
// over them, an evolution strategy with 2q children and one survivor:
//
//	(j, s) = argmin L(B + s eps z_j),  B <- B + lr eps s z_j
//
// At lr 1 the next B is that copy. It stays where it is when the copy's loss is
// not below the mean of all, which for a small eps is about L(B).
type Greedy struct{ Q int }

// Name, Queries, Sides, Sequential and Spread implement Estimator.
func (Greedy) Name() string      { return "greedy" }
func (e Greedy) Queries() int    { return e.Q }
func (Greedy) Sides() lora.Sides { return lora.TwoSided }
func (Greedy) Sequential() bool  { return false }
func (Greedy) Spread() bool      { return false }

// Coefficients takes L(B + eps z_j) for all j, then L(B - eps z_j) for all j.
func (e Greedy) Coefficients(coefs []float32, losses []float64, lr, eps float64) error {
	if len(losses) != 2*e.Q || len(coefs) != e.Q {
		return fmt.Errorf("greedy: %d losses and %d coefficients for %d queries", len(losses), len(coefs), e.Q)
	}
	clear(coefs)
	best, mean := 0, 0.0
	for i, l := range losses {
		if l < losses[best] {
			best = i
		}
		mean += l / float64(len(losses))
	}
	switch {
	case losses[best] >= mean:
	case best < e.Q:
		coefs[best] = float32(-lr * eps)
	default:
		coefs[best-e.Q] = float32(lr * eps)
	}
	return nil
}
