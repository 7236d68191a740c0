package tokenizer

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// sentence is a vocabulary of testdata/spm.json, written by testdata/spm.py.
type sentence struct {
	Name   string
	Prefix bool
	Tokens []string
	Types  []int32
	Scores []float64
	JSON   string
	Cases  []struct {
		Text    string
		IDs, HF []int32
	}
}

func (s *sentence) vocab() Vocab {
	return Vocab{Model: ModelSPM, Tokens: s.Tokens, Types: s.Types, Scores: s.Scores, AddSpacePrefix: s.Prefix, AddBOS: true, BOS: 1, EOS: 2, Padding: None}
}

func sentences(t testing.TB) []sentence {
	t.Helper()
	b, err := os.ReadFile("testdata/spm.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []sentence
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSentencePiece compares with SentencePiece and, from a tokenizer.json, with Hugging Face tokenizers.
func TestSentencePiece(t *testing.T) {
	for _, s := range sentences(t) {
		tok := mustNew(t, s.vocab())
		hf, err := FromJSON(s.Name, []byte(s.JSON))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Cases {
			if got := tok.Encode(c.Text, false); !slices.Equal(got, c.IDs) {
				t.Errorf("%s: %.40q is %v, in SentencePiece %v", s.Name, c.Text, got, c.IDs)
			}
			if got := hf.Encode(c.Text, true); !slices.Equal(got, c.HF) {
				t.Errorf("%s: %.40q is %v from the tokenizer.json, in Hugging Face %v", s.Name, c.Text, got, c.HF)
			}
		}
		if !tok.AddBOS() || tok.BOS() != 1 || tok.EOS() != 2 {
			t.Errorf("%s: BOS %d, EOS %d", s.Name, tok.BOS(), tok.EOS())
		}
	}
}

// TestContinue: a text in two parts has the tokens of the whole, also where a text begins with a space of the vocabulary's own.
func TestContinue(t *testing.T) {
	for _, s := range sentences(t) {
		tok := mustNew(t, s.vocab())
		whole := tok.Encode("the runtime runs the program", false)
		if got := append(tok.Encode("the runtime", false), tok.Continue(" runs the program", false)...); !slices.Equal(got, whole) {
			t.Errorf("%s: in parts %v, as a whole %v", s.Name, got, whole)
		}
		// What follows a special token begins a text again.
		want := append([]int32{2}, tok.Encode("the", false)...)
		if got := tok.Continue("</s>the", true); !slices.Equal(got, want) {
			t.Errorf("%s: behind a special token %v, want %v", s.Name, got, want)
		}
		if got := tok.Continue("", false); len(got) != 0 {
			t.Errorf("%s: nothing goes on as %v", s.Name, got)
		}
	}
	bytes := tiny(t, "gpt-2")
	if a, b := bytes.Encode(" entertainment", false), bytes.Continue(" entertainment", false); !slices.Equal(a, b) {
		t.Errorf("byte-level: %v and %v", a, b)
	}
}

func TestSentencePieceHostile(t *testing.T) {
	good := sentences(t)[0]
	for _, c := range []struct {
		spoil func(v *Vocab)
		want  string
	}{
		{func(v *Vocab) { v.Scores = v.Scores[1:] }, "tokenizer.ggml.scores: 619 entries for 620 tokens"},
		{func(v *Vocab) { v.Scores = slices.Clone(v.Scores); v.Scores[7] = math.NaN() }, "tokenizer.ggml.scores[7] is NaN"},
		{func(v *Vocab) { v.Types = v.Types[1:] }, "tokenizer.ggml.token_type: 619 entries"},
		{func(v *Vocab) { v.Types = slices.Clone(v.Types); v.Types[9] = 77 }, "tokenizer.ggml.token_type[9]: unknown type 77"},
		{func(v *Vocab) { v.Tokens, v.Scores, v.Types = nil, nil, nil }, "tokenizer.ggml.tokens: the vocabulary is empty"},
		{func(v *Vocab) { v.EOS = 620 }, "tokenizer.ggml.eos_token_id: 620 is outside"},
		{func(v *Vocab) { v.Unknown = -5 }, "tokenizer.ggml.unknown_token_id: -5 is outside"},
	} {
		v := good.vocab()
		c.spoil(&v)
		if tok, err := New(v); err == nil || tok != nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	// A special token cannot be made of text's pieces, nor can a byte's.
	v := Vocab{Model: ModelSPM, Tokens: []string{"<unk>", "<s>", "<", "s", ">", "s>", "<0x41>"}, Types: []int32{2, 3, 1, 1, 1, 1, 6},
		Scores: []float64{0, 9, 0, 0, 0, -1, 5}, BOS: None, EOS: None, Unknown: 0, Padding: None}
	tok := mustNew(t, v)
	if got := tok.Encode("<s>", false); !slices.Equal(got, []int32{2, 5}) {
		t.Errorf("<s> as text is %v", got)
	}
	// A character that has neither a token nor all its bytes is unknown, and one with a byte alone is that.
	if got := tok.Encode("A\u00e9", false); !slices.Equal(got, []int32{6, 0}) {
		t.Errorf("unknown characters are %v", got)
	}
	if got := tok.Decode([]int32{6, 5, 1}); got != "As><s>" {
		t.Errorf("decoded: %q", got)
	}
	for name, text := range map[string]string{"one character": strings.Repeat("a", 1<<20), "spaces": strings.Repeat(" ", 1<<20), "unknown": strings.Repeat("\U0001f600", 1<<18)} {
		for _, s := range sentences(t) {
			tok, start := mustNew(t, s.vocab()), time.Now()
			ids := tok.Continue(text, false)
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("%s: %v for a megabyte", name, d)
			}
			if got := tok.Decode(ids); got != text {
				t.Errorf("%s: %d bytes come back as %d", name, len(text), len(got))
			}
		}
	}
}

// TestSentencePieceJSON: what a tokenizer.json says beyond what is known is refused.
func TestSentencePieceJSON(t *testing.T) {
	good := sentences(t)[0].JSON
	for _, c := range []struct{ old, new, want string }{
		{`"type":"Prepend"`, `"type":"Lowercase"`, "f: normalizer: step 0"},
		{`"content":"▁"}`, `"content":"_"}`, "f: normalizer: step 1"},
		{`"normalizer":{`, `"normalizer":null,"was":{`, "f: normalizer: with byte_fallback"},
		{`"pre_tokenizer":null`, `"pre_tokenizer":{"type":"ByteLevel"}`, "f: pre_tokenizer: step 0"},
		{`"type":"Fuse"`, `"type":"WordPiece"`, "f: decoder: step 2"},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("no %s in the file", c.old)
		}
		if _, err := FromJSON("f", []byte(strings.Replace(good, c.old, c.new, 1))); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s -> %s: got %v, want %s", c.old, c.new, err, c.want)
		}
	}
	meta := strings.Replace(strings.Replace(good, `"normalizer":{`, `"normalizer":null,"was":{`, 1), `"pre_tokenizer":null`,
		`"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}`, 1)
	tok, err := FromJSON("f", []byte(meta))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range sentences(t)[0].Cases {
		if strings.ContainsAny(c.Text, "<") || strings.HasPrefix(c.Text, spaceMark) {
			continue // Metaspace does not prepend to U+2581, nor behind special tokens
		}
		if got := tok.Encode(c.Text, true); !slices.Equal(got, c.HF) {
			t.Errorf("Metaspace: %.40q is %v, want %v", c.Text, got, c.HF)
		}
	}
}

// FuzzSentencePiece: text comes back as it was, but for the space that a vocabulary puts in front of it, and U+2581, which is a space.
func FuzzSentencePiece(f *testing.F) {
	var toks []*Tokenizer
	for _, s := range sentences(f) {
		for _, c := range s.Cases {
			f.Add(c.Text)
		}
		tok := mustNew(f, s.vocab())
		hf, err := FromJSON(s.Name, []byte(s.JSON))
		if err != nil {
			f.Fatal(err)
		}
		toks = append(toks, tok, hf)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, _ := decodeUTF8(nil, []byte(text), true)
		want = strings.ReplaceAll(want, spaceMark, " ")
		for i, tok := range toks {
			ids := tok.Continue(text, false)
			if got := tok.Decode(ids); got != want {
				t.Fatalf("tokenizer %d: %q comes back as %q", i, want, got)
			}
			if got := streamed(tok, ids); got != tok.Decode(ids) {
				t.Fatalf("tokenizer %d: %q streams as %q", i, want, got)
			}
		}
	})
}
