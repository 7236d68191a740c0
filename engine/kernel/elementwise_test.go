//go:build !wasip1

package kernel

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

// Shapes below, at and above the vector, the block of 256 and the unit of 8192.
var elementwiseShapes = [][2]int{{1, 1}, {1, 3}, {1, 4}, {3, 5}, {7, 1}, {2, 16}, {5, 17}, {1, 255}, {3, 256}, {2, 257}, {13, 31}, {1, 8191}, {3, 8193}, {1, 16411}}

// forms are the strides of an operand over [rows, cols]: same shape, padded rows, a row, a column, one element, transposed, every other.
func forms(rows, cols int) []ref.Strides {
	return []ref.Strides{{Row: cols, Col: 1}, {Row: cols + 3, Col: 1}, {Row: 0, Col: 1}, {Row: 1, Col: 0}, {Row: 0, Col: 0}, {Row: 1, Col: rows}, {Row: 2 * cols, Col: 2}}
}

func extent(s ref.Strides, rows, cols int) int { return (rows-1)*s.Row + (cols-1)*s.Col + 1 }

// special is a random operand with zeros, infinities, NaN and repeated values among ordinary ones.
func specialF32(r *rand.Rand, n int) []float32 {
	odd := []float32{0, float32(math.Copysign(0, -1)), 1, -1, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), 3e38, 1e-40}
	v := randomF32(r, n)
	for i := range v {
		if r.IntN(4) == 0 {
			v[i] = odd[r.IntN(len(odd))]
		}
	}
	return v
}

func equalOrNaN(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !sameOrNaN(got[i], want[i]) {
			t.Fatalf("%s: element %d of %d is %g, want %g", what, i, len(got), got[i], want[i])
		}
	}
}

// zip applies f to two operands over [rows, cols].
func zip[T, R any](f func(x, y T) R, a []T, sa ref.Strides, b []T, sb ref.Strides, rows, cols int) []R {
	x, y := ref.Pick(a, sa, rows, cols), ref.Pick(b, sb, rows, cols)
	out := make([]R, rows*cols)
	for i := range out {
		out[i] = f(x[i], y[i])
	}
	return out
}

// eachForm runs f for every shape and a choice of operand forms.
func eachForm(r *rand.Rand, f func(rows, cols int, sa, sb ref.Strides)) {
	for _, s := range elementwiseShapes {
		rows, cols := s[0], s[1]
		all := forms(rows, cols)
		for i, sa := range all {
			f(rows, cols, sa, all[(i+r.IntN(len(all)))%len(all)])
			f(rows, cols, all[0], sa)
		}
	}
}

func TestF32Binary(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(1, 1))
	eachForm(r, func(rows, cols int, sa, sb ref.Strides) {
		defer freeAll(d)()
		a, b := specialF32(r, extent(sa, rows, cols)), specialF32(r, extent(sb, rows, cols))
		pa, pb, out := put(t, d, a), put(t, d, b), put(t, d, filled(rows*cols+4, guard))
		for op := code.F32Add; op <= code.F32Rsub; op++ {
			for _, alpha := range []float32{1, -0.3} {
				d.SetThreads(1 + r.IntN(2))
				d.F32Binary(op, out, pa, int32(sa.Row), int32(sa.Col), pb, int32(sb.Row), int32(sb.Col), alpha, int32(rows), int32(cols))
				got := get[float32](d, out, rows*cols+4)
				want := zip(func(x, y float32) float32 { return ref.F32Binary(op, x, y, alpha) }, a, sa, b, sb, rows, cols)
				what := fmt.Sprintf("op %d on %dx%d, %v and %v", op, rows, cols, sa, sb)
				equalOrNaN(t, what, got[:rows*cols], want)
				match(t, what+" past the end", got[rows*cols:], filled(4, guard))
			}
		}
	})
}

func TestF32Scalar(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(2, 1))
	for _, n := range []int{1, 3, 4, 5, 255, 257, 8193, 20011} {
		func() {
			defer freeAll(d)()
			a := specialF32(r, n)
			pa := put(t, d, a)
			out := alloc(t, d, int64(4*n))
			for op := code.F32Add; op <= code.F32Rsub; op++ {
				for reversed := range int32(2) {
					d.F32Scalar(op, out, pa, 1.75, 1, reversed, int32(n))
					want := make([]float32, n)
					for i, x := range a {
						want[i] = ref.F32Binary(op, x, 1.75, 1)
						if reversed == 1 {
							want[i] = ref.F32Binary(op, 1.75, x, 1)
						}
					}
					equalOrNaN(t, fmt.Sprintf("op %d with a scalar, reversed %d", op, reversed), get[float32](d, out, n), want)
				}
			}
			d.F32Clamp(out, pa, -0.5, 1.25, int32(n))
			want := make([]float32, n)
			for i, x := range a {
				want[i] = x
				if x < -0.5 {
					want[i] = -0.5
				} else if x > 1.25 {
					want[i] = 1.25
				}
			}
			equalOrNaN(t, "clamp", get[float32](d, out, n), want)
		}()
	}
}

