package lora

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabtune/internal/atomicfile"
	"tabtune/internal/tinymodel"
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

// otherConfigs are config.json of the other architectures' small models.
var otherConfigs = map[string]string{
	Qwen2: strings.Replace(tinyConfig, "llama", "qwen2", 1),
	Gemma3: `{"model_type":"gemma3_text","hidden_size":64,"intermediate_size":96,"num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,
"head_dim":32,"query_pre_attn_scalar":32,"vocab_size":96,"max_position_embeddings":256,"rms_norm_eps":1e-5,"hidden_activation":"gelu_pytorch_tanh",
"sliding_window":64,"layer_types":["sliding_attention","full_attention","sliding_attention"],"attn_logit_softcapping":null,
"rope_parameters":{"full_attention":{"rope_type":"default","rope_theta":1000000.0},"sliding_attention":{"rope_type":"default","rope_theta":10000.0}}}`,
}

// TestHuggingFaceArchitectures does as TestHuggingFaceFolder, but that gemma3's norms, of which a folder has 1 less, come back rounded.
func TestHuggingFaceArchitectures(t *testing.T) {
	for arch, text := range otherConfigs {
		c := tinyOf(t, tinymodel.Options{Arch: arch})
		dir := t.TempDir()
		writeFolder(t, dir, c, text)
		hf := openedAs(t, dir, c)
		want, got := gathered(t, c, F32), gathered(t, hf, F32)
		for name := range want {
			for i := 0; i < len(want[name]); i += 4 {
				a, b := math.Float32frombits(binary.LittleEndian.Uint32(want[name][i:])), math.Float32frombits(binary.LittleEndian.Uint32(got[name][i:]))
				if a != b && !(arch == Gemma3 && strings.Contains(name, "norm") && math.Abs(float64(a-b)) < 1e-6) {
					t.Fatalf("%s: %s[%d] is %v, in the GGUF %v", arch, name, i/4, b, a)
				}
			}
		}
	}
	dir := t.TempDir()
	writeFolder(t, dir, tinyOf(t, tinymodel.Options{Arch: Gemma3}), "")
	for _, bad := range []struct{ old, by, want string }{
		{`"full_attention","sliding`, `"full_attention","chunked`, "layer_types[2]"},
		{`"sliding_window":64`, `"sliding_window":0`, "sliding_window"},
		{`"query_pre_attn_scalar":32`, `"query_pre_attn_scalar":168`, "query_pre_attn_scalar"},
		{`softcapping":null`, `softcapping":50`, "softcapping"},
		{"gelu_pytorch_tanh", "relu", "hidden_activation"},
		{`"sliding_attention":{"rope_type":"default"`, `"sliding_attention":{"rope_type":"yarn"`, "rotary scaling"},
		{`"rope_theta":10000.0`, `"rope_theta":0.5`, "ropeLocal"},
	} {
		if !strings.Contains(otherConfigs[Gemma3], bad.old) {
			t.Fatalf("%s: no such text", bad.old)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.Replace(otherConfigs[Gemma3], bad.old, bad.by, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenHuggingFace(dir); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: error %v, want one about %s", bad.by, err, bad.want)
		}
	}
}

// openedAs opens a folder whose config says what the GGUF of c does.
func openedAs(t *testing.T, dir string, c *Checkpoint) *Checkpoint {
	t.Helper()
	hf, closer, err := OpenHuggingFace(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
	c.Config.NormEps = hf.Config.NormEps // GGUF has it as f32
	if hf.Config != c.Config {
		t.Errorf("config %+v, in the GGUF %+v", hf.Config, c.Config)
	}
	return hf
}

// writeFolder writes the model as a Hugging Face folder.
func writeFolder(t *testing.T, dir string, c *Checkpoint, config string) {
	t.Helper()
	var tensors []safetensors.Out
	raw := gathered(t, c, F32)
	for _, w := range c.Weights(F32) {
		if c.Config.gemma() && strings.Contains(w.Name, "norm") {
			for i := 0; i < len(raw[w.Name]); i += 4 {
				v := math.Float32frombits(binary.LittleEndian.Uint32(raw[w.Name][i:])) - 1
				binary.LittleEndian.PutUint32(raw[w.Name][i:], math.Float32bits(v))
			}
		}
		shape := make([]int64, len(w.Sizes))
		for i, n := range w.Sizes {
			shape[i] = int64(n)
		}
		tensors = append(tensors, safetensors.Raw(w.Name, "F32", shape, raw[w.Name]))
	}
	if err := atomicfile.Write(filepath.Join(dir, "model.safetensors"), func(w io.Writer) error { return safetensors.Write(w, tensors, nil) }); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestHuggingFaceFolder writes a GGUF's weights as a Hugging Face folder and
// reads the same weights back, in every format.
func TestHuggingFaceFolder(t *testing.T) {
	c := tinyCheckpoint(t)
	dir := t.TempDir()
	writeFolder(t, dir, c, tinyConfig)
	config := filepath.Join(dir, "config.json")
	hf := openedAs(t, dir, c)
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
