package pack

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

type piece struct {
	at   int64
	data []byte
}

// moduleOf has a custom section, pieces of data and another section behind them.
func moduleOf(pieces ...piece) []byte {
	body := binary.AppendUvarint(nil, uint64(len(pieces)))
	for _, p := range pieces {
		body = appendSigned(append(body, 0, 0x41), p.at)
		body = append(binary.AppendUvarint(append(body, 0x0b), uint64(len(p.data))), p.data...)
	}
	out := append([]byte("\x00asm\x01\x00\x00\x00"), 0, 2, 1, 'x', 5, 3, 1, 0, 9)
	return append(append(binary.AppendUvarint(append(out, sectionData), uint64(len(body))), body...), 0, 2, 1, 'y')
}

// table is a table of functions: one function with a stack table at 3, files at 9, lines at 13 and one more table, at 17.
func table() []byte {
	le := binary.LittleEndian
	b := []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}
	const files, pctab, funcs = headerBytes, headerBytes + 8, headerBytes + 32
	for _, v := range []uint64{1, 1, 0, headerBytes, headerBytes, files, pctab, funcs} {
		b = le.AppendUint64(b, v)
	}
	b = append(b, "a.go\x00\x00\x00\x00"...)
	pcs := make([]byte, 24)
	copy(pcs[3:], []byte{2, 1, 0x84, 1, 3, 0}) // ends at 8
	copy(pcs[9:], []byte{2, 4, 0})
	copy(pcs[13:], []byte{6, 4, 0})
	copy(pcs[17:], []byte{0, 4, 8, 1, 0})
	b = append(b, pcs...)
	for _, v := range []uint32{0, 16, 99, 0, // functab: one function and the end
		0, 1, 0, 0, 3, 9, 13, 1, 0, 77, 0, 17} {
		b = le.AppendUint32(b, v)
	}
	return b
}

func TestModule(t *testing.T) {
	wasm := moduleOf(piece{20, []byte("later")}, piece{8, []byte("first")}, piece{8, []byte("F")}, piece{100000, table()})
	got, err := Module(wasm)
	if err != nil {
		t.Fatal(err)
	}
	want := table()
	le := binary.LittleEndian
	funcs := want[headerBytes+32+16:]
	le.PutUint32(funcs[4*fieldFile:], 0)
	le.PutUint32(funcs[4*fieldLine:], 0)
	le.PutUint32(funcs[4*fieldStart:], 0)
	clear(want[headerBytes : headerBytes+8]) // file names
	clear(want[headerBytes+8+9 : headerBytes+8+16])
	if expect := moduleOf(piece{8, []byte("First\x00\x00\x00\x00\x00\x00\x00later")}, piece{100000, want}); !bytes.Equal(got, expect) {
		t.Errorf("got  %x\nwant %x", got, expect)
	}
	if again, err := Module(got); err != nil || !bytes.Equal(again, got) {
		t.Errorf("packed twice: %v, %d and %d bytes", err, len(again), len(got))
	}
}

func TestModuleErrors(t *testing.T) {
	good := moduleOf(piece{100000, table()})
	change := func(from, to string) []byte {
		if !bytes.Contains(good, []byte(from)) {
			t.Fatalf("no %x", from)
		}
		return bytes.Replace(good, []byte(from), []byte(to), 1)
	}
	for _, c := range []struct {
		name string
		wasm []byte
		want string
	}{
		{"nothing", nil, "no WebAssembly module"},
		{"cut", good[:len(good)-5], "are wanted"},
		{"a count of the data", append(slices.Clone(good), sectionDataCount, 1, 1), "counts its data"},
		{"passive data", change("\x01\x00\x41", "\x01\x01\x41"), "active data"},
		{"no Go", moduleOf(piece{0, []byte("data")}), "none is known"},
		{"two tables", moduleOf(piece{0, table()}, piece{5000, table()}), "two places"},
		{"a short header", moduleOf(piece{0, table()[:20]}), "cut short"},
		{"a function elsewhere", change("\x00\x00\x00\x00\x10\x00\x00\x00\x63", "\x00\x00\x00\x00\x10\x00\x00\x70\x63"), "function 0"},
		{"a table elsewhere", change("\x11\x00\x00\x00", "\x11\x00\x00\x01"), "does not end"},
		{"far data", moduleOf(piece{most, []byte("x")}), "at address"},
		{"negative", moduleOf(piece{-4, []byte("x")}), "at address"},
	} {
		if b, err := Module(c.wasm); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want %q", c.name, len(b), err, c.want)
		}
	}
}
