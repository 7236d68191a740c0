package graph

import (
	"errors"
	"io"
	"sort"
)

// pieces is a file put together from slices, which are not copied: many of them are the same zeros. Between them are zeros too.
type pieces struct {
	list []piece // in order, not overlapping
	size int64
}

type piece struct {
	at   int64
	data []byte
}

// add puts data behind the next multiple of the alignment and returns where.
func (p *pieces) add(data []byte) int64 {
	p.align()
	at := p.size
	p.list = append(p.list, piece{at, data})
	p.size += int64(len(data))
	return at
}

// align extends the file to the alignment.
func (p *pieces) align() { p.size = (p.size + alignment - 1) / alignment * alignment }

// Size is the file's size in bytes.
func (p *pieces) Size() int64 { return p.size }

// ReadAt implements io.ReaderAt.
func (p *pieces) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("graph: negative offset")
	}
	n := int(max(0, min(int64(len(b)), p.size-off)))
	out := b[:n]
	clear(out)
	end := off + int64(n)
	for i := sort.Search(len(p.list), func(i int) bool { return p.list[i].at+int64(len(p.list[i].data)) > off }); i < len(p.list) && p.list[i].at < end; i++ {
		q := p.list[i]
		from := max(off, q.at)
		copy(out[from-off:], q.data[from-q.at:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
