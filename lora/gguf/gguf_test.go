package gguf

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// sample writes a small file with every kind of value and four tensor types.
func sample(t testing.TB) []byte {
	t.Helper()
	w := NewWriter()
	for _, kv := range []struct {
		k string
		v any
	}{
		{"general.architecture", "llama"}, {"u8", uint8(200)}, {"i8", int8(-5)}, {"u16", uint16(60000)},
		{"i16", int16(-300)}, {"u32", uint32(1 << 31)}, {"i32", int32(-7)}, {"f32", float32(1e-5)},
		{"yes", true}, {"u64", uint64(math.MaxUint64)}, {"i64", int64(math.MinInt64)}, {"f64", 0.1},
		{"words", []string{"a", "", "Ġgreat"}}, {"scores", []float32{1, -2}}, {"types", []int32{3, -1}},
		{"flags", []bool{true, false}}, {"bytes", []uint8{1, 2}}, {"long", []uint64{1, 2}}, {"d", []float64{0.5}},
		{"i8s", []int8{-1}}, {"u16s", []uint16{9}}, {"i16s", []int16{-9}}, {"u32s", []uint32{7}}, {"i64s", []int64{-8}},
	} {
		if err := w.Set(kv.k, kv.v); err != nil {
			t.Fatal(err)
		}
	}
	vals := make([]float32, 96)
	for i := range vals {
		vals[i] = float32(i-48) / 7
	}
	for _, c := range []struct {
		name  string
		t     Type
		shape []int64
	}{
		{"norm", F32, []int64{3}}, {"a", F16, []int64{2, 5}}, {"w", Q8_0, []int64{3, 32}}, {"q", Q4_1, []int64{3, 1, 32}},
	} {
		n := int64(1)
		for _, d := range c.shape {
			n *= d
		}
		if err := w.AddF32(c.name, c.t, c.shape, vals[:n]); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	n, err := w.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("%d bytes, said %d: %v", b.Len(), n, err)
	}
	return b.Bytes()
}

func open(b []byte) (*File, error) { return Read(bytes.NewReader(b), int64(len(b)), "m.gguf") }

func TestRoundTrip(t *testing.T) {
	raw := sample(t)
	if !bytes.Equal(raw, sample(t)) {
		t.Error("writing twice gives different bytes")
	}
	f, err := open(raw)
	if err != nil {
		t.Fatal(err)
	}
	m := &f.Metadata
	if len(m.Keys()) != 24 || m.Keys()[0] != "general.architecture" {
		t.Errorf("keys %v", m.Keys())
	}
	ints := map[string]int64{"u8": 200, "i8": -5, "u16": 60000, "i16": -300, "u32": 1 << 31, "i32": -7, "i64": math.MinInt64}
	for k, want := range ints {
		if got, err := m.Int(k); err != nil || got != want {
			t.Errorf("%s = %d, %v", k, got, err)
		}
	}
	if u, err := m.Uint("u64"); err != nil || u != math.MaxUint64 {
		t.Errorf("u64 %d %v", u, err)
	}
	if x, err := m.Float("f32"); err != nil || x != float64(float32(1e-5)) {
		t.Errorf("f32 %v %v", x, err)
	}
	if x, err := m.Float("f64"); err != nil || x != 0.1 {
		t.Errorf("f64 %v %v", x, err)
	}
	if b, err := m.Bool("yes"); err != nil || !b {
		t.Errorf("yes %v %v", b, err)
	}
	if s, err := m.Strings("words"); err != nil || !reflect.DeepEqual(s, []string{"a", "", "Ġgreat"}) {
		t.Errorf("words %q %v", s, err)
	}
	if s, err := m.Floats("scores"); err != nil || !reflect.DeepEqual(s, []float64{1, -2}) {
		t.Errorf("scores %v %v", s, err)
	}
	if s, err := m.Bools("flags"); err != nil || !reflect.DeepEqual(s, []bool{true, false}) {
		t.Errorf("flags %v %v", s, err)
	}
	for k, want := range map[string][]int64{"types": {3, -1}, "bytes": {1, 2}, "long": {1, 2}, "i8s": {-1},
		"u16s": {9}, "i16s": {-9}, "u32s": {7}, "i64s": {-8}} {
		if got, err := m.Ints(k); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %v, %v", k, got, err)
		}
		if v, _ := m.Get(k); v.Len() != len(want) {
			t.Errorf("%s has length %d", k, v.Len())
		}
	}
	a, err := f.Tensor("a")
	if err != nil || a.Rows() != 2 || a.Cols() != 5 || a.Elements() != 10 {
		t.Fatalf("%+v %v", a, err)
	}
	row := make([]float32, 5)
	if err := a.ReadRows(row, 1, 1); err != nil || math.Abs(float64(row[4]-(9-48)/7.0)) > 3e-3 {
		t.Errorf("row %v %v", row, err)
	}
	q, _ := f.Tensor("q")
	var starts []int64
	err = q.StreamF32(context.Background(), 45, func(first, n int64, v []float32) error {
		starts = append(starts, first, n)
		for i, x := range v {
			if want := float32(int(first)*32+i-48) / 7; math.Abs(float64(x-want)) > 0.16 {
				t.Errorf("q row %d value %d: %v, want about %v", first, i, x, want)
			}
		}
		return nil
	})
	if err != nil || !reflect.DeepEqual(starts, []int64{0, 2, 2, 1}) {
		t.Errorf("chunks %v %v", starts, err)
	}
}

