package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tabtune/internal/assets"
	"tabtune/lora/gguf"
)

// golden is testdata/golden.json, written by testdata/make.py.
type golden struct {
	Lines  int
	IDs    []string
	Splits map[string][]string
	Cases  []struct {
		Text, Unit string
		Times      int
		IDs, Plain row
		Decoded    *string
		Splits     map[string]row
		Tiny       map[string][2]row
	}
}

// row is a list of numbers, or of a long one its length and digest.
type row struct {
	list   []int32
	N      int
	Sha256 string
}

func (r *row) UnmarshalJSON(b []byte) error {
	if b[0] == '[' {
		return json.Unmarshal(b, &r.list)
	}
	type plain row
	return json.Unmarshal(b, (*plain)(r))
}

func (r row) check(t *testing.T, what, text string, got []int32) {
	t.Helper()
	if r.Sha256 == "" && !slices.Equal(got, r.list) {
		t.Errorf("%s of %.80q\n got %v\nwant %v", what, text, got, r.list)
	}
	if r.Sha256 != "" && (len(got) != r.N || digest([][]int32{got}) != r.Sha256) {
		t.Errorf("%s of %.80q: %d numbers with another digest, want %d", what, text, len(got), r.N)
	}
}

func digest(rows [][]int32) string {
	h := sha256.New()
	for _, r := range rows {
		for i, v := range r {
			if i > 0 {
				h.Write([]byte(" "))
			}
			h.Write(strconv.AppendInt(nil, int64(v), 10))
		}
		h.Write([]byte("\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func readGolden(t testing.TB) golden {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	for i := range g.Cases {
		if c := &g.Cases[i]; c.Times > 0 {
			c.Text = strings.Repeat(c.Unit, c.Times)
		}
	}
	return g
}

func asset(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(assets.Need(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// reviews returns the movie-review lines, read as Latin-1.
func reviews(t testing.TB) []string {
	data := asset(t, assets.Reviews)
	r := make([]rune, len(data))
	for i, b := range data {
		r[i] = rune(b)
	}
	return strings.Split(strings.TrimSuffix(string(r), "\n"), "\n")
}

var smolOnce struct {
	sync.Once
	v Vocab
	t *Tokenizer
}

// smollm is SmolLM2's tokenizer, from its GGUF file.
func smollm(t testing.TB) (*Tokenizer, Vocab) {
	t.Helper()
	path := assets.Need(t, assets.Model)
	smolOnce.Do(func() {
		f, closer, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer closer.Close()
		if smolOnce.v, err = FromMetadata(&f.Metadata); err != nil {
			t.Fatal(err)
		}
		tok, err := New(smolOnce.v)
		if err != nil {
			t.Fatal(err)
		}
		smolOnce.t = tok
	})
	return smolOnce.t, smolOnce.v
}

// checkDigests hashes rows in groups of 500 lines and compares.
func checkDigests(t *testing.T, what string, lines []string, want []string, row func(string) []int32) {
	t.Helper()
	for g := range want {
		rows := [][]int32{}
		for _, line := range lines[g*500 : min(len(lines), g*500+500)] {
			rows = append(rows, row(line))
		}
		if digest(rows) != want[g] {
			t.Errorf("%s of lines %d to %d differ from Hugging Face's", what, g*500+1, g*500+len(rows))
		}
	}
}

func TestReviewsEqualHuggingFace(t *testing.T) {
	tok, _ := smollm(t)
	g, lines := readGolden(t), reviews(t)
	if len(lines) != g.Lines || len(lines) < 10_000 {
		t.Fatalf("%d lines, want %d", len(lines), g.Lines)
	}
	checkDigests(t, "ids", lines, g.IDs, func(s string) []int32 {
		ids := tok.Encode(s, true)
		if back := tok.Decode(ids); back != s {
			t.Errorf("%q comes back as %q", s, back)
		}
		return ids
	})
}

func splits(p preKind, s string) (n []int32) {
	for i := 0; i < len(s); {
		j := p.next(s, i)
		n = append(n, int32(j-i))
		i = j
	}
	return n
}

func TestReviewSplitsEqualHuggingFace(t *testing.T) {
	g, lines := readGolden(t), reviews(t)
	for name, want := range g.Splits {
		p, _, _, err := preByName(name)
		if err != nil {
			t.Fatal(err)
		}
		checkDigests(t, name+" pieces", lines, want, func(s string) []int32 { return splits(p, s) })
	}
}

func TestCaseSplitsEqualHuggingFace(t *testing.T) {
	for _, c := range readGolden(t).Cases {
		for name, want := range c.Splits {
			p, _, _, _ := preByName(name)
			want.check(t, name+" pieces", c.Text, splits(p, c.Text))
		}
	}
}

func TestCasesEqualHuggingFace(t *testing.T) {
	tok, _ := smollm(t)
	for _, c := range readGolden(t).Cases {
		ids := tok.Encode(c.Text, true)
		c.IDs.check(t, "ids", c.Text, ids)
		c.Plain.check(t, "ids without special tokens", c.Text, tok.Encode(c.Text, false))
		want := c.Text
		if c.Decoded != nil { // the vocabulary lacks some bytes
			want = *c.Decoded
		}
		if got := tok.Decode(ids); got != want {
			t.Errorf("%.80q decodes to %.80q, Hugging Face to %.80q", c.Text, got, want)
		}
	}
}

// tiny reads a small tokenizer that Hugging Face trained and saved.
func tiny(t testing.TB, kind string) *Tokenizer {
	t.Helper()
	name := "testdata/tiny-" + kind + ".json"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := FromJSON(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestJSONEqualsHuggingFace(t *testing.T) {
	g := readGolden(t)
	for _, kind := range []string{"smollm", "gpt-2", "llama-bpe", "qwen2"} {
		tok := tiny(t, kind)
		for _, c := range g.Cases {
			c.Tiny[kind][0].check(t, kind+" ids", c.Text, tok.Encode(c.Text, true))
			c.Tiny[kind][1].check(t, kind+" ids without special tokens", c.Text, tok.Encode(c.Text, false))
		}
	}
}

// The same vocabulary as GGUF metadata and as tokenizer.json gives the same ids.
func TestJSONEqualsGGUF(t *testing.T) {
	tok, v := smollm(t)
	vocab := map[string]int{}
	added := []map[string]any{}
	for id, s := range v.Tokens {
		vocab[s] = id
		if v.Types[id] == TypeControl {
			added = append(added, map[string]any{"id": id, "content": s, "special": true})
		}
	}
	data, err := json.Marshal(map[string]any{
		"added_tokens": added,
		"model":        map[string]any{"type": "BPE", "vocab": vocab, "merges": v.Merges},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Digits", "individual_digits": true},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
		}},
		"post_processor": map[string]any{"type": "TemplateProcessing", "single": []any{
			map[string]any{"SpecialToken": map[string]any{"id": "<|im_start|>", "type_id": 0}},
			map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	other, err := FromJSON("made", data)
	if err != nil {
		t.Fatal(err)
	}
	if !other.AddBOS() || other.BOS() != tok.BOS() || other.AddEOS() || other.EOS() != None {
		t.Errorf("post_processor: BOS %d %t, EOS %d %t", other.BOS(), other.AddBOS(), other.EOS(), other.AddEOS())
	}
	for _, line := range reviews(t)[:2000] {
		if a, b := tok.Encode(line, true), other.Encode(line, true); !slices.Equal(a, b) {
			t.Fatalf("%q: %v from GGUF, %v from tokenizer.json", line, a, b)
		}
	}
}
