package lora

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"tabtune/lora/safetensors"
)

// maxConfig bounds config.json.
const maxConfig = 1 << 20

// hfConfig is what config.json says that matters here.
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
	// Of gemma3. Newer versions have a ropeDef for each kind of layer in rope_parameters.
	GemmaAct   string   `json:"hidden_activation"`
	RopeLocal  float64  `json:"rope_local_base_freq"`
	Sliding    int      `json:"sliding_window"`
	Pattern    int      `json:"sliding_window_pattern"`
	LayerTypes []string `json:"layer_types"`
	QueryScale float64  `json:"query_pre_attn_scalar"`
	AttnCap    *float64 `json:"attn_logit_softcapping"`
	FinalCap   *float64 `json:"final_logit_softcapping"`
	UseSliding bool     `json:"use_sliding_window"` // of qwen2
}

type ropeDef struct {
	Type    string  `json:"rope_type"`
	OldType string  `json:"type"`
	Theta   float64 `json:"rope_theta"`
	// of the kinds of layers that gemma3 has
	Full    *ropeDef `json:"full_attention"`
	Sliding *ropeDef `json:"sliding_attention"`
}

// unscaled refuses rotary scaling.
func (r *ropeDef) unscaled() error {
	if t := r.Type + r.OldType; t != "" && t != "default" {
		return fmt.Errorf("rotary scaling %q is not supported", t)
	}
	return nil
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
	arch, ok := map[string]string{"llama": Llama, "qwen2": Qwen2, "gemma3_text": Gemma3}[h.ModelType]
	if !ok {
		return nil, fmt.Errorf("model_type %.40q is not supported (supported: llama, qwen2, gemma3_text)", h.ModelType)
	}
	if arch == Gemma3 {
		if err := h.gemma(); err != nil {
			return nil, err
		}
	} else if h.Activation != "" && h.Activation != "silu" {
		return nil, fmt.Errorf("hidden_act %q is not supported (supported: silu)", h.Activation)
	}
	if h.UseSliding {
		return nil, fmt.Errorf("use_sliding_window: not supported")
	}
	if h.AttentionBias || h.MLPBias {
		return nil, fmt.Errorf("attention_bias or mlp_bias: linear layers with a bias are not supported")
	}
	theta := h.RopeTheta
	for _, r := range []*ropeDef{h.RopeScaling, h.RopeParams} {
		if r == nil {
			continue
		}
		if err := r.unscaled(); err != nil {
			return nil, err
		}
		if r.Theta != 0 {
			theta = r.Theta
		}
	}
	c := &Config{Architecture: arch, Layers: h.Layers, Dim: h.Dim, FFN: h.FFN, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim,
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
	if arch == Gemma3 {
		c.RopeLocal, c.Global, c.Context = h.RopeLocal, h.Pattern, min(c.Context, h.Sliding)
	}
	return c, c.Validate()
}

// gemma checks what gemma3 alone has, and fills in its defaults.
func (h *hfConfig) gemma() error {
	if a := h.GemmaAct + h.Activation; a != "" && a != "gelu_pytorch_tanh" {
		return fmt.Errorf("hidden_activation %q is not supported (supported: gelu_pytorch_tanh)", a)
	}
	if h.AttnCap != nil || h.FinalCap != nil {
		return fmt.Errorf("attn_logit_softcapping or final_logit_softcapping: capped logits are not supported")
	}
	if h.HeadDim == 0 {
		h.HeadDim = 256
	}
	if h.QueryScale != 0 && h.QueryScale != float64(h.HeadDim) {
		return fmt.Errorf("query_pre_attn_scalar %g: only head_dim (%d) is supported", h.QueryScale, h.HeadDim)
	}
	if p := h.RopeParams; p != nil && p.Full != nil && p.Sliding != nil {
		if err := p.Sliding.unscaled(); err != nil {
			return err
		}
		h.RopeParams, h.RopeLocal = p.Full, p.Sliding.Theta
	}
	if h.RopeLocal == 0 {
		h.RopeLocal = gemmaRopeLocal
	}
	if h.RopeTheta == 0 {
		h.RopeTheta = 1e6
	}
	if h.Sliding < 1 {
		return fmt.Errorf("sliding_window is %d", h.Sliding)
	}
	if at := slices.Index(h.LayerTypes, "full_attention"); at >= 0 {
		h.Pattern = at + 1
	} else if h.Pattern == 0 {
		h.Pattern = gemmaGlobal
	}
	if h.Pattern < 1 || h.Pattern > 512 {
		return fmt.Errorf("sliding_window_pattern is %d, want 1 to 512", h.Pattern)
	}
	for i, t := range h.LayerTypes {
		global := (i+1)%h.Pattern == 0
		if global != (t == "full_attention") || !global && t != "sliding_attention" {
			return fmt.Errorf("layer_types[%d] is %.40q, which does not fit full attention in every %dth layer", i, t, h.Pattern)
		}
	}
	return nil
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
