package ref

import "math"

// Half converts IEEE binary16 to float32.
func Half(h uint16) float32 {
	sign, exponent, mantissa := uint32(h>>15)<<31, int(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0:
		f := math.Ldexp(float64(mantissa), -24)
		return math.Float32frombits(sign | math.Float32bits(float32(f)))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | mantissa<<13)
	}
	return math.Float32frombits(sign | uint32(exponent+112)<<23 | mantissa<<13)
}

// Nibble returns element t of row j of packed 4-bit weights [n, k/2]: groups of 32 in 16 bytes, byte
// b with element b in its low half and element b+16 in its high half.
func Nibble(w []uint8, j, t, k int) uint8 {
	b := w[j*k/2+t/32*16+t%16]
	if t%32 < 16 {
		return b & 15
	}
	return b >> 4
}

// Q4GEMM is the kernel q4_gemm: q [m,k] quantised activations with scales sx and group sums
// [m, k/32]; w, d and minimum as in c/gemm_q4.c. bias may be nil.
func Q4GEMM(y []float32, q []int16, sx []float32, sums []int32, w []uint8, d, minimum []uint16, bias []float32, m, n, k, ldy int, accumulate bool) {
	groups := k / 32
	for i := range m {
		for j := range n {
			var f float32
			for g := range groups {
				var dot int32
				for t := g * 32; t < g*32+32; t++ {
					dot += int32(q[i*k+t]) * int32(Nibble(w, j, t, k))
				}
				f += float32(float32(dot) * Half(d[j*groups+g]))
				f += float32(float32(sums[i*groups+g]) * Half(minimum[j*groups+g]))
			}
			store(y, i*ldy+j, float32(f*sx[i]), bias, j, accumulate)
		}
	}
}

// Q4Row writes row r of a 4-bit table to y[0:k].
func Q4Row(y []float32, w []uint8, d, minimum []uint16, r, k int) {
	for t := range k {
		g := r*(k/32) + t/32
		y[t] = float32(float32(Nibble(w, r, t, k))*Half(d[g])) + Half(minimum[g])
	}
}
