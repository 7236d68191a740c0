package ui

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// CatalogueModel is a model that can be fetched by its address. Sizes are those that the publishers state, to decide by before anything is fetched.
type CatalogueModel struct {
	Name, URL, License string
	Parameters, Bytes  int64
	Layers             int
}

// Catalogue lists small models of the architectures that the engine runs, published as GGUF.
var Catalogue = []CatalogueModel{
	{"SmolLM2-135M-Instruct", "https://huggingface.co/bartowski/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct-Q8_0.gguf", "Apache-2.0", 134_515_008, 144_811_360, 30},
	{"SmolLM2-360M-Instruct", "https://huggingface.co/bartowski/SmolLM2-360M-Instruct-GGUF/resolve/main/SmolLM2-360M-Instruct-Q8_0.gguf", "Apache-2.0", 361_821_120, 386_404_992, 32},
	{"Gemma-3-270M-it", "https://huggingface.co/ggml-org/gemma-3-270m-it-GGUF/resolve/main/gemma-3-270m-it-Q8_0.gguf", "Gemma terms of use", 268_098_176, 291_545_600, 18},
	{"Qwen2.5-0.5B-Instruct", "https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/qwen2.5-0.5b-instruct-q8_0.gguf", "Apache-2.0", 494_032_768, 675_710_816, 24},
	{"TinyLlama-1.1B-Chat", "https://huggingface.co/TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/resolve/main/tinyllama-1.1b-chat-v1.0.Q4_0.gguf", "Apache-2.0", 1_100_048_384, 637_699_456, 22},
}

// Text says what a model is and whether it fits: limit is the memory that the browser grants the engine, free what storage has left; 0: unknown.
// Training holds the weights as bytes and needs about 250 MB beside them with the settings that the page starts with.
func (m *CatalogueModel) Text(limit, free int64) string {
	s := fmt.Sprintf("%s parameters, about %s to download, %s", Count(m.Parameters), Bytes(m.Bytes), m.License)
	need := m.Parameters + 250_000_000
	switch {
	case free > 0 && m.Bytes > free:
		return s + "; there is no room in this browser's storage"
	case limit > 0 && need > limit:
		return s + fmt.Sprintf("; too large for the %s of memory that this browser grants", Bytes(limit))
	case limit > 0:
		return s + fmt.Sprintf("; fits, with about %s of memory", Bytes(need))
	}
	return s
}

// ModelURL checks an address that was typed and gives the file's name.
func ModelURL(s string) (name string, err error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", fmt.Errorf("%q is no web address. It has to begin with https://", s)
	}
	name = FileName(path.Base(u.Path))
	if !strings.HasSuffix(strings.ToLower(name), ".gguf") {
		return "", fmt.Errorf("the address has to end in the name of a .gguf file; this one ends in %q", path.Base(u.Path))
	}
	return name, nil
}

// Unfinished is a download that was broken off, as the page remembers it beside the file (NAME.url).
type Unfinished struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256,omitempty"`
	Name   string `json:"-"`
	Have   int64  `json:"-"`
}
