package graph

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestPieces(t *testing.T) {
	p := &pieces{}
	var want []byte
	for i, n := range []int{0, 3, 16, 1, 40, 0, 15} {
		data := bytes.Repeat([]byte{byte(i + 1)}, n)
		want = append(want, make([]byte, (16-len(want)%16)%16)...)
		if at := p.add(data); at != int64(len(want)) {
			t.Fatalf("piece %d lies at %d, want %d", i, at, len(want))
		}
		want = append(want, data...)
	}
	p.align()
	want = append(want, make([]byte, (16-len(want)%16)%16)...)
	if p.Size() != int64(len(want)) {
		t.Fatalf("%d bytes, want %d", p.Size(), len(want))
	}
	r := bytes.NewReader(want)
	for off := int64(0); off <= p.Size()+2; off++ {
		for n := range len(want) + 3 {
			a, b := bytes.Repeat([]byte{9}, n), bytes.Repeat([]byte{9}, n)
			na, ea := p.ReadAt(a, off)
			nb, eb := r.ReadAt(b, off)
			if n == 0 {
				eb = ea // bytes.Reader reports the end even to whoever asks for nothing
			}
			if na != nb || !bytes.Equal(a, b) || errors.Is(ea, io.EOF) != errors.Is(eb, io.EOF) {
				t.Fatalf("%d bytes from %d: %d %v %v, want %d %v %v", n, off, na, ea, a, nb, eb, b)
			}
		}
	}
	if _, err := p.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
}
