package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tabtune/internal/tinymodel"
	"tabtune/lora"
	"tabtune/lora/gguf"
	"tabtune/lora/peft"
)

// tiny is the small model and an adapter on q, k and down of its last two layers.
func tiny(t *testing.T) (*gguf.File, *lora.Checkpoint, *peft.Adapter) {
	t.Helper()
	b, err := tinymodel.Bytes(tinymodel.Options{Tokenizer: true, Matrix: gguf.Q4_0})
	if err != nil {
		t.Fatal(err)
	}
	f, c := parse(t, b)
	a := &peft.Adapter{Rank: 4, Alpha: 6, BaseModel: "tiny"}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, g := range c.GGUFTensors() {
		if l := strings.Split(g.Name, ".")[1]; l == "0" || !strings.Contains("attn_q attn_k ffn_down", strings.Split(g.Name, ".")[2]) {
			continue
		}
		m := peft.Module{Name: g.Module, In: g.In, Out: g.Out, A: make([]float32, 4*g.In), B: make([]float32, 4*g.Out)}
		for i := range m.A {
			m.A[i] = float32(rng.NormFloat64())
		}
		for i := range m.B {
			m.B[i] = float32(rng.NormFloat64()) / 8
		}
		a.Modules = append(a.Modules, m)
	}
	if len(a.Modules) != 6 {
		t.Fatalf("%d modules", len(a.Modules))
	}
	return f, c, a
}

func parse(t *testing.T, b []byte) (*gguf.File, *lora.Checkpoint) {
	t.Helper()
	f, err := gguf.Read(bytes.NewReader(b), int64(len(b)), "tiny.gguf")
	if err != nil {
		t.Fatal(err)
	}
	c, err := lora.NewCheckpoint(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}

func save(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.gguf")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAdapter writes an adapter and reads it again, and looks at the order of rows in the file.
func TestAdapter(t *testing.T) {
	_, c, a := tiny(t)
	var b bytes.Buffer
	if err := Adapter(&b, c, a); err != nil {
		t.Fatal(err)
	}
	got, err := ReadAdapter(save(t, b.Bytes()), c)
	if err != nil {
		t.Fatal(err)
	}
	got.BaseModel = a.BaseModel
	if !reflect.DeepEqual(got.Modules, a.Modules) || got.Rank != a.Rank || got.Alpha != a.Alpha {
		t.Error("the adapter read is not the one written")
	}
	f, err := gguf.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), "a.gguf")
	if err != nil {
		t.Fatal(err)
	}
	lb, err := f.Tensor("blk.2.attn_q.weight.lora_b")
	if err != nil {
		t.Fatal(err)
	}
	row := make([]float32, 4)
	if err := lb.ReadRows(row, 1, 1); err != nil {
		t.Fatal(err)
	}
	// A head has 16 rows; the file's row 1 is the partner of row 0, which Hugging Face keeps half a head away.
	for _, m := range a.Modules {
		if m.Name == "model.layers.2.self_attn.q_proj" && !reflect.DeepEqual(row, m.B[8*4:9*4]) {
			t.Errorf("row 1 of q is %v, want row 8 of B", row)
		}
	}
}

// TestMerged compares every weight of merged models with the model's own plus alpha/r B A.
func TestMerged(t *testing.T) {
	f, c, a := tiny(t)
	want := weights(t, c)
	for i := range a.Modules {
		m := &a.Modules[i]
		w := want[m.Name+".weight"]
		for o := range m.Out {
			for r := range a.Rank {
				for k := range m.In {
					w[o*m.In+k] += float32(a.Scale(m)) * m.B[o*a.Rank+r] * m.A[r*m.In+k]
				}
			}
		}
	}
	for _, typ := range []gguf.Type{gguf.F16, gguf.Q8_0} {
		var b bytes.Buffer
		if err := Merged(t.Context(), &b, f, c, a, typ, nil); err != nil {
			t.Fatal(err)
		}
		mf, mc := parse(t, b.Bytes())
		if mf.Tensors[1].Type != gguf.F32 && mf.Tensors[1].Type != typ {
			t.Errorf("%s: tensor in %s", typ, mf.Tensors[1].Type)
		}
		if tok, err := mf.Metadata.Strings("tokenizer.ggml.tokens"); err != nil || len(tok) == 0 {
			t.Errorf("%s: the tokenizer is gone: %v", typ, err)
		}
		// Half a step of the type; the step of Q8_0 is itself rounded to 11 bits.
		for name, got := range weights(t, mc) {
			top, diff := 0.0, 0.0
			for i, x := range want[name] {
				top, diff = max(top, math.Abs(float64(x))), max(diff, math.Abs(float64(x-got[i])))
			}
			limit := map[gguf.Type]float64{gguf.F16: 1.0 / 2048, gguf.Q8_0: 1.0/254 + 1.0/2048}[typ]
			if diff > limit*top {
				t.Errorf("%s: %s differs by %g of %g", typ, name, diff, top)
			}
		}
	}
	if err := Merged(t.Context(), &bytes.Buffer{}, f, c, a, gguf.Q4_1, nil); err == nil {
		t.Error("Q4_1 was not refused")
	}
}

