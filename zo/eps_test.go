package zo

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestChooseEps has slopes with rounding noise and a cubic term of known sizes.
func TestChooseEps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, x := range []struct{ noise, cubic, least, most float64 }{
		{1e-6, 1e-3, 3e-2, 1e-1}, // an exact loss that is nearly a line: large
		{1e-6, 3e4, 3e-3, 3e-3},  // an exact loss with a strong bend: small
		{1e-4, 30, 1e-2, 3e-2},   // noise and a bend
		{0, 0, 3e-3, 1e-1},       // a line
	} {
		eps := EpsCandidates()
		g := make([][]float64, len(eps))
		slopes := make([]float64, 16)
		for j := range slopes {
			slopes[j] = rng.NormFloat64()
		}
		for k, e := range eps {
			for _, s := range slopes {
				g[k] = append(g[k], s+x.cubic*e*e*math.Sin(7*s)+x.noise*rng.NormFloat64()/e)
			}
		}
		if got := ChooseEps(eps, g); got < x.least || got > x.most {
			t.Errorf("noise %g, cubic %g: eps %g, want %g to %g", x.noise, x.cubic, got, x.least, x.most)
		}
	}
	if got := ChooseEps(EpsCandidates(), make([][]float64, 5)); got != 1e-2 {
		t.Errorf("no slopes: eps %g", got)
	}
}
