package safetensors

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"tabtune/lora/internal/half"
)

// DefaultChunk is the buffer size that StreamRaw and StreamF32 use when asked
// for none.
const DefaultChunk = 1 << 20

func (t *Tensor) fail(format string, args ...any) error {
	return t.file.fail(fmt.Sprintf("tensor %q", t.Name), t.Offset, format, args...)
}

// ReadRaw reads rows [first, first+n) as they are in the file (little-endian).
// len(dst) must be n*RowBytes().
func (t *Tensor) ReadRaw(dst []byte, first, n int64) error {
	if first < 0 || n < 0 || first > t.Rows() || n > t.Rows()-first {
		return t.fail("rows %d to %d are outside its %d rows", first, first+n, t.Rows())
	}
	if int64(len(dst)) != n*t.RowBytes() {
		return t.fail("%d rows take %d bytes, the buffer has %d", n, n*t.RowBytes(), len(dst))
	}
	return t.file.readAt(dst, t.Offset+first*t.RowBytes(), fmt.Sprintf("tensor %q", t.Name))
}

// StreamRaw calls fn with successive whole rows as they are in the file. At most
// chunk bytes (DefaultChunk when 0) or one row, whichever is more, are in memory;
// raw is reused and valid during the call only. It stops at the first error, its
// own, fn's or ctx's. An empty tensor makes no call.
func (t *Tensor) StreamRaw(ctx context.Context, chunk int, fn func(first, n int64, raw []byte) error) error {
	if t.Bytes == 0 {
		return nil
	}
	if chunk <= 0 {
		chunk = DefaultChunk
	}
	rb, rows := t.RowBytes(), t.Rows()
	per := min(max(int64(chunk)/rb, 1), rows)
	buf := make([]byte, per*rb)
	for first := int64(0); first < rows; first += per {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(per, rows-first)
		if err := t.ReadRaw(buf[:n*rb], first, n); err != nil {
			return err
		}
		if err := fn(first, n, buf[:n*rb]); err != nil {
			return err
		}
	}
	return nil
}

// Start is where the data begins in its file.
func (t *Tensor) Start() int64 { return t.Offset }

// CanDecode is nil for a floating-point tensor (F64, F32, F16 or BF16).
func (t *Tensor) CanDecode() error {
	if !isFloat(t.DType) {
		return t.fail("is %s, want a floating-point type", t.DType)
	}
	return nil
}

// Decode turns whole rows as ReadRaw gives them into float32.
func (t *Tensor) Decode(dst []float32, raw []byte) error {
	if err := t.CanDecode(); err != nil {
		return err
	}
	if int64(len(raw)) != int64(len(dst))*t.DType.Size() {
		return t.fail("%d values take %d bytes, got %d", len(dst), int64(len(dst))*t.DType.Size(), len(raw))
	}
	decodeF32(dst, raw, t.DType)
	return nil
}

// StreamF32 is StreamRaw with the values of a floating-point tensor (F64, F32,
// F16 or BF16) as float32.
func (t *Tensor) StreamF32(ctx context.Context, chunk int, fn func(first, n int64, values []float32) error) error {
	if !isFloat(t.DType) {
		return t.fail("is %s, want a floating-point type", t.DType)
	}
	var values []float32
	return t.StreamRaw(ctx, chunk, func(first, n int64, raw []byte) error {
		if int64(len(values)) < n*t.Cols() {
			values = make([]float32, n*t.Cols())
		}
		decodeF32(values[:n*t.Cols()], raw, t.DType)
		return fn(first, n, values[:n*t.Cols()])
	})
}

// Raw reads the whole data.
func (t *Tensor) Raw() ([]byte, error) {
	b := make([]byte, t.Bytes)
	return b, t.ReadRaw(b, 0, t.Rows())
}

// Float32s reads a whole floating-point tensor as float32.
func (t *Tensor) Float32s() ([]float32, error) {
	if !isFloat(t.DType) {
		return nil, t.fail("is %s, want a floating-point type", t.DType)
	}
	raw, err := t.Raw()
	if err != nil {
		return nil, err
	}
	out := make([]float32, t.Elements())
	decodeF32(out, raw, t.DType)
	return out, nil
}

// Int64s reads a whole integer or BOOL tensor as int64. A U64 of 2^63 or more is
// an error.
func (t *Tensor) Int64s() ([]int64, error) {
	var get func(b []byte) int64
	le := binary.LittleEndian
	switch t.DType {
	case BOOL, U8:
		get = func(b []byte) int64 { return int64(b[0]) }
	case I8:
		get = func(b []byte) int64 { return int64(int8(b[0])) }
	case I16:
		get = func(b []byte) int64 { return int64(int16(le.Uint16(b))) }
	case U16:
		get = func(b []byte) int64 { return int64(le.Uint16(b)) }
	case I32:
		get = func(b []byte) int64 { return int64(int32(le.Uint32(b))) }
	case U32:
		get = func(b []byte) int64 { return int64(le.Uint32(b)) }
	case I64, U64:
		get = func(b []byte) int64 { return int64(le.Uint64(b)) }
	default:
		return nil, t.fail("is %s, want an integer type", t.DType)
	}
	raw, err := t.Raw()
	if err != nil {
		return nil, err
	}
	out := make([]int64, t.Elements())
	size := int(t.DType.Size())
	for i := range out {
		out[i] = get(raw[i*size:])
		if t.DType == U64 && out[i] < 0 {
			return nil, t.fail("element %d is 2^63 or more", i)
		}
	}
	return out, nil
}

func isFloat(d DType) bool { return d == F32 || d == F16 || d == BF16 || d == F64 }

func decodeF32(dst []float32, raw []byte, d DType) {
	le := binary.LittleEndian
	for i := range dst {
		switch d {
		case F32:
			dst[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		case F16:
			dst[i] = half.F16ToF32(le.Uint16(raw[2*i:]))
		case BF16:
			dst[i] = half.BF16ToF32(le.Uint16(raw[2*i:]))
		case F64:
			dst[i] = float32(math.Float64frombits(le.Uint64(raw[8*i:])))
		}
	}
}
