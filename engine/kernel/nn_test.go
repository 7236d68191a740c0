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

// near compares with a tolerance: |got - want| <= abs + rel |want|; infinities and NaN must agree.
func near(t testing.TB, what string, got, want []float32, abs, rel float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		g, w := float64(got[i]), float64(want[i])
		if g == w || g != g && w != w || math.Abs(g-w) <= abs+rel*math.Abs(w) {
			continue
		}
		t.Fatalf("%s: element %d of %d is %g, want %g", what, i, len(got), g, w)
	}
}

// threads runs f with one thread and with two, and holds the results to the same bits.
func threads(t testing.TB, d *Device, what string, out Addr, n int, f func()) []float32 {
	t.Helper()
	d.SetThreads(1)
	f()
	one := get[float32](d, out, n)
	writeAll(d, out, filled(n, guard))
	d.SetThreads(2)
	f()
	match(t, what+" with two threads", get[float32](d, out, n), one)
	return one
}

// padRows spreads rows of n over rows of n+pad, filled with the guard.
func padRows(x []float32, n, pad int) []float32 {
	var out []float32
	for i := 0; i < len(x); i += n {
		out = append(append(out, x[i:i+n]...), filled(pad, guard)...)
	}
	return out
}

// unpadRows is its inverse, and fails where the gaps were written to.
func unpadRows(t testing.TB, what string, x []float32, n, pad int) []float32 {
	t.Helper()
	var out []float32
	for i := 0; i < len(x); i += n + pad {
		out = append(out, x[i:i+n]...)
		match(t, what+" between rows", x[i+n:i+n+pad], filled(pad, guard))
	}
	return out
}

var reduceShapes = [][3]int{{1, 1, 1}, {3, 2, 1}, {2, 3, 1}, {5, 4, 1}, {2, 17, 1}, {3, 576, 1}, {2, 1023, 1}, {2, 1025, 1}, {1, 5003, 1}, {257, 31, 1},
	{1, 1, 3}, {2, 5, 2}, {3, 7, 4}, {2, 3, 5}, {2, 33, 63}, {1, 17, 64}, {3, 4, 65}, {2, 100, 131}}

func TestReduce(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(12, 1))
	for _, s := range reduceShapes {
		func() {
			defer freeAll(d)()
			outer, n, inner := s[0], s[1], s[2]
			x := randomF32(r, outer*n*inner)
			src, row := x, n
			if inner == 1 {
				src, row = padRows(x, n, 3), n+3
			}
			ps, size := put(t, d, src), outer*inner
			out := alloc(t, d, int64(8*size))
			for op := code.ReduceSum; op <= code.ReduceMin; op++ {
				what := fmt.Sprintf("reduction %d of %v", op, s)
				got := threads(t, d, what, out, size, func() {
					d.F32Reduce(op, out, ps, int32(row), int32(outer), int32(n), int32(inner))
				})
				tolerance := 0.0
				if op < code.ReduceMax {
					tolerance = 1e-5
				}
				near(t, what, got, ref.Reduce(op, x, outer, n, inner), tolerance, tolerance)
			}
			for op := code.ReduceMax; op <= code.ReduceMin; op++ {
				d.F32ArgReduce(op, out, ps, int32(row), int32(outer), int32(n), int32(inner))
				match(t, fmt.Sprintf("position %d of %v", op, s), get[int64](d, out, size), ref.ArgReduce(op, x, outer, n, inner))
			}
		}()
	}
}

// TestReduceSpecial: NaN wins, ties go to the first, and a long sum stays accurate.
func TestReduceSpecial(t *testing.T) {
	d := open(t, 1)
	nan := float32(math.NaN())
	x := []float32{1, 5, 2, 5, nan, 7, nan, 0, 3}
	p, out := put(t, d, x), alloc(t, d, 8)
	for op := code.ReduceSum; op <= code.ReduceMin; op++ {
		d.F32Reduce(op, out, p, 9, 1, 9, 1)
		if v := get[float32](d, out, 1)[0]; v == v {
			t.Errorf("reduction %d with a NaN gives %g", op, v)
		}
	}
	d.F32ArgReduce(code.ReduceMax, out, p, 9, 1, 9, 1)
	match(t, "position of NaN", get[int64](d, out, 1), []int64{4})
	d.F32ArgReduce(code.ReduceMax, out, p, 4, 1, 4, 1)
	match(t, "first of equals", get[int64](d, out, 1), []int64{1})
	const n = 4_000_000
	long := put(t, d, filled(n, 0.1))
	d.F32Reduce(code.ReduceSum, out, long, n, 1, n, 1)
	near(t, "sum of 4 million", get[float32](d, out, 1), []float32{400000}, 0, 1e-6)
}

func TestSoftmax(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(13, 1))
	for _, s := range reduceShapes {
		for op := code.Softmax; op <= code.LogSoftmax; op++ {
			func() {
				defer freeAll(d)()
				outer, n, inner := s[0], s[1], s[2]
				x := randomF32(r, outer*n*inner)
				for i := range x {
					x[i] *= 8
				}
				x[0] = 300 // overflows unless the maximum is taken off
				if n > 1 {
					x[inner] = float32(math.Inf(-1))
				}
				pad := 0
				if inner == 1 {
					pad = 5
				}
				width := n * inner
				ps := put(t, d, padRows(x, width, pad))
				out := put(t, d, filled(outer*(width+pad), guard))
				what := fmt.Sprintf("softmax %d of %v", op, s)
				got := threads(t, d, what, out, outer*(width+pad), func() {
					d.F32Softmax(op, out, int32(n+pad), ps, int32(n+pad), int32(outer), int32(n), int32(inner))
				})
				near(t, what, unpadRows(t, what, got, width, pad), ref.Softmax(op, x, outer, n, inner), 1e-6, 2e-6)
			}()
		}
	}
}

