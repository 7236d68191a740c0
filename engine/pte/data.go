package pte

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

const (
	dataIdentifier   = "FT01"
	dataMagic        = "FH01"
	dataHeaderSize   = 40 // magic, length, flatbuffer offset and size, segment base and size
	dataHeaderPadded = 48 // keeps the 16-byte alignment of what follows
)

// DataFile is one decoded .ptd file: named tensors and blobs outside a program.
type DataFile struct {
	Version     uint32
	Segments    []Segment
	NamedData   []NamedData
	SegmentBase int64
	Source      Source

	name  string
	byKey map[string]int
}

// DecodeData reads and validates a .ptd file. name is used in errors. Tensor
// data stays in src. Errors about the content are *FormatError.
func DecodeData(src Source, name string) (*DataFile, error) {
	head, err := readHead(src, name, dataIdentifier, "an ExecuTorch data file")
	if err != nil {
		return nil, err
	}
	h, err := parseDataHeader(head, src.Size(), name)
	if err != nil {
		return nil, err
	}
	buf, err := readFlatbuffer(src, name, h.programSize)
	if err != nil {
		return nil, err
	}
	d := &decoder{reader: newReader(name, buf)}
	f := d.data()
	if d.err != nil {
		return nil, d.err
	}
	f.name, f.Source, f.SegmentBase = name, src, h.segmentBase
	p := &Program{Segments: f.Segments, NamedData: f.NamedData}
	if err := validate(p, name, d.positions, h, src.Size()); err != nil {
		return nil, err
	}
	c := &checker{p: p, file: name}
	for i, n := range f.NamedData {
		c.enter("", "named_data", i, d.positions.named)
		c.layout(n)
		f.byKey[n.Key] = i
	}
	if c.err != nil {
		return nil, c.err
	}
	return f, nil
}

func parseDataHeader(head []byte, size int64, name string) (header, error) {
	fail := func(field string, off int64, format string, args ...any) (header, error) {
		return header{}, &FormatError{name, "", "header." + field, off, fmt.Sprintf(format, args...)}
	}
	if len(head) < 8+dataHeaderSize || string(head[8:12]) != dataMagic {
		return fail("magic", 8, "%q is missing", dataMagic)
	}
	length := binary.LittleEndian.Uint32(head[12:])
	offset, flat := binary.LittleEndian.Uint64(head[16:]), binary.LittleEndian.Uint64(head[24:])
	base, data := binary.LittleEndian.Uint64(head[32:]), binary.LittleEndian.Uint64(head[40:])
	limit := uint64(size)
	switch {
	case length < dataHeaderSize:
		return fail("length", 12, "%d bytes, at least %d are needed", length, dataHeaderSize)
	case offset < uint64(length) || offset > limit:
		return fail("flatbuffer_offset", 16, "%d in a file of %d bytes with a header of %d", offset, size, length)
	case flat > limit-offset || flat < 8:
		return fail("flatbuffer_size", 24, "%d bytes from %d do not fit in the file's %d", flat, offset, size)
	case base != 0 && (base < offset+flat || base > limit):
		return fail("segment_base_offset", 32, "%d, between the flatbuffer's end %d and the file's end %d is valid", base, offset+flat, size)
	case data != 0 && (base == 0 || data > limit-base):
		return fail("segment_data_size", 40, "%d bytes from %d do not fit in the file's %d", data, base, size)
	}
	return header{true, int64(offset + flat), int64(base), int64(data)}, nil
}

func (d *decoder) data() *DataFile {
	d.positions = &positions{}
	root, ok := d.follow("FlatTensor", 0)
	if !ok {
		return nil
	}
	t := d.table("FlatTensor", root)
	f := &DataFile{Version: t.u32(0, "version"), byKey: map[string]int{}}
	if f.Version > maxSchemaVersion {
		t.fail("version", t.pos, "version %d is newer than %d, the newest that is known", f.Version, maxSchemaVersion)
	}
	f.Segments = d.segments(t, 1)
	t.each(2, "named_data", "NamedData", func(i int, e table) {
		d.at = place{"", "named_data", i}
		d.positions.named = append(d.positions.named, e.pos)
		n := NamedData{Key: e.str(0, "key"), Segment: int(e.u32(1, "segment_index"))}
		if l, ok := e.child(2, "tensor_layout", "TensorLayout"); ok {
			n.Layout = &TensorLayout{
				ScalarType: ScalarType(l.i8(0, "scalar_type")),
				Sizes:      l.int32s(1, "sizes"),
				DimOrder:   bytes.Clone(l.bytes(2, "dim_order")),
			}
		}
		f.NamedData = append(f.NamedData, n)
	})
	return f
}

