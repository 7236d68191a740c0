package zo

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestHiZOO compares steps with the equations in float64.
func TestHiZOO(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	const d, q, eps, beta = 9, 5, 1e-2, 0.8
	o := &HiZOO{Beta: beta}
	h := make([]float64, d)
	for range 4 {
		plus, minus, g := make([]float64, q), make([]float64, q), make([]float32, d)
		var mean float64
		for j := range q {
			plus[j], minus[j] = 0.7+0.01*rng.NormFloat64(), 0.7+0.01*rng.NormFloat64()
			mean += (plus[j] + minus[j]) / q
		}
		bends := make([]float32, q)
		Bends(bends, plus, minus, eps)
		diagonal, want := make([]float64, d), make([]float64, d)
		for j := range q {
			z := make([]float32, d)
			for k := range z {
				z[k] = float32(rng.NormFloat64())
				diagonal[k] += (plus[j] + minus[j] - mean) / (2 * eps * eps * (q - 1)) * float64(z[k]) * float64(z[k])
			}
			o.Bend(2, z, bends[j])
			o.Bend(0, z, 1) // another matrix
		}
		var average float64
		for k := range h {
			h[k] = beta*h[k] + (1-beta)*math.Abs(diagonal[k])
			average += h[k] / d
		}
		for k := range g {
			g[k] = float32(rng.NormFloat64())
			want[k] = 2 * float64(g[k]) / (1 + h[k]/average)
		}
		o.Step(2, 3, 3, g)
		near(t, "hizoo", g, want)
	}
}

// TestHessianIsUnbiased draws many estimates of the diagonal of a quadratic's Hessian.
func TestHessianIsUnbiased(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	const d, q, eps, n = 5, 4, 0.01, 60000
	h := []float64{0.2, 3, -1, 0.5, 1.5}
	g := []float64{1, -2, 0.5, 0, 3}
	sum := make([]float64, d)
	bends := make([]float32, q)
	for range n {
		plus, minus, z := make([]float64, q), make([]float64, q), make([][]float64, q)
		for j := range q {
			z[j] = make([]float64, d)
			for k := range d {
				x := rng.NormFloat64()
				z[j][k] = x
				plus[j] += eps*g[k]*x + eps*eps*h[k]*x*x/2
				minus[j] += -eps*g[k]*x + eps*eps*h[k]*x*x/2
			}
		}
		Bends(bends, plus, minus, eps)
		for k := range d {
			for j := range q {
				sum[k] += float64(bends[j]) * z[j][k] * z[j][k] / n
			}
		}
	}
	for k, want := range h {
		if math.Abs(sum[k]-want) > 0.08 {
			t.Errorf("element %d of the diagonal is %v, want %v", k, sum[k], want)
		}
	}
}
