package ref

import (
	"encoding/binary"
	"math"

	"tabtune/engine/kernel/code"
)

// StoredRowBytes is the size of a row of k values as a file stores them.
func StoredRowBytes(typ int32, k int) int {
	switch typ {
	case code.StoredF32:
		return 4 * k
	case code.StoredQ80:
		return k / 32 * 34
	case code.StoredQ40:
		return k / 32 * 18
	case code.StoredQ41:
		return k / 32 * 20
	}
	return 2 * k
}

// StoredRow is a row's k values, every product and sum rounded to float32.
func StoredRow(typ int32, b []byte, k int) []float32 {
	le, y := binary.LittleEndian, make([]float32, k)
	block := StoredRowBytes(typ, 32)
	for i := range y {
		g := b[i/32*block:]
		nibble := func(b []byte) byte { return b[i%16] >> (i % 32 / 16 * 4) & 15 }
		switch typ {
		case code.StoredF32:
			y[i] = math.Float32frombits(le.Uint32(b[4*i:]))
		case code.StoredF16:
			y[i] = Half(le.Uint16(b[2*i:]))
		case code.StoredBf16:
			y[i] = math.Float32frombits(uint32(le.Uint16(b[2*i:])) << 16)
		case code.StoredQ80:
			y[i] = Half(le.Uint16(g)) * float32(int8(g[2+i%32]))
		case code.StoredQ40:
			y[i] = Half(le.Uint16(g)) * float32(int(nibble(g[2:]))-8)
		case code.StoredQ41:
			y[i] = float32(Half(le.Uint16(g))*float32(nibble(g[4:]))) + Half(le.Uint16(g[2:]))
		}
	}
	return y
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
