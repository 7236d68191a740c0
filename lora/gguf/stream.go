package gguf

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// DefaultChunk is the buffer size that StreamRaw and StreamF32 use when asked
// for none: large enough to amortise a read, small beside any model.
const DefaultChunk = 1 << 20

// ReadRaw reads the data of rows [first, first+n) as it is in the file.
// len(dst) must be n*RowBytes().
func (t *Tensor) ReadRaw(dst []byte, first, n int64) error {
	if first < 0 || n < 0 || first > t.Rows() || n > t.Rows()-first {
		return t.fail(t.Offset, nil, "rows %d to %d are outside its %d rows", first, first+n, t.Rows())
	}
	rb := t.RowBytes()
	if int64(len(dst)) != n*rb {
		return t.fail(t.Offset, nil, "%d rows take %d bytes, the buffer has %d", n, n*rb, len(dst))
	}
	off := t.Offset + first*rb
	m, err := t.file.r.ReadAt(dst, off)
	if m == len(dst) { // a full read may still say io.EOF
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t.fail(off+int64(m), err, "cannot read")
}

// ReadRows reads rows [first, first+n) as float32. len(dst) must be n*Cols().
func (t *Tensor) ReadRows(dst []float32, first, n int64) error {
	if n < 0 || n > t.Rows() || int64(len(dst)) != n*t.Cols() {
		return t.fail(t.Offset, nil, "%d rows have %d values, the buffer %d", n, n*t.Cols(), len(dst))
	}
	raw := make([]byte, n*t.RowBytes())
	if err := t.ReadRaw(raw, first, n); err != nil {
		return err
	}
	return t.Decode(dst, raw)
}

// StreamRaw calls fn with successive whole rows as they are in the file. At most
// chunk bytes (DefaultChunk when 0) or one row, whichever is more, are in memory;
// raw is reused and valid during the call only. It stops at the first error, its
// own, fn's or ctx's.
func (t *Tensor) StreamRaw(ctx context.Context, chunk int, fn func(first, n int64, raw []byte) error) error {
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

// Start is where the data begins in the file.
func (t *Tensor) Start() int64 { return t.Offset }

// CanDecode is nil, or why the values cannot be read as numbers.
func (t *Tensor) CanDecode() error {
	if !t.Type.CanDequantize() {
		return t.fail(t.Offset, DequantizeRow(nil, nil, t.Type), "cannot dequantise")
	}
	return nil
}

// Decode turns whole rows as ReadRaw gives them into float32.
func (t *Tensor) Decode(dst []float32, raw []byte) error {
	if err := DequantizeRow(dst, raw, t.Type); err != nil {
		return t.fail(t.Offset, err, "cannot dequantise")
	}
	return nil
}

// StreamF32 is StreamRaw with the rows dequantised. chunk bounds the raw bytes;
// values has n*Cols() elements and is valid during the call only.
func (t *Tensor) StreamF32(ctx context.Context, chunk int, fn func(first, n int64, values []float32) error) error {
	if err := t.CanDecode(); err != nil {
		return err
	}
	var values []float32
	cols := t.Cols()
	return t.StreamRaw(ctx, chunk, func(first, n int64, raw []byte) error {
		if int64(len(values)) < n*cols {
			values = make([]float32, n*cols)
		}
		if err := t.Decode(values[:n*cols], raw); err != nil {
			return err
		}
		return fn(first, n, values[:n*cols])
	})
}

func (t *Tensor) fail(off int64, err error, format string, args ...any) error {
	return &Error{File: t.file.Name, Field: fmt.Sprintf("tensor %q", t.Name), Offset: off,
		Msg: fmt.Sprintf(format, args...), Err: err}
}
