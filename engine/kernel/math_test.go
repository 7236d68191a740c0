//go:build !wasip1

package kernel

import (
	"math"
	"testing"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

// unaries pairs each operation with its reference and with its value in double.
var unaries = []struct {
	name  string
	op    int32
	ref   func(float32) float32
	exact func(float64) float64
	ulps  float64    // bound on the error; 0 where only bits are compared
	from  [2]float64 // range the bound holds in
}{
	{"neg", code.F32Neg, func(x float32) float32 { return -x }, nil, 0, [2]float64{}},
	{"abs", code.F32Abs, func(x float32) float32 { return float32(math.Abs(float64(x))) }, nil, 0, [2]float64{}},
	{"exp", code.F32Exp, ref.Exp, math.Exp, 1.0, [2]float64{-104, 89}},
	{"log", code.F32Log, ref.Log, math.Log, 0.8, [2]float64{1e-45, math.MaxFloat32}},
	{"sqrt", code.F32Sqrt, func(x float32) float32 { return float32(math.Sqrt(float64(x))) }, math.Sqrt, 0.5, [2]float64{0, math.MaxFloat32}},
	{"rsqrt", code.F32Rsqrt, func(x float32) float32 { return 1 / float32(math.Sqrt(float64(x))) }, nil, 0, [2]float64{}},
	{"sin", code.F32Sin, ref.Sin, math.Sin, 1.5, [2]float64{-1e5, 1e5}},
	{"cos", code.F32Cos, ref.Cos, math.Cos, 1.5, [2]float64{-1e5, 1e5}},
	{"tanh", code.F32Tanh, ref.Tanh, math.Tanh, 1.3, [2]float64{-math.MaxFloat32, math.MaxFloat32}},
	{"sigmoid", code.F32Sigmoid, ref.Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, 2.1, [2]float64{-87, math.MaxFloat32}},
	{"silu", code.F32Silu, ref.SiLU, nil, 0, [2]float64{}},
	{"relu", code.F32Relu, func(x float32) float32 {
		if x != x || x > 0 {
			return x
		}
		return 0
	}, nil, 0, [2]float64{}},
	{"gelu", code.F32Gelu, ref.GELU, nil, 0, [2]float64{}},
	{"gelu_tanh", code.F32GeluTanh, ref.GELUTanh, nil, 0, [2]float64{}},
	{"reciprocal", code.F32Reciprocal, func(x float32) float32 { return 1 / x }, nil, 0, [2]float64{}},
	{"floor", code.F32Floor, func(x float32) float32 { return float32(math.Floor(float64(x))) }, nil, 0, [2]float64{}},
	{"ceil", code.F32Ceil, func(x float32) float32 { return float32(math.Ceil(float64(x))) }, nil, 0, [2]float64{}},
	{"round", code.F32Round, func(x float32) float32 { return float32(math.RoundToEven(float64(x))) }, nil, 0, [2]float64{}},
	{"trunc", code.F32Trunc, func(x float32) float32 { return float32(math.Trunc(float64(x))) }, nil, 0, [2]float64{}},
	{"square", code.F32Square, func(x float32) float32 { return x * x }, nil, 0, [2]float64{}},
	{"erf", code.F32Erf, ref.Erf, math.Erf, 1.3, [2]float64{-math.MaxFloat32, math.MaxFloat32}},
	{"sign", code.F32Sign, func(x float32) float32 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	}, nil, 0, [2]float64{}},
}

// sweep is every step-th float32 there is, both signs, and runs of neighbours where functions change their form.
func sweep(step uint32) []float32 {
	var x []float32
	for b := uint64(0); b < 1<<32; b += uint64(step) {
		x = append(x, math.Float32frombits(uint32(b)))
	}
	edges := []float64{0, 1e-45, 1.1754944e-38, 1e-20, 0.3465736, 0.5, 0.625, math.Sqrt2 / 2, math.Pi / 4, 1, math.Sqrt2, math.Pi / 2,
		2, 3, math.Pi, 4, 6.2831855, 10, 87.3, 88.722, 88.73, 103.97, 104.5, 1000, 31415.926, 99999, 1e5, 1 << 23, math.MaxFloat32, math.Inf(1), math.NaN()}
	for _, e := range edges {
		b := math.Float32bits(float32(e))
		for d := -300; d <= 300; d++ {
			v := math.Float32frombits(b + uint32(d))
			x = append(x, v, -v)
		}
	}
	for i := -20000; i <= 20000; i++ {
		x = append(x, float32(i)*0.00517)
		x = append(x, float32(float64(i)*math.Pi/2)) // next to the zeros of sin and cos
	}
	return x
}

// ulp is the distance between floats around x.
func ulp(x float64) float64 {
	f := float32(math.Abs(x))
	if math.IsInf(float64(f), 0) {
		f = math.MaxFloat32
	}
	b := math.Float32bits(f)
	return float64(math.Float32frombits(b+1)) - float64(f)
}

func sameOrNaN(a, b float32) bool { return sameBits(a, b) || a != a && b != b }

