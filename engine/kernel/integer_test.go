//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
)

// randomInts has small numbers, zeros and extremes, so that quotients, shifts and overflows all occur.
func randomInts[T int32 | int64](r *rand.Rand, n int) []T {
	lowest, highest := T(math.MinInt32), T(math.MaxInt32)
	if lowest-1 < 0 {
		lowest, highest = lowest<<31<<1, ^(lowest << 31 << 1)
	}
	v := make([]T, n)
	for i := range v {
		switch r.IntN(8) {
		case 0:
			v[i] = []T{0, -1, 1, lowest, highest, lowest + 1, 31, 32, 63, 64}[r.IntN(10)]
		case 1, 2, 3:
			v[i] = T(r.IntN(100) - 50)
		default:
			v[i] = T(r.Uint64())
		}
	}
	return v
}

func TestI64Binary(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(6, 1))
	eachForm(r, func(rows, cols int, sa, sb ref.Strides) {
		defer freeAll(d)()
		a, b := randomInts[int64](r, extent(sa, rows, cols)), randomInts[int64](r, extent(sb, rows, cols))
		pa, pb, out := put(t, d, a), put(t, d, b), alloc(t, d, int64(8*rows*cols))
		for op := code.IntAdd; op <= code.IntMin; op++ {
			d.SetThreads(1 + r.IntN(2))
			d.I64Binary(op, out, pa, int32(sa.Row), int32(sa.Col), pb, int32(sb.Row), int32(sb.Col), 3, int32(rows), int32(cols))
			want := zip(func(x, y int64) int64 { return ref.IntBinary(op, x, y, 3) }, a, sa, b, sb, rows, cols)
			match(t, fmt.Sprintf("i64 op %d on %dx%d, %v and %v", op, rows, cols, sa, sb), get[int64](d, out, rows*cols), want)
		}
		n := min(len(a), rows*cols)
		for op := code.IntAdd; op <= code.IntMin; op++ {
			for reversed := range int32(2) {
				d.I64Scalar(op, out, pa, b[0], 1, reversed, int32(n))
				want := make([]int64, n)
				for i := range want {
					x, y := a[i], b[0]
					if reversed == 1 {
						x, y = y, x
					}
					want[i] = ref.IntBinary(op, x, y, 1)
				}
				match(t, fmt.Sprintf("i64 op %d with a scalar, reversed %d", op, reversed), get[int64](d, out, n), want)
			}
		}
		d.I64Clamp(out, pa, -20, 1<<40, int32(n))
		want := make([]int64, n)
		for i := range want {
			want[i] = min(max(a[i], -20), 1<<40)
		}
		match(t, "i64 clamp", get[int64](d, out, n), want)
	})
}

func TestI32Binary(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(7, 1))
	eachForm(r, func(rows, cols int, sa, sb ref.Strides) {
		defer freeAll(d)()
		a, b := randomInts[int32](r, extent(sa, rows, cols)), randomInts[int32](r, extent(sb, rows, cols))
		pa, pb, out := put(t, d, a), put(t, d, b), alloc(t, d, int64(4*rows*cols))
		for op := code.IntAdd; op <= code.IntMin; op++ {
			d.SetThreads(1 + r.IntN(2))
			d.I32Binary(op, out, pa, int32(sa.Row), int32(sa.Col), pb, int32(sb.Row), int32(sb.Col), -7, int32(rows), int32(cols))
			want := zip(func(x, y int32) int32 { return ref.IntBinary(op, x, y, -7) }, a, sa, b, sb, rows, cols)
			match(t, fmt.Sprintf("i32 op %d on %dx%d, %v and %v", op, rows, cols, sa, sb), get[int32](d, out, rows*cols), want)
		}
		n := min(len(a), rows*cols)
		for op := code.IntAdd; op <= code.IntMin; op++ {
			d.I32Scalar(op, out, pa, b[0], 1, 0, int32(n))
			want := make([]int32, n)
			for i := range want {
				want[i] = ref.IntBinary(op, a[i], b[0], 1)
			}
			match(t, fmt.Sprintf("i32 op %d with a scalar", op), get[int32](d, out, n), want)
		}
	})
}

func TestBoolBinary(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(8, 1))
	random := func(n int) []uint8 {
		v := make([]uint8, n)
		for i := range v {
			v[i] = []uint8{0, 0, 1, 1, 2, 255}[r.IntN(6)]
		}
		return v
	}
	eachForm(r, func(rows, cols int, sa, sb ref.Strides) {
		defer freeAll(d)()
		a, b := random(extent(sa, rows, cols)), random(extent(sb, rows, cols))
		pa, pb, out := put(t, d, a), put(t, d, b), alloc(t, d, int64(rows*cols))
		for op := code.BoolAnd; op <= code.BoolEq; op++ {
			d.BoolBinary(op, out, pa, int32(sa.Row), int32(sa.Col), pb, int32(sb.Row), int32(sb.Col), int32(rows), int32(cols))
			want := zip(func(x, y uint8) uint8 { return ref.BoolBinary(op, x, y) }, a, sa, b, sb, rows, cols)
			match(t, fmt.Sprintf("bool op %d on %dx%d, %v and %v", op, rows, cols, sa, sb), get[uint8](d, out, rows*cols), want)
		}
		n := min(len(a), rows*cols)
		d.BoolScalar(code.BoolEq, out, pa, 0, int32(n))
		want := make([]uint8, n)
		for i := range want {
			want[i] = ref.BoolBinary(code.BoolEq, a[i], 0)
		}
		match(t, "not", get[uint8](d, out, n), want)
	})
}
