// Package gguf reads and writes GGUF, the single-file model format of ggml
// (versions 2 and 3, little-endian), and turns its quantised rows into float32.
//
// A file is: magic, version, tensor count, key/value count; the key/value pairs;
// the tensor descriptions; padding up to general.alignment; tensor data. Read
// parses everything but the data, which stays in the io.ReaderAt and is streamed
// out by rows (StreamRaw, StreamF32), so a model is never in memory twice.
//
// Files come from outside. Invariants after Read returned no error:
//   - every metadata key is unique, within the limits below, and typed;
//   - every tensor has a unique name, a known Type, one to four dimensions whose
//     product is below 2^48, a first GGUF dimension that is a multiple of the
//     type's block, and data that is aligned, inside the file and shared with no
//     other tensor.
//
// Shapes are row-major, outermost dimension first ([out, in] for a weight), the
// reverse of the order in the file.
package gguf

import (
	"fmt"
	"io"
	"os"
	"sort"
)

// Limits on what Read accepts. They are far above any published model and keep
// a hostile file from taking more than a small multiple of its own size.
const (
	maxTensors     = 1 << 16
	maxKeys        = 1 << 16
	maxKeyLen      = 1 << 12
	maxNameLen     = 1 << 10
	maxHeaderBytes = 128 << 20 // key/value pairs and tensor descriptions together
	maxArrayDepth  = 4
	maxDims        = 4
	maxElements    = 1 << 48
	maxAlignment   = 1 << 20

	defaultAlignment = 32
)

// Error reports where a file is wrong. Read, the metadata getters and the
// tensor readers return it (wrapped or as is).
type Error struct {
	File   string // the name given to Read
	Field  string // "header", a metadata key, or "tensor NAME"
	Offset int64  // byte offset in the file
	Msg    string
	Err    error // the cause, or nil
}

// Error names the file, the field and the offset.
func (e *Error) Error() string {
	s := fmt.Sprintf("gguf %s: %s at byte %d: %s", e.File, e.Field, e.Offset, e.Msg)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// File is a parsed GGUF file. It is safe for concurrent use when the ReaderAt is.
type File struct {
	Name      string // as given to Read, for messages
	Version   uint32
	Alignment int64
	DataStart int64 // offset of the tensor data section
	Size      int64
	Metadata  Metadata
	Tensors   []*Tensor // in file order

	r      io.ReaderAt
	byName map[string]*Tensor
}

// Tensor describes one tensor of a file.
type Tensor struct {
	Name   string
	Type   Type
	Shape  []int64 // row-major, outermost first
	Offset int64   // absolute, in the file
	Bytes  int64   // size of the data
	file   *File
}

// Cols is the length of a row: the innermost dimension.
func (t *Tensor) Cols() int64 { return t.Shape[len(t.Shape)-1] }

// Rows is the number of rows: the product of all dimensions but the innermost.
func (t *Tensor) Rows() int64 {
	n := int64(1)
	for _, d := range t.Shape[:len(t.Shape)-1] {
		n *= d
	}
	return n
}

// Elements is the number of values.
func (t *Tensor) Elements() int64 { return t.Rows() * t.Cols() }

// RowBytes is the size of one row in the file.
func (t *Tensor) RowBytes() int64 {
	n, _ := RowBytes(t.Type, t.Cols()) // Read checked it
	return n
}

// Tensor finds a tensor by name; the error names the file when there is none.
func (f *File) Tensor(name string) (*Tensor, error) {
	if t := f.byName[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("gguf %s: no tensor %q", f.Name, name)
}

// Has says whether the file holds a tensor of that name.
func (f *File) Has(name string) bool { return f.byName[name] != nil }

// Open opens and parses a file of the file system. The caller closes the
// returned io.Closer when the tensors are no longer read.
func Open(path string) (*File, io.Closer, error) {
	h, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("gguf: %w", err)
	}
	st, err := h.Stat()
	if err == nil && st.IsDir() {
		err = fmt.Errorf("%s is a folder", path)
	}
	var f *File
	if err != nil {
		err = fmt.Errorf("gguf: %w", err)
	} else {
		f, err = Read(h, st.Size(), path)
	}
	if err != nil {
		h.Close()
		return nil, nil, err
	}
	return f, h, nil
}

// Read parses the header, the metadata and the tensor descriptions of the size
// bytes of r. name is used in messages only. The error is an *Error.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	f := &File{Name: name, Size: size, Alignment: defaultAlignment, r: r, byName: map[string]*Tensor{}}
	c := newCursor(r, size, name)
	if err := f.parse(c); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) parse(c *cursor) error {
	c.field = "header"
	magic, err := c.u32()
	if err != nil {
		return err
	}
	if magic != 0x46554747 { // "GGUF"
		return c.errAt(0, "not a GGUF file (magic %#08x)", magic)
	}
	if f.Version, err = c.u32(); err != nil {
		return err
	}
	switch {
	case f.Version == 2 || f.Version == 3:
	case f.Version&0xffff == 0 && f.Version != 0:
		return c.errAt(4, "big-endian file, which is not supported")
	default:
		return c.errAt(4, "version %d is not supported (2 and 3 are)", f.Version)
	}
	nTensors, err := c.u64()
	if err != nil {
		return err
	}
	if nTensors > maxTensors {
		return c.errAt(8, "tensor count %d is above the limit of %d", nTensors, maxTensors)
	}
	nKeys, err := c.u64()
	if err != nil {
		return err
	}
	if nKeys > maxKeys {
		return c.errAt(16, "metadata count %d is above the limit of %d", nKeys, maxKeys)
	}
	f.Metadata = Metadata{file: f.Name, values: map[string]Value{}}
	for i := uint64(0); i < nKeys; i++ {
		if err := f.parsePair(c, i); err != nil {
			return err
		}
	}
	if err := f.readAlignment(c); err != nil {
		return err
	}
	offsets := make([]int64, 0, 64) // of the offset fields, for messages
	for i := uint64(0); i < nTensors; i++ {
		at, err := f.parseTensor(c, i)
		if err != nil {
			return err
		}
		offsets = append(offsets, at)
	}
	return f.place(c, offsets)
}

