// Package tokenizer turns text into token ids and back for byte-level BPE
// vocabularies (GPT-2, Llama-3, Qwen2, SmolLM2) and SentencePiece's BPE (Llama 2, TinyLlama, Mistral, Gemma), read either from the metadata of
// a GGUF file (New) or from a Hugging Face tokenizer.json (FromJSON).
//
// Encoding runs in four steps, the ones Hugging Face tokenizers runs, in its order:
//
//  1. Special and added tokens are cut out of the text: leftmost first, longest
//     of those that start at the same byte.
//  2. What lies between is normalised: NFC for Qwen2, spaces as U+2581 for SentencePiece, nothing for the others.
//  3. A pre-tokenizer splits it into pieces; no token crosses a piece.
//  4. Every piece becomes bytes (SentencePiece: characters), each of them a token, and then the neighbouring
//     pair of lowest merge rank is merged, leftmost first, until none is left.
//
// Every step takes time linear in the text, but for a logarithm in the merges of
// a long piece, whatever the text: there is no regular expression engine and no backtracking.
//
// Text that is not UTF-8 is read as Python's bytes.decode("utf-8", "replace")
// reads it: each longest invalid prefix of a sequence counts as one U+FFFD.
package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Token types as the GGUF key tokenizer.ggml.token_type numbers them.
const (
	TypeNormal      = 1
	TypeUnknown     = 2
	TypeControl     = 3 // special: recognised in text only on request
	TypeUserDefined = 4 // added by hand: always recognised in text
	TypeUnused      = 5
	TypeByte        = 6
)

// None is the id that stands for "there is no such token".
const None int32 = -1

const (
	maxVocab      = 1 << 21 // tokens; the largest public vocabularies hold 2^18
	maxTokenBytes = 1 << 12 // bytes of one token's text
	maxAddedBytes = 256     // bytes of one special or added token: bounds the steps a byte of text can cost
)

// The kinds of vocabulary, as tokenizer.ggml.model names them.
const (
	ModelBPE = "gpt2"  // byte-level BPE
	ModelSPM = "llama" // SentencePiece's BPE
)

// Vocab is a vocabulary as GGUF metadata holds it.
type Vocab struct {
	Model  string    // ModelBPE ("" too) or ModelSPM
	Tokens []string  // tokenizer.ggml.tokens: text in the byte-level alphabet, by id
	Types  []int32   // tokenizer.ggml.token_type: one per token, or nil for all normal
	Merges []string  // tokenizer.ggml.merges: "left right", best first; byte-level BPE only
	Pre    string    // tokenizer.ggml.pre: name of the pre-tokenizer; byte-level BPE only
	Scores []float64 // tokenizer.ggml.scores: one per token; SentencePiece only
	// AddSpacePrefix is tokenizer.ggml.add_space_prefix; SentencePiece only.
	AddSpacePrefix bool

	BOS, EOS, Unknown, Padding int32 // special ids, None when absent
	AddBOS, AddEOS             bool  // tokenizer.ggml.add_bos_token / add_eos_token: for the caller, never applied by Encode
}

// Tokenizer encodes and decodes. It is safe for use by several goroutines.
type Tokenizer struct {
	tokens  []string // by id; "" where an id is unused
	kinds   []uint8  // by id: kindSpecial, kindAdded or 0
	ids     map[string]int32
	bytes   [256]int32       // id of each single byte, None when the vocabulary lacks it
	merges  map[uint64]merge // by left<<32 | right
	pre     preKind
	meta    *marked // of vocabularies that spell spaces U+2581; else nil
	nfc     bool
	ignore  bool  // take a piece that is itself a token as it is (Llama-3's ignore_merges)
	unknown int32 // emitted for a byte the vocabulary lacks; None drops the byte

	raw  added // tokens cut from the text as given
	norm added // tokens cut from the normalised text

	bos, eos, padding int32
	addBOS, addEOS    bool

	mu    sync.Mutex
	cache map[string][]int32
	work  sync.Pool // *scratch
}

const (
	kindSpecial = 1 // control token: TypeControl, or "special": true
	kindAdded   = 2 // added token that is plain text to the model
)

type merge struct{ rank, id int32 }

