//go:build !wasip1

package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/ref"
)

// f32Sizes are below, at and above the tile (4x8), the block of k (256) and the unit (128x128).
var f32Sizes = []struct{ m, n, k int }{
	{1, 1, 1}, {1, 139, 263}, {1, 8, 3}, {2, 7, 5}, {3, 9, 4}, {4, 8, 1}, {4, 16, 17}, {5, 8, 13}, {7, 23, 31},
	{127, 8, 576}, {128, 128, 8}, {129, 129, 9}, {131, 131, 7}, {1, 257, 64}, {66, 5, 255}, {4, 17, 256},
	{5, 19, 257}, {6, 3, 601}, {3, 2, 0}, {9, 40, 0},
}

func TestF32GEMM(t *testing.T) {
	d := open(t, 2)
	for _, s := range f32Sizes {
		for mode := range 8 {
			t.Run(fmt.Sprintf("%dx%dx%d/%d", s.m, s.n, s.k, mode), func(t *testing.T) {
				testF32GEMM(t, d, s.m, s.n, s.k, mode&1 != 0, mode&2 != 0, mode&4 != 0)
			})
		}
	}
}

func testF32GEMM(t *testing.T, d *Device, m, n, k int, withBias, accumulate, nn bool) {
	defer freeAll(d)()
	r := rand.New(rand.NewPCG(uint64(m), uint64(n*1000+k)))
	lda, ldb, ldc := k+3, k+5, n+7
	a, b := randomF32(r, m*lda), randomF32(r, n*ldb)
	if nn {
		ldb = n + 5
		b = randomF32(r, k*ldb)
	}
	bias, dbias := randomF32(r, n), Addr(0)
	if withBias {
		dbias = put(t, d, bias)
	} else {
		bias = nil
	}
	alpha, acc := float32(1), int32(0)
	if accumulate {
		alpha, acc = 0.3, 1
	}
	c := randomF32(r, m*ldc)
	da, db := put(t, d, a), put(t, d, b)
	want := append([]float32(nil), c...)
	ref.F32GEMM(want, a, b, bias, m, n, k, lda, ldb, ldc, alpha, accumulate, nn)
	for threads := 1; threads <= 2; threads++ {
		d.SetThreads(threads)
		dc := put(t, d, c)
		call := d.F32GemmNT
		if nn {
			call = d.F32GemmNN
		}
		call(dc, da, db, dbias, int32(m), int32(n), int32(k), int32(lda), int32(ldb), int32(ldc), alpha, acc)
		equal(t, fmt.Sprintf("c at %d threads", threads), get[float32](d, dc, m*ldc), want)
		if !nn && !accumulate {
			dc = put(t, d, c)
			d.F32GemmNTClamp(dc, da, db, dbias, int32(m), int32(n), int32(k), int32(lda), int32(ldb), int32(ldc), -0.25, 0.5)
			bounded := append([]float32(nil), want...)
			for i := range m * ldc {
				if i%ldc < n { // not the columns between rows
					bounded[i] = min(max(bounded[i], -0.25), 0.5)
				}
			}
			equal(t, fmt.Sprintf("bounded c at %d threads", threads), get[float32](d, dc, m*ldc), bounded)
		}
	}
}

func TestF32BMM(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(7, 7))
	const batch, m, n, k = 6, 9, 11, 5
	for _, nn := range []bool{false, true} {
		for _, table := range []bool{false, true} {
			lda, ldb, ldc := k+2, k+1, n+3
			if nn {
				ldb = n + 1
			}
			sa, sb, sc := m*lda+1, 0, m*ldc+2 // one b for all
			a, b, c := randomF32(r, batch*sa), randomF32(r, 4*(n+k)*(n+k)), randomF32(r, batch*sc)
			offsets := make([]int32, 0, batch*3)
			want := append([]float32(nil), c...)
			for i := range batch {
				oc, oa, ob := i*sc, i*sa, i*sb
				if table { // grouped heads: three of a share one of b, outputs in reverse
					oc, oa, ob = (batch-1-i)*sc, i*sa, i/3*(n*k+8*n)
				}
				offsets = append(offsets, int32(oc), int32(oa), int32(ob))
				ref.F32GEMM(want[oc:], a[oa:], b[ob:], nil, m, n, k, lda, ldb, ldc, 0.125, true, nn)
			}
			da, db, dt := put(t, d, a), put(t, d, b), Addr(0)
			if table {
				dt = put(t, d, offsets)
			}
			for threads := 1; threads <= 2; threads++ {
				d.SetThreads(threads)
				dc := put(t, d, c)
				call := d.F32BMMNT
				if nn {
					call = d.F32BMMNN
				}
				call(dc, da, db, dt, batch, m, n, k, int32(lda), int32(ldb), int32(ldc), int32(sa), int32(sb), int32(sc), 0.125, 1)
				equal(t, fmt.Sprintf("c, nn %v, table %v, %d threads", nn, table, threads), get[float32](d, dc, len(c)), want)
			}
		}
	}
}