func (f *File) parsePair(c *cursor, i uint64) error {
	c.field = fmt.Sprintf("metadata key %d", i)
	at := c.off
	key, err := c.str(maxKeyLen)
	if err != nil {
		return err
	}
	if key == "" {
		return c.errAt(at, "empty key")
	}
	c.field = fmt.Sprintf("metadata %q", key)
	if _, dup := f.Metadata.values[key]; dup {
		return c.errAt(at, "key appears twice")
	}
	v, err := c.value()
	if err != nil {
		return err
	}
	f.Metadata.keys = append(f.Metadata.keys, key)
	f.Metadata.values[key] = v
	return nil
}

func (f *File) readAlignment(c *cursor) error {
	const key = "general.alignment"
	if !f.Metadata.Has(key) {
		return nil
	}
	a, err := f.Metadata.Uint(key)
	if err != nil {
		return err
	}
	if a == 0 || a > maxAlignment || a&(a-1) != 0 {
		c.field = fmt.Sprintf("metadata %q", key)
		return c.errAt(f.Metadata.values[key].Offset, "%d is not a power of two up to %d", a, maxAlignment)
	}
	f.Alignment = int64(a)
	return nil
}

// parseTensor reads one description. Offset is still relative to the data
// section, whose start is known only after the last description; the returned
// value is where the offset field lies.
func (f *File) parseTensor(c *cursor, i uint64) (int64, error) {
	c.field = fmt.Sprintf("tensor %d", i)
	at := c.off
	name, err := c.str(maxNameLen)
	if err != nil {
		return 0, err
	}
	c.field = fmt.Sprintf("tensor %q", name)
	if name == "" {
		return 0, c.errAt(at, "empty name")
	}
	if f.byName[name] != nil {
		return 0, c.errAt(at, "name appears twice")
	}
	at = c.off
	nd, err := c.u32()
	if err != nil {
		return 0, err
	}
	if nd < 1 || nd > maxDims {
		return 0, c.errAt(at, "%d dimensions (1 to %d are valid)", nd, maxDims)
	}
	shape := make([]int64, nd)
	elems := int64(1)
	for d := range shape {
		at = c.off
		n, err := c.u64()
		if err != nil {
			return 0, err
		}
		if n == 0 || n > maxElements || int64(n) > maxElements/elems {
			return 0, c.errAt(at, "dimension %d is %d: empty or too large", d, n)
		}
		elems *= int64(n)
		shape[len(shape)-1-d] = int64(n)
	}
	at = c.off
	ty, err := c.u32()
	if err != nil {
		return 0, err
	}
	t := &Tensor{Name: name, Type: Type(ty), Shape: shape, file: f}
	if !t.Type.Known() {
		return 0, c.errAt(at, "unknown tensor type %d", ty)
	}
	row, err := RowBytes(t.Type, t.Cols())
	if err != nil {
		return 0, c.errAt(at, "%v", err)
	}
	t.Bytes = row * t.Rows()
	at = c.off
	off, err := c.u64()
	if err != nil {
		return 0, err
	}
	if off > uint64(f.Size) {
		return 0, c.errAt(at, "data offset %d is outside the file of %d bytes", off, f.Size)
	}
	if off%uint64(f.Alignment) != 0 {
		return 0, c.errAt(at, "data offset %d is not a multiple of the alignment %d", off, f.Alignment)
	}
	t.Offset = int64(off)
	f.Tensors = append(f.Tensors, t)
	f.byName[name] = t
	return at, nil
}

// place makes the offsets absolute and checks that every tensor's data lies in
// the file and that no two overlap.
func (f *File) place(c *cursor, offsetFields []int64) error {
	f.DataStart = (c.off + f.Alignment - 1) / f.Alignment * f.Alignment
	fieldAt := make(map[*Tensor]int64, len(f.Tensors))
	for i, t := range f.Tensors {
		fieldAt[t] = offsetFields[i]
		c.field = fmt.Sprintf("tensor %q", t.Name)
		t.Offset += f.DataStart
		if t.Offset > f.Size || t.Bytes > f.Size-t.Offset {
			return c.errAt(offsetFields[i], "data (%d bytes from byte %d) runs past the end of the file of %d bytes",
				t.Bytes, t.Offset, f.Size)
		}
	}
	byOffset := append([]*Tensor(nil), f.Tensors...)
	sort.SliceStable(byOffset, func(i, j int) bool { return byOffset[i].Offset < byOffset[j].Offset })
	for i := 1; i < len(byOffset); i++ {
		a, b := byOffset[i-1], byOffset[i]
		if a.Offset+a.Bytes > b.Offset {
			c.field = fmt.Sprintf("tensor %q", b.Name)
			return c.errAt(fieldAt[b], "data overlaps that of tensor %q", a.Name)
		}
	}
	return nil
}
