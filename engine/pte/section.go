package pte

import (
	"bytes"
	"fmt"
	"io"
)

// Section is a range of bytes of a Source, e.g. the data of one tensor.
type Section struct {
	Source    Source
	Off, Size int64
}

// ReadAt reads from the section; off 0 is its first byte. It returns io.EOF at its end.
func (s Section) ReadAt(p []byte, off int64) (int, error) {
	return s.Reader().ReadAt(p, off)
}

// Reader returns a reader over the section.
func (s Section) Reader() *io.SectionReader {
	return io.NewSectionReader(s.Source, s.Off, s.Size)
}

// Bytes reads the whole section into memory.
func (s Section) Bytes() ([]byte, error) {
	b := make([]byte, s.Size)
	if s.Size == 0 {
		return b, nil
	}
	if err := readFull(s.Source, b, s.Off); err != nil {
		return nil, err
	}
	return b, nil
}

// inline makes a section of bytes in memory.
func inline(b []byte) Section {
	return Section{Source: bytes.NewReader(b), Size: int64(len(b))}
}

// locate finds where the n bytes of a constant or an initial value are. It
// stores them in s, if s is not nil, or returns a field and what is wrong.
func (p *Program) locate(t *Tensor, n int64, s *Section) (field, msg string) {
	const bufferField = "Tensor.data_buffer_idx"
	i := int64(t.Buffer)
	var sub Subsegments
	switch {
	case t.HasInit():
		if t.MutableSegment < 0 || t.MutableSegment >= len(p.MutableSegments) {
			return "ExtraTensorInfo.mutable_data_segments_idx", fmt.Sprintf("index %d, there are %d", t.MutableSegment, len(p.MutableSegments))
		}
		sub = p.MutableSegments[t.MutableSegment]
	case len(p.InlineConstants) > 0:
		if i >= int64(len(p.InlineConstants)) {
			return bufferField, fmt.Sprintf("index %d, there are %d buffers", i, len(p.InlineConstants))
		}
		b := p.InlineConstants[i]
		if n > int64(len(b)) {
			return bufferField, fmt.Sprintf("buffer %d has %d bytes, the tensor needs %d", i, len(b), n)
		}
		if s != nil {
			*s = inline(b[:n])
		}
		return "", ""
	case p.ConstantSegment != nil:
		sub = *p.ConstantSegment
	}
	if i >= int64(len(sub.Offsets)) {
		return bufferField, fmt.Sprintf("index %d, there are %d buffers", i, len(sub.Offsets))
	}
	if sub.Segment < 0 || sub.Segment >= len(p.Segments) {
		return "SubsegmentOffsets.segment_index", fmt.Sprintf("index %d, there are %d segments", sub.Segment, len(p.Segments))
	}
	seg, off := p.Segments[sub.Segment], sub.Offsets[i]
	if off < 0 || off > seg.Size || n > seg.Size-off {
		return bufferField, fmt.Sprintf("%d bytes from %d do not fit in segment %d of %d bytes", n, off, sub.Segment, seg.Size)
	}
	if s != nil {
		*s = Section{p.Source, p.SegmentBase + seg.Offset + off, n}
	}
	return "", ""
}

// ConstantData returns where a constant's bytes are: dense, little-endian, laid
// out by DimOrder. It fails if t is not a constant of p (see Tensor.IsConstant).
func (p *Program) ConstantData(t *Tensor) (Section, error) {
	if !t.IsConstant() {
		return Section{}, fmt.Errorf("tensor %q is not a constant in the program file", t.Name)
	}
	return p.tensorData(t)
}

// MutableInit returns where the initial value of a mutable buffer is. It fails
// if t has none (see Tensor.HasInit).
func (p *Program) MutableInit(t *Tensor) (Section, error) {
	if !t.HasInit() {
		return Section{}, fmt.Errorf("tensor %q has no initial value in the program file", t.Name)
	}
	return p.tensorData(t)
}

func (p *Program) tensorData(t *Tensor) (Section, error) {
	n, err := t.NumBytes()
	if err != nil {
		return Section{}, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	var s Section
	if field, msg := p.locate(t, n, &s); msg != "" {
		return Section{}, fmt.Errorf("tensor %q: %s: %s", t.Name, field, msg)
	}
	return s, p.readable(s)
}

// readable refuses sections of a program that was made in memory and has no file.
func (p *Program) readable(s Section) error {
	if s.Source == nil {
		return fmt.Errorf("the program was not read from a file, so its segments cannot be read")
	}
	return nil
}

// DelegateData returns the bytes that a delegate's preprocessing produced.
func (p *Program) DelegateData(d *Delegate) (Section, error) {
	if !d.Inline {
		return p.SegmentData(d.Index)
	}
	if d.Index < 0 || d.Index >= len(p.InlineDelegateData) {
		return Section{}, fmt.Errorf("delegate %q: inline blob %d, there are %d", d.ID, d.Index, len(p.InlineDelegateData))
	}
	return inline(p.InlineDelegateData[d.Index]), nil
}

// SegmentData returns the bytes of Program.Segments[i].
func (p *Program) SegmentData(i int) (Section, error) {
	if i < 0 || i >= len(p.Segments) {
		return Section{}, fmt.Errorf("segment %d, there are %d", i, len(p.Segments))
	}
	s := Section{p.Source, p.SegmentBase + p.Segments[i].Offset, p.Segments[i].Size}
	return s, p.readable(s)
}

// Method returns the plan with the given name, or nil.
func (p *Program) Method(name string) *Plan {
	for _, m := range p.Plans {
		if m.Name == name {
			return m
		}
	}
	return nil
}