// layout checks the tensor that a named blob holds against the blob's size.
func (c *checker) layout(n NamedData) {
	if n.Layout == nil {
		return
	}
	size, err := NumBytes(n.Layout.ScalarType, n.Layout.Sizes)
	if err != nil {
		c.fail("TensorLayout.sizes", "%q: %v", n.Key, err)
		return
	}
	if err := checkDimOrder(n.Layout.DimOrder, len(n.Layout.Sizes)); err != nil {
		c.fail("TensorLayout.dim_order", "%q: %v", n.Key, err)
		return
	}
	if have := c.p.Segments[n.Segment].Size; size > have {
		c.fail("TensorLayout.sizes", "%q: %d bytes do not fit in segment %d of %d bytes", n.Key, size, n.Segment, have)
	}
}

// Lookup returns the entry with the given key and its bytes: of the tensor if
// it has a layout, else of the whole blob.
func (f *DataFile) Lookup(key string) (NamedData, Section, bool) {
	i, ok := f.byKey[key]
	if !ok {
		return NamedData{}, Section{}, false
	}
	n := f.NamedData[i]
	seg := f.Segments[n.Segment]
	s := Section{f.Source, f.SegmentBase + seg.Offset, seg.Size}
	if n.Layout != nil {
		s.Size, _ = NumBytes(n.Layout.ScalarType, n.Layout.Sizes) // checked by DecodeData
	}
	return n, s, true
}

// Tensor returns the bytes of an external tensor (Tensor.External), which is
// looked up by its name. Element type, sizes and dim order must be equal.
func (f *DataFile) Tensor(t *Tensor) (Section, error) {
	n, s, ok := f.Lookup(t.Name)
	if !ok {
		return Section{}, fmt.Errorf("%s: no tensor %q", f.name, t.Name)
	}
	l := n.Layout
	if l == nil {
		return Section{}, fmt.Errorf("%s: %q is a blob without a tensor layout", f.name, t.Name)
	}
	if l.ScalarType != t.ScalarType || !slices.Equal(l.Sizes, t.Sizes) || !slices.Equal(l.DimOrder, t.DimOrder) {
		return Section{}, fmt.Errorf("%s: tensor %q is %s %v (dim order %v), the program needs %s %v (dim order %v)",
			f.name, t.Name, l.ScalarType, l.Sizes, l.DimOrder, t.ScalarType, t.Sizes, t.DimOrder)
	}
	return s, nil
}

// DataEntry is one tensor or blob to be written to a .ptd file.
type DataEntry struct {
	Key    string
	Layout *TensorLayout // nil for a blob
	Data   SegmentWriter
}

// EncodeData writes a .ptd file, one segment an entry, in the given order. An
// error before the first byte means that the entries are not valid. The same
// input gives the same bytes.
func EncodeData(w io.Writer, entries []DataEntry) error {
	writers := make([]SegmentWriter, len(entries))
	p := &Program{NamedData: make([]NamedData, len(entries))}
	bound := int64(0)
	for i, e := range entries {
		writers[i] = e.Data
		p.NamedData[i] = NamedData{Key: e.Key, Segment: i, Layout: e.Layout}
		bound += 512 + int64(len(e.Key))
	}
	var err error
	var align, total int64
	if p.Segments, align, total, err = layout(writers); err != nil {
		return fmt.Errorf("encoding data: %w", err)
	}
	c := &checker{p: p, file: "data", pos: -1}
	c.data(nil)
	for i, n := range p.NamedData {
		c.enter("", "named_data", i, nil)
		c.layout(n)
	}
	if c.err != nil {
		return fmt.Errorf("encoding data: %w", c.err)
	}
	if bound > MaxFlatbuffer {
		return fmt.Errorf("encoding data: the keys may take %d bytes, at most %d are allowed", bound, int64(MaxFlatbuffer))
	}
	buf := buildData(p)
	base := alignUp(int64(len(buf))+dataHeaderPadded, align)
	var head [dataHeaderPadded]byte
	copy(head[:], dataMagic)
	binary.LittleEndian.PutUint32(head[4:], dataHeaderSize)
	binary.LittleEndian.PutUint64(head[8:], dataHeaderPadded)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(buf)))
	binary.LittleEndian.PutUint64(head[24:], uint64(base))
	binary.LittleEndian.PutUint64(head[32:], uint64(total))
	return writeFile(w, buf, head[:], base, p.Segments, writers)
}

func buildData(p *Program) []byte {
	b := newBuilder()
	segments, named := b.segments(p.Segments), b.named(p.NamedData)
	b.StartObject(3)
	b.PrependUint32Slot(0, 0, 0)
	b.PrependUOffsetTSlot(1, segments, 0)
	b.PrependUOffsetTSlot(2, named, 0)
	return b.finish(b.EndObject(), dataIdentifier)
}

// Entries returns entries that copy f, one segment each: a segment that several
// keys share is written once a key.
func (f *DataFile) Entries() []DataEntry {
	out := make([]DataEntry, len(f.NamedData))
	for i, n := range f.NamedData {
		_, s, _ := f.Lookup(n.Key)
		out[i] = DataEntry{Key: n.Key, Layout: n.Layout, Data: SectionSegment(s)}
	}
	return out
}
