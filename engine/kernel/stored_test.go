//go:build !wasip1

package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tabtune/engine/kernel/code"
	"tabtune/engine/kernel/ref"
	"tabtune/lora/gguf"
)

// storedRows are m rows of a type with finite scales; some rows are all zero or nearly so.
func storedRows(r *rand.Rand, typ int32, m, k int) []byte {
	var out []byte
	le := binary.LittleEndian
	for i := range m {
		size := float32(1)
		switch i % 5 {
		case 3:
			size = 0
		case 4:
			size = 1e-39 // of which an f16 is zero and the inverse of an f32 infinite
		}
		row := make([]byte, ref.StoredRowBytes(typ, k))
		if typ == code.StoredF32 || typ == code.StoredF16 || typ == code.StoredBf16 {
			for j := range k {
				v := float32(r.NormFloat64()) * size
				switch typ {
				case code.StoredF32:
					le.PutUint32(row[4*j:], math.Float32bits(v))
				case code.StoredBf16:
					le.PutUint16(row[2*j:], uint16(math.Float32bits(v)>>16))
				default:
					le.PutUint16(row[2*j:], uint16(ref.Convert(code.DtypeF16, code.DtypeF32, uint64(math.Float32bits(v)))))
				}
			}
		} else {
			for j := range row {
				row[j] = byte(r.Uint32())
			}
			block := ref.StoredBlocks[typ].Bytes
			for j := 0; j < len(row); j += block {
				for _, at := range halves(typ) {
					copy(row[j+at:], encodeHalf(r, size))
				}
			}
		}
		out = append(out, row...)
	}
	return out
}

// halves are where a block has its f16 scale and minimum.
func halves(typ int32) []int {
	switch typ {
	case code.StoredQ41, code.StoredQ51, code.StoredQ4K, code.StoredQ5K:
		return []int{0, 2}
	case code.StoredQ6K:
		return []int{208}
	}
	return []int{0}
}

// TestStoredIsGGUF: the references read rows as package gguf does.
func TestStoredIsGGUF(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 2))
	for typ, as := range map[int32]gguf.Type{
		code.StoredQ80: gguf.Q8_0, code.StoredQ40: gguf.Q4_0, code.StoredQ41: gguf.Q4_1, code.StoredQ50: gguf.Q5_0, code.StoredQ51: gguf.Q5_1,
		code.StoredQ4K: gguf.Q4_K, code.StoredQ5K: gguf.Q5_K, code.StoredQ6K: gguf.Q6_K,
	} {
		const k = 768
		row, want := storedRows(r, typ, 1, k), make([]float32, k)
		if err := gguf.DequantizeRow(want, row, as); err != nil {
			t.Fatal(err)
		}
		equal(t, as.String(), ref.StoredRow(typ, row, k), want)
	}
}

func encodeHalf(r *rand.Rand, size float32) []byte {
	h := uint16(0)
	if size == 1 {
		h = randomHalf(r, 1)[0]
	}
	return binary.LittleEndian.AppendUint16(nil, h)
}

// place is where row i of a tensor goes.
func place(i, half int) int {
	if half == 0 {
		return i
	}
	head, r := i/(2*half), i%(2*half)
	return head*2*half + r%2*half + r/2
}

func TestFromStored(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(8, 3))
	for typ := code.StoredF32; typ <= code.StoredQ6K; typ++ {
		for _, s := range []struct{ rows, k, half int }{{1, 256, 0}, {12, 512, 3}, {1, 32, 0}, {7, 64, 0}, {12, 96, 3}, {128, 576, 32}, {131, 160, 0}, {5, 37, 0}, {3, 1, 0}} {
			if s.k%ref.StoredBlocks[typ].Values != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%d/%dx%d", typ, s.rows, s.k), func(t *testing.T) {
				defer freeAll(d)()
				src := storedRows(r, typ, s.rows, s.k)
				bytes := ref.StoredRowBytes(typ, s.k)
				floats, ints, scales := make([]float32, s.rows*s.k), make([]int8, s.rows*s.k), make([]float32, s.rows)
				for i := range s.rows {
					to := place(i, s.half)
					x := ref.StoredRow(typ, src[i*bytes:], s.k)
					copy(floats[to*s.k:], x)
					q, scale := ref.I8Row(x)
					copy(ints[to*s.k:], q)
					scales[to] = scale
				}
				for threads := 1; threads <= 2; threads++ {
					d.SetThreads(threads)
					y, q, sc := put(t, d, filled(s.rows*s.k+1, guard)), put(t, d, slices.Repeat([]int8{77}, s.rows*s.k+1)), put(t, d, filled(s.rows+1, guard))
					for first := 0; first < s.rows; first += 5 { // in pieces, the last one short
						m := min(5, s.rows-first)
						from := put(t, d, src[first*bytes:(first+m)*bytes])
						if bad := d.F32FromStored(typ, y, from, int32(first), int32(m), int32(s.k), int32(s.half)); bad != 0 {
							t.Fatal("f32: not finite")
						}
						if bad := d.I8FromStored(typ, q, sc, from, int32(first), int32(m), int32(s.k), int32(s.half)); bad != 0 {
							t.Fatal("i8: not finite")
						}
					}
					equal(t, "floats", get[float32](d, y, len(floats)+1), append(slices.Clone(floats), guard))
					equal(t, "int8", get[int8](d, q, len(ints)+1), append(slices.Clone(ints), 77))
					equal(t, "scales", get[float32](d, sc, len(scales)+1), append(slices.Clone(scales), guard))
				}
			})
		}
	}
}