// compareKernel is F32Compare and its like.
type compareKernel func(op int32, dst, a Addr, aRow, aCol int32, b Addr, bRow, bCol, rows, cols int32)

func testCompare[T interface {
	number
	cmp.Ordered
}](t *testing.T, d *Device, r *rand.Rand, kernel compareKernel, scalar func(op int32, dst, a Addr, s T, n int32), random func(n int) []T) {
	eachForm(r, func(rows, cols int, sa, sb ref.Strides) {
		defer freeAll(d)()
		a, b := random(extent(sa, rows, cols)), random(extent(sb, rows, cols))
		pa, pb, out := put(t, d, a), put(t, d, b), alloc(t, d, int64(rows*cols))
		for op := code.CmpEq; op <= code.CmpGe; op++ {
			d.SetThreads(1 + r.IntN(2))
			kernel(op, out, pa, int32(sa.Row), int32(sa.Col), pb, int32(sb.Row), int32(sb.Col), int32(rows), int32(cols))
			want := zip(func(x, y T) uint8 { return ref.Compare(op, x, y) }, a, sa, b, sb, rows, cols)
			match(t, fmt.Sprintf("comparison %d on %dx%d, %v and %v", op, rows, cols, sa, sb), get[uint8](d, out, rows*cols), want)
		}
		n := min(len(a), rows*cols)
		for op := code.CmpEq; op <= code.CmpGe; op++ {
			scalar(op, out, pa, a[n/2], int32(n))
			want := make([]uint8, n)
			for i := range want {
				want[i] = ref.Compare(op, a[i], a[n/2])
			}
			match(t, fmt.Sprintf("comparison %d with a scalar", op), get[uint8](d, out, n), want)
		}
	})
}

func TestCompare(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(3, 1))
	t.Run("f32", func(t *testing.T) {
		testCompare(t, d, r, d.F32Compare, d.F32CompareScalar, func(n int) []float32 { return specialF32(r, n) })
	})
	t.Run("i32", func(t *testing.T) {
		testCompare(t, d, r, d.I32Compare, d.I32CompareScalar, func(n int) []int32 { return randomInts[int32](r, n) })
	})
	t.Run("i64", func(t *testing.T) {
		testCompare(t, d, r, d.I64Compare, d.I64CompareScalar, func(n int) []int64 { return randomInts[int64](r, n) })
	})
}

func testWhere[T number](t *testing.T, d *Device, r *rand.Rand, size int32, random func(n int) []T) {
	eachForm(r, func(rows, cols int, sa, sb ref.Strides) {
		defer freeAll(d)()
		sc := forms(rows, cols)[r.IntN(7)]
		a, b := random(extent(sa, rows, cols)), random(extent(sb, rows, cols))
		cond := make([]uint8, extent(sc, rows, cols))
		for i := range cond {
			cond[i] = uint8(r.IntN(3))
		}
		out := alloc(t, d, int64(rows*cols)*int64(size))
		d.SetThreads(1 + r.IntN(2))
		d.Where(size, out, put(t, d, cond), int32(sc.Row), int32(sc.Col), put(t, d, a), int32(sa.Row), int32(sa.Col), put(t, d, b), int32(sb.Row), int32(sb.Col), int32(rows), int32(cols))
		want := zip(func(_, y T) T { return y }, a, sa, b, sb, rows, cols)
		x := ref.Pick(a, sa, rows, cols)
		for i, c := range ref.Pick(cond, sc, rows, cols) {
			if c != 0 {
				want[i] = x[i]
			}
		}
		match(t, fmt.Sprintf("where of size %d on %dx%d, %v ? %v : %v", size, rows, cols, sc, sa, sb), get[T](d, out, rows*cols), want)
	})
}

func TestWhere(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(4, 1))
	testWhere(t, d, r, 1, func(n int) []int8 { return randomI8(r, n) })
	testWhere(t, d, r, 2, func(n int) []uint16 {
		v := make([]uint16, n)
		for i := range v {
			v[i] = uint16(r.Uint32())
		}
		return v
	})
	testWhere(t, d, r, 4, func(n int) []int32 { return randomInts[int32](r, n) })
	testWhere(t, d, r, 8, func(n int) []int64 { return randomInts[int64](r, n) })
}

