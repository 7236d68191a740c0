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
)

// rawElement is the low bits of element i.
func rawElement(b []byte, size, i int) uint64 {
	var w [8]byte
	copy(w[:], b[i*size:(i+1)*size])
	return binary.LittleEndian.Uint64(w[:])
}

// convertInputs has edge cases of a type and random bits.
func convertInputs(r *rand.Rand, dtype int32, n int) []byte {
	size := ref.ElementSize(dtype)
	edges := []float64{0, math.Copysign(0, -1), 1, -1, 0.5, -0.5, 1.5, 2.5, 127, 128, 255, 256, 65504, 65519.99, 65520, 1e-8, 5.9604645e-08, 2.9802322e-08, 2.98023e-08,
		6.1e-05, 6.103515625e-05, 3e9, -3e9, 1e18, 1e19, -1e19, 9.223372036854775e18, math.Inf(1), math.Inf(-1), math.NaN(), 1 + 1.0/2048, 1 + 3.0/2048, 1 + 1.0/256, 1 + 3.0/256}
	var b []byte
	for i := range n {
		var w uint64
		switch {
		case i < len(edges) || r.IntN(4) == 0:
			v := edges[i%len(edges)]
			if i >= len(edges) {
				v = r.NormFloat64() * 300
			}
			w = ref.Convert(dtype, code.DtypeF64, math.Float64bits(v))
		default:
			w = r.Uint64()
		}
		b = append(b, binary.LittleEndian.AppendUint64(nil, w)[:size]...)
	}
	return b
}

func isNaN(dtype int32, w uint64) bool {
	switch dtype {
	case code.DtypeF32, code.DtypeF16, code.DtypeBf16, code.DtypeF64:
		f := math.Float64frombits(ref.Convert(code.DtypeF64, dtype, w))
		return f != f
	}
	return false
}

func TestConvert(t *testing.T) {
	d := open(t, 2)
	r := rand.New(rand.NewPCG(9, 1))
	for from := code.DtypeF32; from <= code.DtypeBool; from++ {
		for to := code.DtypeF32; to <= code.DtypeBool; to++ {
			for _, n := range []int{1, 3, 5, 17, 255, 257, 4096, 4099, 9001} {
				func() {
					defer freeAll(d)()
					ss, ds := ref.ElementSize(from), ref.ElementSize(to)
					src := convertInputs(r, from, n)
					out := put(t, d, slices.Repeat([]uint8{0xA5}, n*ds+8))
					d.SetThreads(1 + n%2)
					d.Convert(to, out, from, put(t, d, src), int32(n))
					got := get[uint8](d, out, n*ds+8)
					for i := range n {
						w := rawElement(src, ss, i)
						g, want := rawElement(got, ds, i), ref.Convert(to, from, w)
						if g != want && !(isNaN(to, g) && isNaN(to, want)) {
							t.Fatalf("type %d to %d, element %d of %d: %#x gives %#x, want %#x", from, to, i, n, w, g, want)
						}
					}
					match(t, "past the end", got[n*ds:], slices.Repeat([]uint8{0xA5}, 8))
				}()
			}
		}
	}
}

// TestHalfRoundTrip: every float16 survives the way to float32 and back; every bfloat16 too.
func TestHalfRoundTrip(t *testing.T) {
	d := open(t, 1)
	all := make([]uint16, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	src, wide, back := put(t, d, all), alloc(t, d, 4<<16), alloc(t, d, 2<<16)
	for _, dtype := range []int32{code.DtypeF16, code.DtypeBf16} {
		d.Convert(code.DtypeF32, wide, dtype, src, 1<<16)
		d.Convert(dtype, back, code.DtypeF32, wide, 1<<16)
		for i, h := range get[uint16](d, back, 1<<16) {
			if h != uint16(i) && !isNaN(dtype, uint64(i)) {
				t.Fatalf("type %d: %#04x comes back as %#04x", dtype, i, h)
			}
		}
	}
}

func TestFill(t *testing.T) {
	d := open(t, 2)
	const value = 0x1122334455667788
	for _, size := range []int{1, 2, 4, 8} {
		for _, n := range []int{0, 1, 2, 3, 7, 16, 17, 8191, 65536, 65537, 100003} {
			func() {
				defer freeAll(d)()
				out := put(t, d, slices.Repeat([]uint8{9}, n*size+8))
				d.Fill(int32(size), out, value, int32(n))
				want := slices.Repeat(binary.LittleEndian.AppendUint64(nil, value)[:size], n)
				match(t, fmt.Sprintf("fill of %d x %d", n, size), get[uint8](d, out, n*size+8), append(want, slices.Repeat([]uint8{9}, 8)...))
			}()
		}
	}
}

func TestArange(t *testing.T) {
	d := open(t, 1)
	const n = 1003
	out := alloc(t, d, 8*n)
	d.F32Arange(out, int64(math.Float64bits(-2.5)), int64(math.Float64bits(0.1)), n)
	for i, v := range get[float32](d, out, n) {
		if want := float32(-2.5 + float64(float64(i)*0.1)); v != want {
			t.Fatalf("element %d is %g, want %g", i, v, want)
		}
	}
	d.I64Arange(out, -7, 1<<40, n)
	for i, v := range get[int64](d, out, n) {
		if want := -7 + int64(i)<<40; v != want {
			t.Fatalf("element %d is %d, want %d", i, v, want)
		}
	}
}
