package ref

import (
	"encoding/binary"
	"math"

	"tabtune/engine/kernel/code"
)

// StoredBlocks are what a block of each type has: values, and bytes.
var StoredBlocks = [...]struct{ Values, Bytes int }{
	code.StoredF32: {1, 4}, code.StoredF16: {1, 2}, code.StoredBf16: {1, 2}, code.StoredQ80: {32, 34}, code.StoredQ40: {32, 18}, code.StoredQ41: {32, 20},
	code.StoredQ50: {32, 22}, code.StoredQ51: {32, 24}, code.StoredQ4K: {256, 144}, code.StoredQ5K: {256, 176}, code.StoredQ6K: {256, 210},
}

// StoredRowBytes is the size of a row of k values as a file stores them.
func StoredRowBytes(typ int32, k int) int {
	return k / StoredBlocks[typ].Values * StoredBlocks[typ].Bytes
}

// StoredRow is a row's k values, every product and sum rounded to float32.
func StoredRow(typ int32, b []byte, k int) []float32 {
	le, y := binary.LittleEndian, make([]float32, k)
	block := StoredBlocks[typ]
	for i := range y {
		g := b[i/block.Values*block.Bytes:]
		nibble := func(b []byte) byte { return b[i%16] >> (i % 32 / 16 * 4) & 15 }
		switch typ {
		case code.StoredF32:
			y[i] = math.Float32frombits(le.Uint32(g))
		case code.StoredF16:
			y[i] = Half(le.Uint16(g))
		case code.StoredBf16:
			y[i] = math.Float32frombits(uint32(le.Uint16(g)) << 16)
		case code.StoredQ80:
			y[i] = Half(le.Uint16(g)) * float32(int8(g[2+i%32]))
		case code.StoredQ40:
			y[i] = Half(le.Uint16(g)) * float32(int(nibble(g[2:]))-8)
		case code.StoredQ41:
			y[i] = float32(Half(le.Uint16(g))*float32(nibble(g[4:]))) + Half(le.Uint16(g[2:]))
		case code.StoredQ50:
			q := int(nibble(g[6:])) | int(le.Uint32(g[2:])>>(i%32)&1)<<4
			y[i] = Half(le.Uint16(g)) * float32(q-16)
		case code.StoredQ51:
			q := int(nibble(g[8:])) | int(le.Uint32(g[4:])>>(i%32)&1)<<4
			y[i] = float32(Half(le.Uint16(g))*float32(q)) + Half(le.Uint16(g[2:]))
		case code.StoredQ4K, code.StoredQ5K, code.StoredQ6K:
			y[i] = storedK(typ, g, i%256)
		}
	}
	return y
}

// storedK is value i of a block of 256.
func storedK(typ int32, b []byte, i int) float32 {
	half := func(at int) float32 { return Half(binary.LittleEndian.Uint16(b[at:])) }
	if typ == code.StoredQ6K {
		h, quarter, l := i/128, i%128/32, i%32
		q := int(b[64*h+quarter%2*32+l]>>(quarter/2*4)&15) | int(b[128+32*h+l]>>(2*quarter)&3)<<4
		return float32(half(208)*float32(int8(b[192+i/16]))) * float32(q-32)
	}
	g, s, qs := i/32, b[4:16], b[16:]
	scale, low := int(s[g%4]&63), int(s[g%4+4]&63)
	if g >= 4 {
		scale, low = int(s[g+4]&15)|int(s[g-4]>>6)<<4, int(s[g+4]>>4)|int(s[g]>>6)<<4
	}
	fifth := 0
	if typ == code.StoredQ5K {
		fifth, qs = int(b[16+i%32]>>g&1)<<4, b[48:]
	}
	q := int(qs[g/2*32+i%32]>>(g%2*4)&15) | fifth
	return float32(float32(half(0)*float32(scale))*float32(q)) - float32(half(2)*float32(low))
}

// I8Row quantises a row symmetrically to 127 steps on each side, ties away from zero.
func I8Row(x []float32) (q []int8, scale float32) {
	q = make([]int8, len(x))
	var top float32
	for _, v := range x {
		top = max(top, v, -v)
	}
	inverse := 127 / top
	if top == 0 || inverse > math.MaxFloat32 {
		return q, 0
	}
	for i, v := range x {
		q[i] = int8(float32(v*inverse) + float32(math.Copysign(0.5, float64(v))))
	}
	return q, top / 127
}
