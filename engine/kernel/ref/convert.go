package ref

import (
	"math"

	"tabtune/engine/kernel/code"
)

// HalfToFloat widens the bits of a float16.
func HalfToFloat(h uint16) float32 {
	sign, e, m := 1.0, int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	switch {
	case e == 31 && m != 0:
		return float32(math.NaN())
	case e == 31:
		return float32(math.Inf(int(sign)))
	case e == 0:
		return float32(math.Copysign(math.Ldexp(m, -24), sign))
	}
	return float32(sign * math.Ldexp(1024+m, e-25))
}

// FloatToHalf rounds to the nearest float16, ties to even; NaN gives the quiet NaN of its sign.
func FloatToHalf(f float32) uint16 {
	sign := uint16(math.Float32bits(f) >> 16 & 0x8000)
	a := math.Abs(float64(f))
	switch {
	case a != a:
		return sign | 0x7e00
	case a >= 65520:
		return sign | 0x7c00
	case a < 0x1p-14:
		return sign | uint16(math.RoundToEven(a*0x1p24))
	}
	m, e := math.Frexp(a) // a = m 2^e, 1/2 <= m < 1
	n := math.RoundToEven(m * 2048)
	return sign | uint16(int(n)-1024+(e+14)<<10)
}

// FloatToBfloat rounds to the nearest bfloat16, ties to even; NaN gives 0x7fc0.
func FloatToBfloat(f float32) uint16 {
	b := math.Float32bits(f)
	if f != f {
		return 0x7fc0
	}
	low := b & 0xffff
	b >>= 16
	if low > 0x8000 || low == 0x8000 && b&1 == 1 {
		b++
	}
	return uint16(b)
}

// ElementSize is the size in bytes of an element type.
func ElementSize(dtype int32) int {
	switch dtype {
	case code.DtypeI8, code.DtypeU8, code.DtypeBool:
		return 1
	case code.DtypeF16, code.DtypeBf16, code.DtypeI16:
		return 2
	case code.DtypeF32, code.DtypeI32:
		return 4
	}
	return 8
}

// Convert converts the low bits of one element from one type to another, as the kernel of that name.
func Convert(to, from int32, raw uint64) uint64 {
	var f float64
	var i int64
	float := true
	switch from {
	case code.DtypeF32:
		f = float64(math.Float32frombits(uint32(raw)))
	case code.DtypeF16:
		f = float64(HalfToFloat(uint16(raw)))
	case code.DtypeBf16:
		f = float64(math.Float32frombits(uint32(raw) << 16))
	case code.DtypeF64:
		f = math.Float64frombits(raw)
	default:
		float = false
		switch from {
		case code.DtypeI8:
			i = int64(int8(raw))
		case code.DtypeU8:
			i = int64(uint8(raw))
		case code.DtypeI16:
			i = int64(int16(raw))
		case code.DtypeI32:
			i = int64(int32(raw))
		case code.DtypeI64:
			i = int64(raw)
		case code.DtypeBool:
			if uint8(raw) != 0 {
				i = 1
			}
		}
	}
	single := float32(i)
	if float {
		single = float32(f)
		i = toInt64(f)
	}
	switch to {
	case code.DtypeF32:
		return uint64(math.Float32bits(single))
	case code.DtypeF16:
		return uint64(FloatToHalf(single))
	case code.DtypeBf16:
		return uint64(FloatToBfloat(single))
	case code.DtypeF64:
		if !float {
			f = float64(i)
		}
		return math.Float64bits(f)
	case code.DtypeBool:
		if float && f != 0 || !float && i != 0 {
			return 1
		}
		return 0
	}
	return uint64(i) << (64 - 8*ElementSize(to)) >> (64 - 8*ElementSize(to))
}

func toInt64(f float64) int64 {
	switch {
	case f != f:
		return 0
	case f >= 0x1p63:
		return math.MaxInt64
	case f < -0x1p63:
		return math.MinInt64
	}
	return int64(f)
}
