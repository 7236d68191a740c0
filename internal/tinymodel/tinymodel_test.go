package tinymodel

import (
	"bytes"
	"testing"

	"tabtune/lora/gguf"
)

// TestSameBytes makes the model twice and reads it.
func TestSameBytes(t *testing.T) {
	a, err := Bytes(Options{Tokenizer: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Bytes(Options{Tokenizer: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Read(bytes.NewReader(a), int64(len(a)), "tiny.gguf")
	if err != nil {
		t.Fatal(err)
	}
	emb, err := f.Tensor("token_embd.weight")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := f.Metadata.Strings("tokenizer.ggml.tokens")
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(tokens)) != emb.Rows() {
		t.Errorf("%d tokens, %d embedding rows", len(tokens), emb.Rows())
	}
	if !bytes.Equal(a, b) {
		t.Error("two files of the same options differ")
	}
}
