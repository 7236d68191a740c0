package zo

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"tabtune/lora"
)

// reference is testdata/reference.json, which testdata/reference.py makes.
type reference struct {
	Q            int
	LR, Eps      float64
	Coefficients []struct {
		Name          string
		Losses, Coefs []float64
	}
	Optimizers []struct {
		Name       string
		Beta       float64
		Rows, Cols int
		G, D       [][]float64
	}
}

func readReference(t *testing.T) (r reference) {
	t.Helper()
	b, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// near wants all values within 1e-6 of the largest.
func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	size := 0.0
	for _, w := range want {
		size = max(size, math.Abs(w))
	}
	for k, w := range want {
		if d := math.Abs(float64(got[k]) - w); !(d <= 1e-6*size) {
			t.Errorf("%s: value %d is %v, want %v", what, k, got[k], w)
			return
		}
	}
}

func TestCoefficientsAreNumPys(t *testing.T) {
	r := readReference(t)
	var seen []string
	for _, c := range r.Coefficients {
		e, err := New(c.Name, r.Q)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, c.Name)
		coefs := make([]float32, r.Q)
		if err := e.Coefficients(coefs, c.Losses, r.LR, r.Eps); err != nil {
			t.Fatal(err)
		}
		near(t, c.Name, coefs, c.Coefs)
		if e.Coefficients(coefs, c.Losses[1:], r.LR, r.Eps) == nil || e.Coefficients(coefs[1:], c.Losses, r.LR, r.Eps) == nil {
			t.Errorf("%s takes a wrong number of losses or coefficients", c.Name)
		}
	}
	slices.Sort(seen)
	if !slices.Equal(seen, Names()) {
		t.Errorf("reference has %v, there are %v", seen, Names())
	}
}

func TestOptimizersAreNumPys(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range readReference(t).Optimizers {
		o, err := NewOptimizer(c.Name, c.Beta)
		if err != nil {
			t.Fatal(err)
		}
		seen[c.Name] = true
		for step := range c.G {
			for _, i := range []int{3, 0} { // state is each matrix's own
				g := make([]float32, len(c.G[step]))
				for k, x := range c.G[step] {
					g[k] = float32(x)
				}
				o.Step(i, c.Rows, c.Cols, g)
				near(t, c.Name, g, c.D[step])
			}
		}
	}
	for _, n := range OptimizerNames() {
		if !seen[n] {
			t.Errorf("no reference for %s", n)
		}
	}
	for name, beta := range map[string]float64{"adam": 1, "muon": math.NaN(), "momentum": -0.1, "lion": 0.9} {
		if _, err := NewOptimizer(name, beta); err == nil {
			t.Errorf("%s with beta %v is accepted", name, beta)
		}
	}
	if o, err := NewOptimizer("sgd", 0.9); o != nil || err != nil {
		t.Errorf("sgd: %v %v", o, err)
	}
}

// TestZeros: a step without news is none, and no optimizer makes a NaN of it.
func TestZeros(t *testing.T) {
	for _, n := range OptimizerNames() {
		o, err := NewOptimizer(n, 0.9)
		if err != nil {
			t.Fatal(err)
		}
		g := make([]float32, 12)
		o.Step(0, 4, 3, g)
		for _, x := range g {
			if x != 0 {
				t.Errorf("%s: step %v of no gradient", n, x)
				break
			}
		}
	}
	for _, n := range []string{"fzoo", "grzo"} {
		e, err := New(n, 3)
		if err != nil {
			t.Fatal(err)
		}
		coefs := []float32{1, 1, 1}
		if err := e.Coefficients(coefs, slices.Repeat([]float64{0.5}, int(PerStep(e, 1))), 1, 1e-2); err != nil || coefs[0] != 0 || coefs[2] != 0 {
			t.Errorf("%s: %v for losses that are all the same, %v", n, coefs, err)
		}
		if _, err := New(n, 1); err == nil {
			t.Errorf("%s takes one query", n)
		}
	}
}

// TestBiasAndVariance draws many estimates of the gradient of a linear loss whose
// rows differ: L(b; x_i) = g_i b. Both two-sided estimators have the mean gradient
// as their mean; with z normal, shared rows give the variance
// (1/q) (d+1) |g|^2 for the sum over dimensions, own rows the same with
// mean |g_i|^2 over the rows of a query in place of |g|^2 (and less where rows
// agree).
func TestBiasAndVariance(t *testing.T) {
	const d, q, eps, n = 6, 4, 0.01, 60000
	rng := rand.New(rand.NewPCG(4, 5))
	rows := make([][]float64, 8)
	mean := make([]float64, d)
	var sizes float64
	for i := range rows {
		rows[i] = make([]float64, d)
		for k := range d {
			rows[i][k] = 0.5*rng.NormFloat64() + 0.3
			mean[k] += rows[i][k] / 8
			sizes += rows[i][k] * rows[i][k] / 8
		}
	}
	for _, name := range []string{"prge", "rows"} {
		e, err := New(name, q)
		if err != nil {
			t.Fatal(err)
		}
		var square float64
		sum := make([]float64, d)
		coefs := make([]float32, q)
		for range n {
			losses := make([]float64, 2*q)
			z := make([][]float64, q)
			for j := range q {
				z[j] = make([]float64, d)
				at := mean // all rows
				if e.Spread() {
					at = rows[rng.IntN(len(rows))]
				}
				for k := range d {
					z[j][k] = rng.NormFloat64()
					losses[j] += eps * z[j][k] * at[k]
				}
				losses[q+j] = -losses[j]
			}
			if err := e.Coefficients(coefs, losses, 1, eps); err != nil {
				t.Fatal(err)
			}
			for k := range d {
				var x float64
				for j := range q {
					x += float64(coefs[j]) * z[j][k]
				}
				sum[k] += x / n
				square += (x - mean[k]) * (x - mean[k]) / n
			}
		}
		var size float64
		for k := range d {
			size += mean[k] * mean[k]
			if math.Abs(sum[k]-mean[k]) > 0.02 {
				t.Errorf("%s: mean estimate %d is %v, the gradient %v", name, k, sum[k], mean[k])
			}
		}
		want := (d + 1) * size / q
		if e.Spread() {
			want = ((d+2)*sizes - size) / q
		}
		if math.Abs(square-want) > 0.05*want {
			t.Errorf("%s: variance %v, want %v", name, square, want)
		}
	}
}

func TestClip(t *testing.T) {
	c := []float32{1, -2, 30, 2, -40}
	Clip(c, 3)
	if !slices.Equal(c, []float32{1, -2, 6, 2, -6}) {
		t.Errorf("clipped to %v", c)
	}
	Clip(c, 0)
	Clip(c[:2], 0.1)
	if c[0] != 1 || c[2] != 6 {
		t.Errorf("clipped to %v", c)
	}
}

func TestPerStep(t *testing.T) {
	for name, want := range map[string]int64{"prge": 24, "rows": 24, "mezo": 24, "fzoo": 15, "grzo": 24} {
		e, err := New(name, 4)
		if err != nil {
			t.Fatal(err)
		}
		if got := PerStep(e, 3); got != want {
			t.Errorf("%s: %d rows a step, want %d", name, got, want)
		}
		if e.Sequential() != (e.Sides() == lora.Single) {
			t.Errorf("%s: sides %s, sequential %v", name, e.Sides(), e.Sequential())
		}
	}
}
