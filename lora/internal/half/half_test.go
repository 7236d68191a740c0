package half

import (
	"math"
	"testing"
)

// Every binary16 widens and narrows back to itself; this covers zeros,
// subnormals, infinities and quiet NaNs.
func TestF16RoundTrip(t *testing.T) {
	for i := 0; i < 1<<16; i++ {
		h := uint16(i)
		f := F16ToF32(h)
		got := F32ToF16(f)
		if f != f {
			if got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
				t.Fatalf("NaN %#04x became %#04x", h, got)
			}
			continue
		}
		if got != h {
			t.Fatalf("%#04x -> %g -> %#04x", h, f, got)
		}
	}
}

// The midpoint of two neighbours goes to the even one, and the floats right
// below and above the midpoint to their nearer neighbour.
func TestF16Rounding(t *testing.T) {
	for i := uint16(0); i < 0x7bff; i++ {
		lo, hi := float64(F16ToF32(i)), float64(F16ToF32(i+1))
		mid := float32((lo + hi) / 2) // 12 significant bits: exact
		even := i
		if i&1 == 1 {
			even = i + 1
		}
		below := math.Nextafter32(mid, float32(math.Inf(-1)))
		above := math.Nextafter32(mid, float32(math.Inf(1)))
		if F32ToF16(mid) != even || F32ToF16(below) != i || F32ToF16(above) != i+1 {
			t.Fatalf("around %g: %#04x %#04x %#04x, want %#04x %#04x %#04x", mid,
				F32ToF16(below), F32ToF16(mid), F32ToF16(above), i, even, i+1)
		}
		if F32ToF16(-mid) != even|0x8000 {
			t.Fatalf("-%g lost its sign", mid)
		}
	}
}

func TestF16Known(t *testing.T) {
	for _, c := range []struct {
		f float32
		h uint16
	}{
		{1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65519, 0x7bff}, {65520, 0x7c00},
		{float32(math.Inf(-1)), 0xfc00}, {1e-10, 0}, {float32(math.Ldexp(1, -25)), 0},
		{float32(math.Ldexp(1.5, -25)), 1}, {0.1, 0x2e66},
	} {
		if got := F32ToF16(c.f); got != c.h {
			t.Errorf("F32ToF16(%g) = %#04x, want %#04x", c.f, got, c.h)
		}
	}
}

func TestBF16(t *testing.T) {
	for i := 0; i < 1<<16; i++ {
		f := BF16ToF32(uint16(i))
		got := F32ToBF16(f)
		if f == f && got != uint16(i) || f != f && got&0x7f == 0 {
			t.Fatalf("%#04x -> %g -> %#04x", i, f, got)
		}
	}
	// 1 + 2^-8 lies half way between 1 (even) and 1 + 2^-7.
	if got := F32ToBF16(1.00390625); got != 0x3f80 {
		t.Errorf("tie rounded to %#04x", got)
	}
	if got := F32ToBF16(1.01171875); got != 0x3f82 {
		t.Errorf("tie rounded to %#04x", got)
	}
}
