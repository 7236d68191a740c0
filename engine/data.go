package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

// DataSource finds tensors that a program refers to by name (external constants, as in a .ptd file).
type DataSource interface {
	Lookup(name string) (External, bool)
}

// External is one named tensor outside the program: bytes in a file, or device memory that the caller owns and keeps as long
// as the program lives.
type External struct {
	DType    DType
	Sizes    []int
	DimOrder []uint8 // nil: contiguous
	Untyped  bool    // DType and Sizes are not known; only the size in bytes is checked

	Addr     kernel.Addr // not 0: already in device memory
	ReaderAt io.ReaderAt // else the bytes are at Off
	Off      int64
	Size     int64 // bytes
}

// Data is where a tensor's bytes come from.
type Data struct {
	key  string      // the same for tensors that share bytes
	addr kernel.Addr // already on the device
	src  io.ReaderAt
	off  int64
}

// chunk is how many bytes of a file are in Go's memory at a time while a constant is loaded.
const chunk = 256 << 10

func readAtFull(r io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (p *Program) segmentData(s *pte.Subsegments, buffer uint32, size int64) (*Data, error) {
	if int64(buffer) >= int64(len(s.Offsets)) {
		return nil, fmt.Errorf("names buffer %d of %d", buffer, len(s.Offsets))
	}
	if s.Segment < 0 || s.Segment >= len(p.file.Segments) {
		return nil, fmt.Errorf("names segment %d of %d", s.Segment, len(p.file.Segments))
	}
	seg, off := p.file.Segments[s.Segment], s.Offsets[buffer]
	if off < 0 || off > seg.Size || size > seg.Size-off {
		return nil, fmt.Errorf("%d bytes at offset %d are outside segment %d of %d bytes", size, off, s.Segment, seg.Size)
	}
	return &Data{key: fmt.Sprintf("segment %d+%d", s.Segment, off), src: p.file.Source, off: p.file.SegmentBase + seg.Offset + off}, nil
}

func (p *Program) inlineData(buffer uint32, size int64) (*Data, error) {
	if int64(buffer) >= int64(len(p.file.InlineConstants)) {
		return nil, fmt.Errorf("names buffer %d of %d", buffer, len(p.file.InlineConstants))
	}
	b := p.file.InlineConstants[buffer]
	if size > int64(len(b)) {
		return nil, fmt.Errorf("needs %d bytes, buffer %d has %d", size, buffer, len(b))
	}
	return &Data{key: fmt.Sprintf("buffer %d", buffer), src: bytes.NewReader(b)}, nil
}

// externalData finds a tensor by name in the data sources, then in the program's own named data.
func (p *Program) externalData(name string, v *Value) (*Data, error) {
	for _, d := range p.opt.Data {
		e, ok := d.Lookup(name)
		if !ok {
			continue
		}
		if !e.Untyped {
			if e.DType != v.DType {
				return nil, fmt.Errorf("external tensor %q is %s, the program wants %s", name, dtypeName(e.DType), dtypeName(v.DType))
			}
			if !slices.Equal(e.Sizes, v.Sizes) {
				return nil, fmt.Errorf("external tensor %q has sizes %v, the program wants %v", name, e.Sizes, v.Sizes)
			}
			if len(e.DimOrder) > 0 && len(v.DimOrder) > 0 && !slices.Equal(e.DimOrder, v.DimOrder) {
				return nil, fmt.Errorf("external tensor %q has dim order %v, the program wants %v", name, e.DimOrder, v.DimOrder)
			}
		}
		if e.Size < v.Bytes() {
			return nil, fmt.Errorf("external tensor %q has %d bytes, the program wants %d", name, e.Size, v.Bytes())
		}
		if e.Addr == 0 && e.ReaderAt == nil {
			return nil, fmt.Errorf("external tensor %q has neither an address nor a reader", name)
		}
		return &Data{key: "name " + name, addr: e.Addr, src: e.ReaderAt, off: e.Off}, nil
	}
	for _, nd := range p.file.NamedData {
		if nd.Key != name {
			continue
		}
		if nd.Segment < 0 || nd.Segment >= len(p.file.Segments) {
			return nil, fmt.Errorf("named data %q is in segment %d of %d", name, nd.Segment, len(p.file.Segments))
		}
		seg := p.file.Segments[nd.Segment]
		if seg.Size < v.Bytes() {
			return nil, fmt.Errorf("named data %q has %d bytes, the program wants %d", name, seg.Size, v.Bytes())
		}
		return &Data{key: "name " + name, src: p.file.Source, off: p.file.SegmentBase + seg.Offset}, nil
	}
	return nil, fmt.Errorf("external tensor %q is in none of the data files (%d given)", name, len(p.opt.Data))
}

// block is an allocation in device memory.
type block struct {
	addr  kernel.Addr
	size  int64
	owned bool
}

// loadBlock returns device memory with the data, loading it in bounded chunks at the first request for its key.
func (p *Program) loadBlock(blocks map[string]block, key string, d *Data, size int64) (block, error) {
	if b, ok := blocks[key]; ok && b.size >= size {
		return b, nil
	}
	if d != nil && d.addr != 0 && d.key == key {
		b := block{addr: d.addr, size: size}
		blocks[key] = b
		return b, nil
	}
	addr, err := p.dev.Alloc(size, 64)
	if err != nil {
		return block{}, fmt.Errorf("%s: %w", key, err)
	}
	if err := p.fillBlock(addr, d, size); err != nil {
		p.dev.Free(addr)
		return block{}, fmt.Errorf("%s: %w", key, err)
	}
	b := block{addr: addr, size: size, owned: true}
	if old, ok := blocks[key]; ok && old.owned {
		p.retired = append(p.retired, old.addr) // smaller; values prepared before still use it
	}
	blocks[key] = b
	return b, nil
}

// fillBlock writes size bytes of d, or zeros, to addr.
func (p *Program) fillBlock(addr kernel.Addr, d *Data, size int64) error {
	if d == nil {
		p.dev.MemSet(addr, 0, size)
		return nil
	}
	if d.addr != 0 {
		p.dev.MemCopy(addr, d.addr, size)
		return nil
	}
	buf := make([]byte, min(size, chunk))
	for done := int64(0); done < size; {
		b := buf[:min(int64(len(buf)), size-done)]
		if _, err := readAtFull(d.src, b, d.off+done); err != nil {
			return fmt.Errorf("read %d bytes at offset %d: %w", len(b), d.off+done, err)
		}
		p.dev.Write(addr+kernel.Addr(done), b)
		done += int64(len(b))
	}
	return nil
}

// DataFile makes the tensors of a .ptd file a DataSource.
func DataFile(f *pte.DataFile) DataSource { return dataFile{f} }

type dataFile struct{ f *pte.DataFile }

func (d dataFile) Lookup(name string) (External, bool) {
	n, s, ok := d.f.Lookup(name)
	if !ok {
		return External{}, false
	}
	e := External{ReaderAt: s.Source, Off: s.Off, Size: s.Size, Untyped: n.Layout == nil}
	if n.Layout != nil {
		e.DType, e.DimOrder = n.Layout.ScalarType, n.Layout.DimOrder
		for _, x := range n.Layout.Sizes {
			e.Sizes = append(e.Sizes, int(x))
		}
	}
	return e, true
}