func TestNLLRows(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(14, 1))
	for _, n := range []int{1, 2, 3, 5, 17, 1021, 49152} {
		func() {
			defer freeAll(d)()
			const m = 7
			x, target := randomF32(r, m*n), make([]int64, m)
			for i := range x {
				x[i] = x[i]*5 + 500
			}
			for i := range target {
				target[i] = int64(r.IntN(n))
			}
			target[2], target[5] = -1, int64(n)
			pl, pt, out := put(t, d, padRows(x, n, 2)), put(t, d, target), alloc(t, d, 4*m)
			got := threads(t, d, "nll", out, m, func() { d.F32NLLRows(out, pl, int32(n+2), pt, m, int32(n)) })
			near(t, fmt.Sprintf("nll of %d", n), got, ref.NLL(x, target, n), 1e-5, 2e-6)
		}()
	}
}

func TestNorms(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(15, 1))
	for _, n := range []int{1, 3, 4, 5, 15, 16, 17, 31, 576, 1023, 1025, 2050} {
		for _, rows := range []int{1, 2, 31} {
			func() {
				defer freeAll(d)()
				x, w, b := randomF32(r, rows*n), randomF32(r, n), randomF32(r, n)
				for i := range x {
					x[i] += 3
				}
				px, pw, pb := put(t, d, padRows(x, n, 3)), put(t, d, w), put(t, d, b)
				size := rows * (n + 3)
				out := put(t, d, filled(size, guard))
				what := fmt.Sprintf("rmsnorm of %dx%d", rows, n)
				got := threads(t, d, what, out, size, func() {
					d.F32Rmsnorm(out, int32(n+3), px, int32(n+3), pw, 1e-5, int32(rows), int32(n))
				})
				near(t, what, unpadRows(t, what, got, n, 3), ref.RMSNorm(x, w, 1e-5, n), 1e-6, 2e-6)
				for mode := range 4 {
					var rw, rb []float32
					var aw, ab Addr
					if mode&1 != 0 {
						rw, aw = w, pw
					}
					if mode&2 != 0 {
						rb, ab = b, pb
					}
					what := fmt.Sprintf("layer norm %d of %dx%d", mode, rows, n)
					got := threads(t, d, what, out, size, func() {
						d.F32LayerNorm(out, int32(n+3), px, int32(n+3), aw, ab, 1e-5, int32(rows), int32(n))
					})
					near(t, what, unpadRows(t, what, got, n, 3), ref.LayerNorm(x, rw, rb, 1e-5, n), 5e-6, 2e-5)
				}
				d.F32Rmsnorm(px, int32(n+3), px, int32(n+3), pw, 1e-5, int32(rows), int32(n))
				near(t, what+" in place", unpadRows(t, what, get[float32](d, px, size), n, 3), ref.RMSNorm(x, w, 1e-5, n), 1e-6, 2e-6)
			}()
		}
	}
}

func TestRotary(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(16, 1))
	for _, dim := range []int{2, 4, 6, 8, 10, 64, 66} {
		for _, heads := range []int{1, 3} {
			for op := code.RotaryHalf; op <= code.RotaryInterleaved; op++ {
				func() {
					defer freeAll(d)()
					const rows, period = 23, 7
					n := heads * dim
					x, cos, sin := randomF32(r, rows*n), randomF32(r, period*dim), randomF32(r, period*dim)
					px, pc, ps := put(t, d, padRows(x, n, 3)), put(t, d, cos), put(t, d, sin)
					out := put(t, d, filled(rows*(n+3), guard))
					what := fmt.Sprintf("rotary %d, %d heads of %d", op, heads, dim)
					got := threads(t, d, what, out, rows*(n+3), func() {
						d.F32Rotary(op, out, int32(n+3), px, int32(n+3), pc, ps, 0, rows, int32(heads), int32(dim), period)
					})
					want := ref.Rotary(op, x, cos, sin, func(r int) int { return r % period }, rows, heads, dim)
					match(t, what, unpadRows(t, what, got, n, 3), want)

					positions := make([]int64, rows)
					for i := range positions {
						positions[i] = int64(r.IntN(period))
					}
					d.F32Rotary(op, px, int32(n+3), px, int32(n+3), pc, ps, put(t, d, positions), rows, int32(heads), int32(dim), period)
					want = ref.Rotary(op, x, cos, sin, func(r int) int { return int(positions[r]) }, rows, heads, dim)
					match(t, what+" in place", unpadRows(t, what, get[float32](d, px, rows*(n+3)), n, 3), want)
				}()
			}
		}
	}
}

func TestGLU(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(17, 1))
	for _, n := range []int{1, 2, 3, 4, 5, 7, 17, 1536} {
		for _, rows := range []int{1, 5, 37} {
			func() {
				defer freeAll(d)()
				gate, up := randomF32(r, rows*n), randomF32(r, rows*n)
				pg, pu := put(t, d, padRows(gate, n, 1)), put(t, d, padRows(up, n, 2))
				out := put(t, d, filled(rows*(n+3), guard))
				for _, op := range []int32{code.F32Silu, code.F32GeluTanh} {
					what := fmt.Sprintf("glu %d of %dx%d", op, rows, n)
					got := threads(t, d, what, out, rows*(n+3), func() {
						d.F32Glu(op, out, int32(n+3), pg, int32(n+1), pu, int32(n+2), int32(rows), int32(n))
					})
					match(t, what, unpadRows(t, what, got, n, 3), ref.GLU(op, gate, up))
				}
			}()
		}
	}
}
