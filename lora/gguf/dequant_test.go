package gguf

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type golden struct {
	Dequantize, Quantize []struct {
		Type        string
		Raw, Values []byte
	}
}

func loadGolden(t *testing.T) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json") // made by testdata/make_golden.py
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func typeNamed(t *testing.T, name string) Type {
	t.Helper()
	for ty, l := range layouts {
		if l.name == name {
			return ty
		}
	}
	t.Fatalf("no type %s", name)
	return 0
}

func floats(b []byte) []float32 {
	out := make([]float32, len(b)/4)
	dequantF32(out, b)
	return out
}

// Bit for bit what the gguf Python package computes, for every type read.
func TestDequantizeGolden(t *testing.T) {
	seen := map[Type]bool{F64: true} // numpy has no block code for it; tested below
	for _, c := range loadGolden(t).Dequantize {
		ty := typeNamed(t, c.Type)
		seen[ty] = true
		want := floats(c.Values)
		got := make([]float32, len(want))
		if err := DequantizeRow(got, c.Raw, ty); err != nil {
			t.Fatalf("%s: %v", c.Type, err)
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%s value %d: %v, want %v", c.Type, i, got[i], want[i])
			}
		}
	}
	for ty := range layouts {
		if ty.CanDequantize() && !seen[ty] {
			t.Errorf("%s is read but not checked", ty)
		}
	}
}

func TestEncodeGolden(t *testing.T) {
	for _, c := range loadGolden(t).Quantize {
		got := make([]byte, len(c.Raw))
		if err := EncodeRow(got, floats(c.Values), typeNamed(t, c.Type)); err != nil {
			t.Fatalf("%s: %v", c.Type, err)
		}
		if !bytes.Equal(got, c.Raw) {
			for i := range got {
				if got[i] != c.Raw[i] {
					t.Fatalf("%s: byte %d is %#x, want %#x", c.Type, i, got[i], c.Raw[i])
				}
			}
		}
	}
}

func TestDequantizeF64(t *testing.T) {
	raw := binary.LittleEndian.AppendUint64(nil, math.Float64bits(1.0/3))
	got := make([]float32, 1)
	if err := DequantizeRow(got, raw, F64); err != nil || got[0] != float32(1.0/3) {
		t.Fatalf("%v %v", got, err)
	}
}

func TestDequantizeRefuses(t *testing.T) {
	for _, c := range []struct {
		values, bytes int
		t             Type
		want          string
	}{
		{32, 19, Q4_0, "take 18 bytes"},
		{31, 18, Q4_0, "multiple of Q4_0's block"},
		{256, 84, Q2_K, "Q2_K cannot be read"},
		{1, 4, Type(99), "type(99) cannot be read"},
		{1, 0, F32, "take 4 bytes"},
	} {
		err := DequantizeRow(make([]float32, c.values), make([]byte, c.bytes), c.t)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want ...%s...", c.t, err, c.want)
		}
	}
}

func TestEncodeRefusesNonFinite(t *testing.T) {
	src := make([]float32, 32)
	src[7] = float32(math.NaN())
	for ty, n := range map[Type]int{Q8_0: 34, Q4_1: 20} {
		if err := EncodeRow(make([]byte, n), src, ty); err == nil {
			t.Errorf("%s took a NaN", ty)
		}
	}
	// Tiny values, whose reciprocal scale overflows, must not become garbage.
	for i := range src {
		src[i] = float32(i) * 1e-45
	}
	for ty, n := range map[Type]int{Q8_0: 34, Q4_1: 20} {
		raw, back := make([]byte, n), make([]float32, 32)
		if err := EncodeRow(raw, src, ty); err != nil {
			t.Fatal(err)
		}
		if err := DequantizeRow(back, raw, ty); err != nil {
			t.Fatal(err)
		}
		for i, x := range back {
			if math.Abs(float64(x)) > 1e-30 {
				t.Fatalf("%s: value %d of a tiny row came back as %v", ty, i, x)
			}
		}
	}
}

// assets is where the real files of the tests are: TABTUNE_ASSETS, or
// cache/assets under the repository root.
func asset(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TABTUNE_ASSETS")
	if dir == "" {
		dir = filepath.Join("..", "..", "cache", "assets")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there; fetch the assets or set TABTUNE_ASSETS", path)
	}
	return path
}

// Every tensor of the real model, streamed in small chunks, has the values that
// the gguf Python package reads (digests by testdata/make_golden.py MODEL).
func TestRealModel(t *testing.T) {
	path := asset(t, "SmolLM2-135M-Instruct.Q4_1.gguf")
	f, closer, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if arch, err := f.Metadata.String("general.architecture"); err != nil || arch != "llama" {
		t.Fatalf("architecture %q, %v", arch, err)
	}
	for key, want := range map[string]uint64{"llama.block_count": 30, "llama.embedding_length": 576,
		"llama.attention.head_count": 9, "llama.attention.head_count_kv": 3} {
		if got, err := f.Metadata.Uint(key); err != nil || got != want {
			t.Errorf("%s = %d, %v", key, got, err)
		}
	}
	if tok, err := f.Metadata.Strings("tokenizer.ggml.tokens"); err != nil || len(tok) != 49152 {
		t.Errorf("%d tokens, %v", len(tok), err)
	}
	if rope, err := f.Metadata.Float("llama.rope.freq_base"); err != nil || rope != 100000 {
		t.Errorf("rope base %v, %v", rope, err)
	}
	list, err := os.Open("testdata/SmolLM2-135M-Instruct.Q4_1.digest")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	n := 0
	for s := bufio.NewScanner(list); s.Scan(); n++ {
		w := strings.Fields(s.Text())
		if testing.Short() && n%20 != 1 {
			continue
		}
		ten, err := f.Tensor(w[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Trim(strings.ReplaceAll(fmt.Sprint(ten.Shape), " ", ","), "[]"); got != w[2] || ten.Type.String() != w[1] {
			t.Fatalf("%s: %s %s, want %s %s", w[0], ten.Type, got, w[1], w[2])
		}
		h := sha256.New()
		next := int64(0)
		var buf []byte
		err = ten.StreamF32(context.Background(), 100_000, func(first, n int64, v []float32) error {
			if first != next {
				return fmt.Errorf("row %d after %d", first, next)
			}
			next = first + n
			buf = buf[:0]
			for _, x := range v {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
			}
			h.Write(buf)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil))[:16]; got != w[3] {
			t.Errorf("%s: digest %s, want %s", w[0], got, w[3])
		}
	}
	if n != len(f.Tensors) {
		t.Errorf("%d tensors, the list has %d", len(f.Tensors), n)
	}
}
