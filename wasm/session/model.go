package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/internal/collect"
	"tabtune/lora"
	"tabtune/lora/gguf"
	"tabtune/lora/tokenizer"
	"tabtune/wasm/rpc"
)

// model is an open checkpoint with its weights in device memory.
type model struct {
	path     string
	file     io.Closer
	gguf     *gguf.File // nil for a folder
	files    []string   // whose bytes are the model's
	digest   *digest    // of the one file; nil for a folder
	ckpt     *lora.Checkpoint
	dtype    lora.DType
	window   int // most tokens of a row; 0: the model's context
	tok      *tokenizer.Tokenizer
	template string // of chats, "" if the model has none
	weights  weights
	bytes    int64
	info     modelInfo

	tokenSeconds float64 // see Session.tokenSeconds; 0: not timed yet
}

// weights are the tensors in device memory by name: an engine.DataSource.
type weights map[string]engine.External

// Lookup implements engine.DataSource.
func (w weights) Lookup(name string) (engine.External, bool) { e, ok := w[name]; return e, ok }

type modelParams struct {
	Path   string `json:"path"`
	DType  string `json:"dtype"`
	Window int    `json:"window"`
	// Known is what an earlier opening of the file answered, which saves its SHA-256 if the file is still the same.
	Known *knownFile `json:"known"`
}

type modelInfo struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Parameters   int64  `json:"parameters"`
	Layers       int    `json:"layers"`
	Dim          int    `json:"dim"`
	Heads        int    `json:"heads"`
	KVHeads      int    `json:"kvHeads"`
	Vocab        int    `json:"vocab"`
	DType        string `json:"dtype"`
	FileBytes    int64  `json:"fileBytes"`
	WeightBytes  int64  `json:"weightBytes"`
	SHA256       string `json:"sha256"`
	Fingerprint  string `json:"fingerprint,omitempty"` // of a single file: for known, when it is opened again
	Chat         bool   `json:"chat"`
	License      string `json:"license,omitempty"`      // as its file says
	Quantization string `json:"quantization,omitempty"` // of a GGUF file
}

func (s *Session) openModel(t *rpc.Task, p modelParams) (modelInfo, error) {
	s.closeModel()
	m, err := s.readModel(t, p)
	if err != nil {
		if m != nil {
			s.freeModel(m)
		}
		return modelInfo{}, err
	}
	s.model = m
	return m.info, nil
}

// readHeader opens the file and reads all but the weights.
func readHeader(p modelParams) (*model, error) {
	if p.DType == "" {
		p.DType = string(lora.Int8)
	}
	if err := p.Known.check(); err != nil {
		return nil, err
	}
	m := &model{path: p.Path, dtype: lora.DType(p.DType), window: p.Window}
	switch m.dtype {
	case lora.F32, lora.Int8, lora.Q4:
	default:
		return nil, invalid("dtype %q: want int8, f32 or q4", p.DType)
	}
	m.info.Name = strings.TrimSuffix(filepath.Base(p.Path), filepath.Ext(p.Path))
	st, err := os.Stat(p.Path)
	if err != nil {
		return nil, err
	}
	open := m.openFolder
	if !st.IsDir() {
		open = func() error { return m.openGGUF(p.Known) }
	}
	if err := open(); err != nil {
		return m, err
	}
	c := &m.ckpt.Config
	if p.Window < 0 || p.Window > c.Context {
		return m, invalid("window: %d tokens, want 1 to the model's context %d", p.Window, c.Context)
	}
	if m.tok.Len() > c.Vocab {
		return m, invalid("%s: the tokenizer has %d tokens, the embedding %d rows", p.Path, m.tok.Len(), c.Vocab)
	}
	for _, w := range m.ckpt.Weights(m.dtype) {
		m.bytes += w.Bytes
	}
	var size int64
	for _, path := range m.files {
		st, err := os.Stat(path)
		if err != nil {
			return m, err
		}
		size += st.Size()
	}
	m.info = modelInfo{Name: m.info.Name, Architecture: c.Architecture, Parameters: c.Params(), Layers: c.Layers, Dim: c.Dim, Heads: c.Heads, KVHeads: c.KVHeads,
		Vocab: c.Vocab, DType: string(m.dtype), FileBytes: size, WeightBytes: m.bytes, Chat: m.template != ""}
	if m.gguf != nil {
		m.info.License, m.info.Quantization = said(m.gguf, "general.license"), quantization(m.gguf)
	}
	return m, nil
}

