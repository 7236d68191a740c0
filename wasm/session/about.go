package session

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"tabtune/lora/gguf"
)

// aboutParams name a GGUF file; no model need be open.
type aboutParams struct {
	Path string `json:"path"`
}

// aboutResult is what a model file says of itself in its header. Texts are the publisher's words, cut and without control characters; empty:
// not said.
type aboutResult struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	License      string `json:"license"`
	Quantization string `json:"quantization"` // the matrices' types, the most frequent first: "Q4_1, Q8_0"
	Parameters   int64  `json:"parameters"`
	FileBytes    int64  `json:"fileBytes"`
}

// aboutModel reads a file's header and nothing else of it.
func (s *Session) aboutModel(p aboutParams) (aboutResult, error) {
	f, closer, err := gguf.Open(p.Path)
	if err != nil {
		return aboutResult{}, err
	}
	r := aboutResult{Name: said(f, "general.name"), Architecture: said(f, "general.architecture"), License: said(f, "general.license"),
		Quantization: quantization(f), FileBytes: f.Size}
	for _, t := range f.Tensors {
		r.Parameters += t.Elements()
	}
	return r, closer.Close()
}

// maxSaid bounds a text of a file's metadata that is shown, in bytes.
const maxSaid = 100

// said is a text of the metadata, or nothing: these keys are optional.
func said(f *gguf.File, key string) string {
	v, err := f.Metadata.String(key)
	if err != nil {
		return ""
	}
	v = strings.ToValidUTF8(v, "?")
	return cut(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, v), maxSaid)
}

// quantization lists the types that hold the matrices. Vectors (norms) stay floats in every quantisation and say nothing.
func quantization(f *gguf.File) string {
	elements := map[gguf.Type]int64{}
	for _, t := range f.Tensors {
		if t.Rows() > 1 {
			elements[t.Type] += t.Elements()
		}
	}
	var types []gguf.Type
	for t := range elements {
		types = append(types, t)
	}
	slices.SortFunc(types, func(a, b gguf.Type) int { return cmp.Or(cmp.Compare(elements[b], elements[a]), cmp.Compare(a, b)) })
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}
