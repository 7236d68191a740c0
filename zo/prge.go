package zo

import (
	"fmt"

	"tabtune/lora"
)

// PRGE is the parallelised randomised gradient estimator of MobiZO (arXiv
// 2409.15520, section 3.1), two-sided: the q queries and both signs run in one
// batched forward.
//
//	g_j = (L(B + eps z_j) - L(B - eps z_j)) / (2 eps)
//	B  <- B - lr (1/q) sum_j g_j z_j
type PRGE struct{ Q int }

// Name, Queries, Sides, Sequential and Spread implement Estimator.
func (PRGE) Name() string      { return "prge" }
func (e PRGE) Queries() int    { return e.Q }
func (PRGE) Sides() lora.Sides { return lora.TwoSided }
func (PRGE) Sequential() bool  { return false }
func (PRGE) Spread() bool      { return false }

// Coefficients takes L(B + eps z_j) for all j, then L(B - eps z_j) for all j.
func (e PRGE) Coefficients(coefs []float32, losses []float64, lr, eps float64) error {
	if len(losses) != 2*e.Q || len(coefs) != e.Q {
		return fmt.Errorf("prge: %d losses and %d coefficients for %d queries", len(losses), len(coefs), e.Q)
	}
	for j := range coefs {
		coefs[j] = central(losses[j], losses[e.Q+j], lr/float64(e.Q), eps)
	}
	return nil
}

// Rows is P-RGE with different rows for every query:
//
//	g_j = (L(B + eps z_j; x_j) - L(B - eps z_j; x_j)) / (2 eps)
//
// over q times as many rows at the same cost. With d dimensions the variance is
// about (d/q) |mean g|^2 where all queries see the same b rows, and
// (d/q) mean |g_i|^2 / b + ... with rows of their own: the noise of the rows is
// averaged over the queries too, and it is never more.
type Rows struct{ PRGE }

// Name and Spread implement Estimator.
func (Rows) Name() string { return "rows" }
func (Rows) Spread() bool { return true }

// MeZO is the sequential baseline (arXiv 2305.17333): the same central
// differences, one forward for each sign of each direction, over all weights in
// place or over the adapters' B.
type MeZO struct{ Q int }

// Name, Queries, Sides, Sequential and Spread implement Estimator.
func (MeZO) Name() string      { return "mezo" }
func (e MeZO) Queries() int    { return e.Q }
func (MeZO) Sides() lora.Sides { return lora.Single }
func (MeZO) Sequential() bool  { return true }
func (MeZO) Spread() bool      { return false }

// Coefficients takes L(+eps z_0), L(-eps z_0), L(+eps z_1), ...
func (e MeZO) Coefficients(coefs []float32, losses []float64, lr, eps float64) error {
	if len(losses) != 2*e.Q || len(coefs) != e.Q {
		return fmt.Errorf("mezo: %d losses and %d coefficients for %d queries", len(losses), len(coefs), e.Q)
	}
	for j := range coefs {
		coefs[j] = central(losses[2*j], losses[2*j+1], lr/float64(e.Q), eps)
	}
	return nil
}

func central(plus, minus, lr, eps float64) float32 {
	return float32(lr * (plus - minus) / (2 * eps))
}