func TestStreamStops(t *testing.T) {
	f, err := open(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	w, _ := f.Tensor("w")
	ctx, cancel := context.WithCancel(context.Background())
	calls := 0
	err = w.StreamRaw(ctx, 1, func(int64, int64, []byte) error { calls++; cancel(); return nil })
	if calls != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := w.ReadRaw(make([]byte, 34), 3, 1); err == nil {
		t.Error("row past the end was read")
	}
	if err := w.ReadRows(make([]float32, 31), 0, 1); err == nil {
		t.Error("short buffer was taken")
	}
}

func TestGetterErrors(t *testing.T) {
	f, err := open(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	m := &f.Metadata
	for _, c := range []struct {
		call func() error
		want string
	}{
		{func() error { _, err := m.Uint("nope"); return err }, `gguf m.gguf: metadata "nope" at byte 0: missing`},
		{func() error { _, err := m.Uint("i8"); return err }, "is -5, want a value of at least 0"},
		{func() error { _, err := m.Uint("yes"); return err }, "is bool, want unsigned integer"},
		{func() error { _, err := m.Int("u64"); return err }, "want integer below 2^63"},
		{func() error { _, err := m.Strings("scores"); return err }, "is array of float32, want array of string"},
		{func() error { _, err := m.String("u8"); return err }, "is uint8, want string"},
		{func() error { _, err := m.Float("u8"); return err }, "is uint8, want float"},
		{func() error { _, err := f.Tensor("zz"); return err }, `gguf m.gguf: no tensor "zz"`},
	} {
		if err := c.call(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want ...%s...", err, c.want)
		}
	}
	var e *Error
	_, err = m.Bool("u8")
	if v, _ := m.Get("u8"); !errors.As(err, &e) || e.Offset != v.Offset || e.Offset == 0 {
		t.Errorf("offset of %v", err)
	}
}

// build writes a header by hand, for files that the Writer would refuse to make.
type build []byte

func (b build) u32(v uint32) build { return binary.LittleEndian.AppendUint32(b, v) }
func (b build) u64(v uint64) build { return binary.LittleEndian.AppendUint64(b, v) }
func (b build) str(s string) build { return append(b.u64(uint64(len(s))), s...) }
func head(version uint32, tensors, keys uint64) build {
	return build("GGUF").u32(version).u64(tensors).u64(keys)
}
func (b build) tensor(name string, t Type, off uint64, dims ...uint64) build {
	b = b.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		b = b.u64(d)
	}
	return b.u32(uint32(t)).u64(off)
}
func (b build) data(n int) build {
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, n)...)
}

func TestHostile(t *testing.T) {
	kv := func(key string, kind uint32) build { return head(3, 0, 1).str(key).u32(kind) }
	for _, c := range []struct {
		name string
		file build
		want string
	}{
		{"empty", nil, "header at byte 0: needs 4 bytes"},
		{"magic", build("GGML").u32(3).u64(0).u64(0), "not a GGUF file"},
		{"version 1", head(1, 0, 0), "at byte 4: version 1 is not supported"},
		{"big-endian", head(3<<24, 0, 0), "big-endian"},
		{"counts", head(3, 1<<40, 0), "tensor count 1099511627776 is above the limit"},
		{"key count", head(3, 0, 1<<40), "at byte 16: metadata count"},
		{"cut key", head(3, 0, 1).u64(5), "metadata key 0 at byte 32: needs 5 bytes, the file ends after 0 more"},
		{"long key", head(3, 0, 1).u64(1 << 62), "string of 4611686018427387904 bytes is above the limit"},
		{"huge string", kv("k", 8).u64(math.MaxUint64), `metadata "k" at byte 45: needs`},
		{"empty key", head(3, 0, 1).str("").u32(7), "empty key"},
		{"twice", head(3, 0, 2).str("k").u32(0).u64(0)[:38].str("k").u32(0), "key appears twice"},
		{"kind", kv("k", 13), "unknown value type 13"},
		{"bool", append(kv("k", 7), 2), "bool is 2"},
		{"huge array", kv("k", 9).u32(6).u64(1 << 61), "array of 2305843009213693952 elements does not fit"},
		{"array kind", kv("k", 9).u32(77).u64(1), "unknown array element type 77"},
		{"deep", kv("k", 9).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).data(99), "nested more than 4 deep"},
		{"alignment", kv("general.alignment", 4).u32(24), "24 is not a power of two"},
		{"alignment type", kv("general.alignment", 8).str("x"), "is string, want unsigned integer"},
		{"no dims", head(3, 1, 0).tensor("t", F32, 0).data(4), "0 dimensions"},
		{"five dims", head(3, 1, 0).tensor("t", F32, 0, 1, 1, 1, 1, 1).data(4), "5 dimensions"},
		{"zero dim", head(3, 1, 0).tensor("t", F32, 0, 4, 0).data(4), "dimension 1 is 0"},
		{"overflow", head(3, 1, 0).tensor("t", F32, 0, 1<<40, 1<<40).data(4), "empty or too large"},
		{"type", head(3, 1, 0).tensor("t", 99, 0, 4).data(16), "unknown tensor type 99"},
		{"removed type", head(3, 1, 0).tensor("t", 4, 0, 32).data(16), "unknown tensor type 4"},
		{"block", head(3, 1, 0).tensor("t", Q4_1, 0, 33).data(64), "not a positive multiple of Q4_1's block"},
		{"unaligned", head(3, 1, 0).tensor("t", F32, 8, 2).data(64), "not a multiple of the alignment 32"},
		{"outside", head(3, 1, 0).tensor("t", F32, 0, 9).data(32), "runs past the end of the file"},
		{"far", head(3, 1, 0).tensor("t", F32, 1<<63, 9).data(32), "outside the file"},
		{"no data", head(3, 1, 0).tensor("t", F32, 0, 1), "runs past the end"},
		{"overlap", head(3, 2, 0).tensor("a", F32, 0, 9).tensor("b", F32, 32, 2).data(64), `tensor "b" at byte 82: data overlaps that of tensor "a"`},
		{"same name", head(3, 2, 0).tensor("a", F32, 0, 1).tensor("a", F32, 32, 1).data(64), "name appears twice"},
		{"no name", head(3, 1, 0).tensor("", F32, 0, 1).data(4), "empty name"},
	} {
		f, err := open(c.file)
		if err == nil {
			t.Errorf("%s: accepted: %+v", c.name, f)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.File != "m.gguf" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", c.name, err, c.want)
		}
	}
}

