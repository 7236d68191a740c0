package lora

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tabtune/lora/safetensors"
)

// maxConfig bounds config.json.
const maxConfig = 1 << 20

// hfConfig is what config.json of a Hugging Face llama says that matters here.
type hfConfig struct {
	ModelType     string   `json:"model_type"`
	Dim           int      `json:"hidden_size"`
	FFN           int      `json:"intermediate_size"`
	Layers        int      `json:"num_hidden_layers"`
	Heads         int      `json:"num_attention_heads"`
	KVHeads       int      `json:"num_key_value_heads"`
	HeadDim       int      `json:"head_dim"`
	Vocab         int      `json:"vocab_size"`
	Context       int      `json:"max_position_embeddings"`
	NormEps       float64  `json:"rms_norm_eps"`
	RopeTheta     float64  `json:"rope_theta"`
	Activation    string   `json:"hidden_act"`
	AttentionBias bool     `json:"attention_bias"`
	MLPBias       bool     `json:"mlp_bias"`
	RopeScaling   *ropeDef `json:"rope_scaling"`
	RopeParams    *ropeDef `json:"rope_parameters"` // where newer versions have both
}

type ropeDef struct {
	Type    string  `json:"rope_type"`
	OldType string  `json:"type"`
	Theta   float64 `json:"rope_theta"`
}

// OpenHuggingFace opens a folder with config.json and safetensors (one file or
// an index of shards). The caller closes the returned closer when the weights are
// no longer read.
func OpenHuggingFace(dir string) (*Checkpoint, io.Closer, error) {
	path := filepath.Join(dir, "config.json")
	b, err := ReadBounded(path, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	var h hfConfig
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	c, err := h.config()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := safetensors.OpenModel(dir)
	if err != nil {
		return nil, nil, err
	}
	c.TiedHead = !m.Has("lm_head.weight")
	ck := &Checkpoint{Config: *c, Name: dir, hf: true, find: func(name string) (tensorReader, error) { return m.Tensor(name) }}
	if err := ck.check(); err != nil {
		m.Close() // read only
		return nil, nil, err
	}
	return ck, m, nil
}

func (h *hfConfig) config() (*Config, error) {
	if h.ModelType != "llama" {
		return nil, fmt.Errorf("model_type %q is not supported (supported: llama)", h.ModelType)
	}
	if h.Activation != "" && h.Activation != "silu" {
		return nil, fmt.Errorf("hidden_act %q is not supported (supported: silu)", h.Activation)
	}
	if h.AttentionBias || h.MLPBias {
		return nil, fmt.Errorf("attention_bias or mlp_bias: linear layers with a bias are not supported")
	}
	theta := h.RopeTheta
	for _, r := range []*ropeDef{h.RopeScaling, h.RopeParams} {
		if r == nil {
			continue
		}
		if t := r.Type + r.OldType; t != "" && t != "default" {
			return nil, fmt.Errorf("rotary scaling %q is not supported", t)
		}
		if r.Theta != 0 {
			theta = r.Theta
		}
	}
	c := &Config{Architecture: "llama", Layers: h.Layers, Dim: h.Dim, FFN: h.FFN, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim,
		Vocab: h.Vocab, Context: h.Context, NormEps: h.NormEps, RopeBase: theta}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Dim / c.Heads
	}
	if c.RopeBase == 0 {
		c.RopeBase = 10000
	}
	return c, c.Validate()
}

// ReadBounded reads a small file; one of more than limit bytes is an error.
func ReadBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return b, nil
}
