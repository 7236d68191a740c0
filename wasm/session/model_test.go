package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/internal/tinymodel"
	"tabtune/lora"
	"tabtune/lora/gguf"
)

// TestWeightsFromKernels opens models of every type in every format and compares the weights in device memory, which kernels converted, with
// those that Go converts.
func TestWeightsFromKernels(t *testing.T) {
	c := limited(t, 0)
	path := filepath.Join(t.TempDir(), "m.gguf")
	for _, typ := range []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q4_0, gguf.Q4_1} {
		b, err := tinymodel.Bytes(tinymodel.Options{Matrix: typ, Tokenizer: true})
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(b))
		for _, dt := range []lora.DType{lora.F32, lora.Int8, lora.Q4} {
			c.must("model.open", params{"path": path, "dtype": string(dt)})
			m := c.se.model
			want := map[string][]byte{}
			err := m.ckpt.Stream(context.Background(), dt, func(w lora.WeightInfo) (lora.TensorWriter, error) {
				buf := make([]byte, w.Bytes)
				want[w.Name] = buf
				return func(off int64, b []byte) error { copy(buf[off:], b); return nil }, nil
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(want) != len(m.weights) {
				t.Errorf("%s as %s: %d weights, want %d", typ, dt, len(m.weights), len(want))
			}
			for name, w := range want {
				got := make([]byte, len(w))
				c.se.dev.Read(got, m.weights[name].Addr)
				if !bytes.Equal(got, w) {
					t.Fatalf("%s as %s: %s is not what Go makes of it", typ, dt, name)
				}
			}
		}
	}
}

// TestWeightsNotFinite puts an infinite scale into a file: kernels find it and Go says where it is.
func TestWeightsNotFinite(t *testing.T) {
	c := limited(t, 0)
	path := filepath.Join(t.TempDir(), "m.gguf")
	for typ, words := range map[gguf.Type][]string{gguf.Q8_0: {"blk.1.ffn_up.weight", "row 3", "column 32"}, gguf.Q4_1: {"blk.1.ffn_up.weight", "row 3"}} {
		b, err := tinymodel.Bytes(tinymodel.Options{Matrix: typ, Tokenizer: true})
		if err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Read(bytes.NewReader(b), int64(len(b)), "m.gguf")
		if err != nil {
			t.Fatal(err)
		}
		up, err := f.Tensor("blk.1.ffn_up.weight")
		if err != nil {
			t.Fatal(err)
		}
		at := up.Offset + 3*up.RowBytes() + up.RowBytes()/(up.Cols()/32)
		b[at], b[at+1] = 0, 0x7c
		write(t, path, string(b))
		for _, dt := range []string{"f32", "int8", "q4"} {
			c.fails("model.open", params{"path": path, "dtype": dt}, "failed", words[:2]...)
		}
	}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestKnownFile opens a model with what an earlier opening said of it, right and wrong.
func TestKnownFile(t *testing.T) {
	c := limited(t, 0)
	model, _ := tinyFiles(t)
	open := func(known any) (info modelInfo) {
		t.Helper()
		if err := json.Unmarshal(c.must("model.open", params{"path": model, "known": known}), &info); err != nil {
			t.Fatal(err)
		}
		return info
	}
	whole := read(t, model)
	first := open(nil)
	if first.SHA256 != sumOf(whole) || len(first.Fingerprint) != 16 {
		t.Fatalf("%+v, want the SHA-256 %s", first, sumOf(whole))
	}
	// A hash that is wrong shows that it was taken over and not computed.
	taken := strings.Repeat("ab", 32)
	known := params{"bytes": len(whole), "fingerprint": first.Fingerprint, "sha256": taken}
	if got := open(known); got.SHA256 != taken || got.Fingerprint != first.Fingerprint {
		t.Errorf("the file is known: %+v", got)
	}
	for what, change := range map[string]params{"another size": {"bytes": len(whole) - 1}, "another fingerprint": {"fingerprint": "0123456789abcdef"}} {
		if got := open(merge(known, change)); got.SHA256 != first.SHA256 || got.Fingerprint != first.Fingerprint {
			t.Errorf("%s: %+v", what, got)
		}
	}
	for _, at := range []int{len(whole) - 1, len(whole) / 2} { // a weight, in a file of the same size
		changed := []byte(whole)
		changed[at] ^= 1
		write(t, model, string(changed))
		if got := open(known); got.SHA256 != sumOf(string(changed)) || got.Fingerprint == first.Fingerprint {
			t.Errorf("byte %d changed: %+v", at, got)
		}
	}
	for field, bad := range map[string]params{"fingerprint": {"fingerprint": "xyz"}, "sha256": {"sha256": taken[1:]}} {
		c.fails("model.open", params{"path": model, "known": merge(known, bad)}, "invalid_params", field)
	}
}

// TestDigest reads a file in any order: every byte is hashed once and in order.
func TestDigest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 3<<20+17)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, string(b))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want *knownFile
	for try := range 20 {
		d := newDigest(f, int64(len(b)), nil)
		for range try {
			off := rng.Int64N(int64(len(b)))
			p := make([]byte, min(rng.IntN(1<<19), len(b)-int(off)))
			if n, err := d.ReadAt(p, off); err != nil || n != len(p) || !bytes.Equal(p, b[off:off+int64(n)]) {
				t.Fatal(n, err)
			}
		}
		got, err := d.end(func(done, total int64) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if *got != *want || got.SHA256 != sumOf(string(b)) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		p := make([]byte, 9)
		if _, err := d.ReadAt(p, 5); err != nil || !bytes.Equal(p, b[5:14]) {
			t.Fatal("reading after the end:", err)
		}
	}
	short := newDigest(f, int64(len(b))+1, nil)
	if _, err := short.end(func(done, total int64) error { return nil }); err == nil || !strings.Contains(err.Error(), fmt.Sprint(len(b))) {
		t.Errorf("a file that ends early: %v", err)
	}
}
