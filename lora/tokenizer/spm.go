package tokenizer

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// SentencePiece vocabularies (Kudo and Richardson, arXiv 1808.06226) of the BPE kind spell a space as U+2581 and have characters,
// not bytes, at the bottom: a character that is no token becomes its bytes' tokens, "<0xE2>" and so on. GGUF calls the kind
// "llama" and keeps a score for every token: of all neighbours that make a token together, those of the highest score are
// merged first, leftmost first, as llama.cpp does. A tokenizer.json has merges as byte-level BPE has.

// spaceMark stands for a space.
const spaceMark = "\u2581"

// noToken is the id of a character that is no token, until it is merged or spelled in bytes.
const noToken int32 = -2

// marked is what a vocabulary with U+2581 has beside the rest of a Tokenizer.
type marked struct {
	prefix bool    // a text, and what follows a special token, begins with a space
	rank   []int32 // by id: 0 is merged first, noMerge never; nil: merges by pairs, as in byte-level BPE
	words  bool    // no token has a mark behind other text, so that words are encoded one by one
	bytes  [256]int32
	most   int // bytes of the longest token
}

// newMarked looks the tokens over. kinds says of each whether text may become it.
func (t *Tokenizer) newMarked(prefix bool, plain func(id int) bool) *marked {
	m := &marked{prefix: prefix, words: true}
	for b := range m.bytes {
		m.bytes[b] = None
		if id, ok := t.ids[byteToken(byte(b))]; ok {
			m.bytes[b] = id
		}
	}
	for id, s := range t.tokens {
		if !plain(id) {
			continue
		}
		m.most = max(m.most, len(s))
		if strings.Contains(strings.TrimLeft(s, spaceMark), spaceMark) {
			m.words = false
		}
	}
	return m
}

func byteToken(b byte) string { return fmt.Sprintf("<0x%02X>", b) }

// newSPM builds a tokenizer from GGUF metadata of model "llama".
func newSPM(v Vocab) (*Tokenizer, error) {
	t, err := newTokenizer(v.Tokens, "tokenizer.ggml.tokens")
	if err != nil {
		return nil, err
	}
	if len(v.Scores) != len(v.Tokens) {
		return nil, fmt.Errorf("tokenizer.ggml.scores: %d entries for %d tokens", len(v.Scores), len(v.Tokens))
	}
	for id, s := range v.Scores {
		if s-s != 0 {
			return nil, fmt.Errorf("tokenizer.ggml.scores[%d] is %v", id, s)
		}
	}
	if err := t.addTypes(v); err != nil {
		return nil, err
	}
	plain := func(id int) bool {
		return v.Types == nil || v.Types[id] == TypeNormal || v.Types[id] == TypeUnused
	}
	t.meta = t.newMarked(v.AddSpacePrefix, plain)
	t.meta.rank = ranks(v.Scores, plain)
	// A token listed twice is the later one, unless only the earlier can be made of text.
	for id, s := range v.Tokens {
		if s != "" && plain(id) {
			t.ids[s] = int32(id)
		}
	}
	if v.Unknown >= None && int(v.Unknown) < len(v.Tokens) {
		t.unknown = v.Unknown
	}
	if err := t.setSpecial(v); err != nil {
		return nil, err
	}
	return t, nil
}

// ranks numbers the scores from the highest down, equal ones alike; tokens that text does not become have noMerge.
func ranks(scores []float64, plain func(id int) bool) []int32 {
	order := make([]int32, len(scores))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(scores[b], scores[a]) })
	out := make([]int32, len(scores))
	rank := int32(0)
	for i, id := range order {
		if i > 0 && scores[id] != scores[order[i-1]] {
			rank++
		}
		if out[id] = rank; !plain(int(id)) {
			out[id] = noMerge
		}
	}
	return out
}

// mark spells the spaces of s; front says that a space goes before it.
func mark(s string, front bool) string {
	if front {
		s = " " + s
	}
	return strings.ReplaceAll(s, " ", spaceMark)
}

// encodeMarked encodes a text whose spaces are marked.
func (t *Tokenizer) encodeMarked(dst []int32, s string, w *scratch) []int32 {
	if !t.meta.words {
		return t.encodePiece(dst, s, w)
	}
	for i := 0; i < len(s); {
		j := i
		for strings.HasPrefix(s[j:], spaceMark) {
			j += len(spaceMark)
		}
		if n := strings.Index(s[j:], spaceMark); n >= 0 {
			j += n
		} else {
			j = len(s)
		}
		dst = t.encodePiece(dst, s[i:j], w)
		i = j
	}
	return dst
}

// characters begins a piece: a symbol for each character, or for each of its bytes where merges are by pairs and it is no token.
func (t *Tokenizer) characters(sym []symbol, piece string) []symbol {
	add := func(id int32, from, to int) {
		n := int32(len(sym))
		sym = append(sym, symbol{id: id, prev: n - 1, next: n + 1, from: int32(from), to: int32(to)})
	}
	for i := 0; i < len(piece); {
		_, n := utf8.DecodeRuneInString(piece[i:])
		id, ok := t.ids[piece[i:i+n]]
		switch {
		case ok && (t.meta.rank == nil || t.meta.rank[id] != noMerge):
			add(id, i, i+n)
		case t.meta.rank != nil:
			add(noToken, i, i+n)
		default:
			for _, id := range t.spelled(nil, piece[i:i+n]) {
				add(id, i, i+n)
			}
		}
		i += n
	}
	return sym
}

// spelled appends the bytes' tokens of a character, or the unknown token if the vocabulary lacks one of them.
func (t *Tokenizer) spelled(dst []int32, character string) []int32 {
	start := len(dst)
	for i := range len(character) {
		id := t.meta.bytes[character[i]]
		if id == None {
			dst = dst[:start]
			if t.unknown != None {
				dst = append(dst, t.unknown)
			}
			return dst
		}
		dst = append(dst, id)
	}
	return dst
}

// together is the token that symbols i and its right neighbour make, and its rank, or noMerge.
func (t *Tokenizer) together(sym []symbol, i int32, piece string) (id, rank int32) {
	n := sym[i].next
	if n < 0 {
		return None, noMerge
	}
	if t.meta == nil || t.meta.rank == nil {
		if m, ok := t.merges[pairKey(sym[i].id, sym[n].id)]; ok {
			return m.id, m.rank
		}
		return None, noMerge
	}
	from, to := sym[i].from, sym[n].to
	if int(to-from) > t.meta.most {
		return None, noMerge
	}
	if id, ok := t.ids[piece[from:to]]; ok {
		return id, t.meta.rank[id]
	}
	return None, noMerge
}

// appendMarked appends the bytes that a token of such a vocabulary stands for.
func (t *Tokenizer) appendMarked(b []byte, id int32) []byte {
	s := t.tokens[id]
	if len(s) == len("<0x00>") && s[0] == '<' {
		if c, err := strconv.ParseUint(s[3:5], 16, 8); err == nil && t.meta.bytes[c] == id {
			return append(b, byte(c))
		}
	}
	if t.kinds[id] != 0 {
		return append(b, s...)
	}
	return append(b, strings.ReplaceAll(s, spaceMark, " ")...)
}
