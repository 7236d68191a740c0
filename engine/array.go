package engine

import (
	"encoding/binary"
	"math"
)

// array is a tensor in Go memory, for references and tests. Floating element types are held as float64 (every operation
// rounds to the element type when it stores), complex ones as complex128, the others as int64.
type array struct {
	dtype DType
	sizes []int
	f     []float64
	i     []int64
	c     []complex128
}

func newArray(d DType, sizes []int) *array {
	a := &array{dtype: d, sizes: sizes}
	n := numel(sizes)
	switch {
	case isFloat(d):
		a.f = make([]float64, n)
	case isComplex(d):
		a.c = make([]complex128, n)
	default:
		a.i = make([]int64, n)
	}
	return a
}

func numel(sizes []int) int {
	n := 1
	for _, s := range sizes {
		n *= s
	}
	return n
}

func (a *array) len() int { return len(a.f) + len(a.i) + len(a.c) }

// complexAt returns element k as a complex128.
func (a *array) complexAt(k int) complex128 {
	if a.c != nil {
		return a.c[k]
	}
	return complex(a.at(k), 0)
}

// setComplex stores a complex128, rounded to the element type.
func (a *array) setComplex(k int, v complex128) {
	d := realOf(a.dtype)
	a.c[k] = complex(roundFloat(d, real(v)), roundFloat(d, imag(v)))
}

// at returns element k as a float64.
func (a *array) at(k int) float64 {
	if a.f != nil {
		return a.f[k]
	}
	if a.c != nil {
		return real(a.c[k])
	}
	if a.dtype == U64 {
		return float64(uint64(a.i[k]))
	}
	return float64(a.i[k])
}

// intAt returns element k as an int64; floats are truncated as C converts them.
func (a *array) intAt(k int) int64 {
	if a.i == nil {
		return truncInt(a.at(k))
	}
	return a.i[k]
}

// set stores a float64, converted to the element type.
func (a *array) set(k int, v float64) {
	switch {
	case a.f != nil:
		a.f[k] = roundFloat(a.dtype, v)
	case a.c != nil:
		a.setComplex(k, complex(v, 0))
	case a.dtype == Bool:
		a.i[k] = b2i(v != 0)
	default:
		a.i[k] = wrapInt(a.dtype, truncInt(v))
	}
}

// setInt stores an int64, converted to the element type.
func (a *array) setInt(k int, v int64) {
	switch {
	case a.f != nil:
		a.f[k] = roundFloat(a.dtype, float64(v))
	case a.c != nil:
		a.setComplex(k, complex(float64(v), 0))
	case a.dtype == Bool:
		a.i[k] = b2i(v != 0)
	default:
		a.i[k] = wrapInt(a.dtype, v)
	}
}

