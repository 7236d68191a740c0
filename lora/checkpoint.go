package lora

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"tabtune/engine/pte"
	"tabtune/lora/gguf"
)

// Checkpoint is a model in a GGUF file or a Hugging Face
// folder, seen under Hugging Face's names and row order.
type Checkpoint struct {
	Config Config
	Name   string // of the file or folder, for messages
	find   func(name string) (tensorReader, error)
	hf     bool // the file has Hugging Face's names and row order
}

// tensorReader is a tensor of a file, read by rows.
type tensorReader interface {
	Rows() int64
	Cols() int64
	RowBytes() int64
	Start() int64 // of the data, in its file
	ReadRaw(dst []byte, first, n int64) error
	CanDecode() error                       // nil, or why the values cannot be read as numbers
	Decode(dst []float32, raw []byte) error // of whole rows
}

// NewCheckpoint reads the model's shape from a GGUF file and checks that every
// tensor is there with the right sizes.
func NewCheckpoint(f *gguf.File) (*Checkpoint, error) {
	arch, err := f.Metadata.String("general.architecture")
	if err != nil {
		return nil, err
	}
	if err := knownArchitecture(arch); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	var firstErr error
	num := func(key string) int {
		v, err := f.Metadata.Int(arch + "." + key)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		return int(min(max(v, -1), math.MaxInt32))
	}
	c := &Checkpoint{Name: f.Name, find: func(name string) (tensorReader, error) { return f.Tensor(name) }, Config: Config{
		Architecture: arch, Layers: num("block_count"), Dim: num("embedding_length"), FFN: num("feed_forward_length"),
		Heads: num("attention.head_count"), Context: num("context_length"), RopeBase: 10000, TiedHead: !f.Has("output.weight"),
	}}
	if firstErr != nil {
		return nil, firstErr
	}
	c.Config.KVHeads = c.Config.Heads
	if f.Metadata.Has(arch + ".attention.head_count_kv") {
		c.Config.KVHeads = num("attention.head_count_kv")
	}
	if c.Config.Heads > 0 {
		c.Config.HeadDim = c.Config.Dim / c.Config.Heads
	}
	if f.Metadata.Has(arch + ".attention.key_length") {
		c.Config.HeadDim = num("attention.key_length")
	}
	if firstErr != nil {
		return nil, firstErr
	}
	if c.Config.NormEps, err = f.Metadata.Float(arch + ".attention.layer_norm_rms_epsilon"); err != nil {
		return nil, err
	}
	if f.Metadata.Has(arch + ".rope.freq_base") {
		if c.Config.RopeBase, err = f.Metadata.Float(arch + ".rope.freq_base"); err != nil {
			return nil, err
		}
	}
	if arch == Gemma3 {
		if err := gemmaWindows(f, &c.Config); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{".rope.scaling.type", ".expert_count"} {
		if f.Metadata.Has(arch + key) {
			if s, err := f.Metadata.String(arch + key); err == nil && s == "none" {
				continue
			}
			return nil, fmt.Errorf("%s: %s: models with rotary scaling or experts are not supported", f.Name, arch+key)
		}
	}
	if f.Has("rope_freqs.weight") {
		return nil, fmt.Errorf("%s: tensor rope_freqs.weight: models with rotary scaling are not supported", f.Name)
	}
	emb, err := f.Tensor("token_embd.weight")
	if err != nil {
		return nil, err
	}
	c.Config.Vocab = int(min(emb.Rows(), math.MaxInt32))
	if err := c.Config.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return c, c.check()
}

// What llama.cpp takes of gemma3 where a file does not say.
const (
	gemmaRopeLocal = 10000
	gemmaGlobal    = 6
)

// gemmaWindows reads the sliding window of a gemma3 and the rotary base of the layers that have it.
func gemmaWindows(f *gguf.File, c *Config) error {
	c.RopeLocal, c.Global = gemmaRopeLocal, gemmaGlobal
	if key := Gemma3 + ".rope.freq_base_swa"; f.Metadata.Has(key) {
		v, err := f.Metadata.Float(key)
		if err != nil {
			return err
		}
		c.RopeLocal = v
	}
	if key := Gemma3 + ".attention.sliding_window_pattern"; f.Metadata.Has(key) {
		v, err := f.Metadata.Int(key)
		if err != nil {
			return err
		}
		if v < 1 || v > 512 {
			return fmt.Errorf("%s: %s is %d, want 1 to 512", f.Name, key, v)
		}
		c.Global = int(v)
	}
	window, err := f.Metadata.Int(Gemma3 + ".attention.sliding_window")
	if err != nil {
		return err
	}
	if window < 1 {
		return fmt.Errorf("%s: %s.attention.sliding_window is %d", f.Name, Gemma3, window)
	}
	c.Context = int(min(int64(c.Context), window))
	for _, key := range []string{".attn_logit_softcapping", ".final_logit_softcapping"} {
		if f.Metadata.Has(Gemma3 + key) {
			return fmt.Errorf("%s: %s: models with capped logits are not supported", f.Name, Gemma3+key)
		}
	}
	return nil
}

// source is one weight of the model and where the file has it.
type source struct {
	name, file string
	rows, cols int
	heads      int  // of a q or k projection, whose rows GGUF keeps interleaved
	linear     bool // stored in the run's DType; else norms (f32) and tables
	table      bool
	norm       bool
	plus       float32 // added to every value: Hugging Face has gemma3's norms less 1
}

func (c *Checkpoint) sources() []source {
	out := c.ggufSources()
	if c.hf {
		for i := range out {
			out[i].file, out[i].heads = out[i].name, 0
			if out[i].norm && c.Config.gemma() {
				out[i].plus = 1
			}
		}
	}
	return out
}

// ggufSources lists the weights with the names and row order of a GGUF file.
func (c *Checkpoint) ggufSources() []source {
	m := &c.Config
	out := []source{{name: "model.embed_tokens.weight", file: "token_embd.weight", rows: m.Vocab, cols: m.Dim, table: true}}
	gg := map[string]string{"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
	for l := 0; l < m.Layers; l++ {
		blk := fmt.Sprintf("blk.%d.", l)
		base := fmt.Sprintf("model.layers.%d.", l)
		norm := func(name, file string, cols int) {
			out = append(out, source{name: base + name + ".weight", file: blk + file + ".weight", rows: 1, cols: cols, norm: true})
		}
		norm("input_layernorm", "attn_norm", m.Dim)
		if m.gemma() {
			norm("self_attn.q_norm", "attn_q_norm", m.HeadDim)
			norm("self_attn.k_norm", "attn_k_norm", m.HeadDim)
			norm("post_attention_layernorm", "post_attention_norm", m.Dim)
			norm("pre_feedforward_layernorm", "ffn_norm", m.Dim)
			norm("post_feedforward_layernorm", "post_ffw_norm", m.Dim)
		} else {
			norm("post_attention_layernorm", "ffn_norm", m.Dim)
		}
		for _, mod := range AllModules {
			in, o := m.moduleSize(mod)
			s := source{name: ModuleName(l, mod) + ".weight", file: blk + gg[mod] + ".weight", rows: o, cols: in, linear: true}
			switch mod {
			case "q":
				s.heads = m.Heads
			case "k":
				s.heads = m.KVHeads
			}
			if m.Architecture != Llama { // whose rotary embedding alone pairs neighbours in GGUF
				s.heads = 0
			}
			out = append(out, s)
			if m.biased(mod) {
				out = append(out, source{name: ModuleName(l, mod) + ".bias", file: blk + gg[mod] + ".bias", rows: 1, cols: o})
			}
		}
	}
	out = append(out, source{name: "model.norm.weight", file: "output_norm.weight", rows: 1, cols: m.Dim, norm: true})
	if !m.TiedHead {
		out = append(out, source{name: "lm_head.weight", file: "output.weight", rows: m.Vocab, cols: m.Dim, table: true})
	}
	return out
}

func (c *Checkpoint) check() error {
	for _, s := range c.sources() {
		t, err := c.find(s.file)
		if err != nil {
			return err
		}
		if t.Rows() != int64(s.rows) || t.Cols() != int64(s.cols) {
			return fmt.Errorf("%s: tensor %s is %d x %d, want %d x %d", c.Name, s.file, t.Rows(), t.Cols(), s.rows, s.cols)
		}
	}
	return nil
}

// WeightInfo describes one tensor that Stream delivers.
type WeightInfo struct {
	Name  string
	DType pte.ScalarType
	Sizes []int
	Bytes int64
}

// Weights lists the tensors of the model in the given format, in Stream's order.
func (c *Checkpoint) Weights(dt DType) []WeightInfo {
	var out []WeightInfo
	add := func(name string, st pte.ScalarType, elem int64, sizes ...int) {
		n := elem
		for _, s := range sizes {
			n *= int64(s)
		}
		out = append(out, WeightInfo{name, st, sizes, n})
	}
	for _, s := range c.sources() {
		switch c.format(s, dt) {
		case F32:
			if s.rows == 1 {
				add(s.name, pte.Float, 4, s.cols)
			} else {
				add(s.name, pte.Float, 4, s.rows, s.cols)
			}
		case Int8:
			add(s.name, pte.Char, 1, s.rows, s.cols)
			add(s.name+".scale", pte.Float, 4, s.rows)
		case Q4:
			add(s.name, pte.Byte, 1, s.rows, s.cols/2)
			add(s.name+".scale", pte.Half, 2, s.rows, s.cols/32)
			add(s.name+".min", pte.Half, 2, s.rows, s.cols/32)
		}
	}
	return out
}

func (c *Checkpoint) format(s source, dt DType) DType {
	switch {
	case dt == F32 || !s.linear && !s.table:
		return F32
	case s.table:
		return Int8
	}
	return dt
}

// TensorWriter receives the bytes of one tensor, in any order of ranges.
type TensorWriter func(off int64, b []byte) error

// Stream converts the weights, a bounded chunk at a time, in the order in which a GGUF file has them. open is called
// once for each tensor of Weights(dt); progress (may be nil) gets bytes of the file done and in all.
func (c *Checkpoint) Stream(ctx context.Context, dt DType, open func(WeightInfo) (TensorWriter, error), progress func(done, total int64) error) error {
	return c.StreamRows(ctx, dt, open, nil, progress)
}

// StreamRows is Stream with the rows of the file first offered to rows (nil: nobody), which puts them where the writers of
// their tensor would and answers true, or leaves them to Go by answering false.
func (c *Checkpoint) StreamRows(ctx context.Context, dt DType, open func(WeightInfo) (TensorWriter, error), rows func(StoredRows) bool, progress func(done, total int64) error) error {
	infos := map[string]WeightInfo{}
	for _, w := range c.Weights(dt) {
		infos[w.Name] = w
	}
	var total, done int64
	sources := c.sources()
	start := make(map[string]int64, len(sources))
	for _, s := range sources {
		t, err := c.find(s.file)
		if err != nil {
			return err
		}
		total += t.Rows() * t.RowBytes()
		start[s.file] = t.Start()
	}
	if !c.hf { // one file: read from front to back, which whoever hashes it on the way relies on for speed
		slices.SortStableFunc(sources, func(a, b source) int { return cmp.Compare(start[a.file], start[b.file]) })
	}
	var b buffers
	for _, s := range sources {
		err := c.convert(ctx, s, dt, &b, func(name string) (TensorWriter, error) { return open(infos[name]) }, rows, func(n int) error {
			if done += int64(n); progress == nil {
				return nil
			}
			return progress(done, total)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
