package pte

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// xnnPayloads returns the payloads of a program lowered by the stock XNNPACK partitioner.
func xnnPayloads(t testing.TB) [][]byte {
	b, err := os.ReadFile(filepath.Join("testdata", "xnnpack.pte"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Decode(bytes.NewReader(b), "xnnpack.pte")
	if err != nil {
		t.Fatal(err)
	}
	var l [][]byte
	for _, m := range p.Plans {
		for i := range m.Delegates {
			s, err := p.DelegateData(&m.Delegates[i])
			if err != nil {
				t.Fatal(err)
			}
			payload, err := s.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			l = append(l, payload)
		}
	}
	if len(l) == 0 {
		t.Fatal("no payloads")
	}
	return l
}

func TestDecodeXNN(t *testing.T) {
	for i, b := range xnnPayloads(t) {
		g, err := DecodeXNN(bytes.NewReader(b), "payload")
		if err != nil {
			t.Fatalf("payload %d: %v", i, err)
		}
		if len(g.Nodes) == 0 || len(g.Values) < 2 || g.Externs < 2 {
			t.Errorf("payload %d: %d nodes, %d values, %d externs", i, len(g.Nodes), len(g.Values), g.Externs)
		}
		outputs := 0
		for _, v := range g.Values {
			if v.Flags&XNNExternalOutput != 0 {
				outputs++
			}
		}
		if outputs == 0 {
			t.Errorf("payload %d has no output", i)
		}
	}
}

func TestDecodeXNNErrors(t *testing.T) {
	good := xnnPayloads(t)[0]
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"short":         {func(b []byte) []byte { return b[:20] }, "XNNHeader.magic"},
		"magic":         {func(b []byte) []byte { b[4] = 'Z'; return b }, "XNNHeader.magic"},
		"flatbuffer":    {func(b []byte) []byte { binary.LittleEndian.PutUint32(b[14:], 1<<31); return b }, "XNNHeader.flatbuffer_size"},
		"constant data": {func(b []byte) []byte { binary.LittleEndian.PutUint64(b[22:], 1<<63); return b }, "XNNHeader.constant_data_size"},
		"identifier":    {func(b []byte) []byte { b[binary.LittleEndian.Uint32(b[10:])+4] = 'Y'; return b }, "XN01"},
		"root":          {func(b []byte) []byte { b[binary.LittleEndian.Uint32(b[10:])+2] = 0xff; return b }, "XNNGraph"},
	} {
		_, err := DecodeXNN(bytes.NewReader(c.change(bytes.Clone(good))), "payload")
		var e *FormatError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a FormatError with %q", name, err, c.want)
		}
	}
}

// FuzzDecodeXNN looks for a payload that makes DecodeXNN panic or return lists that do not fit together.
func FuzzDecodeXNN(f *testing.F) {
	for _, b := range xnnPayloads(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeXNN(bytes.NewReader(b), "fuzz")
		if err != nil {
			if e := (*FormatError)(nil); !errors.As(err, &e) {
				t.Fatalf("not a FormatError: %v", err)
			}
			return
		}
		for i, v := range g.Values {
			if len(v.Dims) > maxXNNDims || v.Constant > 0 && v.Constant >= len(g.Constants) || v.ScalesAt > 0 && v.ScalesAt >= len(g.Constants) {
				t.Fatalf("value %d: %+v with %d constants", i, v, len(g.Constants))
			}
		}
		for i, n := range g.Nodes {
			if len(n.Inputs) == 0 || len(n.Outputs) == 0 || len(n.Dims) > maxXNNDims {
				t.Fatalf("node %d: %+v", i, n)
			}
		}
		for i, c := range g.Constants {
			if c.Named == "" && (c.Offset < 0 || i > 0 && c.Offset+c.Size > int64(len(b))) {
				t.Fatalf("constant %d is outside the payload: %+v", i, c)
			}
		}
	})
}