// Every truncation of a good file is an error, never a panic.
func TestTruncated(t *testing.T) {
	raw := sample(t)
	for n := range raw {
		if _, err := open(raw[:n]); err == nil && n < len(raw)-32 {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(raw))
		}
	}
}

// The reader trusts size: data that the ReaderAt does not have is an error at read time.
func TestShortReader(t *testing.T) {
	raw := sample(t)
	f, err := Read(bytes.NewReader(raw[:len(raw)-40]), int64(len(raw)), "m.gguf")
	if err != nil {
		t.Fatal(err)
	}
	q, _ := f.Tensor("q")
	err = q.ReadRows(make([]float32, 96), 0, 3)
	if err == nil || !strings.Contains(err.Error(), `tensor "q" at byte`) {
		t.Errorf("%v", err)
	}
}

func TestVersion2AndNestedArrays(t *testing.T) {
	b := head(2, 1, 1).str("k").u32(9).u32(9).u64(2).u32(0).u64(1)
	b = append(b, 42).u32(8).u64(1).str("x").tensor("t", I32, 0, 2).data(8)
	f, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := f.Metadata.Get("k")
	in := v.Any().([]Value)
	if len(in) != 2 || !reflect.DeepEqual(in[0].Any(), []uint8{42}) || !reflect.DeepEqual(in[1].Any(), []string{"x"}) {
		t.Errorf("%+v", in)
	}
	ten, _ := f.Tensor("t")
	err = ten.StreamF32(context.Background(), 0, nil)
	if err == nil || !strings.Contains(err.Error(), "I32 cannot be read as numbers") {
		t.Errorf("%v", err)
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter()
	if w.Set("", 1) == nil || w.Set("k", 1) == nil || w.Set("k", []Value{}) == nil || w.Set("general.alignment", uint32(1)) == nil {
		t.Error("bad key or value was taken")
	}
	if w.AddF32("t", F32, []int64{2}, make([]float32, 3)) == nil || w.AddF32("t", Q4_K, []int64{256}, make([]float32, 256)) == nil ||
		w.AddF32("t", Q8_0, []int64{33}, make([]float32, 33)) == nil || w.Add("t", F32, nil, nil) == nil {
		t.Error("bad tensor was taken")
	}
	if err := w.AddF32("t", F32, []int64{1}, []float32{1}); err != nil {
		t.Fatal(err)
	}
	if w.AddF32("t", F32, []int64{1}, []float32{1}) == nil {
		t.Error("name was taken twice")
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(head(2, 1, 0).tensor("t", Q6_K, 0, 256).data(210)))
	f.Add([]byte(head(3, 2, 0).tensor("a", BF16, 0, 9).tensor("b", Q5_K, 32, 256, 2).data(400)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := open(b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		for _, ten := range m.Tensors {
			if ten.Offset < m.DataStart || ten.Offset+ten.Bytes > int64(len(b)) {
				t.Fatalf("tensor %+v outside %d bytes", ten, len(b))
			}
			n := int64(0)
			err := ten.StreamF32(context.Background(), 64, func(_, rows int64, v []float32) error {
				n += int64(len(v))
				return nil
			})
			if ten.Type.CanDequantize() && (err != nil || n != ten.Elements()) {
				t.Fatalf("%+v: %d values, %v", ten, n, err)
			}
		}
	})
}
