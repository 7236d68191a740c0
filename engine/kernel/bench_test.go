//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// gemmShapes are the linear layers of SmolLM2-135M over 1024 positions, and one position.
var gemmShapes = []struct{ m, n, k int }{
	{1024, 576, 576}, {1024, 192, 576}, {1024, 1536, 576}, {1024, 576, 1536},
	{1, 1536, 576}, {8, 1536, 576},
	{32, 576, 576}, {32, 576, 1536}, // short enough to fit the time slices of a busy machine
}

// timeBest runs f b.N times and reports the GOP/s (2 operations a multiplication) of the fastest:
// other programs on the machine only ever add time.
func timeBest(b *testing.B, m, n, k int, f func()) {
	best := time.Duration(math.MaxInt64)
	for b.Loop() {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	b.ReportMetric(2*float64(m)*float64(n)*float64(k)/float64(best.Nanoseconds()), "best-GOP/s")
}

// benchShapes runs one benchmark a shape and a number of threads; prepare returns the call to time.
func benchShapes(b *testing.B, prepare func(b *testing.B, d *Device, m, n, k int) func()) {
	d := open(b, 2)
	for _, s := range gemmShapes {
		for threads := 1; threads <= 2; threads++ {
			b.Run(fmt.Sprintf("%dx%dx%d/threads=%d", s.m, s.n, s.k, threads), func(b *testing.B) {
				defer freeAll(d)()
				d.SetThreads(threads)
				timeBest(b, s.m, s.n, s.k, prepare(b, d, s.m, s.n, s.k))
			})
		}
	}
}

func BenchmarkI8GEMM(b *testing.B) {
	benchShapes(b, func(b *testing.B, d *Device, m, n, k int) func() {
		r := rand.New(rand.NewPCG(1, 2))
		x, w, sw := put(b, d, randomF32(r, m*k)), put(b, d, randomI8(r, n*k)), put(b, d, randomF32(r, n))
		q, sx, y := alloc(b, d, int64(m*k*2)), alloc(b, d, int64(m*4)), alloc(b, d, int64(m*n*4))
		return func() {
			d.I16QuantizeRows(q, sx, 0, x, int32(m), int32(k), int32(k))
			d.I8Gemm(y, q, sx, w, sw, 0, int32(m), int32(n), int32(k), int32(k), int32(n), 0)
		}
	})
}

func BenchmarkF32GEMM(b *testing.B) {
	benchShapes(b, func(b *testing.B, d *Device, m, n, k int) func() {
		r := rand.New(rand.NewPCG(1, 2))
		x, w := put(b, d, randomF32(r, m*k)), put(b, d, randomF32(r, n*k))
		y := alloc(b, d, int64(m*n*4))
		return func() {
			d.F32GemmNT(y, x, w, 0, int32(m), int32(n), int32(k), int32(k), int32(k), int32(n), 1, 0)
		}
	})
}

func BenchmarkQ4GEMM(b *testing.B) {
	benchShapes(b, func(b *testing.B, d *Device, m, n, k int) func() {
		r := rand.New(rand.NewPCG(1, 2))
		x, w := put(b, d, randomF32(r, m*k)), put(b, d, randomU8(r, n*k/2))
		scale, low := put(b, d, randomHalf(r, n*k/32)), put(b, d, randomHalf(r, n*k/32))
		q, sx, sums, y := alloc(b, d, int64(m*k*2)), alloc(b, d, int64(m*4)), alloc(b, d, int64(m*k/8)), alloc(b, d, int64(m*n*4))
		return func() {
			d.I16QuantizeRows(q, sx, sums, x, int32(m), int32(k), int32(k))
			d.Q4Gemm(y, q, sx, sums, w, scale, low, 0, int32(m), int32(n), int32(k), int32(n), 0)
		}
	})
}
