//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/ref"
)

func randomU8(r *rand.Rand, n int) []uint8 {
	v := make([]uint8, n)
	for i := range v {
		v[i] = uint8(r.UintN(256))
	}
	return v
}

// randomHalf returns finite binary16 numbers, denormals among them.
func randomHalf(r *rand.Rand, n int) []uint16 {
	v := make([]uint16, n)
	for i := range v {
		v[i] = uint16(r.UintN(0x5000)) | uint16(r.UintN(2)<<15)
	}
	return v
}

func TestQ4GEMM(t *testing.T) {
	d := open(t, 2)
	for _, s := range []struct{ m, n, k int }{
		{1, 1, 32}, {1, 67, 64}, {2, 4, 32}, {2, 5, 96}, {3, 7, 64}, {4, 64, 576}, {5, 65, 32}, {7, 3, 160},
		{127, 4, 32}, {128, 66, 64}, {129, 9, 96}, {131, 64, 32}, {2, 6, 2080}, {3, 2, 4128},
	} {
		for mode := range 2 {
			t.Run(fmt.Sprintf("%dx%dx%d/%d", s.m, s.n, s.k, mode), func(t *testing.T) {
				testQ4GEMM(t, d, s.m, s.n, s.k, mode == 1)
			})
		}
	}
}

func testQ4GEMM(t *testing.T, d *Device, m, n, k int, full bool) {
	defer freeAll(d)()
	r := rand.New(rand.NewPCG(uint64(m), uint64(n*k)))
	ldx, ldy := k+5, n+3
	x, w := randomF32(r, m*ldx), randomU8(r, n*k/2)
	scale, low, bias := randomHalf(r, n*k/32), randomHalf(r, n*k/32), randomF32(r, n)
	dbias, acc := Addr(0), int32(0)
	if full {
		dbias, acc = put(t, d, bias), 1
	} else {
		bias = nil
	}
	q, sx, sums := ref.QuantizeRows(x, m, k, ldx)
	want := filled(m*ldy, guard)
	ref.Q4GEMM(want, q, sx, sums, w, scale, low, bias, m, n, k, ldy, full)
	dx, dw, dscale, dlow := put(t, d, x), put(t, d, w), put(t, d, scale), put(t, d, low)
	dq, dsx, dsums := alloc(t, d, int64(m*k*2)), alloc(t, d, int64(m*4)), alloc(t, d, int64(len(sums)*4))
	for threads := 1; threads <= 2; threads++ {
		d.SetThreads(threads)
		dy := put(t, d, filled(m*ldy, guard))
		d.I16QuantizeRows(dq, dsx, dsums, dx, int32(m), int32(k), int32(ldx))
		for tile := range int32(2) {
			d.Write(dy, encode(t, filled(m*ldy, guard)))
			d.GemmTile(tile)
			d.Q4Gemm(dy, dq, dsx, dsums, dw, dscale, dlow, dbias, int32(m), int32(n), int32(k), int32(ldy), acc)
			equal(t, fmt.Sprintf("y at %d threads, tile %d", threads, tile), get[float32](d, dy, m*ldy), want)
		}
		d.GemmTile(0)
	}
}

func TestRowsOfQuantisedTables(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(3, 5))
	const rows = 13
	index := []int64{0, 12, 5, 5, -1, 13, math.MinInt64, 1 << 40, 7}
	for _, k := range []int{32, 64, 96, 576} {
		ldw, ldy := k+3, k+5
		w8, sw := randomI8(r, rows*ldw), randomF32(r, rows)
		w4, scale, low := randomU8(r, rows*k/2), randomHalf(r, rows*k/32), randomHalf(r, rows*k/32)
		want8, want4 := filled(len(index)*ldy, guard), filled(len(index)*ldy, guard)
		for i, at := range index {
			y8, y4 := want8[i*ldy:][:k], want4[i*ldy:][:k]
			clear(y8)
			clear(y4)
			if at < 0 || at >= rows {
				continue
			}
			for t := range k {
				y8[t] = float32(w8[int(at)*ldw+t]) * sw[at]
			}
			ref.Q4Row(y4, w4, scale, low, int(at), k)
		}
		dindex, d8, dsw := put(t, d, index), put(t, d, w8), put(t, d, sw)
		d4, dscale, dlow := put(t, d, w4), put(t, d, scale), put(t, d, low)
		y8, y4 := put(t, d, filled(len(want8), guard)), put(t, d, filled(len(want4), guard))
		m := int32(len(index))
		d.I8Rows(y8, d8, dsw, dindex, m, rows, int32(k), int32(ldw), int32(ldy))
		equal(t, fmt.Sprintf("int8 rows of %d", k), get[float32](d, y8, len(want8)), want8)
		d.Q4Rows(y4, d4, dscale, dlow, dindex, m, rows, int32(k), int32(ldy))
		equal(t, fmt.Sprintf("4-bit rows of %d", k), get[float32](d, y4, len(want4)), want4)
		// Without an index: the table itself.
		d.Q4Rows(y4, d4, dscale, dlow, 0, 2, rows, int32(k), int32(ldy))
		ref.Q4Row(want4[ldy:], w4, scale, low, 1, k)
		equal(t, "4-bit table", get[float32](d, y4+Addr(ldy*4), k), want4[ldy:][:k])
	}
}

// TestEveryHalf passes all 65536 values of binary16 through both of the kernels' decoders.
func TestEveryHalf(t *testing.T) {
	d := open(t, 2)
	const n, k = 65536, 128
	w, one, low := make([]uint8, n*k/2), make([]uint16, n*k/32), make([]uint16, n*k/32)
	for h := range n {
		for g := range 4 {
			one[h*4+g] = 0x3c00
		}
		low[h*4+h%4] = uint16(h)
	}
	x := filled(k, 1)
	q, sx, sums := ref.QuantizeRows(x, 1, k, k)
	want := make([]float32, n)
	ref.Q4GEMM(want, q, sx, sums, w, one, low, nil, 1, n, k, n, false)
	dx, dw, done, dlow := put(t, d, x), put(t, d, w), put(t, d, one), put(t, d, low)
	dq, dsx, dsums, dy := alloc(t, d, k*2), alloc(t, d, 4), alloc(t, d, k/8), alloc(t, d, n*4)
	d.I16QuantizeRows(dq, dsx, dsums, dx, 1, k, k)
	d.Q4Gemm(dy, dq, dsx, dsums, dw, done, dlow, 0, 1, n, k, n, 0)
	sameHalves(t, "q4_gemm", get[float32](d, dy, n), want)

	rows := alloc(t, d, n*k*4)
	d.Q4Rows(rows, dw, done, dlow, 0, n, n, k, k)
	got := get[float32](d, rows, n*k)
	for h := range n {
		got[h] = got[h*k+h%4*32]
		want[h] = ref.Half(uint16(h)) + 0
	}
	sameHalves(t, "q4_rows", got[:n], want)
}

// sameHalves compares bits, except of NaN.
func sameHalves(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for h := range want {
		if !sameBits(got[h], want[h]) && !(got[h] != got[h] && want[h] != want[h]) {
			t.Fatalf("%s of the half %#04x: %g, want %g", what, h, got[h], want[h])
		}
	}
}
