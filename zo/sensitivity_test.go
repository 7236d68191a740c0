package zo

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestSensitivity compares with |g|^2 / tr H of a quadratic.
func TestSensitivity(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	const d, n, eps = 200, 20000, 1e-2
	g, h := make([]float64, d), make([]float64, d)
	var g2, trace float64
	for k := range d {
		g[k], h[k] = 0.1*rng.NormFloat64(), rng.Float64()
		g2 += g[k] * g[k]
		trace += h[k]
	}
	loss := func(z []float64, s float64) float64 {
		l := 0.7
		for k, x := range z {
			l += s*g[k]*x + s*s*h[k]*x*x/2
		}
		return l
	}
	var plus, minus []float64
	for range n {
		z := make([]float64, d)
		for k := range z {
			z[k] = rng.NormFloat64()
		}
		plus, minus = append(plus, loss(z, eps)), append(minus, loss(z, -eps))
	}
	if got, want := Sensitivity(plus, minus, 0.7, eps), g2/trace; math.Abs(got-want) > 0.05*want {
		t.Errorf("gain %v, want %v", got, want)
	}
	flat := []float64{1, 1}
	for what, got := range map[string]float64{"no loss changes": Sensitivity(flat, flat, 1, eps), "no directions": Sensitivity(nil, nil, 1, eps),
		"a loss is not finite": Sensitivity([]float64{math.NaN()}, flat[:1], 1, eps)} {
		if got != 0 {
			t.Errorf("where %s the gain is %v", what, got)
		}
	}
	// A mean bend of nothing counts as its noise: here 4 a direction, over the root of 2.
	if got, want := Sensitivity([]float64{2, 0}, []float64{2, 0}, 1, 1), 0.0; got != want {
		t.Errorf("gain %v without slopes", got)
	}
	if got, want := Sensitivity([]float64{3, 1}, []float64{1, -1}, 1, 1), 1/math.Sqrt2; math.Abs(got-want) > 1e-12 {
		t.Errorf("gain %v, want %v", got, want)
	}
}
