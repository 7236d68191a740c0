// Package tinymodel makes a GGUF of the llama, qwen2 or gemma3 architecture that is small enough for a
// test to train in a second: three layers of width 64 with grouped kv heads and
// random weights, the same for the same options.
package tinymodel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"

	"tabtune/lora/gguf"
)

// The model's shape. With a tokenizer the vocabulary is as large as that is.
const (
	Layers  = 3
	Dim     = 64
	FFN     = 96
	Heads   = 4
	KVHeads = 2
	Vocab   = 96
	Context = 256
	Window  = 64 // tokens of gemma3's sliding window
)

// Options vary the model.
type Options struct {
	EmbedStd  float64   // standard deviation of the embedding; 1 when 0. At 0.15 losses are near log(Vocab).
	Tokenizer bool      // with a vocabulary in the metadata: byte-level BPE, of gemma3 SentencePiece's
	Chat      bool      // with a chat template, beside the tokenizer
	Arch      string    // "qwen2", "gemma3"; "llama" when empty
	Matrix    gguf.Type // of the embedding and the projections; F32 when zero. Q4_0 has values from -0.4 to 0.35.
}

// Write writes the model as a GGUF file.
func Write(out io.Writer, o Options) error {
	w := gguf.NewWriter()
	arch := cmp.Or(o.Arch, "llama")
	keys := map[string]any{"general.architecture": arch, "general.name": "tiny"}
	for k, v := range map[string]any{
		"block_count": uint32(Layers), "embedding_length": uint32(Dim), "feed_forward_length": uint32(FFN), "attention.head_count": uint32(Heads),
		"attention.head_count_kv": uint32(KVHeads), "context_length": uint32(Context), "attention.layer_norm_rms_epsilon": float32(1e-5),
		"rope.freq_base": float32(10000),
	} {
		keys[arch+"."+k] = v
	}
	head := int64(Dim / Heads)
	if arch == "gemma3" { // whose heads are wider than the model's width divided by them, and of which every second layer here sees all and turns slower
		head *= 2
		keys[arch+".attention.key_length"], keys[arch+".attention.value_length"] = uint32(head), uint32(head)
		keys[arch+".attention.sliding_window"], keys[arch+".rope.freq_base"] = uint32(Window), float32(1e6)
		keys[arch+".attention.sliding_window_pattern"] = uint32(2)
	}
	vocab := int64(Vocab)
	if o.Tokenizer && arch == "gemma3" {
		tokens, types, scores := pieces()
		vocab = int64(len(tokens))
		keys["tokenizer.ggml.model"], keys["tokenizer.ggml.add_space_prefix"] = "llama", false
		keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"], keys["tokenizer.ggml.scores"] = tokens, types, scores
		keys["tokenizer.ggml.eos_token_id"], keys["tokenizer.ggml.bos_token_id"], keys["tokenizer.ggml.unknown_token_id"] = uint32(1), uint32(2), uint32(3)
	} else if o.Tokenizer {
		tokens, types, merges := vocabulary()
		vocab = int64(len(tokens))
		keys["tokenizer.ggml.model"], keys["tokenizer.ggml.pre"] = "gpt2", "smollm"
		keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"], keys["tokenizer.ggml.merges"] = tokens, types, merges
		keys["tokenizer.ggml.eos_token_id"] = uint32(len(tokens) - 1)
		if o.Chat {
			keys["tokenizer.chat_template"] = chatTemplate
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if err := w.Set(k, keys[k]); err != nil {
			return err
		}
	}
	if o.EmbedStd == 0 {
		o.EmbedStd = 1
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var failed error
	add := func(name string, typ gguf.Type, mean, std float64, shape ...int64) {
		n := int64(1)
		for _, s := range shape {
			n *= s
		}
		if typ == gguf.Q4_0 {
			if err := w.Add(name, typ, shape, blocks(rng, n/32)); err != nil && failed == nil {
				failed = err
			}
			return
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(mean + std*rng.NormFloat64())
		}
		if err := w.AddF32(name, typ, shape, v); err != nil && failed == nil {
			failed = err
		}
	}
	kv, q := KVHeads*head, Heads*head
	add("token_embd.weight", o.Matrix, 0, o.EmbedStd, vocab, Dim)
	add("output_norm.weight", gguf.F32, 1, 0.1, Dim)
	for l := range Layers {
		p := fmt.Sprintf("blk.%d.", l)
		add(p+"attn_norm.weight", gguf.F32, 1, 0.1, Dim)
		add(p+"ffn_norm.weight", gguf.F32, 1, 0.1, Dim)
		add(p+"attn_q.weight", o.Matrix, 0, 0.2, q, Dim)
		add(p+"attn_k.weight", o.Matrix, 0, 0.2, kv, Dim)
		add(p+"attn_v.weight", o.Matrix, 0, 0.2, kv, Dim)
		add(p+"attn_output.weight", o.Matrix, 0, 0.2, Dim, q)
		add(p+"ffn_gate.weight", o.Matrix, 0, 0.2, FFN, Dim)
		add(p+"ffn_up.weight", o.Matrix, 0, 0.2, FFN, Dim)
		add(p+"ffn_down.weight", o.Matrix, 0, 0.2, Dim, FFN)
		switch arch {
		case "qwen2":
			add(p+"attn_q.bias", gguf.F32, 0, 0.1, q)
			add(p+"attn_k.bias", gguf.F32, 0, 0.1, kv)
			add(p+"attn_v.bias", gguf.F32, 0, 0.1, kv)
		case "gemma3":
			add(p+"attn_q_norm.weight", gguf.F32, 1, 0.1, head)
			add(p+"attn_k_norm.weight", gguf.F32, 1, 0.1, head)
			add(p+"post_attention_norm.weight", gguf.F32, 1, 0.1, Dim)
			add(p+"post_ffw_norm.weight", gguf.F32, 1, 0.1, Dim)
		}
	}
	if failed != nil {
		return failed
	}
	_, err := w.WriteTo(out)
	return err
}

// chatTemplate is ChatML with <|endoftext|> for both of its tokens.
const chatTemplate = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}" +
	"{% if add_generation_prompt %}<assistant>{% endif %}"

// blocks writes n random Q4_0 blocks: an f16 scale of about 0.05 and 32 nibbles.
func blocks(rng *rand.Rand, n int64) func(io.Writer) error {
	var b []byte
	for range n {
		b = append(b, byte(rng.Uint32()), 0x2a)
		for range 2 {
			b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
		}
	}
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// Bytes returns what Write writes.
func Bytes(o Options) ([]byte, error) {
	var b bytes.Buffer
	err := Write(&b, o)
	return b.Bytes(), err
}

// pieces is a SentencePiece vocabulary of four special tokens, the bytes, the printable characters of ASCII, and what makes " great" and
// " terrible" one token each.
func pieces() (tokens []string, types []int32, scores []float32) {
	add := func(token string, typ int32) {
		tokens, types, scores = append(tokens, token), append(types, typ), append(scores, -float32(len(tokens)))
	}
	for _, s := range []string{"<pad>", "<eos>", "<bos>"} {
		add(s, 3)
	}
	add("<unk>", 2)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), 6)
	}
	for c := '!'; c <= '~'; c++ {
		add(string(c), 1)
	}
	const space = "\u2581"
	add(space, 1)
	for _, word := range []string{"great", "terrible"} {
		for n := range word {
			add(space+word[:n+1], 1)
		}
	}
	return tokens, types, scores
}

// vocabulary has a token for each byte, the merges that make " great" and
// " terrible" one token each, and an end of text, which is the last.
func vocabulary() (tokens []string, types []int32, merges []string) {
	next := rune(256)
	for b := range rune(256) { // the byte-level alphabet of GPT-2
		if b > ' ' && b < 0x7f || b > 0xa0 && b != 0xad {
			tokens = append(tokens, string(b))
			continue
		}
		tokens = append(tokens, string(next))
		next++
	}
	for _, word := range []string{"great", "terrible"} {
		left := "\u0120" // the space
		for _, c := range word {
			merges = append(merges, left+" "+string(c))
			left += string(c)
			tokens = append(tokens, left)
		}
	}
	types = make([]int32, len(tokens), len(tokens)+1)
	for i := range types {
		types[i] = 1
	}
	return append(tokens, "<|endoftext|>"), append(types, 3), merges
}
