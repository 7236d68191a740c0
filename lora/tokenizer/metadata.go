package tokenizer

import "fmt"

// Metadata is what FromMetadata asks of a GGUF file's key/value section;
// *gguf.Metadata is one.
type Metadata interface {
	Has(key string) bool
	String(key string) (string, error)
	Bool(key string) (bool, error)
	Int(key string) (int64, error)
	Strings(key string) ([]string, error)
	Ints(key string) ([]int64, error)
	Floats(key string) ([]float64, error)
}

// FromMetadata reads the tokenizer.ggml keys, for New. The model must be ModelBPE, with tokens, merges and pre, or
// ModelSPM, with tokens and scores; the rest may be absent and is then what llama.cpp takes.
func FromMetadata(m Metadata) (Vocab, error) {
	const prefix = "tokenizer.ggml."
	v := Vocab{BOS: None, EOS: None, Unknown: None, Padding: None}
	model, err := m.String(prefix + "model")
	if err != nil {
		return v, err
	}
	if v.Tokens, err = m.Strings(prefix + "tokens"); err != nil {
		return v, err
	}
	switch v.Model = model; model {
	case ModelBPE:
		if v.Pre, err = m.String(prefix + "pre"); err != nil {
			return v, err
		}
		if v.Merges, err = m.Strings(prefix + "merges"); err != nil {
			return v, err
		}
	case ModelSPM:
		if v.Scores, err = m.Floats(prefix + "scores"); err != nil {
			return v, err
		}
		v.AddSpacePrefix, v.AddBOS = true, true
		for id, dst := range []*int32{&v.Unknown, &v.BOS, &v.EOS} {
			if id < len(v.Tokens) {
				*dst = int32(id)
			}
		}
	default:
		return v, fmt.Errorf("tokenizer.ggml.model: %.40q is not supported (known: gpt2, which is byte-level BPE, and llama, which is SentencePiece's)", model)
	}
	if m.Has(prefix + "token_type") {
		types, err := m.Ints(prefix + "token_type")
		if err != nil {
			return v, err
		}
		v.Types = make([]int32, len(types))
		for i, t := range types {
			if t != int64(int32(t)) {
				return v, fmt.Errorf("tokenizer.ggml.token_type[%d]: unknown type %d", i, t)
			}
			v.Types[i] = int32(t)
		}
	}
	for key, dst := range map[string]*int32{
		"bos_token_id": &v.BOS, "eos_token_id": &v.EOS, "unknown_token_id": &v.Unknown, "padding_token_id": &v.Padding,
	} {
		if !m.Has(prefix + key) {
			continue
		}
		id, err := m.Int(prefix + key)
		if err != nil {
			return v, err
		}
		if id < 0 || id >= int64(len(v.Tokens)) {
			return v, fmt.Errorf("tokenizer.ggml.%s: %d is outside the vocabulary of %d tokens", key, id, len(v.Tokens))
		}
		*dst = int32(id)
	}
	for key, dst := range map[string]*bool{"add_bos_token": &v.AddBOS, "add_eos_token": &v.AddEOS, "add_space_prefix": &v.AddSpacePrefix} {
		if m.Has(prefix + key) {
			if *dst, err = m.Bool(prefix + key); err != nil {
				return v, err
			}
		}
	}
	return v, nil
}
