package head

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// fixture is testdata/logistic.json, made by testdata/logistic.py: small data sets
// and the solutions that Newton's method in float64 NumPy finds.
type fixture struct {
	Dim, Classes int
	X            []float32
	Y            []int
	Fits         []struct {
		Lambda    float64
		Intercept bool
		Weight    []float64
		Bias      []float64
		Loss      float64
	}
}

func fixtures(t *testing.T) (out []fixture) {
	t.Helper()
	b, err := os.ReadFile("testdata/logistic.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFitIsNewtons compares with NumPy.
func TestFitIsNewtons(t *testing.T) {
	for i, f := range fixtures(t) {
		d := &Data{X: f.X, Dim: f.Dim, Y: f.Y, Classes: f.Classes}
		for _, want := range f.Fits {
			m := Fit(d, want.Lambda, want.Intercept)
			var far, size float64
			for j, w := range want.Weight {
				far = max(far, math.Abs(float64(m.Weight[j])-w))
				size = max(size, math.Abs(w))
			}
			for j, b := range want.Bias {
				far = max(far, math.Abs(float64(m.Bias[j])-b))
				size = max(size, math.Abs(b))
			}
			if far > 1e-4*size {
				t.Errorf("data %d, lambda %g, intercept %v: a weight is %g away, the largest is %g", i, want.Lambda, want.Intercept, far, size)
			}
			if d := math.Abs(m.Score.Loss - want.Loss); d > 1e-6*want.Loss {
				t.Errorf("data %d, lambda %g, intercept %v: loss %v, want %v", i, want.Lambda, want.Intercept, m.Score.Loss, want.Loss)
			}
		}
	}
}

// made is n rows of which a few features say the class, the others nothing.
func made(n, dim, classes int, noise float64, seed uint64) *Data {
	rng := rand.New(rand.NewPCG(seed, 9))
	d := &Data{Dim: dim, Classes: classes}
	for range n {
		y := rng.IntN(classes)
		d.Y = append(d.Y, y)
		for j := range dim {
			v := rng.NormFloat64() * noise
			if j == y {
				v += 1
			}
			d.X = append(d.X, float32(10+v)) // far from 0, as hidden states are
		}
	}
	return d
}

// TestChoose wants a penalty that fits new rows better than no penalty.
func TestChoose(t *testing.T) {
	for _, intercept := range []bool{true, false} {
		train, test := made(120, 40, 3, 0.7, 1), made(600, 40, 3, 0.7, 2)
		m, cv, err := Choose(train, Options{Intercept: intercept})
		if err != nil {
			t.Fatal(err)
		}
		got, loose := m.Evaluate(test), Fit(train, 1e-3, intercept).Evaluate(test)
		if got.Loss > 0.9*loose.Loss || got.Accuracy < 0.6 {
			t.Errorf("intercept %v: %+v, without a penalty %+v", intercept, got, loose)
		}
		if math.Abs(cv.Loss-got.Loss) > 0.25*got.Loss || cv.Loss <= m.Score.Loss {
			t.Errorf("intercept %v: cross-validated %+v, on new rows %+v, on its own %+v", intercept, cv, got, m.Score)
		}
		if !intercept && (m.Bias[0] != 0 || m.Bias[2] != 0) {
			t.Errorf("bias %v of a fit without one", m.Bias)
		}
		again, _, err := Choose(train, Options{Intercept: intercept})
		if err != nil || again.Lambda != m.Lambda || again.Weight[7] != m.Weight[7] {
			t.Errorf("a second fit differs: %v", err)
		}
	}
}

// TestConstantFeature has a feature that never changes and classes of one row.
func TestConstantFeature(t *testing.T) {
	d := made(30, 5, 2, 0.5, 3)
	for i := range d.Y {
		d.X[5*i+4] = 3
	}
	for _, intercept := range []bool{true, false} {
		m := Fit(d, 1, intercept)
		if w := m.Weight[4]; w != 0 || math.IsNaN(m.Score.Loss) {
			t.Errorf("weight %v of a constant, loss %v", w, m.Score.Loss)
		}
	}
}

func TestChooseRefuses(t *testing.T) {
	nan := made(10, 2, 2, 1, 4)
	nan.X[3] = float32(math.NaN())
	class := made(10, 2, 2, 1, 4)
	class.Y[5] = 2
	for name, d := range map[string]*Data{"nan": nan, "class": class, "empty": {Dim: 1, Classes: 2}, "short": {X: []float32{1}, Dim: 2, Y: []int{0}, Classes: 2}} {
		if _, _, err := Choose(d, Options{}); err == nil {
			t.Errorf("%s: fitted", name)
		}
	}
	d := made(10, 2, 2, 1, 4)
	for _, o := range []Options{{Folds: 1}, {Folds: 11}, {Lambdas: []float64{-1}}, {Lambdas: []float64{math.Inf(1)}}} {
		if _, _, err := Choose(d, o); err == nil {
			t.Errorf("%+v: fitted", o)
		}
	}
}

// TestInterrupt stops a search after its third fit.
func TestInterrupt(t *testing.T) {
	stop, n := errors.New("stop"), 0
	_, _, err := Choose(made(20, 3, 2, 1, 4), Options{Progress: func() error {
		if n++; n == 3 {
			return stop
		}
		return nil
	}})
	if err != stop || n != 3 {
		t.Errorf("%v after %d fits", err, n)
	}
}

// BenchmarkChoose is the fit of a run: 1,000 rows of 576 features, two classes.
func BenchmarkChoose(b *testing.B) {
	d := made(1000, 576, 2, 2, 5)
	for b.Loop() {
		if _, _, err := Choose(d, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
