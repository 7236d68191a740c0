package zo

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"tabtune/lora"
)

// TestCoefficientsOnAQuadratic estimates the gradient of L(b) = b'Hb/2 + c'b.
// Central differences are exact there: coef_j = lr/q * z_j'(Hb + c).
func TestCoefficientsOnAQuadratic(t *testing.T) {
	const n, q, lr, eps = 5, 7, 0.03, 0.1
	rng := rand.New(rand.NewPCG(1, 2))
	vector := func() []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		return v
	}
	diagonal, c, b := vector(), vector(), vector()
	loss := func(x []float64) (l float64) {
		for i, v := range x {
			l += diagonal[i]*v*v/2 + c[i]*v
			if i > 0 {
				l += v * x[i-1] // H has ones beside its diagonal
			}
		}
		return l
	}
	gradient := make([]float64, n)
	for i := range b {
		gradient[i] = diagonal[i]*b[i] + c[i]
		if i > 0 {
			gradient[i] += b[i-1]
		}
		if i < n-1 {
			gradient[i] += b[i+1]
		}
	}
	var plus, minus, interleaved, want []float64
	for range q {
		z := vector()
		at := func(s float64) float64 {
			x := make([]float64, n)
			for i := range x {
				x[i] = b[i] + s*z[i]
			}
			return loss(x)
		}
		var dot float64
		for i := range z {
			dot += z[i] * gradient[i]
		}
		plus, minus = append(plus, at(eps)), append(minus, at(-eps))
		interleaved = append(interleaved, at(eps), at(-eps))
		want = append(want, lr/q*dot)
	}
	for name, losses := range map[string][]float64{"prge": slices.Concat(plus, minus), "mezo": interleaved} {
		e, err := New(name, q)
		if err != nil {
			t.Fatal(err)
		}
		coefs := make([]float32, q)
		if err := e.Coefficients(coefs, losses, lr, eps); err != nil {
			t.Fatal(err)
		}
		for j, got := range coefs {
			if d := math.Abs(float64(got) - want[j]); d > 1e-7*math.Abs(want[j])+1e-12 {
				t.Errorf("%s: coefficient %d is %v, want %v", name, j, got, want[j])
			}
		}
		for _, wrong := range [][]float64{nil, losses[1:], append(losses, 1)} {
			if e.Coefficients(coefs, wrong, lr, eps) == nil {
				t.Errorf("%s takes %d losses for %d queries", name, len(wrong), q)
			}
		}
		if e.Coefficients(coefs[1:], losses, lr, eps) == nil {
			t.Errorf("%s takes %d coefficients for %d queries", name, q-1, q)
		}
	}
}

// TestEstimators looks at what a program is built by.
func TestEstimators(t *testing.T) {
	for _, x := range []struct {
		name       string
		sides      lora.Sides
		sequential bool
	}{{"prge", lora.TwoSided, false}, {"mezo", lora.Single, true}} {
		e, err := New(x.name, 3)
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != x.name || e.Queries() != 3 || e.Sides() != x.sides || e.Sequential() != x.sequential {
			t.Errorf("%s: %s, %d queries, sides %s, sequential %v", x.name, e.Name(), e.Queries(), e.Sides(), e.Sequential())
		}
	}
	for _, x := range []struct {
		name string
		q    int
		word string
	}{{"prge", 0, "queries"}, {"mezo", 257, "queries"}, {"spsa", 1, "spsa"}} {
		if _, err := New(x.name, x.q); err == nil || !strings.Contains(err.Error(), x.word) {
			t.Errorf("New(%q, %d): error %v", x.name, x.q, err)
		}
	}
}

// TestSeeds pins a few seeds: a run's seed has to mean the same run for ever.
func TestSeeds(t *testing.T) {
	for _, x := range []struct {
		run  int64
		step int
		want [2]int64
	}{
		{0, 0, [2]int64{1559518186985144697, 3959946265395643682}},
		{0, 1, [2]int64{546298655003707964, 3308206510216415813}},
		{42, 1000, [2]int64{850525237241879522, 4020785797570679788}},
		{-3, 7, [2]int64{3043034577513993186, 920112175443701940}},
	} {
		var got [2]int64
		Seeds(got[:], x.run, x.step)
		if got != x.want {
			t.Errorf("run %d, step %d: %v, want %v", x.run, x.step, got, x.want)
		}
	}
	seen := map[int64]bool{}
	for run := range int64(4) {
		for step := range 3000 {
			s := make([]int64, 8)
			Seeds(s, run, step)
			for _, v := range s {
				if v < 0 || v >= 1<<62 || seen[v] {
					t.Fatalf("run %d, step %d: seed %d is out of range or not new", run, step, v)
				}
				seen[v] = true
			}
		}
	}
}