// TestMathErrorBounds compares every unary operation with its reference bit for bit, and the elementary functions with
// double precision.
func TestMathErrorBounds(t *testing.T) {
	d := open(t, 2)
	step := uint32(3989)
	if testing.Short() {
		step = 65537
	}
	x := sweep(step)
	src, dst := put(t, d, x), alloc(t, d, int64(4*len(x)))
	for _, u := range unaries {
		d.F32Unary(u.op, dst, src, int32(len(x)))
		worst, at, failures := 0.0, float32(0), 0
		for i, y := range get[float32](d, dst, len(x)) {
			if want := u.ref(x[i]); !sameOrNaN(y, want) && failures < 5 {
				failures++
				t.Errorf("%s(%g) = %g (%x), reference %g (%x)", u.name, x[i], y, math.Float32bits(y), want, math.Float32bits(want))
			}
			v := float64(x[i])
			if u.exact == nil || !(v >= u.from[0] && v <= u.from[1]) {
				continue
			}
			want := u.exact(v)
			if math.Abs(want) > math.MaxFloat32 && math.IsInf(float64(y), 0) {
				continue
			}
			if e := math.Abs(float64(y)-want) / ulp(want); e > worst || e != e {
				worst, at = e, x[i]
			}
		}
		if u.exact != nil {
			t.Logf("%-8s %.3f ulp at %g", u.name, worst, at)
			if !(worst <= u.ulps) {
				t.Errorf("%s: error of %.3f ulp at %g, stated %.2f", u.name, worst, at, u.ulps)
			}
		}
	}
}

// TestTrigonometryStaysBounded: far outside the stated range sin and cos lose accuracy but stay in [-1, 1].
func TestTrigonometryStaysBounded(t *testing.T) {
	for b := math.Float32bits(1e5); b < math.Float32bits(float32(math.Inf(1))); b += 9973 {
		x := math.Float32frombits(b)
		for _, y := range []float32{ref.Sin(x), ref.Cos(x)} {
			if !(y >= -1 && y <= 1) {
				t.Fatalf("sine or cosine of %g is %g", x, y)
			}
		}
		if x < 1e6 && math.Abs(float64(ref.Sin(x))-math.Sin(float64(x))) > 1e-7 {
			t.Fatalf("sin(%g) = %g, want %g", x, ref.Sin(x), math.Sin(float64(x)))
		}
	}
}

// TestLanesDoNotMatter: a value is the same wherever it stands in a row, and nothing past the row is written.
func TestLanesDoNotMatter(t *testing.T) {
	d := open(t, 1)
	x := sweep(1 << 24)[:257]
	for _, u := range unaries {
		for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 11, 13, 255, 256, 257} {
			func() {
				defer freeAll(d)()
				src, dst := put(t, d, x), put(t, d, filled(n+4, guard))
				d.F32Unary(u.op, dst, src, int32(n))
				got := get[float32](d, dst, n+4)
				for i := range got {
					want := guard
					if i < n {
						want = u.ref(x[i])
					}
					if !sameOrNaN(got[i], want) {
						t.Errorf("%s of %d: element %d is %g, want %g", u.name, n, i, got[i], want)
					}
				}
			}()
		}
	}
}

func TestPow(t *testing.T) {
	inf := float32(math.Inf(1))
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 2, -2, 0.5, -0.5, 3, -3, 10, 1e-3, 1e30, -1e30, 1e-40, 7.25, -7.25, 100.5,
		16777215, 16777216, -16777215, 33554432, 3e38, inf, -inf, float32(math.NaN()), 1.0000001, 0.99999994, -149, 127.99}
	for i := range 200 {
		values = append(values, float32(math.Exp(float64(i-100)/7)))
	}
	d := open(t, 1)
	n := len(values)
	a, b, out := put(t, d, values), alloc(t, d, 4), alloc(t, d, int64(4*n))
	worst := 0.0
	for _, y := range values {
		writeAll(d, b, []float32{y})
		d.F32Binary(code.F32Pow, out, a, 0, 1, b, 0, 0, 1, 1, int32(n))
		for i, got := range get[float32](d, out, n) {
			x := values[i]
			if want := ref.Pow(x, y); !sameOrNaN(got, want) {
				t.Fatalf("pow(%g, %g) = %g, reference %g", x, y, got, want)
			}
			want := math.Pow(float64(x), float64(y))
			if want != want || math.IsInf(want, 0) || want == 0 {
				if !sameOrNaN(got, float32(want)) {
					t.Errorf("pow(%g, %g) = %g, want %g", x, y, got, want)
				}
				continue
			}
			if math.Abs(want) > math.MaxFloat32 {
				if !math.IsInf(float64(got), 0) && math.Abs(want) > 3.4028236e38 {
					t.Errorf("pow(%g, %g) = %g, want %g", x, y, got, want)
				}
				continue
			}
			worst = max(worst, math.Abs(float64(got)-want)/ulp(want))
		}
	}
	if worst > 0.51 {
		t.Errorf("pow: error of %.4f ulp, stated 0.51", worst)
	}
}