// openGGUF reads a GGUF file, which holds tokenizer and chat template too.
func (m *model) openGGUF(known *knownFile) error {
	h, err := os.Open(m.path)
	if err != nil {
		return err
	}
	m.file, m.files = h, []string{m.path}
	st, err := h.Stat()
	if err != nil {
		return err
	}
	m.digest = newDigest(h, st.Size(), known)
	f, err := gguf.Read(m.digest, st.Size(), m.path)
	if err != nil {
		return err
	}
	m.gguf = f
	if m.ckpt, err = lora.NewCheckpoint(f); err != nil {
		return err
	}
	vocab, err := tokenizer.FromMetadata(&f.Metadata)
	if err != nil {
		return err
	}
	if m.tok, err = tokenizer.New(vocab); err != nil {
		return err
	}
	if f.Metadata.Has("tokenizer.chat_template") {
		if m.template, err = f.Metadata.String("tokenizer.chat_template"); err != nil {
			return err
		}
	}
	if n, err := f.Metadata.String("general.name"); err == nil && n != "" {
		m.info.Name = n // optional
	}
	return nil
}

// Bounds of the small files of a Hugging Face folder.
const (
	maxTokenizer = 64 << 20
	maxTemplate  = 1 << 20
)

// openFolder reads a Hugging Face folder: config.json, safetensors,
// tokenizer.json, and the chat template of tokenizer_config.json or
// chat_template.jinja if there is one.
func (m *model) openFolder() (err error) {
	if m.ckpt, m.file, err = lora.OpenHuggingFace(m.path); err != nil {
		return err
	}
	if m.files, err = filepath.Glob(filepath.Join(m.path, "*.safetensors")); err != nil {
		return err
	}
	path := filepath.Join(m.path, "tokenizer.json")
	b, err := lora.ReadBounded(path, maxTokenizer)
	if err != nil {
		return err
	}
	if m.tok, err = tokenizer.FromJSON(path, b); err != nil {
		return err
	}
	if b, err = lora.ReadBounded(filepath.Join(m.path, "chat_template.jinja"), maxTemplate); err == nil {
		m.template = string(b)
		return nil
	}
	path = filepath.Join(m.path, "tokenizer_config.json")
	if b, err = lora.ReadBounded(path, maxTemplate); err != nil {
		return nil // optional
	}
	var c struct {
		Template any `json:"chat_template"` // a string, or a list of named ones
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	m.template, _ = c.Template.(string)
	return nil
}

func (s *Session) readModel(t *rpc.Task, p modelParams) (*model, error) {
	m, err := readHeader(p)
	if err != nil {
		return m, err
	}
	if err := s.fits("the model as "+string(m.dtype), m.bytes); err != nil {
		return m, err
	}
	collect.Now()
	m.weights = weights{}
	st := &stage{dev: s.dev, weights: m.weights}
	defer st.close()
	err = m.ckpt.StreamRows(context.Background(), m.dtype, func(w lora.WeightInfo) (lora.TensorWriter, error) {
		addr, err := s.dev.Alloc(w.Bytes, 64)
		if err != nil {
			return nil, err
		}
		m.weights[w.Name] = engine.External{DType: w.DType, Sizes: w.Sizes, Addr: addr, Size: w.Bytes}
		return func(off int64, b []byte) error {
			s.dev.Write(addr+kernel.Addr(off), b)
			return nil
		}, nil
	}, st.rows, s.paced(t, "progress", "weights"))
	if err != nil {
		return m, err
	}
	if m.digest == nil {
		m.info.SHA256, err = fileHash(m.files, m.info.FileBytes, s.paced(t, "progress", "checksum"))
		return m, err
	}
	known, err := m.digest.end(s.paced(t, "progress", "checksum"))
	if err != nil {
		return m, fmt.Errorf("%s: %w", m.path, err)
	}
	m.info.SHA256, m.info.Fingerprint = known.SHA256, known.Fingerprint
	return m, nil
}

func (s *Session) closeModel() {
	s.closeData()
	s.dropRunner()
	s.adapter = nil
	if s.model != nil {
		s.freeModel(s.model)
		s.model = nil
	}
}

func (s *Session) freeModel(m *model) {
	for _, w := range m.weights {
		s.dev.Free(w.Addr)
	}
	m.weights = nil
	if m.file != nil {
		m.file.Close() // read only
	}
}

func (s *Session) tokenize(p struct {
	Text string `json:"text"`
}) (map[string][]int32, error) {
	tok := s.tok
	if s.model != nil {
		tok = s.model.tok
	}
	if tok == nil {
		return nil, rpc.Errorf("no_model", "no model or tokenizer is open")
	}
	ids := tok.Encode(p.Text, true)
	if ids == nil {
		ids = []int32{}
	}
	return map[string][]int32{"ids": ids}, nil
}

// openTokenizer reads a model file's vocabulary without its weights, for tokenize
// while no model is open.
func (s *Session) openTokenizer(p struct {
	Path string `json:"path"`
}) (map[string]int, error) {
	m, err := readHeader(modelParams{Path: p.Path})
	if m != nil && m.file != nil {
		defer m.file.Close() // read only
	}
	if err != nil {
		return nil, err
	}
	s.tok = m.tok
	return map[string]int{"vocab": m.tok.Len()}, nil
}