// weights reads all weights in Hugging Face's order.
func weights(t *testing.T, c *lora.Checkpoint) map[string][]float32 {
	t.Helper()
	out := map[string][]float32{}
	err := c.Stream(context.Background(), lora.F32, func(w lora.WeightInfo) (lora.TensorWriter, error) {
		v := make([]float32, w.Bytes/4)
		out[w.Name] = v
		return func(off int64, b []byte) error {
			for i := 0; i < len(b); i += 4 {
				v[(int(off)+i)/4] = math.Float32frombits(binary.LittleEndian.Uint32(b[i:]))
			}
			return nil
		}, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHostile reads adapters that are not what they say.
func TestHostile(t *testing.T) {
	f, c, a := tiny(t)
	var good bytes.Buffer
	if err := Adapter(&good, c, a); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < good.Len(); n += 97 {
		if _, err := ReadAdapter(save(t, good.Bytes()[:n]), c); err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
	}
	values := func(n int) []float32 { return make([]float32, n) }
	for name, change := range map[string]func(*gguf.Writer) error{
		"architecture": func(w *gguf.Writer) error { return w.Set("general.architecture", "mamba") },
		"type":         func(w *gguf.Writer) error { return w.Set("adapter.type", "control_vector") },
		"alpha":        func(w *gguf.Writer) error { return w.Set("adapter.lora.alpha", float32(math.NaN())) },
		"lora_b": func(w *gguf.Writer) error {
			return w.AddF32("blk.1.ffn_up.weight.lora_a", gguf.F32, []int64{4, 64}, values(256))
		},
		"the layer is": func(w *gguf.Writer) error {
			return errors.Join(w.AddF32("blk.1.ffn_up.weight.lora_a", gguf.F32, []int64{4, 32}, values(128)), w.AddF32("blk.1.ffn_up.weight.lora_b", gguf.F32, []int64{96, 4}, values(384)))
		},
		"rank": func(w *gguf.Writer) error {
			return errors.Join(w.AddF32("blk.1.ffn_up.weight.lora_a", gguf.F32, []int64{2, 64}, values(128)), w.AddF32("blk.1.ffn_up.weight.lora_b", gguf.F32, []int64{96, 2}, values(192)))
		},
		"whole model": func(w *gguf.Writer) error {
			return errors.Join(w.Set("general.type", "model"), w.AddF32("token_embd.weight", gguf.F32, []int64{4, 64}, values(256)))
		},
		"token_embd": func(w *gguf.Writer) error {
			return w.AddF32("token_embd.weight.lora_a", gguf.F32, []int64{4, 64}, values(256))
		},
	} {
		w := gguf.NewWriter()
		for key, v := range map[string]any{"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": float32(1)} {
			if err := w.Set(key, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.AddF32("blk.1.attn_v.weight.lora_a", gguf.F32, []int64{4, 64}, values(256)), w.AddF32("blk.1.attn_v.weight.lora_b", gguf.F32, []int64{32, 4}, values(128)), change(w)); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := w.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadAdapter(save(t, b.Bytes()), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	head := peft.Module{Name: lora.HeadName, In: c.Config.Dim, Out: c.Config.Vocab, Rank: 1, Alpha: 1, A: make([]float32, c.Config.Dim), B: make([]float32, c.Config.Vocab)}
	head.B[3] = 1
	a.Modules = append(a.Modules, head)
	var without bytes.Buffer
	if err := Adapter(&without, c, a); err != nil || !bytes.Equal(without.Bytes(), good.Bytes()) {
		t.Errorf("with a head that changes nothing: %v, %d bytes, without it %d", err, without.Len(), good.Len())
	}
	head.A[0] = 1
	for _, err := range []error{Adapter(&bytes.Buffer{}, c, a), Merged(t.Context(), &bytes.Buffer{}, f, c, a, gguf.F16, nil)} {
		if err == nil || !strings.Contains(err.Error(), "a LoRA on the output head") {
			t.Errorf("a head: %v", err)
		}
	}
	a.Modules = a.Modules[:6]
	a.Modules[0].Out *= 2
	a.Modules[0].B = append(a.Modules[0].B, a.Modules[0].B...)
	if err := Adapter(&bytes.Buffer{}, c, a); err == nil || !strings.Contains(err.Error(), "in this model") {
		t.Errorf("an adapter of another model: %v", err)
	}
}