// convert returns the array with another element type.
func (a *array) convert(d DType) *array {
	if a.dtype == d {
		return a
	}
	out := newArray(d, a.sizes)
	for k := range a.len() {
		if out.c != nil {
			out.setComplex(k, a.complexAt(k))
		} else if a.f != nil || a.c != nil || a.dtype == U64 && isFloat(d) {
			out.set(k, a.at(k))
		} else {
			out.setInt(k, a.i[k])
		}
	}
	return out
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// truncInt converts to an integer towards zero, clamped to int64; NaN gives 0. (C leaves these cases undefined.)
func truncInt(v float64) int64 {
	switch {
	case v != v:
		return 0
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}

// wrapInt reduces v to the range of an integer type.
func wrapInt(d DType, v int64) int64 {
	switch d {
	case U8:
		return int64(uint8(v))
	case I8:
		return int64(int8(v))
	case I16:
		return int64(int16(v))
	case U16:
		return int64(uint16(v))
	case I32:
		return int64(int32(v))
	case U32:
		return int64(uint32(v))
	case Bool:
		return b2i(v != 0)
	}
	return v
}

// roundFloat rounds v to a floating element type.
func roundFloat(d DType, v float64) float64 {
	switch d {
	case F32:
		return float64(float32(v))
	case F16:
		return float64(halfToFloat(floatToHalf(v)))
	case BF16:
		return float64(bf16ToFloat(floatToBF16(float32(v))))
	}
	return v
}

// decodeArray reads little-endian elements.
func decodeArray(d DType, sizes []int, b []byte) *array {
	if sizes == nil && dtypeSize(d) > 0 {
		sizes = []int{len(b) / dtypeSize(d)}
	}
	a := newArray(d, sizes)
	le := binary.LittleEndian
	for k := range a.len() {
		switch d {
		case U8:
			a.i[k] = int64(b[k])
		case Bool:
			a.i[k] = b2i(b[k] != 0)
		case I8:
			a.i[k] = int64(int8(b[k]))
		case I16:
			a.i[k] = int64(int16(le.Uint16(b[2*k:])))
		case U16:
			a.i[k] = int64(le.Uint16(b[2*k:]))
		case I32:
			a.i[k] = int64(int32(le.Uint32(b[4*k:])))
		case U32:
			a.i[k] = int64(le.Uint32(b[4*k:]))
		case I64, U64:
			a.i[k] = int64(le.Uint64(b[8*k:]))
		case F16:
			a.f[k] = float64(halfToFloat(le.Uint16(b[2*k:])))
		case BF16:
			a.f[k] = float64(bf16ToFloat(le.Uint16(b[2*k:])))
		case F32:
			a.f[k] = float64(math.Float32frombits(le.Uint32(b[4*k:])))
		case F64:
			a.f[k] = math.Float64frombits(le.Uint64(b[8*k:]))
		}
	}
	if a.c != nil {
		parts := decodeArray(realOf(d), []int{2 * len(a.c)}, b)
		for k := range a.c {
			a.c[k] = complex(parts.f[2*k], parts.f[2*k+1])
		}
	}
	return a
}

// encode writes little-endian elements.
func (a *array) encode() []byte {
	if a.c != nil {
		parts := newArray(realOf(a.dtype), []int{2 * len(a.c)})
		for k, v := range a.c {
			parts.f[2*k], parts.f[2*k+1] = real(v), imag(v)
		}
		return parts.encode()
	}
	n := a.len()
	b := make([]byte, n*dtypeSize(a.dtype))
	le := binary.LittleEndian
	for k := range n {
		switch a.dtype {
		case U8, I8, Bool:
			b[k] = byte(a.i[k])
		case I16, U16:
			le.PutUint16(b[2*k:], uint16(a.i[k]))
		case I32, U32:
			le.PutUint32(b[4*k:], uint32(a.i[k]))
		case I64, U64:
			le.PutUint64(b[8*k:], uint64(a.i[k]))
		case F16:
			le.PutUint16(b[2*k:], floatToHalf(a.f[k]))
		case BF16:
			le.PutUint16(b[2*k:], floatToBF16(float32(a.f[k])))
		case F32:
			le.PutUint32(b[4*k:], math.Float32bits(float32(a.f[k])))
		case F64:
			le.PutUint64(b[8*k:], math.Float64bits(a.f[k]))
		}
	}
	return b
}

func halfToFloat(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp, man := uint32(h>>10)&31, uint32(h)&1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	case exp == 0:
		f := float32(man) * (1.0 / (1 << 24))
		if sign != 0 {
			f = -f
		}
		return f
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

// floatToHalf rounds to the nearest half, ties to even.
func floatToHalf(v float64) uint16 {
	var sign uint16
	if math.Signbit(v) {
		sign, v = 0x8000, -v
	}
	switch {
	case v != v:
		return sign | 0x7e00
	case v >= 65520:
		return sign | 0x7c00
	case v < 1.0/(1<<14): // subnormal
		return sign | uint16(math.RoundToEven(v*(1<<24)))
	}
	frac, exp := math.Frexp(v) // v = frac * 2^exp, frac in [0.5, 1)
	m := uint32(math.RoundToEven(frac * 2048))
	e := uint32(exp + 14)
	return sign | uint16(e<<10+m-1024)
}

func bf16ToFloat(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

func floatToBF16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