// New builds a tokenizer from GGUF metadata. Errors name the key at fault.
//
// Pre-tokenizers known: "smollm" (also "starcoder", "refact"), "gpt-2" (also
// "phi-2"), "llama-bpe" (also "llama3", "llama-v3"), "qwen2" (also
// "deepseek-r1-qwen"). A token listed twice has the later id when encoding.
func New(v Vocab) (*Tokenizer, error) {
	if v.Model == ModelSPM {
		return newSPM(v)
	}
	t, err := newTokenizer(v.Tokens, "tokenizer.ggml.tokens")
	if err != nil {
		return nil, err
	}
	if t.pre, t.nfc, t.ignore, err = preByName(v.Pre); err != nil {
		return nil, fmt.Errorf("tokenizer.ggml.pre: %w", err)
	}
	if err := t.addTypes(v); err != nil {
		return nil, err
	}
	if len(v.Merges) > maxVocab {
		return nil, fmt.Errorf("tokenizer.ggml.merges: %d entries, at most %d", len(v.Merges), maxVocab)
	}
	t.merges = make(map[uint64]merge, len(v.Merges))
	for rank, m := range v.Merges {
		left, right, ok := splitMerge(m)
		if !ok {
			return nil, fmt.Errorf("tokenizer.ggml.merges[%d]: %.60q is not two tokens with a space between", rank, m)
		}
		if err := t.addMerge(rank, left, right); err != nil {
			return nil, fmt.Errorf("tokenizer.ggml.merges[%d]: %w", rank, err)
		}
	}
	// unknown_token_id is not used in encoding: converters write it for every
	// GPT-2-style model, and none of the models it comes from has an unk_token in its BPE.
	if err := t.setSpecial(v); err != nil {
		return nil, err
	}
	return t, nil
}

// addTypes reads which tokens are special or added.
func (t *Tokenizer) addTypes(v Vocab) error {
	if v.Types != nil && len(v.Types) != len(v.Tokens) {
		return fmt.Errorf("tokenizer.ggml.token_type: %d entries for %d tokens", len(v.Types), len(v.Tokens))
	}
	for id, typ := range v.Types {
		var err error
		switch typ {
		case TypeControl:
			err = t.addToken(int32(id), v.Tokens[id], true, false)
		case TypeUserDefined:
			err = t.addToken(int32(id), v.Tokens[id], false, false)
		case TypeNormal, TypeUnknown, TypeUnused, TypeByte:
		default:
			err = fmt.Errorf("unknown type %d", typ)
		}
		if err != nil {
			return fmt.Errorf("tokenizer.ggml.token_type[%d]: %w", id, err)
		}
	}
	return nil
}

// setSpecial checks and keeps the special ids.
func (t *Tokenizer) setSpecial(v Vocab) error {
	for _, s := range []struct {
		key string
		id  int32
		dst *int32
	}{
		{"bos_token_id", v.BOS, &t.bos}, {"eos_token_id", v.EOS, &t.eos},
		{"unknown_token_id", v.Unknown, nil}, {"padding_token_id", v.Padding, &t.padding},
	} {
		if s.id < None || int(s.id) >= len(v.Tokens) {
			return fmt.Errorf("tokenizer.ggml.%s: %d is outside the vocabulary of %d tokens", s.key, s.id, len(v.Tokens))
		}
		if s.dst != nil {
			*s.dst = s.id
		}
	}
	t.addBOS, t.addEOS = v.AddBOS, v.AddEOS
	return nil
}

// newTokenizer checks the texts of a vocabulary and indexes them.
func newTokenizer(tokens []string, field string) (*Tokenizer, error) {
	if len(tokens) == 0 {
		return nil, fmt.Errorf("%s: the vocabulary is empty", field)
	}
	if len(tokens) > maxVocab {
		return nil, fmt.Errorf("%s: %d tokens, at most %d", field, len(tokens), maxVocab)
	}
	t := &Tokenizer{
		tokens: tokens, kinds: make([]uint8, len(tokens)), ids: make(map[string]int32, len(tokens)),
		unknown: None, bos: None, eos: None, padding: None, cache: make(map[string][]int32),
	}
	for id, s := range tokens {
		if len(s) > maxTokenBytes {
			return nil, fmt.Errorf("%s[%d]: %d bytes, at most %d", field, id, len(s), maxTokenBytes)
		}
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("%s[%d]: %.40q is not UTF-8", field, id, s)
		}
		if s != "" {
			t.ids[s] = int32(id)
		}
	}
	for b := range t.bytes {
		t.bytes[b] = None
		if id, ok := t.ids[string(byteToRune[b])]; ok {
			t.bytes[b] = id
		}
	}
	t.work.New = func() any { return new(scratch) }
	return t, nil
}

// splitMerge cuts "left right" at its first space behind the first byte.
func splitMerge(s string) (left, right string, ok bool) {
	if len(s) < 3 {
		return "", "", false
	}
	left, right, ok = strings.Cut(s[1:], " ")
	return s[:1+len(left)], right, ok && right != ""
}

// addMerge records that left and right merge, with the given rank.
func (t *Tokenizer) addMerge(rank int, left, right string) error {
	l, ok := t.ids[left]
	if !ok {
		return fmt.Errorf("token %.60q is not in the vocabulary", left)
	}
	r, ok := t.ids[right]
	if !ok {
		return fmt.Errorf("token %.60q is not in the vocabulary", right)
	}
	id, ok := t.ids[left+right]
	if !ok {
		return fmt.Errorf("merged token %.60q is not in the vocabulary", left+right)
	}
	// A pair listed twice counts with its later rank, as in Hugging Face's map.
	t.merges[pairKey(l, r)] = merge{int32(rank), id}
	return nil
}

