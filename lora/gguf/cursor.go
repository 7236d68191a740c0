package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// cursor reads the front part of a file in order, knowing where it is. Every
// length taken from the file is compared with the bytes that remain before
// anything is allocated for it.
type cursor struct {
	r     *bufio.Reader
	file  string
	field string // for messages
	off   int64
	end   int64 // size of the file, or maxHeaderBytes when that is less
	short bool  // end is the limit, not the file's
	buf   [8]byte
}

func newCursor(r io.ReaderAt, size int64, name string) *cursor {
	c := &cursor{file: name, end: size}
	if c.end > maxHeaderBytes {
		c.end, c.short = maxHeaderBytes, true
	}
	c.r = bufio.NewReaderSize(io.NewSectionReader(r, 0, c.end), 64<<10)
	return c
}

func (c *cursor) errAt(at int64, format string, args ...any) error {
	return &Error{File: c.file, Field: c.field, Offset: at, Msg: fmt.Sprintf(format, args...)}
}

// need fails when fewer than n bytes remain.
func (c *cursor) need(n uint64) error {
	if n <= uint64(c.end-c.off) {
		return nil
	}
	if c.short {
		return c.errAt(c.off, "needs %d bytes, beyond the limit of %d on header and metadata", n, int64(maxHeaderBytes))
	}
	return c.errAt(c.off, "needs %d bytes, the file ends after %d more", n, c.end-c.off)
}

// fill reads len(b) bytes.
func (c *cursor) fill(b []byte) error {
	if err := c.need(uint64(len(b))); err != nil {
		return err
	}
	n, err := io.ReadFull(c.r, b)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return &Error{File: c.file, Field: c.field, Offset: c.off + int64(n), Msg: "cannot read", Err: err}
	}
	c.off += int64(n)
	return nil
}

func (c *cursor) u8() (uint8, error) {
	err := c.fill(c.buf[:1])
	return c.buf[0], err
}

func (c *cursor) u16() (uint16, error) {
	err := c.fill(c.buf[:2])
	return binary.LittleEndian.Uint16(c.buf[:]), err
}

func (c *cursor) u32() (uint32, error) {
	err := c.fill(c.buf[:4])
	return binary.LittleEndian.Uint32(c.buf[:]), err
}

func (c *cursor) u64() (uint64, error) {
	err := c.fill(c.buf[:8])
	return binary.LittleEndian.Uint64(c.buf[:]), err
}

// str reads a length-prefixed string of at most limit bytes (0: no limit but
// the file's).
func (c *cursor) str(limit uint64) (string, error) {
	at := c.off
	n, err := c.u64()
	if err != nil {
		return "", err
	}
	if limit > 0 && n > limit {
		return "", c.errAt(at, "string of %d bytes is above the limit of %d", n, limit)
	}
	if err := c.need(n); err != nil {
		return "", err
	}
	b := make([]byte, n)
	if err := c.fill(b); err != nil {
		return "", err
	}
	return string(b), nil
}

// value reads a type tag and a value of that type.
func (c *cursor) value() (Value, error) {
	at := c.off
	k, err := c.u32()
	if err != nil {
		return Value{}, err
	}
	v := Value{Kind: Kind(k), Offset: at}
	if v.Kind == KindArray {
		v.Elem, v.data, err = c.array(1)
		return v, err
	}
	v.data, err = c.scalar(v.Kind, at)
	return v, err
}

func (c *cursor) scalar(k Kind, at int64) (any, error) {
	switch k {
	case KindUint8:
		return c.u8()
	case KindInt8:
		x, err := c.u8()
		return int8(x), err
	case KindUint16:
		return c.u16()
	case KindInt16:
		x, err := c.u16()
		return int16(x), err
	case KindUint32:
		return c.u32()
	case KindInt32:
		x, err := c.u32()
		return int32(x), err
	case KindFloat32:
		x, err := c.u32()
		return math.Float32frombits(x), err
	case KindBool:
		vat := c.off
		x, err := c.u8()
		if err == nil && x > 1 {
			err = c.errAt(vat, "bool is %d", x)
		}
		return x == 1, err
	case KindString:
		return c.str(0)
	case KindUint64:
		return c.u64()
	case KindInt64:
		x, err := c.u64()
		return int64(x), err
	case KindFloat64:
		x, err := c.u64()
		return math.Float64frombits(x), err
	}
	return nil, c.errAt(at, "unknown value type %d", k)
}

