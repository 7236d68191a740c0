package safetensors

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func parse(b []byte) (*File, error) { return Read(bytes.NewReader(b), int64(len(b)), "a.safetensors") }

// file puts a length in front of a header and n bytes of data behind it.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

// A file of the Python package (testdata/make_golden.py) is read with the values it was made of.
func TestGolden(t *testing.T) {
	f, closer, err := Open("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if f.Metadata["format"] != "pt" || len(f.Tensors) != 12 {
		t.Errorf("%v, %d tensors", f.Metadata, len(f.Tensors))
	}
	for name, want := range map[string][]float32{
		"f64":    {0, -1.5, 3.25, 1e-3, 65504, -0.1},
		"f32":    {0, -1.5, 3.25, 1e-3, 65504, -0.1},
		"f16":    {0, -1.5, 3.25, 0.0010004044, 65504, -0.099975586},
		"bf16":   {0, -1.5, 3.25, 0.00099945068, 65536, -0.100097656},
		"scalar": {7}, "empty": {},
	} {
		ten, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ten.Float32s()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, want)
		}
	}
	neg := []int64{0, -1, -2, -3, -100, -127}
	for name, want := range map[string][]int64{"i64": neg, "i32": neg, "i16": neg, "i8": neg,
		"u8": {0, 1, 2, 3, 100, 127}, "bool": {0, 0, 1, 1, 1, 1}} {
		ten, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ten.Int64s()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v, want %v", name, got, err, want)
		}
		if _, err := ten.Float32s(); err == nil {
			t.Errorf("%s was read as floats", name)
		}
	}
	if _, err := f.Tensor("zz"); err == nil {
		t.Error("found a tensor that is not there")
	}
}

func sample(t testing.TB) []byte {
	t.Helper()
	x := []float32{1, 2, 3, 4, 5, 6}
	outs := []Out{
		Float32s("b", F32, []int64{2, 3}, x), Float32s("a\"<é", F16, []int64{3, 2}, x),
		Int64s("ids", []int64{3}, []int64{-1, 0, 1 << 40}), Raw("mask", BOOL, []int64{3}, []byte{1, 0, 1}),
		Float32s("s", BF16, nil, x[:1]), Float32s("none", F32, []int64{0, 4}, nil),
	}
	var one, two bytes.Buffer
	if err := Write(&one, outs, map[string]string{"z": "1", "a": "2"}); err != nil {
		t.Fatal(err)
	}
	outs[0], outs[3] = outs[3], outs[0]
	if err := Write(&two, outs, map[string]string{"a": "2", "z": "1"}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("another order of the tensors gives other bytes")
	}
	return one.Bytes()
}

