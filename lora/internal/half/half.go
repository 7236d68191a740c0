// Package half converts between float32 and the two 16-bit formats that model
// files use: IEEE 754 binary16 (F16) and bfloat16 (BF16, the upper half of a
// binary32). Narrowing rounds to nearest, ties to even, as PyTorch and ggml do,
// so a value written here and read there has the same bits.
package half

import "math"

// F16ToF32 widens an IEEE binary16. Every binary16 is a binary32, so the result
// is exact; infinities and NaN payloads are kept.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0:
		// Subnormal: frac * 2^-24, exact because frac has 10 bits.
		f := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// F32ToF16 narrows to IEEE binary16. Values beyond 65504 become infinity,
// values below half of 2^-24 become a zero of the same sign, NaN stays NaN.
func F32ToF16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	exp := int32(b>>23) & 0xff
	frac := b & 0x7fffff
	switch {
	case exp == 0xff:
		if frac != 0 {
			return sign | 0x7e00 | uint16(frac>>13)
		}
		return sign | 0x7c00
	case exp >= 127+16:
		return sign | 0x7c00
	case exp >= 127-14:
		h := uint32(exp-112)<<10 | frac>>13
		// A carry out of the fraction runs into the exponent, which is the
		// right answer (up to and including infinity).
		h += roundUp(h, frac&0x1fff, 0x1000)
		return sign | uint16(h)
	case exp < 127-25:
		return sign
	}
	// Subnormal result: shift the fraction, with its implicit one, to units of 2^-24.
	frac |= 0x800000
	shift := uint32(126 - exp)
	h := frac >> shift
	h += roundUp(h, frac&(1<<shift-1), 1<<(shift-1))
	return sign | uint16(h)
}

// BF16ToF32 widens a bfloat16, exactly.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 narrows to bfloat16. NaN stays NaN (made quiet).
func F32ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	h := b >> 16
	h += roundUp(h, b&0xffff, 0x8000)
	return uint16(h)
}

// roundUp says whether the kept bits get one more unit: 1 when the dropped bits
// are above half, or exactly half with an odd last kept bit.
func roundUp(kept, dropped, half uint32) uint32 {
	if dropped > half || dropped == half && kept&1 == 1 {
		return 1
	}
	return 0
}
