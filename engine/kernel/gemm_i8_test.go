//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tabtune/engine/kernel/ref"
)

// guard is written around the outputs of a test, to see that nothing else is.
const guard = float32(-12345.5)

func randomF32(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

func randomI8(r *rand.Rand, n int) []int8 {
	v := make([]int8, n)
	for i := range v {
		v[i] = int8(r.IntN(256) - 128)
	}
	return v
}

func filled(n int, v float32) []float32 { return slices.Repeat([]float32{v}, n) }

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// i8Sizes are below, at and above the tile (2x4, 8 of k), the panel group and the unit (128x64).
var i8Sizes = []struct{ m, n, k int }{
	{1, 1, 1}, {1, 4, 8}, {1, 5, 7}, {1, 130, 97}, {2, 3, 16}, {2, 64, 576}, {3, 67, 33}, {3, 8, 2050},
	{4, 4, 8}, {4, 1, 3}, {5, 7, 11}, {5, 66, 65}, {6, 3, 24}, {7, 4, 15}, {8, 17, 40},
	{127, 5, 19}, {128, 64, 32}, {129, 65, 31}, {131, 67, 100}, {257, 13, 64},
	{4, 9, 2048}, {5, 6, 2049}, {6, 5, 4101}, {1, 3, 4100},
}

func TestI8GEMM(t *testing.T) {
	d := open(t, 2)
	for _, s := range i8Sizes {
		for mode := range 4 {
			withBias, accumulate := mode&1 != 0, mode&2 != 0
			t.Run(fmt.Sprintf("%dx%dx%d/%d", s.m, s.n, s.k, mode), func(t *testing.T) {
				testI8GEMM(t, d, s.m, s.n, s.k, withBias, accumulate)
			})
		}
	}
}

func testI8GEMM(t *testing.T, d *Device, m, n, k int, withBias, accumulate bool) {
	defer freeAll(d)()
	r := rand.New(rand.NewPCG(uint64(m), uint64(n*k)))
	ldx, ldw, ldy := k+3, k+5, n+7
	x, w := randomF32(r, m*ldx), randomI8(r, n*ldw)
	sw, bias := randomF32(r, n), randomF32(r, n)
	if !withBias {
		bias = nil
	}
	q, sx, sums := ref.QuantizeRows(x, m, k, ldx)
	want := filled(m*ldy, guard)
	ref.I8GEMM(want, q, sx, w, sw, bias, m, n, k, ldw, ldy, accumulate)

	dx, dw, dsw := put(t, d, x), put(t, d, w), put(t, d, sw)
	dbias := Addr(0)
	if withBias {
		dbias = put(t, d, bias)
	}
	dq, dsx, dsums := alloc(t, d, int64(m*((k+7)&^7)*2)), alloc(t, d, int64(m*4)), alloc(t, d, int64(len(sums)*4))
	for threads := 1; threads <= 2; threads++ {
		d.SetThreads(threads)
		dy := put(t, d, filled(m*ldy, guard))
		d.I16QuantizeRows(dq, dsx, dsums, dx, int32(m), int32(k), int32(ldx))
		equal(t, "q", get[int16](d, dq, m*((k+7)&^7)), ref.PackActivations(q, m, k))
		equal(t, "scale", get[float32](d, dsx, m), sx)
		equal(t, "sums", get[int32](d, dsums, len(sums)), sums)
		acc := int32(0)
		if accumulate {
			acc = 1
		}
		for tile := range int32(2) {
			d.Write(dy, encode(t, filled(m*ldy, guard)))
			d.GemmTile(tile)
			d.I8Gemm(dy, dq, dsx, dw, dsw, dbias, int32(m), int32(n), int32(k), int32(ldw), int32(ldy), acc)
			equal(t, fmt.Sprintf("y at %d threads, tile %d", threads, tile), get[float32](d, dy, m*ldy), want)
		}
		d.GemmTile(0)
	}
}

// TestI8GEMMAtTheBoundOfInt32 multiplies the largest activations by weights whose magnitudes add up to what int32 still holds, to one more,
// and to the most there can be, in every column of a panel.
func TestI8GEMMAtTheBoundOfInt32(t *testing.T) {
	d := open(t, 1)
	const k, most = 1536, math.MaxInt32 / ref.ActivationMax
	for _, total := range []int{most, most + 1, 128 * k} {
		for column := range 9 {
			for _, m := range []int{2, 5, 8} {
				n := 9
				x, w := filled(m*k, 3), make([]int8, n*k)
				for i := range w {
					w[i] = int8(i % 7)
				}
				left := total
				for i := range k {
					v := min(128, left)
					w[column*k+i], left = int8(-v), left-v
				}
				sw := filled(n, 1)
				q, sx, _ := ref.QuantizeRows(x, m, k, k)
				want := make([]float32, m*n)
				ref.I8GEMM(want, q, sx, w, sw, nil, m, n, k, k, n, false)
				if exact := -float64(total) * 3; math.Abs(float64(want[column])-exact) > -1e-6*exact {
					t.Fatalf("reference %g, want %g", want[column], exact)
				}
				free := freeAll(d)
				dq, dsx, dy := alloc(t, d, int64(m*k*2)), alloc(t, d, int64(m*4)), alloc(t, d, int64(m*n*4))
				d.I16QuantizeRows(dq, dsx, 0, put(t, d, x), int32(m), k, k)
				for tile := range int32(2) {
					d.GemmTile(tile)
					d.I8Gemm(dy, dq, dsx, put(t, d, w), put(t, d, sw), 0, int32(m), int32(n), k, k, int32(n), 0)
					equal(t, fmt.Sprintf("%d rows, magnitudes %d in column %d, tile %d", m, total, column, tile), get[float32](d, dy, m*n), want)
				}
				d.GemmTile(0)
				free()
			}
		}
	}
}

func TestQuantizeRowsOfOddValues(t *testing.T) {
	d := open(t, 1)
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for name, row := range map[string][]float32{
		"zeros":     {0, 0, 0, 0, 0},
		"denormals": {1e-40, -3e-42, 0, 1e-45, 0},
		"largest":   {math.MaxFloat32, -math.MaxFloat32, 1, 0, 1e38},
		"infinity":  {1, inf, -2, 0, 3},
		"nan":       {1, 2, nan, 0, 1000},
	} {
		q, scale, _ := ref.QuantizeRows(row, 1, len(row), len(row))
		dq, ds := alloc(t, d, 16), alloc(t, d, 4)
		d.I16QuantizeRows(dq, ds, 0, put(t, d, row), 1, int32(len(row)), int32(len(row)))
		equal(t, name, get[int16](d, dq, 5), q)
		got := get[float32](d, ds, 1)[0]
		if !sameBits(got, scale[0]) && !(got != got && scale[0] != scale[0]) {
			t.Errorf("%s: scale %g, want %g", name, got, scale[0])
		}
	}
}