// addToken marks id as a special or added token that is recognised in text.
func (t *Tokenizer) addToken(id int32, text string, special, normalized bool) error {
	if text == "" {
		return errors.New("an added token must not be empty")
	}
	if len(text) > maxAddedBytes {
		return fmt.Errorf("added token of %d bytes, at most %d", len(text), maxAddedBytes)
	}
	t.kinds[id] = kindAdded
	if special {
		t.kinds[id] = kindSpecial
	}
	if normalized {
		t.norm.insert(text, id)
	} else {
		t.raw.insert(text, id)
	}
	return nil
}

// Encode returns the ids of text. With special, special tokens written in the
// text become their ids; without, they are text like any other (use that for text
// from users). Added tokens that are not special are recognised either way.
// No token is added in front or behind: see AddBOS and AddEOS.
func (t *Tokenizer) Encode(text string, special bool) []int32 {
	return t.AppendEncode(nil, text, special)
}

// AppendEncode appends the ids of text to dst and returns the longer slice.
func (t *Tokenizer) AppendEncode(dst []int32, text string, special bool) []int32 {
	return t.encode(dst, text, special, true)
}

// Continue is Encode of a text that goes on from another: without the space that some SentencePiece vocabularies want at the
// start of a text.
func (t *Tokenizer) Continue(text string, special bool) []int32 {
	return t.encode(nil, text, special, false)
}

// encode appends the ids of text; front says that it is the start of a text.
func (t *Tokenizer) encode(dst []int32, text string, special, front bool) []int32 {
	if !utf8.ValidString(text) {
		text, _ = decodeUTF8(nil, []byte(text), true)
	}
	w := t.work.Get().(*scratch)
	t.raw.split(text, t.kinds, special, func(gap string, id int32) {
		if gap != "" {
			switch {
			case t.nfc:
				gap = nfc(gap)
			case t.meta != nil:
				gap = mark(gap, t.meta.prefix && front)
			}
			front = false
			t.norm.split(gap, t.kinds, special, func(gap string, id int32) {
				dst = t.encodeText(dst, gap, w)
				if id != None {
					dst = append(dst, id)
				}
			})
		}
		if id != None {
			dst, front = append(dst, id), true
		}
	})
	t.work.Put(w)
	return dst
}

// nfc is Unicode's composed form. Runs of more than 30 combining marks get a U+034F
// after every 30th (Unicode's stream-safe text format); Hugging Face has no such limit.
func nfc(s string) string { return norm.NFC.String(s) }

// encodeText encodes normalised text that holds no added token.
func (t *Tokenizer) encodeText(dst []int32, s string, w *scratch) []int32 {
	if t.meta != nil {
		return t.encodeMarked(dst, s, w)
	}
	for i := 0; i < len(s); {
		j := t.pre.next(s, i)
		dst = t.encodePiece(dst, s[i:j], w)
		i = j
	}
	return dst
}

// Decode returns the text of ids, special tokens and the space that a vocabulary wants at the start included. Bytes that are not
// UTF-8 become U+FFFD, as do ids outside the vocabulary.
func (t *Tokenizer) Decode(ids []int32) string {
	var b []byte
	for _, id := range ids {
		b = t.appendBytes(b, id)
	}
	s, _ := decodeUTF8(nil, b, true)
	return s
}

// TokenText returns the text of one token: what it stands for, not its spelling
// in the byte-level alphabet. A token that holds part of a character has U+FFFD there.
func (t *Tokenizer) TokenText(id int32) string { return t.Decode([]int32{id}) }

// appendBytes appends the bytes that id stands for.
func (t *Tokenizer) appendBytes(b []byte, id int32) []byte {
	if id < 0 || int(id) >= len(t.tokens) {
		return append(b, "\uFFFD"...)
	}
	if t.meta != nil {
		return t.appendMarked(b, id)
	}
	start := len(b)
	for _, r := range t.tokens[id] {
		c, ok := runeToByte(r)
		if !ok { // not in the byte-level alphabet: the token is its own text
			return append(b[:start], t.tokens[id]...)
		}
		b = append(b, c)
	}
	return b
}

// Len returns the number of ids: every id is below it.
func (t *Tokenizer) Len() int { return len(t.tokens) }

// ID returns the id of a token given by its spelling in the vocabulary, such as "<|im_end|>" or "Ġgreat".
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// IsSpecial reports whether id is a special (control) token, which is normally not shown to people.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return id >= 0 && int(id) < len(t.kinds) && t.kinds[id] == kindSpecial
}

// BOS returns the id of the token that begins a text, or None.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS returns the id of the token that ends a text, or None.
func (t *Tokenizer) EOS() int32 { return t.eos }

// Padding returns the id of the padding token, or None.
func (t *Tokenizer) Padding() int32 { return t.padding }

// AddBOS reports whether the model wants BOS in front of a text. Encode does not add it.
func (t *Tokenizer) AddBOS() bool { return t.addBOS }

// AddEOS reports whether the model wants EOS behind a text. Encode does not add it.
func (t *Tokenizer) AddEOS() bool { return t.addEOS }
