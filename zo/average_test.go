package zo

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestAverageIsTheWeightedMean compares the running means with sums over all
// iterates in float64, whose weights are products of what follows them.
func TestAverageIsTheWeightedMean(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, weight := range map[string]func(t, n int) float64{
		"0.9": func(t, n int) float64 { return math.Pow(0.9, float64(n-t)) * 0.1 / (1 - math.Pow(0.9, float64(n))) },
		// The weight of iterate t is proportional to t(t+1)(t+2), whose sum is n(n+1)(n+2)(n+3)/4.
		"tail": func(t, n int) float64 {
			return 4 * float64(t*(t+1)*(t+2)) / float64(n*(n+1)*(n+2)*(n+3))
		},
	} {
		a, err := NewAverage(name)
		if err != nil {
			t.Fatal(err)
		}
		const n = 40
		want := [][]float64{make([]float64, 7), make([]float64, 3)}
		for step := 1; step <= n; step++ {
			b := [][]float32{make([]float32, 7), make([]float32, 3)}
			for i := range b {
				for k := range b[i] {
					b[i][k] = float32(rng.NormFloat64())
					want[i][k] += weight(step, n) * float64(b[i][k])
				}
			}
			a.Add(b)
		}
		for i, v := range a.Value() {
			near(t, name, v, want[i])
		}
		a.Reset()
		a.Add([][]float32{{5}})
		if a.Count() != 1 || a.Value()[0][0] != 5 {
			t.Errorf("%s: after a reset the mean of one 5 is %v", name, a.Value())
		}
	}
	for _, bad := range []string{"ema", "1", "0", "-0.5", "NaN", "0.9x"} {
		if _, err := NewAverage(bad); err == nil {
			t.Errorf("average %q is accepted", bad)
		}
	}
}

// TestAverageReducesVariance: of iterates that jitter about a point the tail
// average keeps sum w_t^2 of the variance, here about (16/7)/n.
func TestAverageReducesVariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const n, runs = 60, 4000
	var square, mean float64
	for range runs {
		a := &Average{}
		for range n {
			a.Add([][]float32{{float32(2 + rng.NormFloat64())}})
		}
		x := float64(a.Value()[0][0]) - 2
		mean += x / runs
		square += x * x / runs
	}
	var want float64
	for k := 1; k <= n; k++ {
		w := 4 * float64(k*(k+1)*(k+2)) / float64(n*(n+1)*(n+2)*(n+3))
		want += w * w
	}
	if math.Abs(mean) > 0.02 || math.Abs(square-want) > 0.08*want {
		t.Errorf("mean error %v, variance %v, want 0 and %v", mean, square, want)
	}
}
