package pte

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func seed(f *testing.F, pattern string) {
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzDecode looks for a file that makes Decode panic, that Decode accepts
// although its data cannot be read, printed or encoded, or whose copy differs.
func FuzzDecode(f *testing.F) {
	seed(f, "*.pte")
	p, segments := everything()
	var all bytes.Buffer
	if err := Encode(&all, p, segments); err != nil {
		f.Fatal(err)
	}
	f.Add(all.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(bytes.NewReader(data), "fuzz.pte")
		if err != nil {
			if e := (*FormatError)(nil); !errors.As(err, &e) {
				t.Fatalf("not a FormatError: %v", err)
			}
			return
		}
		for _, m := range p.Plans {
			for i := range m.Delegates {
				readAll(t, p.DelegateData, &m.Delegates[i])
			}
			for _, v := range m.Values {
				if v, ok := v.(*Tensor); ok && v.IsConstant() {
					readAll(t, p.ConstantData, v)
				} else if ok && v.HasInit() {
					readAll(t, p.MutableInit, v)
				}
			}
		}
		if err := Print(io.Discard, p); err != nil {
			t.Fatal(err)
		}
		var total int64
		for _, s := range p.Segments {
			total += s.Size
		}
		if total > 1<<24 {
			return // segments may overlap, so a copy may be larger than the file
		}
		copied := encode(t, p)
		q, err := Decode(bytes.NewReader(copied), "copy.pte")
		if err != nil {
			t.Fatalf("the copy is refused: %v", err)
		}
		if !bytes.Equal(copied, encode(t, q)) {
			t.Fatal("the copy of the copy differs")
		}
	})
}

func readAll[T any](t *testing.T, find func(T) (Section, error), of T) {
	s, err := find(of)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bytes(); err != nil {
		t.Fatal(err)
	}
}

// FuzzDecodeData does for DecodeData what FuzzDecode does for Decode.
func FuzzDecodeData(f *testing.F) {
	seed(f, "*.ptd")
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeData(bytes.NewReader(data), "fuzz.ptd")
		if err != nil {
			if e := (*FormatError)(nil); !errors.As(err, &e) {
				t.Fatalf("not a FormatError: %v", err)
			}
			return
		}
		var total int64
		for _, n := range d.NamedData {
			_, s, ok := d.Lookup(n.Key)
			if !ok {
				t.Fatalf("%q is not found", n.Key)
			}
			if _, err := s.Bytes(); err != nil {
				t.Fatal(err)
			}
			if total += s.Size; total > 1<<24 {
				return
			}
		}
		copied := encodeData(t, d)
		e, err := DecodeData(bytes.NewReader(copied), "copy.ptd")
		if err != nil {
			t.Fatalf("the copy is refused: %v", err)
		}
		if !bytes.Equal(copied, encodeData(t, e)) {
			t.Fatal("the copy of the copy differs")
		}
	})
}

// TestTruncated decodes every prefix of every fixture. Only the padding behind
// the last byte that is used may be missing.
func TestTruncated(t *testing.T) {
	for _, name := range fixtures {
		data := load(t, name+".pte")
		for n := range data {
			_, err := Decode(bytes.NewReader(data[:n]), "cut.pte")
			if e := (*FormatError)(nil); err != nil && !errors.As(err, &e) {
				t.Fatalf("%s cut to %d bytes: %v", name, n, err)
			}
			if err == nil && binary.LittleEndian.Uint32(data[8:]) == binary.LittleEndian.Uint32([]byte(programMagic)) {
				t.Fatalf("%s cut to %d of %d bytes was accepted", name, n, len(data))
			}
		}
	}
	data := load(t, "external.ptd")
	for n := range data {
		if _, err := DecodeData(bytes.NewReader(data[:n]), "cut.ptd"); err == nil {
			t.Fatalf("data cut to %d of %d bytes was accepted", n, len(data))
		}
	}
}

// TestOverwritten puts hostile numbers on every aligned word of every fixture.
func TestOverwritten(t *testing.T) {
	for _, name := range fixtures {
		original := load(t, name+".pte")
		for at := 0; at+4 <= len(original); at += 4 {
			for _, x := range []uint32{0, 1, 0x7fffffff, 0x80000000, 0xffffffff, uint32(len(original))} {
				data := bytes.Clone(original)
				binary.LittleEndian.PutUint32(data[at:], x)
				p, err := Decode(bytes.NewReader(data), "bad.pte")
				if err != nil {
					continue
				}
				if err := Print(io.Discard, p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
