package pte

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
)

func decodeData(t testing.TB, data []byte) *DataFile {
	t.Helper()
	f, err := DecodeData(bytes.NewReader(data), "test.ptd")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func encodeData(t testing.TB, f *DataFile) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := EncodeData(&out, f.Entries()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDataRoundTrip(t *testing.T) {
	first := decodeData(t, load(t, "external.ptd"))
	if len(first.NamedData) == 0 {
		t.Fatal("no entries")
	}
	copied := encodeData(t, first)
	second := decodeData(t, copied)
	for _, n := range first.NamedData {
		_, a, _ := first.Lookup(n.Key)
		m, b, ok := second.Lookup(n.Key)
		if !ok || !reflect.DeepEqual(n.Layout, m.Layout) {
			t.Errorf("%q: layout %+v, want %+v", n.Key, m.Layout, n.Layout)
		}
		if b.Off%SegmentAlignment != 0 {
			t.Errorf("%q is at %d", n.Key, b.Off)
		}
		x, err := a.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if y, err := b.Bytes(); err != nil || !bytes.Equal(x, y) {
			t.Errorf("%q: bytes differ, error %v", n.Key, err)
		}
	}
	if !bytes.Equal(copied, encodeData(t, second)) {
		t.Error("encoding twice gives different bytes")
	}
	if _, _, ok := second.Lookup("nothing"); ok {
		t.Error("a missing key was found")
	}
}

func TestDataTensorChecksLayout(t *testing.T) {
	var out bytes.Buffer
	layout := &TensorLayout{ScalarType: Int, Sizes: []int32{2, 3}, DimOrder: []uint8{0, 1}}
	err := EncodeData(&out, []DataEntry{
		{Key: "w", Layout: layout, Data: BytesSegment(make([]byte, 24))},
		{Key: "blob", Data: BytesSegment([]byte("hello"))},
		{Key: "none", Data: BytesSegment(nil)},
	})
	if err != nil {
		t.Fatal(err)
	}
	f := decodeData(t, out.Bytes())
	if _, s, _ := f.Lookup("blob"); s.Size != 5 {
		t.Errorf("blob of %d bytes", s.Size)
	}
	want := Tensor{External: true, Name: "w", ScalarType: Int, Sizes: []int32{2, 3}, DimOrder: []uint8{0, 1}}
	if s, err := f.Tensor(&want); err != nil || s.Size != 24 {
		t.Errorf("section %+v, error %v", s, err)
	}
	for _, change := range []func(*Tensor){
		func(t *Tensor) { t.Name = "v" },
		func(t *Tensor) { t.Name = "blob" },
		func(t *Tensor) { t.ScalarType = Float },
		func(t *Tensor) { t.Sizes = []int32{3, 2} },
		func(t *Tensor) { t.DimOrder = []uint8{1, 0} },
	} {
		other := want
		change(&other)
		if _, err := f.Tensor(&other); err == nil || !strings.HasPrefix(err.Error(), "test.ptd: ") {
			t.Errorf("%+v: error %v", other, err)
		}
	}
}

func TestEncodeDataRefuses(t *testing.T) {
	bytesOf := func(n int) SegmentWriter { return BytesSegment(make([]byte, n)) }
	layout := func(s ScalarType, order []uint8, sizes ...int32) *TensorLayout {
		return &TensorLayout{s, sizes, order}
	}
	for name, entries := range map[string][]DataEntry{
		"short":        {{Key: "a", Layout: layout(Float, []uint8{0}, 2), Data: bytesOf(7)}},
		"key":          {{Data: bytesOf(1)}},
		"twice":        {{Key: "a", Data: bytesOf(1)}, {Key: "a", Data: bytesOf(1)}},
		"type":         {{Key: "a", Layout: layout(12, nil), Data: bytesOf(8)}},
		"negative":     {{Key: "a", Layout: layout(Float, []uint8{0}, -1), Data: bytesOf(8)}},
		"order":        {{Key: "a", Layout: layout(Float, []uint8{1}, 1), Data: bytesOf(8)}},
		"overflow":     {{Key: "a", Layout: layout(Float, []uint8{0, 1, 2}, 1<<30, 1<<30, 1<<30), Data: bytesOf(8)}},
		"segment size": {{Key: "a", Data: SegmentWriter{Size: -1}}},
		"alignment":    {{Key: "a", Data: SegmentWriter{Align: 192}}},
	} {
		if err := EncodeData(io.Discard, entries); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
