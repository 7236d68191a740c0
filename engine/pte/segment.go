package pte

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// SegmentWriter is the content of one segment to be written. Its size is known
// before, so that files can be written front to back.
type SegmentWriter struct {
	Size  int64
	Align int64                   // power of two, SegmentAlignment if smaller
	Write func(w io.Writer) error // writes exactly Size bytes; nil if Size is 0
}

// BytesSegment returns a writer of bytes in memory.
func BytesSegment(b []byte) SegmentWriter {
	return SegmentWriter{Size: int64(len(b)), Write: func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}}
}

// SectionSegment returns a writer that copies a section of another file.
func SectionSegment(s Section) SegmentWriter {
	return SegmentWriter{Size: s.Size, Write: func(w io.Writer) error {
		_, err := io.Copy(w, s.Reader())
		return err
	}}
}

// SegmentWriters returns writers that copy p's segments from the file it was read from.
func (p *Program) SegmentWriters() ([]SegmentWriter, error) {
	out := make([]SegmentWriter, len(p.Segments))
	for i := range out {
		s, err := p.SegmentData(i)
		if err != nil {
			return nil, err
		}
		out[i] = SectionSegment(s)
	}
	return out, nil
}

// Pack lays several tensors out in one segment, each at a multiple of
// TensorAlignment. Entry 0 of the offsets is the placeholder that the format
// keeps for "no data", so tensor i of the argument has Tensor.Buffer i+1.
// segment is the index that the segment will have in the file.
func Pack(segment int, tensors []SegmentWriter) (Subsegments, SegmentWriter) {
	sub := Subsegments{Segment: segment, Offsets: make([]int64, 1, len(tensors)+1)}
	var end int64
	for _, t := range tensors {
		start := alignUp(end, TensorAlignment)
		sub.Offsets = append(sub.Offsets, start)
		end = start + t.Size
	}
	return sub, SegmentWriter{Size: end, Write: func(w io.Writer) error {
		c := &countingWriter{w: w}
		for i, t := range tensors {
			if err := c.pad(sub.Offsets[i+1]); err != nil {
				return err
			}
			if err := c.put(t); err != nil {
				return fmt.Errorf("tensor %d: %w", i, err)
			}
		}
		return nil
	}}
}

// alignUp rounds n up to a multiple of align, a power of two.
func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }

// layout places segments one after the other. It returns the largest alignment
// and the bytes from the first segment's start to the last one's end.
func layout(segments []SegmentWriter) (out []Segment, align, total int64, err error) {
	out = make([]Segment, len(segments))
	align = SegmentAlignment
	for i, s := range segments {
		a := max(s.Align, SegmentAlignment)
		if a&(a-1) != 0 {
			return nil, 0, 0, fmt.Errorf("segment %d: alignment %d is not a power of two", i, a)
		}
		align = max(align, a)
		if s.Size < 0 || a > math.MaxInt32 || total > math.MaxInt64/2-a || s.Size > math.MaxInt64/2-alignUp(total, a) {
			return nil, 0, 0, fmt.Errorf("segment %d: size %d is negative or too large", i, s.Size)
		}
		out[i] = Segment{Offset: alignUp(total, a), Size: s.Size}
		total = out[i].Offset + s.Size
	}
	return out, align, total, nil
}

// writeFile writes a flatbuffer with a header put after its file identifier,
// then the segments from offset base on.
func writeFile(w io.Writer, buf, head []byte, base int64, segments []Segment, writers []SegmentWriter) error {
	out := &countingWriter{w: w}
	var start [8]byte
	copy(start[:], buf[:8])
	// The root's offset grows by the header; all others are relative.
	binary.LittleEndian.PutUint32(start[:], binary.LittleEndian.Uint32(buf)+uint32(len(head)))
	for _, part := range [][]byte{start[:], head, buf[8:]} {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	if err := out.pad(base); err != nil {
		return err
	}
	for i, s := range writers {
		if err := out.pad(base + segments[i].Offset); err != nil {
			return err
		}
		if err := out.put(s); err != nil {
			return fmt.Errorf("segment %d: %w", i, err)
		}
	}
	return nil
}

// countingWriter knows how many bytes were written.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// pad writes zeros up to offset to.
func (c *countingWriter) pad(to int64) error {
	var zeros [4096]byte
	for c.n < to {
		if _, err := c.Write(zeros[:min(to-c.n, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return nil
}

// put writes a segment and checks that it has the size it promised.
func (c *countingWriter) put(s SegmentWriter) error {
	start := c.n
	if s.Write != nil {
		if err := s.Write(c); err != nil {
			return err
		}
	}
	if c.n-start != s.Size {
		return fmt.Errorf("%d bytes were written, %d were promised", c.n-start, s.Size)
	}
	return nil
}
