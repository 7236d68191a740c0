package lora

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/internal/atomicfile"
	"tabtune/lora/safetensors"
)

const tinyConfig = `{"model_type":"llama","hidden_size":64,"intermediate_size":96,"num_hidden_layers":3,"num_attention_heads":4,
"num_key_value_heads":2,"vocab_size":96,"max_position_embeddings":256,"rms_norm_eps":1e-5,"rope_theta":10000,"hidden_act":"silu"}`

// gathered streams a checkpoint into memory.
func gathered(t *testing.T, c *Checkpoint, dt DType) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	if err := c.Stream(context.Background(), dt, func(w WeightInfo) (TensorWriter, error) {
		buf := make([]byte, w.Bytes)
		out[w.Name] = buf
		return func(off int64, b []byte) error { copy(buf[off:], b); return nil }, nil
	}, nil); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHuggingFaceFolder writes a GGUF's weights as a Hugging Face folder and
// reads the same weights back, in every format.
func TestHuggingFaceFolder(t *testing.T) {
	c := tinyCheckpoint(t)
	dir := t.TempDir()
	var tensors []safetensors.Out
	raw := gathered(t, c, F32)
	for _, w := range c.Weights(F32) {
		shape := make([]int64, len(w.Sizes))
		for i, n := range w.Sizes {
			shape[i] = int64(n)
		}
		tensors = append(tensors, safetensors.Raw(w.Name, "F32", shape, raw[w.Name]))
	}
	if err := atomicfile.Write(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error { return safetensors.Write(w, tensors, nil) }); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, []byte(tinyConfig), 0o666); err != nil {
		t.Fatal(err)
	}
	hf, closer, err := OpenHuggingFace(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	c.Config.NormEps = hf.Config.NormEps // GGUF has it as f32
	if hf.Config != c.Config {
		t.Errorf("config %+v, in the GGUF %+v", hf.Config, c.Config)
	}
	for _, dt := range []DType{F32, Int8, Q4} {
		want, got := gathered(t, c, dt), gathered(t, hf, dt)
		for name := range want {
			if !bytes.Equal(want[name], got[name]) {
				t.Errorf("%s: %s differs", dt, name)
			}
		}
	}
	for old, want := range map[string]string{
		`"llama"`:                 "model_type",
		`"silu"`:                  "hidden_act",
		`"rope_theta":10000`:      "rotary scaling",
		`"num_hidden_layers":3`:   "layers",
		`"num_key_value_heads":2`: "kvHeads",
		`"hidden_size":64`:        "embed_tokens",
	} {
		by := map[string]string{`"llama"`: `"gpt2"`, `"silu"`: `"gelu"`, `"rope_theta":10000`: `"rope_scaling":{"rope_type":"llama3"}`,
			`"num_hidden_layers":3`: `"num_hidden_layers":-1`, `"num_key_value_heads":2`: `"num_key_value_heads":3`, `"hidden_size":64`: `"hidden_size":128,"head_dim":16`}[old]
		if err := os.WriteFile(config, []byte(strings.Replace(tinyConfig, old, by, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenHuggingFace(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %s", by, err, want)
		}
	}
}
