//go:build !wasip1

package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"tabtune/engine/kernel/ref"
)

// eachDeconv runs a test for the images backwards: their sizes are those of the input. Three groups where the channels allow it.
func eachDeconv(t *testing.T, f func(t *testing.T, d *Device, r *rand.Rand, k int, out []int, groups int)) {
	eachImage(t, func(t *testing.T, d *Device, r *rand.Rand, k, _, _ int) {
		im := images[k]
		w := im.win
		oh := (im.h-1)*w.SH + (w.KH-1)*w.DH + 1 - w.Top - w.Bottom + 1
		ow := (im.w-1)*w.SW + (w.KW-1)*w.DW + 1 - w.Left - w.Right
		groups := 1
		if im.c%3 == 0 {
			groups = 3
		}
		f(t, d, r, k, []int{im.n, max(oh, 1), max(ow, 1), 6 * (1 + k%2)}, groups)
	})
}

func TestF32Deconv(t *testing.T) {
	eachDeconv(t, func(t *testing.T, d *Device, r *rand.Rand, k int, out []int, groups int) {
		im, oc := images[k], out[3]
		x, w, bias := randomF32(r, im.n*im.h*im.w*im.c), randomF32(r, oc*im.win.KH*im.win.KW*im.c/groups), randomF32(r, oc)
		want := ref.Transposed(doubles(x), []int{im.n, im.h, im.w, im.c}, doubles(w), out, groups, im.win, 0)
		for i := range want {
			want[i] = min(max(want[i]+float64(bias[i%oc]), -1.5), 2)
		}
		y := put(t, d, filled(len(want)+8, guard))
		d.F32Deconv(y, put(t, d, x), put(t, d, w), put(t, d, bias), put(t, d, windowWords(im.win, out[1], out[2])), int32(im.n), int32(im.h), int32(im.w), int32(im.c),
			int32(oc), int32(groups), -1.5, 2)
		got := get[float32](d, y, len(want)+8)
		within(t, "y", got, want)
		equal(t, "guard", got[len(want):], filled(8, guard))
	})
}

func TestQS8Deconv(t *testing.T) {
	eachDeconv(t, func(t *testing.T, d *Device, r *rand.Rand, k int, out []int, groups int) {
		im, oc := images[k], out[3]
		x, w := randomI8(r, im.n*im.h*im.w*im.c), randomI8(r, oc*im.win.KH*im.win.KW*im.c/groups)
		bias, scale := make([]int32, oc), make([]float32, oc)
		for i := range bias {
			bias[i], scale[i] = int32(r.IntN(2000)-1000), float32(r.Float64()*0.005)
		}
		const xz, zero, lo, hi = -7, 3, -100, 127
		sums := ref.Transposed(wide(x), []int{im.n, im.h, im.w, im.c}, wide(w), out, groups, im.win, xz)
		want := make([]int8, len(sums))
		for i, s := range sums {
			f := float32(float32(int32(s)+bias[i%oc]) * scale[i%oc])
			want[i] = int8(min(max(int64(math.RoundToEven(float64(min(f, hi-zero))))+zero, lo), hi))
		}
		y := put(t, d, make([]int8, len(want)))
		d.Qs8Deconv(y, put(t, d, x), put(t, d, w), put(t, d, bias), put(t, d, scale), put(t, d, windowWords(im.win, out[1], out[2])), int32(im.n), int32(im.h), int32(im.w),
			int32(im.c), int32(oc), int32(groups), xz, zero, lo, hi)
		equal(t, "y", get[int8](d, y, len(want)), want)
	})
}