// array reads element type, count and elements. The smallest possible size of
// the elements bounds the count before the slice is made.
func (c *cursor) array(depth int) (Kind, any, error) {
	at := c.off
	k, err := c.u32()
	if err != nil {
		return 0, nil, err
	}
	elem := Kind(k)
	countAt := c.off
	n, err := c.u64()
	if err != nil {
		return 0, nil, err
	}
	size := elem.minBytes()
	if size == 0 {
		return 0, nil, c.errAt(at, "unknown array element type %d", k)
	}
	if n > uint64(c.end-c.off)/size {
		return 0, nil, c.errAt(countAt, "array of %d elements does not fit in what remains of the file", n)
	}
	switch elem {
	case KindUint8:
		data, err := fixed(c, n, 1, func(b []byte) uint8 { return b[0] })
		return elem, data, err
	case KindInt8:
		data, err := fixed(c, n, 1, func(b []byte) int8 { return int8(b[0]) })
		return elem, data, err
	case KindUint16:
		data, err := fixed(c, n, 2, binary.LittleEndian.Uint16)
		return elem, data, err
	case KindInt16:
		data, err := fixed(c, n, 2, func(b []byte) int16 { return int16(binary.LittleEndian.Uint16(b)) })
		return elem, data, err
	case KindUint32:
		data, err := fixed(c, n, 4, binary.LittleEndian.Uint32)
		return elem, data, err
	case KindInt32:
		data, err := fixed(c, n, 4, func(b []byte) int32 { return int32(binary.LittleEndian.Uint32(b)) })
		return elem, data, err
	case KindFloat32:
		data, err := fixed(c, n, 4, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) })
		return elem, data, err
	case KindUint64:
		data, err := fixed(c, n, 8, binary.LittleEndian.Uint64)
		return elem, data, err
	case KindInt64:
		data, err := fixed(c, n, 8, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) })
		return elem, data, err
	case KindFloat64:
		data, err := fixed(c, n, 8, func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) })
		return elem, data, err
	case KindBool:
		data, err := fixed(c, n, 1, func(b []byte) bool { return b[0] != 0 })
		return elem, data, err
	case KindString:
		data := make([]string, 0, min(n, 1<<16))
		for i := uint64(0); i < n; i++ {
			s, err := c.str(0)
			if err != nil {
				return elem, nil, err
			}
			data = append(data, s)
		}
		return elem, data, nil
	}
	// Arrays of arrays.
	if depth >= maxArrayDepth {
		return 0, nil, c.errAt(at, "arrays nested more than %d deep", maxArrayDepth)
	}
	data := make([]Value, 0, min(n, 1<<12))
	for i := uint64(0); i < n; i++ {
		v := Value{Kind: KindArray, Offset: c.off}
		if v.Elem, v.data, err = c.array(depth + 1); err != nil {
			return 0, nil, err
		}
		data = append(data, v)
	}
	return elem, data, nil
}

// fixed reads n elements of size bytes each, a few pages at a time.
func fixed[T any](c *cursor, n uint64, size int, get func([]byte) T) ([]T, error) {
	out := make([]T, 0, n)
	var page [4096]byte
	for n > 0 {
		m := min(n, uint64(len(page)/size))
		if err := c.fill(page[:m*uint64(size)]); err != nil {
			return nil, err
		}
		for i := 0; i < int(m); i++ {
			out = append(out, get(page[i*size:]))
		}
		n -= m
	}
	return out, nil
}
