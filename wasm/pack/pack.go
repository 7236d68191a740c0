// Package pack makes a WebAssembly module that Go has linked smaller to download, without changing what it does.
//
// Go's linker leaves out every run of a few zeros in the data and so writes up to 100,000 pieces of data, each with its
// address. They are joined: the file grows a little, and a tenth less of it has to be downloaded once it is compressed.
//
// The tables of line numbers and file names are cleared. A stack trace still names the functions and how far into
// each, which together with the sources tells the line.
package pack

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Module returns the module, packed. It must come from the Go version that runs this.
func Module(wasm []byte) ([]byte, error) {
	m, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	if err := m.lines(); err != nil {
		return nil, err
	}
	return m.encode(), nil
}

// joined is up to how many zeros between two pieces of data are written out. What is farther apart is left to the memory's own zeros.
const joined = 4096

// most bounds the data of a module, in bytes from address 0.
const most = 256 << 20

const (
	sectionData      = 11
	sectionDataCount = 12
)

// module is a module with its data as the memory will hold it.
type module struct {
	sections []section
	image    []byte // from address 0
	pieces   []span // of image that are data, in order
}

type section struct {
	id   byte
	body []byte // none for data
}

type span struct{ from, to int }

// reader reads the integers of the format; after an error it stays where it is.
type reader struct {
	b   []byte
	at  int
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("offset %#x: %s", r.at, fmt.Sprintf(format, args...))
	}
}

func (r *reader) byte() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)-r.at) {
		r.fail("%d bytes are wanted, %d are left", n, len(r.b)-r.at)
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) unsigned() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 || v > 1<<32-1 {
		r.fail("this is no number of 32 bits")
		return 0
	}
	r.at += n
	return v
}

// signed reads an i32 in signed LEB128.
func (r *reader) signed() int64 {
	var v int64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			if b&0x40 != 0 {
				v -= 1 << (shift + 7)
			}
			return v
		}
	}
	r.fail("this is no number of 32 bits")
	return 0
}

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func parse(wasm []byte) (*module, error) {
	if !bytes.HasPrefix(wasm, []byte("\x00asm\x01\x00\x00\x00")) {
		return nil, errors.New("this is no WebAssembly module of version 1")
	}
	m := &module{}
	r := &reader{b: wasm, at: 8}
	for r.err == nil && r.at < len(wasm) {
		id := r.byte()
		size := r.unsigned()
		start := r.at
		body := r.take(size)
		switch id {
		case sectionDataCount:
			r.fail("the module counts its data, which this would have to change")
		case sectionData:
			d := &reader{b: wasm[:r.at], at: start, err: r.err}
			m.data(d)
			r.err = d.err
			body = nil
		}
		m.sections = append(m.sections, section{id, body})
	}
	return m, r.err
}

// data reads the section's pieces into the image: active ones of memory 0, each over those before it.
func (m *module) data(r *reader) {
	var pieces []span
	count := r.unsigned()
	for ; count > 0 && r.err == nil; count-- {
		if kind := r.unsigned(); kind != 0 {
			r.fail("data of kind %d, want active data of memory 0", kind)
		}
		if op := r.byte(); op != 0x41 {
			r.fail("instruction %#x, want i32.const", op)
		}
		from := r.signed()
		if op := r.byte(); op != 0x0b {
			r.fail("instruction %#x, want end", op)
		}
		b := r.take(r.unsigned())
		to := from + int64(len(b))
		if from < 0 || to > most {
			r.fail("%d bytes at address %d", len(b), from)
		}
		if r.err != nil {
			return
		}
		if n := int64(len(m.image)); to > n {
			m.image = append(m.image, make([]byte, to-n)...)
		}
		copy(m.image[from:], b)
		pieces = append(pieces, span{int(from), int(to)})
	}
	if r.err == nil && r.at != len(r.b) {
		r.fail("%d bytes are left in the section", len(r.b)-r.at)
	}
	slices.SortFunc(pieces, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for _, p := range pieces {
		if n := len(m.pieces); n > 0 && p.from-m.pieces[n-1].to <= joined {
			m.pieces[n-1].to = max(m.pieces[n-1].to, p.to)
		} else {
			m.pieces = append(m.pieces, p)
		}
	}
}

func (m *module) encode() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range m.sections {
		body := s.body
		if s.id == sectionData {
			body = binary.AppendUvarint(nil, uint64(len(m.pieces)))
			for _, p := range m.pieces {
				body = appendSigned(append(body, 0, 0x41), int64(p.from))
				body = binary.AppendUvarint(append(body, 0x0b), uint64(p.to-p.from))
				body = append(body, m.image[p.from:p.to]...)
			}
		}
		out = binary.AppendUvarint(append(out, s.id), uint64(len(body)))
		out = append(out, body...)
	}
	return out
}
