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
}

// FromMetadata reads the tokenizer.ggml keys, for New. Tokens, merges and pre must
// be there, and tokenizer.ggml.model must be "gpt2", which is what GGUF calls
// byte-level BPE; the rest may be absent.
func FromMetadata(m Metadata) (Vocab, error) {
	const prefix = "tokenizer.ggml."
	v := Vocab{BOS: None, EOS: None, Unknown: None, Padding: None}
	model, err := m.String(prefix + "model")
	if err != nil {
		return v, err
	}
	if model != "gpt2" {
		return v, fmt.Errorf("tokenizer.ggml.model: %.40q is not supported (known: gpt2, which is byte-level BPE)", model)
	}
	if v.Pre, err = m.String(prefix + "pre"); err != nil {
		return v, err
	}
	if v.Tokens, err = m.Strings(prefix + "tokens"); err != nil {
		return v, err
	}
	if v.Merges, err = m.Strings(prefix + "merges"); err != nil {
		return v, err
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
	for key, dst := range map[string]*bool{"add_bos_token": &v.AddBOS, "add_eos_token": &v.AddEOS} {
		if m.Has(prefix + key) {
			if *dst, err = m.Bool(prefix + key); err != nil {
				return v, err
			}
		}
	}
	return v, nil
}