func TestRoundTrip(t *testing.T) {
	f, err := parse(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	if f.Metadata["a"] != "2" || f.Metadata["z"] != "1" {
		t.Errorf("metadata %v", f.Metadata)
	}
	b, _ := f.Tensor("b")
	if b.Offset%8 != 0 || b.Rows() != 2 || b.Cols() != 3 {
		t.Errorf("%+v", b)
	}
	var calls []float32
	err = b.StreamF32(context.Background(), 1, func(first, n int64, v []float32) error {
		calls = append(append(calls, float32(first), float32(n)), v...)
		return nil
	})
	if err != nil || !reflect.DeepEqual(calls, []float32{0, 1, 1, 2, 3, 1, 1, 4, 5, 6}) {
		t.Errorf("%v %v", calls, err)
	}
	a, _ := f.Tensor("a\"<é")
	if v, err := a.Float32s(); err != nil || !reflect.DeepEqual(v, []float32{1, 2, 3, 4, 5, 6}) {
		t.Errorf("%v %v", v, err)
	}
	ids, _ := f.Tensor("ids")
	if v, err := ids.Int64s(); err != nil || v[2] != 1<<40 {
		t.Errorf("%v %v", v, err)
	}
	if none, _ := f.Tensor("none"); none.Elements() != 0 {
		t.Errorf("%+v", none)
	}
}

func TestHostile(t *testing.T) {
	one := `{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "too short"},
		{"length", append(binary.LittleEndian.AppendUint64(nil, 1<<63), '{'), "length 9223372036854775808 is above the limit"},
		{"cut", file("{}", 0)[:9], "does not fit"},
		{"not an object", file("[]", 0), "does not start with '{'"},
		{"no header", file("", 0), "does not start"},
		{"utf-8", file("{\"\xff\":1}", 0), "not UTF-8"},
		{"json", file(`{"t":{]`, 0), `tensor "t" at byte`},
		{"unclosed", file(one, 8), "header at byte"},
		{"trailing", file("{}{}", 0), "text after the closing brace"},
		{"metadata type", file(`{"__metadata__":{"a":1}}`, 0), "__metadata__ at byte"},
		{"metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`, 0), "appears twice"},
		{"twice", file(one+`,"t":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), `tensor "t" at byte 65: appears twice`},
		{"dtype", file(`{"t":{"dtype":"F5","shape":[2],"data_offsets":[0,8]}}`, 8), `unknown dtype "F5"`},
		{"missing", file(`{"t":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "needs dtype, shape and two data_offsets"},
		{"three offsets", file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}}`, 8), "two data_offsets"},
		{"negative", file(`{"t":{"dtype":"F32","shape":[-2,-1],"data_offsets":[0,8]}}`, 8), "negative or too large"},
		{"overflow", file(`{"t":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 8), "too large"},
		{"empty overflow", file(`{"t":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, 0), "too large"},
		{"fraction", file(`{"t":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}`, 8), "invalid JSON"},
		{"size", file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}}`, 9), "do not span the 8 bytes of F32[2]"},
		{"backwards", file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "do not span"},
		{"gap", file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), "gap or overlap"},
		{"overlap", file(one+`,"u":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "gap or overlap"},
		{"past the end", file(one+"}", 7), "runs past the end"},
		{"after the end", file(one+"}", 9), "1 bytes after the last tensor"},
		{"dims", file(`{"t":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}`, 1), "9 dimensions"},
	} {
		f, err := parse(c.file)
		var e *Error
		if err == nil || f != nil {
			t.Errorf("%s: accepted", c.name)
		} else if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.File != "a.safetensors" {
			t.Errorf("%s: %v, want ...%s...", c.name, err, c.want)
		}
	}
	raw := sample(t)
	for n := range raw {
		if _, err := parse(raw[:n]); err == nil {
			t.Fatalf("the first %d bytes were accepted", n)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	var b bytes.Buffer
	x := []float32{1, 2}
	for _, c := range [][]Out{
		{Float32s("a", F32, []int64{3}, x)}, {Float32s("a", I8, []int64{2}, x)}, {Raw("a", "F5", nil, nil)},
		{Float32s("a", F32, []int64{2}, x), Float32s("a", F32, []int64{2}, x)}, {Raw("__metadata__", U8, []int64{1}, []byte{1})},
		{Float32s("a", F32, []int64{-1, -2}, x)},
	} {
		if err := Write(&b, c, nil); err == nil {
			t.Errorf("%v was written", c[0].Shape)
		}
	}
}

func TestModelShards(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	shard := func(name string) []byte {
		var b bytes.Buffer
		if err := Write(&b, []Out{Float32s(name, F32, []int64{1}, []float32{float32(len(name))})}, nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	put(SingleFile, shard("whole"))
	m, err := OpenModel(dir)
	if err != nil || !m.Has("whole") {
		t.Fatalf("%v", err)
	}
	m.Close()
	put("model-1.safetensors", shard("x"))
	put("model-2.safetensors", shard("yy"))
	put(IndexFile, []byte(`{"metadata":{"total_size":8},"weight_map":{"x":"model-1.safetensors","yy":"model-2.safetensors"}}`))
	if m, err = OpenModel(dir); err != nil {
		t.Fatal(err)
	}
	if got := m.Names(); !reflect.DeepEqual(got, []string{"x", "yy"}) || m.Has("whole") {
		t.Errorf("%v", got)
	}
	yy, err := m.Tensor("yy")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := yy.Float32s(); err != nil || v[0] != 2 {
		t.Errorf("%v %v", v, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for index, want := range map[string]string{
		`{"weight_map":{"x":"../model-1.safetensors"}}`:     "is not a plain file name",
		`{"weight_map":{"x":".."}}`:                         "is not a plain file name",
		`{"weight_map":{"x":"model-2.safetensors"}}`:        `no tensor "x"`,
		`{"weight_map":{"x":"model-9.safetensors"}}`:        "model-9.safetensors",
		`{"weight_map":{}}`:                                 "weight_map: missing or empty",
		`{"weight_map":{"x":"model-1.safetensors"},"metad`:  "invalid JSON",
		`{"weight_map":{"x":"` + IndexFile + `"},"more":0}`: "header at byte 0",
	} {
		put(IndexFile, []byte(index))
		if _, err := OpenModel(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", index, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample(f))
	f.Add(file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{"__metadata__":{"a":"b"},"t":{"dtype":"BF16","shape":[1,0,3],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || m != nil {
				t.Fatalf("not an *Error: %v", err)
			}
			return
		}
		total := int64(0)
		for _, ten := range m.Tensors {
			raw, err := ten.Raw()
			if err != nil || int64(len(raw)) != ten.Elements()*ten.DType.Size() {
				t.Fatalf("%+v: %d bytes, %v", ten, len(raw), err)
			}
			total += int64(len(raw))
			ten.StreamF32(context.Background(), 16, func(int64, int64, []float32) error { return nil })
			ten.Int64s()
		}
		if total > int64(len(b)) {
			t.Fatalf("%d bytes of tensors in a file of %d", total, len(b))
		}
	})
}