// describe writes the descriptor of the _nd kernels: rank, dims, strides of each operand.
func describe(t testing.TB, d *Device, dims []int, strides ...[]int) Addr {
	w := make([]int32, 16+8*len(strides))
	w[0] = int32(len(dims))
	for i := range dims {
		w[8+i] = int32(dims[i])
		for k, s := range strides {
			w[16+8*k+i] = int32(s[i])
		}
	}
	return put(t, d, w)
}

func contiguous(dims []int) []int {
	s := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = n
		n *= dims[i]
	}
	return s
}

// anyStrides lays dims out in a random order with gaps, and repeats some of them.
func anyStrides(r *rand.Rand, dims []int, broadcast bool) (strides []int, size int) {
	strides = make([]int, len(dims))
	n := 1
	for _, i := range r.Perm(len(dims)) {
		if broadcast && r.IntN(4) == 0 {
			continue
		}
		strides[i] = n
		n *= dims[i] + r.IntN(2)
	}
	return strides, n
}

var ndShapes = [][]int{{1}, {5}, {300}, {3, 7}, {17, 1}, {4, 1, 9}, {2, 3, 5, 7}, {3, 2, 2, 3, 11}, {2, 3, 2, 2, 3, 4}, {2, 1, 3, 2, 2, 2, 3, 5}, {3, 8200}}

func product(dims []int) int {
	n := 1
	for _, v := range dims {
		n *= v
	}
	return n
}

func TestElementwiseND(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(5, 1))
	for _, dims := range ndShapes {
		for round := range 6 {
			func() {
				defer freeAll(d)()
				d.SetThreads(1 + round%2)
				n := product(dims)
				sa, la := anyStrides(r, dims, true)
				sb, lb := anyStrides(r, dims, true)
				sd := contiguous(dims)
				a, b := specialF32(r, la), specialF32(r, lb)
				pa, pb, out := put(t, d, a), put(t, d, b), put(t, d, filled(2*n+1, guard))
				x, y := ref.PickND(a, 0, dims, sa), ref.PickND(b, 0, dims, sb)
				want := make([]float32, n)
				for i := range want {
					want[i] = ref.F32Binary(code.F32Sub, x[i], y[i], 0.5)
				}
				d.F32BinaryNd(code.F32Sub, out, pa, pb, 0.5, describe(t, d, dims, sd, sa, sb))
				what := fmt.Sprintf("%v, strides %v and %v", dims, sa, sb)
				equalOrNaN(t, what, get[float32](d, out, n), want)
				// A result with gaps.
				wide := make([]int, len(sd))
				for i := range wide {
					wide[i] = 2 * sd[i]
				}
				d.F32BinaryNd(code.F32Sub, out, pa, pb, 0.5, describe(t, d, dims, wide, sa, sb))
				got := get[float32](d, out, 2*n+1)
				for i := range want {
					if !sameOrNaN(got[2*i], want[i]) {
						t.Fatalf("%s, spread result: element %d is %g, want %g", what, i, got[2*i], want[i])
					}
				}
				if got[2*n] != guard {
					t.Errorf("%s: wrote past the end", what)
				}
				flags := make([]uint8, n)
				for i := range flags {
					flags[i] = ref.Compare(code.CmpLt, x[i], y[i])
				}
				pf := alloc(t, d, int64(n))
				d.CompareNd(code.DtypeF32, code.CmpLt, pf, pa, pb, describe(t, d, dims, sd, sa, sb))
				match(t, "comparison of "+what, get[uint8](d, pf, n), flags)
				d.WhereNd(4, out, pf, pa, pb, describe(t, d, dims, sd, sd, sa, sb))
				for i := range want {
					want[i] = y[i]
					if flags[i] != 0 {
						want[i] = x[i]
					}
				}
				equalOrNaN(t, "where of "+what, get[float32](d, out, n), want)

				ia, ib := randomInts[int64](r, la), randomInts[int64](r, lb)
				po := alloc(t, d, int64(8*n))
				d.IntBinaryNd(code.DtypeI64, code.IntFloorDiv, po, put(t, d, ia), put(t, d, ib), 1, describe(t, d, dims, sd, sa, sb))
				u, v := ref.PickND(ia, 0, dims, sa), ref.PickND(ib, 0, dims, sb)
				whole := make([]int64, n)
				for i := range whole {
					whole[i] = ref.IntBinary(code.IntFloorDiv, u[i], v[i], 1)
				}
				match(t, "quotient of "+what, get[int64](d, po, n), whole)
			}()
		}
	}
	// A rank out of range does nothing.
	out := put(t, d, filled(4, guard))
	w := make([]int32, 40)
	for _, rank := range []int32{0, -1, 9, math.MaxInt32} {
		w[0] = rank
		d.F32BinaryNd(code.F32Add, out, out, out, 1, put(t, d, w))
	}
	match(t, "rank out of range", get[float32](d, out, 4), filled(4, guard))
}