func TestQ4FromStored(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(8, 4))
	for _, s := range []struct{ rows, k, half int }{{1, 32, 0}, {12, 96, 3}, {128, 576, 32}, {131, 64, 0}} {
		func() {
			defer freeAll(d)()
			src := storedRows(r, code.StoredQ41, s.rows, s.k)
			groups := s.k / 32
			w, scale, low := make([]uint8, 16*s.rows*groups), make([]uint16, s.rows*groups), make([]uint16, s.rows*groups)
			for i := range s.rows * groups {
				to := place(i/groups, s.half)*groups + i%groups
				b := src[20*i:]
				scale[to], low[to] = binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
				copy(w[16*to:], b[4:20])
			}
			dw, dd, dm := put(t, d, make([]uint8, len(w))), put(t, d, make([]uint16, len(scale))), put(t, d, make([]uint16, len(low)))
			if bad := d.Q4FromStored(dw, dd, dm, put(t, d, src), 0, int32(s.rows), int32(s.k), int32(s.half)); bad != 0 {
				t.Fatal("not finite")
			}
			equal(t, "nibbles", get[uint8](d, dw, len(w)), w)
			equal(t, "scales", get[uint16](d, dd, len(scale)), scale)
			equal(t, "minima", get[uint16](d, dm, len(low)), low)
		}()
	}
}

// TestFromStoredNotFinite puts an infinity or a NaN in one row of many.
func TestFromStoredNotFinite(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(8, 5))
	const m, k = 200, 256
	for typ := code.StoredF32; typ <= code.StoredQ6K; typ++ {
		for _, bad := range []uint32{0x7f800000, 0xff800000, 0x7fc00000} {
			func() {
				defer freeAll(d)()
				src := storedRows(r, typ, m, k)
				at := src[57*ref.StoredRowBytes(typ, k):]
				if typ == code.StoredF32 {
					binary.LittleEndian.PutUint32(at[4*63:], bad)
				} else if typ == code.StoredBf16 {
					binary.LittleEndian.PutUint16(at[2*63:], uint16(bad>>16))
				} else {
					binary.LittleEndian.PutUint16(at[halves(typ)[0]:], uint16(bad>>16&0x8000|0x7c00|bad>>13&0x200))
				}
				from := put(t, d, src)
				y, q, sc := alloc(t, d, 4*m*k), alloc(t, d, m*k), alloc(t, d, 4*m)
				if d.F32FromStored(typ, y, from, 0, m, k, 0) != 1 || d.I8FromStored(typ, q, sc, from, 0, m, k, 0) != 1 {
					t.Errorf("type %d: %#x is taken for a number", typ, bad)
				}
				if typ == code.StoredQ41 && d.Q4FromStored(y, q, sc, from, 0, m, k, 0) != 1 {
					t.Errorf("q4: %#x is taken for a number", bad)
				}
			}()
		}
	}
}

// BenchmarkI8FromStored converts the rows of a layer of SmolLM2.
func BenchmarkI8FromStored(b *testing.B) {
	d := open(b, 1)
	r := rand.New(rand.NewPCG(8, 6))
	const m, k = 1536, 768
	for _, typ := range []int32{code.StoredQ41, code.StoredQ80, code.StoredF32, code.StoredQ50, code.StoredQ4K, code.StoredQ6K} {
		b.Run(fmt.Sprint(typ), func(b *testing.B) {
			defer freeAll(d)()
			from, q, sc := put(b, d, storedRows(r, typ, m, k)), alloc(b, d, m*k), alloc(b, d, 4*m)
			b.SetBytes(m * k)
			for b.Loop() {
				d.I8FromStored(typ, q, sc, from, 0, m, k, 0)
			}
		})
	}
}
