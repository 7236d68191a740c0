//go:build !wasip1

package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/ref"
)

// images are sizes [n, h, w, c] and windows: channels below, at and above a vector, taps outside on every side, strides, dilation.
var images = []struct {
	n, h, w, c int
	win        ref.Window
}{
	{1, 1, 1, 1, ref.Window{KH: 1, KW: 1, SH: 1, SW: 1, DH: 1, DW: 1}},
	{2, 5, 7, 3, ref.Window{KH: 3, KW: 3, SH: 1, SW: 1, DH: 1, DW: 1, Top: 1, Left: 1, Bottom: 1, Right: 1}},
	{1, 9, 8, 8, ref.Window{KH: 3, KW: 2, SH: 2, SW: 3, DH: 1, DW: 2, Top: 2, Left: 0, Bottom: 0, Right: 1}},
	{3, 6, 6, 17, ref.Window{KH: 5, KW: 5, SH: 2, SW: 1, DH: 1, DW: 1, Top: 2, Left: 2, Bottom: 2, Right: 2}},
	{1, 3, 4, 24, ref.Window{KH: 2, KW: 3, SH: 1, SW: 1, DH: 3, DW: 2, Top: 3, Left: 4, Bottom: 3, Right: 4}},
	{2, 13, 3, 5, ref.Window{KH: 1, KW: 1, SH: 2, SW: 2, DH: 1, DW: 1}},
}

func windowWords(w ref.Window, oh, ow int) []int32 {
	v := []int32{}
	for _, x := range []int{w.KH, w.KW, w.SH, w.SW, w.DH, w.DW, w.Top, w.Left, oh, ow} {
		v = append(v, int32(x))
	}
	return v
}

func wide[T number](v []T) []int64 {
	r := make([]int64, len(v))
	for i, x := range v {
		r[i] = int64(x)
	}
	return r
}

func doubles(v []float32) []float64 {
	r := make([]float64, len(v))
	for i, x := range v {
		r[i] = float64(x)
	}
	return r
}

// eachImage runs a test for every image on one and two threads.
func eachImage(t *testing.T, f func(t *testing.T, d *Device, r *rand.Rand, k int, oh, ow int)) {
	for threads := 1; threads <= 2; threads++ {
		d := open(t, threads)
		for k, im := range images {
			t.Run(fmt.Sprintf("%d threads/%d", threads, k), func(t *testing.T) {
				defer freeAll(d)()
				oh, ow, ok := im.win.Out(im.h, im.w)
				if !ok {
					t.Fatal("window does not fit")
				}
				f(t, d, rand.New(rand.NewPCG(uint64(k), 5)), k, oh, ow)
			})
		}
	}
}

