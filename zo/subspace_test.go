package zo

import (
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/zo/head"
)

// inputsOf are n rows with most of their weight in two directions.
func inputsOf(rng *rand.Rand, n, d int) []float32 {
	dirs := [2][]float64{make([]float64, d), make([]float64, d)}
	for k := range d {
		dirs[0][k], dirs[1][k] = rng.NormFloat64(), rng.NormFloat64()
	}
	x := make([]float32, n*d)
	for i := range n {
		a, b := 10+rng.NormFloat64(), 2*rng.NormFloat64()
		for k := range d {
			x[i*d+k] = float32(a*dirs[0][k] + b*dirs[1][k] + 0.05*rng.NormFloat64())
		}
	}
	return x
}

// TestSubspaceSpansTheInputs: the rows are orthogonal, hold nearly all of x where x
// has as many directions, weigh them equally, and let through as much as the random
// A does.
func TestSubspaceSpansTheInputs(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, rank := range []int{2, 5} {
		const n, d = 60, 24
		x := inputsOf(rng, n, d)
		a, err := Subspace(x, n, d, rank)
		if err != nil {
			t.Fatal(err)
		}
		var all, through, left float64
		second := make([]float64, rank) // mean square of each coordinate of A x
		size := make([]float64, rank)
		for r := range rank {
			for s := range r {
				var dot, nr, ns float64
				for k := range d {
					dot += float64(a[r*d+k]) * float64(a[s*d+k])
					nr += float64(a[r*d+k]) * float64(a[r*d+k])
					ns += float64(a[s*d+k]) * float64(a[s*d+k])
				}
				if math.Abs(dot) > 1e-6*math.Sqrt(nr*ns) {
					t.Errorf("rank %d: rows %d and %d are not orthogonal: %v", rank, r, s, dot/math.Sqrt(nr*ns))
				}
			}
			for k := range d {
				size[r] += float64(a[r*d+k]) * float64(a[r*d+k])
			}
		}
		for i := range n {
			rest := make([]float64, d)
			for k := range d {
				rest[k] = float64(x[i*d+k])
				all += rest[k] * rest[k] / n
			}
			for r := range rank {
				var dot float64
				for k := range d {
					dot += float64(a[r*d+k]) * float64(x[i*d+k])
				}
				second[r] += dot * dot / n
				through += dot * dot / n
				for k := range d {
					rest[k] -= dot * float64(a[r*d+k]) / size[r]
				}
			}
			for _, v := range rest {
				left += v * v / n
			}
		}
		if left > 2e-3*all {
			t.Errorf("rank %d: %v of the inputs lies outside", rank, left/all)
		}
		if want := all * float64(rank) / (3 * d); math.Abs(through-want) > 1e-5*want {
			t.Errorf("rank %d: mean |Ax|^2 is %v, the random A's %v", rank, through, want)
		}
		for r := range second {
			if math.Abs(second[r]-second[0]) > 1e-5*second[0] {
				t.Errorf("rank %d: coordinates have mean squares %v", rank, second)
				break
			}
		}
	}
}

// TestSubspaceOfLittle: fewer rows than the rank, rows of zeros, and bad values.
func TestSubspaceOfLittle(t *testing.T) {
	a, err := Subspace([]float32{3, 4, 0}, 1, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	// One row: its direction, so that |Ax|^2 = 4/(9) 25.
	if s := 3*float64(a[0]) + 4*float64(a[1]); math.Abs(s*s-100.0/9) > 1e-5 {
		t.Errorf("A is %v", a)
	}
	for _, v := range a[3:] {
		if v != 0 {
			t.Errorf("A is %v", a)
		}
	}
	if a, err = Subspace(make([]float32, 12), 3, 4, 2); err != nil || a[0] != 0 {
		t.Errorf("of zeros: %v, %v", a, err)
	}
	for _, bad := range [][]float32{{1, 2}, {float32(math.NaN()), 0, 0, 0}, {float32(math.Inf(1)), 0, 0, 0}} {
		if _, err := Subspace(bad, 2, 2, 1); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

// TestSubspaceTellsRowsApart: through the random A rows look alike, as most of each is
// the mean of all; in the subspace the mean is one coordinate of several.
func TestSubspaceTellsRowsApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const n, d, rank = 60, 32, 4
	x := inputsOf(rng, n, d)
	apart := func(a []float32) float64 { // the share of the mean |A x|^2 that is not |A mean|^2
		var all, common float64
		for r := range rank {
			var sum float64
			for i := range n {
				var y float64
				for k := range d {
					y += float64(a[r*d+k]) * float64(x[i*d+k])
				}
				all += y * y / n
				sum += y / n
			}
			common += sum * sum
		}
		return 1 - common/all
	}
	leading, err := Subspace(x, n, d, rank)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]float32, rank*d)
	for k := range random {
		random[k] = float32((2*rng.Float64() - 1) / math.Sqrt(d))
	}
	if l, r := apart(leading), apart(random); l < 0.7 || r > 0.2 {
		t.Errorf("share of the differences: %v in the inputs' subspace, %v in a random one", l, r)
	}
}

