package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"tabtune/lora/internal/half"
)

// DequantizeRow turns one row (or several whole rows) of type t into float32.
// len(raw) must be what RowBytes says for len(dst) values. The results are the
// bits that ggml's reference code computes: products and sums are rounded to
// float32 one by one, never fused.
func DequantizeRow(dst []float32, raw []byte, t Type) error {
	l, ok := layouts[t]
	if !ok || l.dequant == nil {
		return fmt.Errorf("tensor type %s cannot be read as numbers (supported: F32, F16, BF16, F64, "+
			"Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K)", t)
	}
	if len(dst) == 0 && len(raw) == 0 {
		return nil
	}
	n, err := RowBytes(t, int64(len(dst)))
	if err != nil {
		return err
	}
	if int64(len(raw)) != n {
		return fmt.Errorf("%d values of %s take %d bytes, got %d", len(dst), t, n, len(raw))
	}
	l.dequant(dst, raw)
	return nil
}

func f16at(b []byte) float32 { return half.F16ToF32(binary.LittleEndian.Uint16(b)) }

func dequantF32(dst []float32, raw []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
}

func dequantF64(dst []float32, raw []byte) {
	for i := range dst {
		dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(raw[8*i:])))
	}
}

func dequantF16(dst []float32, raw []byte) {
	for i := range dst {
		dst[i] = f16at(raw[2*i:])
	}
}

func dequantBF16(dst []float32, raw []byte) {
	for i := range dst {
		dst[i] = half.BF16ToF32(binary.LittleEndian.Uint16(raw[2*i:]))
	}
}

// Q8_0: f16 d, int8 q[32]; value = d*q.
func dequantQ8_0(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[32:], raw[34:] {
		d := f16at(raw)
		for i, q := range raw[2:34] {
			dst[i] = d * float32(int8(q))
		}
	}
}

// Q4_0: f16 d, 16 bytes; byte j holds value j low and value j+16 high; d*(q-8).
func dequantQ4_0(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[32:], raw[18:] {
		d := f16at(raw)
		for j, q := range raw[2:18] {
			dst[j] = d * float32(int(q&15)-8)
			dst[j+16] = d * float32(int(q>>4)-8)
		}
	}
}

// Q4_1: f16 d, f16 m, 16 bytes as Q4_0; d*q + m.
func dequantQ4_1(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[32:], raw[20:] {
		d, m := f16at(raw), f16at(raw[2:])
		for j, q := range raw[4:20] {
			dst[j] = float32(d*float32(q&15)) + m
			dst[j+16] = float32(d*float32(q>>4)) + m
		}
	}
}

// Q5_0: f16 d, u32 of fifth bits (bit j for value j), 16 bytes as Q4_0; d*(q-16).
func dequantQ5_0(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[32:], raw[22:] {
		d, qh := f16at(raw), binary.LittleEndian.Uint32(raw[2:])
		for j, q := range raw[6:22] {
			lo := int(q&15) | int(qh>>j&1)<<4
			hi := int(q>>4) | int(qh>>(j+16)&1)<<4
			dst[j] = d * float32(lo-16)
			dst[j+16] = d * float32(hi-16)
		}
	}
}

// Q5_1: f16 d, f16 m, u32 of fifth bits, 16 bytes; d*q + m.
func dequantQ5_1(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[32:], raw[24:] {
		d, m, qh := f16at(raw), f16at(raw[2:]), binary.LittleEndian.Uint32(raw[4:])
		for j, q := range raw[8:24] {
			lo := int(q&15) | int(qh>>j&1)<<4
			hi := int(q>>4) | int(qh>>(j+16)&1)<<4
			dst[j] = float32(d*float32(lo)) + m
			dst[j+16] = float32(d*float32(hi)) + m
		}
	}
}

// scaleMin unpacks the j-th of the eight 6-bit (scale, min) pairs that Q4_K and
// Q5_K keep in 12 bytes: the first four pairs in the low six bits of bytes 0-3
// and 4-7, the other four in the nibbles of bytes 8-11 with their upper two bits
// on top of bytes 0-3 and 4-7.
func scaleMin(s []byte, j int) (scale, minimum float32) {
	if j < 4 {
		return float32(s[j] & 63), float32(s[j+4] & 63)
	}
	return float32(s[j+4]&15 | s[j-4]>>6<<4), float32(s[j+4]>>4 | s[j]>>6<<4)
}

// Q4_K: f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles. Each 32 bytes
// are 64 values: low nibbles, then high ones; (d*scale)*q - dmin*min.
func dequantQ4_K(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[256:], raw[144:] {
		d, dmin := f16at(raw), f16at(raw[2:])
		scales, qs := raw[4:16], raw[16:144]
		for g := 0; g < 8; g += 2 {
			s0, m0 := scaleMin(scales, g)
			s1, m1 := scaleMin(scales, g+1)
			d0, d1 := d*s0, d*s1
			n0, n1 := dmin*m0, dmin*m1
			y := dst[32*g : 32*g+64]
			for i, q := range qs[16*g : 16*g+32] {
				y[i] = float32(d0*float32(q&15)) - n0
				y[i+32] = float32(d1*float32(q>>4)) - n1
			}
		}
	}
}

// Q5_K: as Q4_K with 32 bytes of fifth bits before the nibbles: bit g of byte i
// belongs to value 32*g + i.
func dequantQ5_K(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[256:], raw[176:] {
		d, dmin := f16at(raw), f16at(raw[2:])
		scales, qh, qs := raw[4:16], raw[16:48], raw[48:176]
		for g := 0; g < 8; g += 2 {
			s0, m0 := scaleMin(scales, g)
			s1, m1 := scaleMin(scales, g+1)
			d0, d1 := d*s0, d*s1
			n0, n1 := dmin*m0, dmin*m1
			y := dst[32*g : 32*g+64]
			for i, q := range qs[16*g : 16*g+32] {
				lo := q&15 | qh[i]>>g&1<<4
				hi := q>>4 | qh[i]>>(g+1)&1<<4
				y[i] = float32(d0*float32(lo)) - n0
				y[i+32] = float32(d1*float32(hi)) - n1
			}
		}
	}
}

// Q6_K: 128 bytes of low nibbles, 64 bytes of upper bit pairs, int8 scales[16],
// f16 d; (d*scale)*(q-32), one scale for 16 values. Each half of 128 values
// takes 64 bytes of nibbles and 32 of pairs.
func dequantQ6_K(dst []float32, raw []byte) {
	for ; len(dst) > 0; dst, raw = dst[256:], raw[210:] {
		d := f16at(raw[208:])
		for h := 0; h < 2; h++ {
			ql, qh, sc := raw[64*h:64*h+64], raw[128+32*h:128+32*h+32], raw[192+8*h:192+8*h+8]
			y := dst[128*h : 128*h+128]
			var ds [8]float32
			for i := range ds {
				ds[i] = d * float32(int8(sc[i]))
			}
			for i := 0; i < 32; i++ {
				k := i / 16
				y[i] = ds[k] * float32(int(ql[i]&15|qh[i]&3<<4)-32)
				y[i+32] = ds[k+2] * float32(int(ql[i+32]&15|qh[i]>>2&3<<4)-32)
				y[i+64] = ds[k+4] * float32(int(ql[i]>>4|qh[i]>>4&3<<4)-32)
				y[i+96] = ds[k+6] * float32(int(ql[i+32]>>4|qh[i]>>6<<4)-32)
			}
		}
	}
}
