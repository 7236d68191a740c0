// Package safetensors reads and writes the safetensors format.
//
// A file is: the length of the header (u64, little-endian), the header (a JSON
// object mapping tensor names to dtype, shape and data_offsets, with an optional
// "__metadata__" object of strings), and the data. Read parses the header only;
// data stays in the io.ReaderAt and is streamed out by rows.
//
// As the reference implementation does, Read insists that the tensors cover the
// data section exactly: no gap, no overlap, nothing after the last one. So a
// file cannot smuggle bytes, and after Read every tensor is known to be inside
// the file, with a size that matches its dtype and shape.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"unicode/utf8"
)

// Limits on what Read accepts.
const (
	maxHeader   = 32 << 20
	maxTensors  = 1 << 17
	maxDims     = 8
	maxElements = 1 << 48
)

const metadataKey = "__metadata__"

// Error reports where a file is wrong.
type Error struct {
	File   string // the name given to Read
	Field  string // "header" or `tensor "NAME"`
	Offset int64  // byte offset in the file
	Msg    string
	Err    error // the cause, or nil
}

// Error names the file, the field and the offset.
func (e *Error) Error() string {
	s := fmt.Sprintf("safetensors %s: %s at byte %d: %s", e.File, e.Field, e.Offset, e.Msg)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// DType is an element type, spelled as in the file.
type DType string

// The element types of the format that occupy whole bytes.
const (
	BOOL   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E5M2 DType = "F8_E5M2"
	F8E4M3 DType = "F8_E4M3"
	F8E8M0 DType = "F8_E8M0"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	I64    DType = "I64"
	U64    DType = "U64"
	F64    DType = "F64"
	C64    DType = "C64"
)

// Size is the number of bytes of an element, 0 for an unknown type.
func (d DType) Size() int64 {
	switch d {
	case BOOL, U8, I8, F8E5M2, F8E4M3, F8E8M0:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case I64, U64, F64, C64:
		return 8
	}
	return 0
}

// File is a parsed file. It is safe for concurrent use when the ReaderAt is.
type File struct {
	Name     string // as given to Read, for messages
	Size     int64
	Metadata map[string]string // never nil
	Tensors  []*Tensor         // in order of their data

	r      io.ReaderAt
	byName map[string]*Tensor
}

// Tensor describes one tensor of a file.
type Tensor struct {
	Name   string
	DType  DType
	Shape  []int64 // row-major; empty for a scalar
	Offset int64   // absolute, in the file
	Bytes  int64
	file   *File
}

// Cols is the length of a row: the innermost dimension, 1 for a scalar.
func (t *Tensor) Cols() int64 {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows is the product of all dimensions but the innermost, 1 for a scalar.
func (t *Tensor) Rows() int64 {
	n := int64(1)
	for i := 0; i < len(t.Shape)-1; i++ {
		n *= t.Shape[i]
	}
	return n
}

// Elements is the number of values.
func (t *Tensor) Elements() int64 { return t.Rows() * t.Cols() }

// RowBytes is the size of a row.
func (t *Tensor) RowBytes() int64 { return t.Cols() * t.DType.Size() }

// Tensor finds a tensor by name; the error names the file when there is none.
func (f *File) Tensor(name string) (*Tensor, error) {
	if t := f.byName[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("safetensors %s: no tensor %q", f.Name, name)
}

// Has says whether the file holds a tensor of that name.
func (f *File) Has(name string) bool { return f.byName[name] != nil }

// Open opens and parses a file of the file system. The caller closes the
// returned io.Closer when the tensors are no longer read.
func Open(path string) (*File, io.Closer, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	st, err := h.Stat()
	if err == nil && st.IsDir() {
		err = fmt.Errorf("%s is a folder", path)
	}
	var f *File
	if err != nil {
		err = fmt.Errorf("safetensors: %w", err)
	} else {
		f, err = Read(h, st.Size(), path)
	}
	if err != nil {
		h.Close()
		return nil, nil, err
	}
	return f, h, nil
}

// Read parses and validates the header of the size bytes of r. name is used in
// messages only. The error is an *Error.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	f := &File{Name: name, Size: size, Metadata: map[string]string{}, r: r, byName: map[string]*Tensor{}}
	if size < 8 {
		return nil, f.fail("header", 0, "file of %d bytes is too short", size)
	}
	var b [8]byte
	if err := f.readAt(b[:], 0, "header"); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(b[:])
	if n > maxHeader {
		return nil, f.fail("header", 0, "length %d is above the limit of %d (is this a safetensors file?)", n, maxHeader)
	}
	if n > uint64(size-8) {
		return nil, f.fail("header", 0, "length %d does not fit in the file of %d bytes", n, size)
	}
	head := make([]byte, n)
	if err := f.readAt(head, 8, "header"); err != nil {
		return nil, err
	}
	if err := f.parse(head); err != nil {
		return nil, err
	}
	if err := f.cover(8 + int64(n)); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) fail(field string, off int64, format string, args ...any) error {
	return &Error{File: f.Name, Field: field, Offset: off, Msg: fmt.Sprintf(format, args...)}
}

// readAt reads all of b or fails.
func (f *File) readAt(b []byte, off int64, field string) error {
	n, err := f.r.ReadAt(b, off)
	if n == len(b) { // a full read may still say io.EOF
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &Error{File: f.Name, Field: field, Offset: off + int64(n), Msg: "cannot read", Err: err}
}

// entry is the JSON description of a tensor. Pointers tell absent from zero.
type entry struct {
	DType   *DType  `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// parse walks the header's keys one by one, so that a key used twice is seen.
func (f *File) parse(head []byte) error {
	if len(head) == 0 || head[0] != '{' {
		return f.fail("header", 8, "does not start with '{'")
	}
	if !utf8.Valid(head) {
		return f.fail("header", 8, "is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(head))
	bad := func(field string, err error) error {
		return &Error{File: f.Name, Field: field, Offset: 8 + dec.InputOffset(), Msg: "invalid JSON", Err: err}
	}
	if _, err := dec.Token(); err != nil {
		return bad("header", err)
	}
	seenMeta := false
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return bad("header", err)
		}
		name := tok.(string) // the decoder allows nothing else here
		at := 8 + dec.InputOffset()
		if name == metadataKey {
			if seenMeta {
				return f.fail(metadataKey, at, "appears twice")
			}
			seenMeta = true
			if err := dec.Decode(&f.Metadata); err != nil {
				return bad(metadataKey, err)
			}
			if f.Metadata == nil {
				f.Metadata = map[string]string{}
			}
			continue
		}
		field := fmt.Sprintf("tensor %q", name)
		if f.byName[name] != nil {
			return f.fail(field, at, "appears twice")
		}
		if len(f.Tensors) == maxTensors {
			return f.fail(field, at, "more than %d tensors", maxTensors)
		}
		var e entry
		if err := dec.Decode(&e); err != nil {
			return bad(field, err)
		}
		t, msg := e.tensor(name)
		if msg != "" {
			return f.fail(field, at, "%s", msg)
		}
		t.file = f
		f.Tensors = append(f.Tensors, t)
		f.byName[name] = t
	}
	if _, err := dec.Token(); err != nil {
		return bad("header", err)
	}
	if rest := bytes.Trim(head[dec.InputOffset():], " \n\r\t\x00"); len(rest) > 0 {
		return f.fail("header", 8+dec.InputOffset(), "has text after the closing brace")
	}
	return nil
}

// tensor checks a description by itself. Offset is still relative to the data.
func (e *entry) tensor(name string) (*Tensor, string) {
	if e.DType == nil || e.Shape == nil || len(e.Offsets) != 2 {
		return nil, "needs dtype, shape and two data_offsets"
	}
	size := e.DType.Size()
	if size == 0 {
		return nil, fmt.Sprintf("unknown dtype %q", string(*e.DType))
	}
	if len(e.Shape) > maxDims {
		return nil, fmt.Sprintf("%d dimensions, the limit is %d", len(e.Shape), maxDims)
	}
	// The product of the non-zero dimensions is bounded, so that no partial
	// product of an empty tensor overflows either.
	elems, bound := int64(1), int64(1)
	for _, d := range e.Shape {
		if d < 0 || d > maxElements || bound > maxElements/max(d, 1) {
			return nil, fmt.Sprintf("shape %v is negative or too large", e.Shape)
		}
		bound *= max(d, 1)
		elems *= d
	}
	from, to := e.Offsets[0], e.Offsets[1]
	if from < 0 || to < from || to-from != elems*size {
		return nil, fmt.Sprintf("data_offsets %v do not span the %d bytes of %s%v", e.Offsets, elems*size, *e.DType, e.Shape)
	}
	return &Tensor{Name: name, DType: *e.DType, Shape: e.Shape, Offset: from, Bytes: to - from}, ""
}

// cover checks that the tensors, in order, fill the data section exactly, and
// makes their offsets absolute.
func (f *File) cover(start int64) error {
	sort.SliceStable(f.Tensors, func(i, j int) bool {
		a, b := f.Tensors[i], f.Tensors[j]
		return a.Offset < b.Offset || a.Offset == b.Offset && a.Bytes < b.Bytes
	})
	next := int64(0)
	for _, t := range f.Tensors {
		if t.Offset != next {
			return f.fail(fmt.Sprintf("tensor %q", t.Name), start+next, "data starts at %d of the data section, want %d (gap or overlap)", t.Offset, next)
		}
		if t.Bytes > f.Size-start-next {
			return f.fail(fmt.Sprintf("tensor %q", t.Name), start+next, "data (%d bytes) runs past the end of the file of %d bytes", t.Bytes, f.Size)
		}
		next += t.Bytes
		t.Offset += start
	}
	if start+next != f.Size {
		return f.fail("header", start+next, "%d bytes after the last tensor", f.Size-start-next)
	}
	return nil
}