// TestLabelSubspaceTellsLabelsApart: three classes that differ in two directions, far
// less than rows differ in others. The coordinates of A x but the first are free of the
// mean, hold the classes' differences, and weigh as much as the first; what is not
// needed of A is 0.
func TestLabelSubspaceTellsLabelsApart(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	const n, d, rank, classes = 300, 20, 4, 3
	x := make([]float32, n*d)
	y := make([]int, n)
	for i := range n {
		y[i] = i % classes
		for k := range d {
			v := 3 + 2*rng.NormFloat64()
			switch {
			case k < 2:
				v = 0.2 * rng.NormFloat64()
				if y[i] == k+1 {
					v++
				}
			}
			x[i*d+k] = float32(v)
		}
	}
	m, _, err := head.Choose(&head.Data{X: x, Dim: d, Y: y, Classes: classes}, head.Options{Intercept: true})
	if err != nil {
		t.Fatal(err)
	}
	a, err := LabelSubspace(x, n, d, rank, m.Weight, classes)
	if err != nil {
		t.Fatal(err)
	}
	var second, mean [rank]float64
	var of [rank][classes]float64
	for i := range n {
		for r := range rank {
			var u float64
			for k := range d {
				u += float64(a[r*d+k]) * float64(x[i*d+k])
			}
			second[r] += u * u / n
			mean[r] += u / n
			of[r][y[i]] += u * classes / n
		}
	}
	var square float64
	for _, v := range x {
		square += float64(v) * float64(v) / n
	}
	for r := range classes {
		if want := square * rank / (3 * d * classes); math.Abs(second[r]-want) > 1e-5*want {
			t.Errorf("coordinate %d has mean square %v, want %v", r, second[r], want)
		}
	}
	for r := 1; r < classes; r++ {
		var between float64
		for _, v := range of[r] {
			between += v * v / classes
		}
		if math.Abs(mean[r]) > 1e-3*math.Sqrt(second[r]) || between < 0.7*second[r] {
			t.Errorf("coordinate %d: mean %v, between classes %v of %v", r, mean[r], between, second[r])
		}
	}
	if second[classes] != 0 {
		t.Errorf("row %d of A is not 0", classes)
	}
	for _, bad := range []int{0, 2} {
		if _, err := LabelSubspace(x, n, d, bad, m.Weight, classes); err == nil {
			t.Errorf("rank %d is accepted", bad)
		}
	}
	x[5] = float32(math.NaN())
	if _, err := LabelSubspace(x, n, d, rank, m.Weight, classes); err == nil {
		t.Error("a value that is no number is accepted")
	}
	if a, err = LabelSubspace(make([]float32, 2*d), 2, d, classes, make([]float32, classes*d), classes); err != nil || a[0] != 0 {
		t.Errorf("of zeros: %v, %v", a[:1], err)
	}
}

// TestPackMatrix: what was packed comes back within half a step of its row's scale,
// exactly once it was packed before, and other text is refused.
func TestPackMatrix(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	const rank, d = 3, 17
	a := make([]float32, rank*d)
	for k := range a[:2*d] { // the last row is zeros
		a[k] = float32(rng.NormFloat64())
	}
	text := PackMatrix(a, rank, d)
	b, err := UnpackMatrix(text, rank, d)
	if err != nil {
		t.Fatal(err)
	}
	for k := range a {
		if math.Abs(float64(a[k]-b[k])) > 3.5/127/2 {
			t.Errorf("value %d: %v came back as %v", k, a[k], b[k])
		}
	}
	if again := PackMatrix(b, rank, d); again != text {
		t.Error("packing what was unpacked gives other text")
	}
	huge := "AACAfQAA" + text[8:] // a scale of 2^124, whose multiples overflow
	for _, bad := range []string{"", text[4:], "*" + text[1:], huge} {
		if _, err := UnpackMatrix(bad, rank, d); err == nil {
			t.Errorf("%.10q... is accepted", bad)
		}
	}
}

func TestSubspaceSeed(t *testing.T) {
	seen := map[int64]bool{}
	for period := range 100 {
		s := SubspaceSeed(3, period)
		if s < 0 || seen[s] || period == 0 && s != 3 {
			t.Fatalf("period %d: seed %d", period, s)
		}
		seen[s] = true
	}
}