func within(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for i := range want {
		if math.Abs(float64(got[i])-want[i]) > 1e-4*(1+math.Abs(want[i])) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestF32Dwconv(t *testing.T) {
	eachImage(t, func(t *testing.T, d *Device, r *rand.Rand, k, oh, ow int) {
		im := images[k]
		for _, multiplier := range []int{1, 2} {
			oc := im.c * multiplier
			x, w, bias := randomF32(r, im.n*im.h*im.w*im.c), randomF32(r, im.win.KH*im.win.KW*oc), randomF32(r, oc)
			want := make([]float64, im.n*oh*ow*oc)
			ref.Depthwise(doubles(x), []int{im.n, im.h, im.w, im.c}, doubles(w), multiplier, im.win, oh, ow, 0,
				func(at, o int, sum float64) { want[at] = min(max(sum+float64(bias[o]), -1.5), 2) })
			y := put(t, d, filled(len(want)+8, guard))
			d.F32Dwconv(y, put(t, d, x), put(t, d, w), put(t, d, bias), put(t, d, windowWords(im.win, oh, ow)), int32(im.n), int32(im.h), int32(im.w), int32(im.c), int32(multiplier), -1.5, 2)
			got := get[float32](d, y, len(want)+8)
			within(t, "y", got, want)
			equal(t, "guard", got[len(want):], filled(8, guard))
		}
	})
}

func TestF32Pool(t *testing.T) {
	eachImage(t, func(t *testing.T, d *Device, r *rand.Rand, k, oh, ow int) {
		im := images[k]
		x := randomF32(r, im.n*im.h*im.w*im.c)
		px, pw := put(t, d, x), put(t, d, windowWords(im.win, oh, ow))
		for mean := range int32(2) {
			want := make([]float64, im.n*oh*ow*im.c)
			for i := range want {
				p := i / im.c
				best, sum, n := math.Inf(-1), 0.0, 0
				im.win.Each(p/ow%oh, p%ow, im.h, im.w, func(_, row, col int) {
					v := float64(x[((p/(oh*ow)*im.h+row)*im.w+col)*im.c+i%im.c])
					best, sum, n = max(best, v), sum+v, n+1
				})
				if want[i] = best; mean == 1 {
					want[i] = sum / float64(max(n, 1))
				}
			}
			y := put(t, d, filled(len(want), guard))
			d.F32Pool(y, px, pw, int32(im.n), int32(im.h), int32(im.w), int32(im.c), mean)
			for i, g := range get[float32](d, y, len(want)) {
				if float64(g) != want[i] && !(math.Abs(float64(g)-want[i]) < 1e-5) {
					t.Fatalf("mean %d: element %d is %v, want %v", mean, i, g, want[i])
				}
			}
		}
	})
}

// TestIm2colProduct: patches times a filter are the convolution, in f32 and in int8.
func TestIm2colProduct(t *testing.T) {
	eachImage(t, func(t *testing.T, d *Device, r *rand.Rand, k, oh, ow int) {
		im := images[k]
		const oc = 5
		taps := im.win.KH * im.win.KW * im.c
		m := im.n * oh * ow
		sizes := []int{im.n, im.h, im.w, im.c}
		win := put(t, d, windowWords(im.win, oh, ow))
		x, w := randomF32(r, im.n*im.h*im.w*im.c), randomF32(r, oc*taps)
		want := make([]float64, m*oc)
		ref.Convolve(doubles(x), sizes, doubles(w), oc, 1, im.win, oh, ow, func(int) float64 { return 0 }, func(at, _, _ int, sum float64) { want[at] = sum })
		columns, y := put(t, d, filled(m*taps, guard)), put(t, d, filled(m*oc, guard))
		half := m / 2
		px, pw := put(t, d, x), put(t, d, w)
		d.Im2col(columns, px, win, int32(im.h), int32(im.w), int32(4*im.c), int32(4*im.c), 0, int32(half))
		d.Im2col(columns+Addr(4*half*taps), px, win, int32(im.h), int32(im.w), int32(4*im.c), int32(4*im.c), int32(half), int32(m-half))
		d.F32GemmNT(y, columns, pw, 0, int32(m), oc, int32(taps), int32(taps), int32(taps), oc, 1, 0)
		within(t, "f32", get[float32](d, y, m*oc), want)

		x8, w8 := randomI8(r, len(x)), randomI8(r, len(w))
		zeros, scales := make([]int32, im.n), randomF32(r, im.n)
		for i := range zeros {
			zeros[i] = int32(r.IntN(256) - 128)
		}
		bias, scale := make([]int32, oc), make([]float32, oc)
		for i := range bias {
			bias[i], scale[i] = int32(r.IntN(2000)-1000), float32(r.Float64()*0.002)
		}
		want8, wantF := make([]int8, m*oc), make([]float64, m*oc)
		const zero, lo, hi = 3, -100, 90
		ref.Convolve(wide(x8), sizes, wide(w8), oc, 1, im.win, oh, ow, func(i int) int64 { return int64(zeros[i]) }, func(at, o, image int, sum int64) {
			f := float32(float32(int32(sum)+bias[o]) * scale[o])
			want8[at] = int8(min(max(int64(math.RoundToEven(float64(min(f, hi-zero))))+zero, lo), hi))
			wantF[at] = float64(float32(sum)*scales[image]*scale[o]) + float64(bias[o])
		})
		q, sx := put(t, d, make([]int16, m*(taps+8))), put(t, d, make([]float32, m))
		d.I8Im2col(q, sx, put(t, d, x8), put(t, d, scales), put(t, d, zeros), 0, win, int32(im.h), int32(im.w), int32(im.c), 0, int32(im.c), 0, int32(m))
		y8, p8, ps := put(t, d, make([]int8, m*oc)), put(t, d, w8), put(t, d, scale)
		d.Qs8Gemm(y8, q, p8, ps, put(t, d, bias), int32(m), oc, int32(taps), oc, zero, lo, hi)
		equal(t, "int8", get[int8](d, y8, m*oc), want8)
		fb := make([]float32, oc)
		for i := range fb {
			fb[i] = float32(bias[i])
		}
		d.Qd8Gemm(y, q, sx, p8, ps, put(t, d, fb), int32(m), oc, int32(taps), 0, oc)
		within(t, "dynamic", get[float32](d, y, m*oc), wantF)
	})
}

func TestQS8Dwconv(t *testing.T) {
	eachImage(t, func(t *testing.T, d *Device, r *rand.Rand, k, oh, ow int) {
		im := images[k]
		x, w := randomI8(r, im.n*im.h*im.w*im.c), randomI8(r, im.win.KH*im.win.KW*im.c)
		bias, scale := make([]int32, im.c), make([]float32, im.c)
		for i := range bias {
			bias[i], scale[i] = int32(r.IntN(2000)-1000), float32(r.Float64()*0.005)
		}
		want, pooled := make([]int8, im.n*oh*ow*im.c), make([]int8, im.n*oh*ow*im.c)
		const xz, zero, lo, hi = -7, 3, -100, 127
		ref.Depthwise(wide(x), []int{im.n, im.h, im.w, im.c}, wide(w), 1, im.win, oh, ow, xz, func(at, o int, sum int64) {
			f := float32(float32(int32(sum)+bias[o]) * scale[o])
			want[at] = int8(min(max(int64(math.RoundToEven(float64(min(f, hi-zero))))+zero, lo), hi))
		})
		for i := range pooled {
			p := i / im.c
			pooled[i] = -128
			im.win.Each(p/ow%oh, p%ow, im.h, im.w, func(_, row, col int) {
				pooled[i] = max(pooled[i], x[((p/(oh*ow)*im.h+row)*im.w+col)*im.c+i%im.c])
			})
		}
		y, px, win := put(t, d, make([]int8, len(want))), put(t, d, x), put(t, d, windowWords(im.win, oh, ow))
		d.Qs8Dwconv(y, px, put(t, d, w), put(t, d, bias), put(t, d, scale), win, int32(im.n), int32(im.h), int32(im.w), int32(im.c), xz, zero, lo, hi)
		equal(t, "convolution", get[int8](d, y, len(want)), want)
		d.I8MaxPool(y, px, win, int32(im.n), int32(im.h), int32(im.w), int32(im.c))
		equal(t, "pooling", get[int8](d, y, len(want)), pooled)
	})
}

// TestQD8Blocks multiplies with scales for blocks of a row.
func TestQD8Blocks(t *testing.T) {
	d := open(t, 2)
	for _, s := range []struct{ m, n, k, block int }{{1, 5, 32, 32}, {3, 9, 64, 32}, {5, 7, 96, 32}, {8, 66, 256, 64}, {131, 3, 64, 8}} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			defer freeAll(d)()
			r := rand.New(rand.NewPCG(uint64(s.m), uint64(s.k)))
			x, w := randomI8(r, s.m*s.k), randomI8(r, s.n*s.k)
			scales, sx := randomF32(r, s.k/s.block*s.n), randomF32(r, s.m)
			want := make([]float64, s.m*s.n)
			for i := range want {
				row, col := i/s.n, i%s.n
				for b := range s.k / s.block {
					var sum int64
					for j := b * s.block; j < (b+1)*s.block; j++ {
						sum += int64(x[row*s.k+j]) * int64(w[col*s.k+j])
					}
					want[i] += float64(sum) * float64(scales[b*s.n+col])
				}
				want[i] *= float64(sx[row])
			}
			q, psx := put(t, d, make([]int16, s.m*s.k)), put(t, d, make([]float32, s.m))
			win := put(t, d, windowWords(ref.Window{KH: 1, KW: 1, SH: 1, SW: 1, DH: 1, DW: 1}, 1, 1))
			d.I8Im2col(q, psx, put(t, d, x), put(t, d, sx), 0, 0, win, 1, 1, int32(s.k), 0, int32(s.k), 0, int32(s.m))
			y := put(t, d, make([]float32, s.m*s.n))
			d.Qd8Gemm(y, q, psx, put(t, d, w), put(t, d, scales), 0, int32(s.m), int32(s.n), int32(s.k), int32(s.block), int32(s.n))
			for i, g := range get[float32](d, y, len(want)) {
				if math.Abs(float64(g)-want[i]) > 1e-3*(math.Abs(want[i])+1000) {
					t.Fatalf("element %d is %v, want %v", i, g, want[i])
				}
			}
		})
	}
}