// TestMeans averages by replica.
func TestMeans(t *testing.T) {
	losses := make([]float64, 2)
	if err := Means(losses, []float32{1, 2, 3, 10, 20, 30}); err != nil || losses[0] != 2 || losses[1] != 20 {
		t.Errorf("means %v, %v", losses, err)
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		var diverged *Diverged
		if err := Means(losses, []float32{1, 2, 3, bad}); !errors.As(err, &diverged) || diverged.Replica != 1 || !strings.Contains(err.Error(), "replica 1") {
			t.Errorf("a loss of %v: %v", bad, err)
		}
	}
	// Float32 sums would lose the ones.
	if err := Means(losses[:1], []float32{1 << 24, 1, 1, 1 << 24}); err != nil || losses[0] != (1<<25+2)/4.0 {
		t.Errorf("mean %v, %v", losses[0], err)
	}
	if Means(losses, make([]float32, 3)) == nil || Means(nil, nil) == nil {
		t.Error("losses that cannot be split are accepted")
	}
}

// TestSchedules checks the ends and the middle.
func TestSchedules(t *testing.T) {
	for name, want := range map[string][3]float64{"constant": {0.5, 0.5, 0.5}, "linear": {0.5, 0.25, 0}, "cosine": {0.5, 0.25, 0}} {
		s, err := NewSchedule(name, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range []float64{0, 0.5, 1} {
			if got := s(0.5, at); math.Abs(got-want[i]) > 1e-15 {
				t.Errorf("%s at %v: %v, want %v", name, at, got, want[i])
			}
		}
	}
	if _, err := NewSchedule("sine", 0); err == nil || !strings.Contains(err.Error(), "sine") {
		t.Errorf("error %v", err)
	}
	for _, w := range []float64{-0.1, 1, math.NaN()} {
		if _, err := NewSchedule("linear", w); err == nil || !strings.Contains(err.Error(), "warmup") {
			t.Errorf("warmup %v: error %v", w, err)
		}
	}
	s, err := NewSchedule("linear", 0.2)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[float64]float64{0: 0.05, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0} {
		if got := s(1, at); math.Abs(got-want) > 1e-12 {
			t.Errorf("warm-up at %v: %v, want %v", at, got, want)
		}
	}
}

// find runs a Finder on a curve of losses by rate.
func find(start float64, loss func(lr float64) float64) *Finder {
	f := NewFinder(1.0/1024, start)
	for !f.Observe(loss(f.LR())) {
	}
	return f
}

// TestFinder looks for the minimum of made-up curves.
func TestFinder(t *testing.T) {
	// Falls with the rate to a minimum near 0.7, then rises.
	valley := func(lr float64) float64 { return 0.7 - 0.3*lr + 0.22*lr*lr }
	f := find(0.7, valley)
	if f.Choose() != 0.5/4 {
		t.Errorf("chose %v, want a quarter of 0.5", f.Choose())
	}
	if last := f.Tried()[len(f.Tried())-1].LR; last != 4 {
		t.Errorf("tried up to %v, want 4: three rates behind the minimum", last)
	}
	for i, x := range f.Tried() {
		if x.LR != math.Ldexp(1, i-10) || x.Loss != valley(x.LR) {
			t.Errorf("try %d: %+v", i, x)
		}
	}
	// A cliff ends the test at once.
	for _, bad := range []float64{math.NaN(), math.Inf(1), 5} {
		f := find(0.7, func(lr float64) float64 {
			if lr > 0.1 {
				return bad
			}
			return 0.7 - lr
		})
		if f.Choose() != 1.0/16/4 || len(f.Tried()) != 8 {
			t.Errorf("a loss of %v: chose %v after %d rates", bad, f.Choose(), len(f.Tried()))
		}
	}
	// Nothing helps: the smallest rate, and an end.
	if f := find(0.7, func(lr float64) float64 { return 0.7 + 1e-6*lr }); f.Choose() != 1.0/4096 || len(f.Tried()) > 20 {
		t.Errorf("a loss that never falls: chose %v after %d rates", f.Choose(), len(f.Tried()))
	}
	// Everything helps: an end all the same, and a finite rate.
	if f := find(0.7, func(lr float64) float64 { return 0.7 / (1 + lr) }); len(f.Tried()) != 20 || f.Choose() != math.Ldexp(1, 9)/4 {
		t.Errorf("a loss that always falls: chose %v after %d rates", f.Choose(), len(f.Tried()))
	}
}