func TestInt8Elementwise(t *testing.T) {
	for threads := 1; threads <= 2; threads++ {
		d := open(t, threads)
		for _, n := range []int{1, 7, 8, 9, 31, 1000, 40000} {
			t.Run(fmt.Sprintf("%d threads/%d", threads, n), func(t *testing.T) {
				defer freeAll(d)()
				r := rand.New(rand.NewPCG(uint64(n), 3))
				x, a, b, table := randomF32(r, n), randomI8(r, n), randomI8(r, n), randomI8(r, 256)
				px, pa, pb, y := put(t, d, x), put(t, d, a), put(t, d, b), put(t, d, make([]int8, n))
				clamp := func(v int64) int8 { return int8(min(max(v, -128), 127)) }
				want, wantF := make([]int8, n), make([]float32, n)
				check := func(what string, f func(i int) int8) {
					t.Helper()
					for i := range want {
						want[i] = f(i)
					}
					equal(t, what, get[int8](d, y, n), want)
				}
				d.I8Quantize(y, px, 37.5, -9, int32(n))
				check("quantize", func(i int) int8 { return clamp(int64(math.RoundToEven(float64(float32(x[i]*37.5)))) - 9) })
				d.U8Lookup(y, pa, put(t, d, table), int32(n))
				check("lookup", func(i int) int8 { return table[uint8(a[i])] })
				d.Qs8Add(y, pa, pb, 777, 1_500_000, -900_000, 20, 5, int32(n))
				check("add", func(i int) int8 {
					return clamp(int64((777+int32(a[i])*1_500_000-int32(b[i])*900_000)>>20) + 5)
				})
				d.Qs8Mul(y, pa, pb, 4, -3, 0.0123, 2, int32(n))
				check("mul", func(i int) int8 {
					return clamp(int64(math.RoundToEven(float64(float32(float32((int32(a[i])-4)*(int32(b[i])+3))*0.0123)))) + 2)
				})
				f := put(t, d, wantF)
				d.I8Dequantize(f, pa, 0.37, 11, int32(n))
				for i := range wantF {
					wantF[i] = float32(int32(a[i])-11) * 0.37
				}
				equal(t, "dequantize", get[float32](d, f, n), wantF)
			})
		}
	}
}

func TestI8QuantizeRows(t *testing.T) {
	d := open(t, 2)
	for _, s := range []struct{ m, k int }{{1, 1}, {3, 5}, {4, 8}, {7, 67}, {2, 1000}} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			defer freeAll(d)()
			x := randomF32(rand.New(rand.NewPCG(9, uint64(s.k))), s.m*s.k)
			clear(x[:s.k]) // a row of zeros
			y, scale, zero := put(t, d, make([]int8, s.m*s.k)), put(t, d, make([]float32, s.m)), put(t, d, make([]int32, s.m))
			d.I8QuantizeRows(y, scale, zero, put(t, d, x), int32(s.m), int32(s.k))
			q, sc, z := get[int8](d, y, s.m*s.k), get[float32](d, scale, s.m), get[int32](d, zero, s.m)
			for i, v := range x {
				r := i / s.k
				if back := float64(int32(q[i])-z[r]) * float64(sc[r]); math.Abs(back-float64(v)) > 0.51*float64(sc[r]) {
					t.Fatalf("element %d: %v became %v with step %v", i, v, back, sc[r])
				}
			}
		})
	}
}
