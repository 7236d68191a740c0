package tokenizer

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// small is a vocabulary of the 256 bytes, a few merges and two added tokens.
func small(pre string) Vocab {
	v := Vocab{Pre: pre, BOS: None, EOS: None, Unknown: None, Padding: None}
	for _, r := range byteToRune {
		v.Tokens = append(v.Tokens, string(r))
	}
	for _, m := range []string{"h e", "l l", "he ll", "hell o", "Ġ hello"} {
		v.Merges = append(v.Merges, m)
		v.Tokens = append(v.Tokens, strings.Replace(m, " ", "", 1))
	}
	v.Types = make([]int32, len(v.Tokens))
	for i := range v.Types {
		v.Types[i] = TypeNormal
	}
	v.Tokens = append(v.Tokens, "<s>", "<user>")
	v.Types = append(v.Types, TypeControl, TypeUserDefined)
	return v
}

func mustNew(t testing.TB, v Vocab) *Tokenizer {
	t.Helper()
	tok, err := New(v)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestEncode(t *testing.T) {
	tok := mustNew(t, small("gpt-2"))
	hello, _ := tok.ID("hello")
	spaced, _ := tok.ID("Ġhello")
	bos, _ := tok.ID("<s>")
	user, _ := tok.ID("<user>")
	if got, want := tok.Encode("<s>hello hello<user>", true), []int32{bos, hello, spaced, user}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := tok.Encode("<s><user>", false); slices.Contains(got, bos) || !slices.Contains(got, user) {
		t.Errorf("without special tokens: %v holds %d or lacks %d", got, bos, user)
	}
	if got := tok.AppendEncode([]int32{7}, "hello", true); !slices.Equal(got, []int32{7, hello}) {
		t.Errorf("AppendEncode: %v", got)
	}
	if !tok.IsSpecial(bos) || tok.IsSpecial(user) || tok.IsSpecial(-1) || tok.IsSpecial(1<<30) {
		t.Error("IsSpecial is wrong")
	}
	if got := tok.TokenText(spaced); got != " hello" {
		t.Errorf("TokenText(%d) = %q", spaced, got)
	}
	if got := tok.Decode([]int32{hello, -5, 1 << 30}); got != "hello\uFFFD\uFFFD" {
		t.Errorf("ids outside the vocabulary decode to %q", got)
	}
}

// Each row was checked against Python: bytes.decode("utf-8", "replace").
func TestInvalidUTF8(t *testing.T) {
	tok := mustNew(t, small("gpt-2"))
	for in, want := range map[string]string{
		"a\xffb":               "a\uFFFDb",
		"\xe4\xb8":             "\uFFFD",
		"\xe4\xb8x":            "\uFFFDx",
		"\xf0\x9f\x98\xf0\x9f": "\uFFFD\uFFFD",
		"\xed\xa0\x80":         "\uFFFD\uFFFD\uFFFD", // a surrogate
		"\xc0\xaf":             "\uFFFD\uFFFD",       // overlong
		"\xf4\x90\x80\x80":     "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\xe0\xa0":             "\uFFFD",
		"\x80\xbf":             "\uFFFD\uFFFD",
	} {
		if got := tok.Decode(tok.Encode(in, true)); got != want {
			t.Errorf("%q reads as %q, want %q", in, got, want)
		}
	}
}

func TestStream(t *testing.T) {
	tok := mustNew(t, small("gpt-2"))
	text := "né 你 \U0001F600!"
	s, got := tok.NewStream(), ""
	for _, id := range tok.Encode(text, true) { // a byte an id, so characters arrive in parts
		part := s.Next(id)
		if !utf8.ValidString(part) || strings.ContainsRune(part, utf8.RuneError) {
			t.Errorf("part %q is not whole", part)
		}
		got += part
	}
	if got += s.Flush(); got != text {
		t.Errorf("streamed %q, want %q", got, text)
	}
	s.Next(tok.bytes[0xE4])
	if got := s.Flush(); got != "\uFFFD" {
		t.Errorf("an unfinished character ends as %q", got)
	}
	if got := s.Flush(); got != "" {
		t.Errorf("nothing held, but Flush returns %q", got)
	}
}

func TestHeapEqualsScan(t *testing.T) {
	tok := tiny(t, "gpt-2")
	for _, line := range []string{strings.Repeat("entertainment", 9), strings.Repeat("aaab", 33), strings.Repeat("thethe", 40)} {
		var short, long scratch
		build := func(w *scratch) {
			for i := range len(line) {
				w.sym = append(w.sym, symbol{id: tok.bytes[line[i]], prev: int32(i) - 1, next: int32(i) + 1})
			}
			w.sym[len(line)-1].next = -1
		}
		build(&short)
		build(&long)
		tok.mergeShort(short.sym, "")
		tok.mergeLong(long.sym, "", &long)
		for i := range short.sym {
			if short.sym[i].id != long.sym[i].id {
				t.Fatalf("symbol %d of %q: %d by scan, %d by heap", i, line, short.sym[i].id, long.sym[i].id)
			}
		}
	}
}

// A byte that neither the vocabulary nor unk_token covers is dropped, with unk_token it becomes that.
func TestMissingBytes(t *testing.T) {
	const head = `{"model":{"type":"BPE","unk_token":`
	const tail = `,"vocab":{"a":0,"b":1,"?":2},"merges":[]},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false}}`
	for unk, want := range map[string][]int32{"null": {0, 1}, `"?"`: {0, 2, 1}} {
		tok, err := FromJSON("made", []byte(head+unk+tail))
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode("axb", true); !slices.Equal(got, want) {
			t.Errorf("unk_token %s: %v, want %v", unk, got, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := tiny(t, "llama-bpe")
	text := strings.Repeat("one film, two films; 12345 stars <|end|> ", 20)
	want := tok.Encode(text, true)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if !slices.Equal(tok.Encode(text, true), want) {
					t.Error("ids differ between goroutines")
				}
			}
		})
	}
	wg.Wait()
}

func TestCacheIsBounded(t *testing.T) {
	tok := tiny(t, "gpt-2")
	var b strings.Builder
	for i := range 3 * cacheSize {
		b.WriteString(" " + strings.Repeat("x", i%13) + string(rune(0x4E00+i%20000)) + string(rune('a'+i%26)))
	}
	tok.Encode(b.String(), true)
	if len(tok.cache) > cacheSize {
		t.Errorf("the cache holds %d pieces", len(tok.cache))
	}
}

// Time must grow with the text's length, not its square: twenty times the text may take a
// hundred times as long (the machine may be busy), where the square would take four hundred.
func TestLinearTime(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time")
	}
	for _, kind := range []string{"smollm", "llama-bpe", "qwen2"} {
		tok := tiny(t, kind)
		for _, unit := range []string{"a", "ab", " ", "\n", " \n\t", "\r\n x", "'", "'s", "1", "<|end|", "<|e<|", "e\u0301", "\u0301", "\u3000"} {
			spend := func(n int) time.Duration {
				text, best := strings.Repeat(unit, n/len(unit)), time.Hour
				for range 3 {
					start := time.Now()
					tok.Encode(text, true)
					best = min(best, time.Since(start))
				}
				return best
			}
			var a, b time.Duration
			for range 10 { // a busy machine slows one of the two now and then; a square is slow every time
				a, b = spend(20_000), spend(400_000)
				if b <= 100*max(a, time.Millisecond) {
					break
				}
			}
			if b > 100*max(a, time.Millisecond) {
				t.Errorf("%s, %q: %v for 20 KB, %v for 400 KB", kind, unit, a, b)
			}
		}
	}
}

func TestNewErrors(t *testing.T) {
	for _, c := range []struct {
		want string
		edit func(*Vocab)
	}{
		{"tokenizer.ggml.tokens: the vocabulary is empty", func(v *Vocab) { v.Tokens = nil }},
		{"tokenizer.ggml.tokens[3]: \"\\xff\" is not UTF-8", func(v *Vocab) { v.Tokens[3] = "\xff" }},
		{"tokenizer.ggml.tokens[4]: 5000 bytes", func(v *Vocab) { v.Tokens[4] = strings.Repeat("x", 5000) }},
		{"tokenizer.ggml.pre: pre-tokenizer \"tekken\" is not supported", func(v *Vocab) { v.Pre = "tekken" }},
		{"tokenizer.ggml.token_type: 2 entries for 263 tokens", func(v *Vocab) { v.Types = v.Types[:2] }},
		{"tokenizer.ggml.token_type[5]: unknown type 9", func(v *Vocab) { v.Types[5] = 9 }},
		{"tokenizer.ggml.token_type[5]: an added token must not be empty", func(v *Vocab) { v.Tokens[5], v.Types[5], v.Merges = "", TypeControl, nil }},
		{"tokenizer.ggml.token_type[5]: added token of 300 bytes", func(v *Vocab) { v.Tokens[5], v.Types[5] = strings.Repeat("x", 300), TypeControl }},
		{"tokenizer.ggml.merges[1]: \"ab\" is not two tokens", func(v *Vocab) { v.Merges[1] = "ab" }},
		{"tokenizer.ggml.merges[1]: token \"zz\" is not in the vocabulary", func(v *Vocab) { v.Merges[1] = "zz a" }},
		{"tokenizer.ggml.merges[1]: merged token \"ab\" is not in the vocabulary", func(v *Vocab) { v.Merges[1] = "a b" }},
		{"tokenizer.ggml.eos_token_id: 999 is outside", func(v *Vocab) { v.EOS = 999 }},
		{"tokenizer.ggml.bos_token_id: -2 is outside", func(v *Vocab) { v.BOS = -2 }},
	} {
		v := small("gpt-2")
		c.edit(&v)
		if _, err := New(v); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestJSONErrors(t *testing.T) {
	const good = `{"added_tokens":[{"id":2,"content":"<s>"}],"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":[` +
		`{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]},` +
		`"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]}}`
	if _, err := FromJSON("f", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{good, "", "f: offset 0: "},
		{`"model"`, `model`, "f: offset 2"},
		{`"model"`, `"other"`, "f: model: missing"},
		{`"BPE"`, `"Unigram"`, `f: model.type: "Unigram" is not supported`},
		{`"BPE"`, `"BPE","byte_fallback":true`, `f: pre_tokenizer: step 0, "Digits", is not supported with byte_fallback`},
		{`"BPE"`, `"BPE","dropout":0.1`, "f: model.dropout: not supported"},
		{`"BPE"`, `"BPE","end_of_word_suffix":"</w>"`, "f: model.end_of_word_suffix: not supported"},
		{`"BPE"`, `"BPE","unk_token":"?"`, `f: model.unk_token: "?" is not in the vocabulary`},
		{`"b":1`, `"b":0`, "f: model.vocab["},
		{`"b":1`, `"b":-1`, `f: model.vocab["b"]: id -1 is outside`},
		{`"b":1`, `"b":99999999`, `f: model.vocab["b"]: id 99999999 is outside`},
		{`"b":1`, `"b":"x"`, "f: model.vocab: offset "},
		{`"id":2`, `"id":1`, `f: added_tokens[0].id: 1 is taken by "b"`},
		{`"id":2`, `"id":2,"lstrip":true`, "f: added_tokens[0].lstrip: not supported"},
		{`"id":2`, `"id":2,"single_word":true`, "f: added_tokens[0].single_word: not supported"},
		{`"merges":[]`, `"merges":["ab"]`, `f: model.merges[0]: "ab" is not two tokens`},
		{`"merges":[]`, `"merges":[["a"]]`, "f: model.merges[0]: 1 tokens instead of 2"},
		{`"merges":[]`, `"merges":[["a","b"]]`, `f: model.merges[0]: merged token "ab" is not`},
		{`"merges":[]`, `"merges":7`, "f: model.merges: want a list"},
		{`"normalizer":null`, `"normalizer":{"type":"Lowercase"}`, `f: normalizer.type: "Lowercase" is not supported`},
		{`"Digits"`, `"Punctuation"`, `f: pre_tokenizer.pretokenizers[0].type: "Punctuation" is not supported`},
		{`"individual_digits":true`, `"individual_digits":false`, "f: pre_tokenizer.pretokenizers[0]: Digits is supported"},
		{`"add_prefix_space":false`, `"add_prefix_space":true`, "f: pre_tokenizer.pretokenizers[1].add_prefix_space: not supported"},
		{`"use_regex":true`, `"use_regex":false`, "f: pre_tokenizer.pretokenizers[1].use_regex: false is not supported"},
		{`"type":"Digits"`, `"type":"Split","pattern":{"Regex":"x+"},"behavior":"Isolated"`, `f: pre_tokenizer.pretokenizers[0].pattern.Regex: "x+" is not one`},
		{`,"model"`, `,"post_processor":{"type":"BertProcessing"},"model"`, `f: post_processor.type: "BertProcessing" is not supported`},
		{`,"model"`, `,"decoder":{"type":"WordPiece"},"model"`, `f: decoder.type: "WordPiece" is not supported`},
	} {
		_, err := FromJSON("f", []byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s -> %s: got %v, want %s", c.old, c.new, err, c.want)
		}
	}
}

// streamed puts together what a Stream gives for each id.
func streamed(tok *Tokenizer, ids []int32) (text string) {
	s := tok.NewStream()
	for _, id := range ids {
		text += s.Next(id)
	}
	return text + s.Flush()
}

func FuzzRoundTrip(f *testing.F) {
	for _, c := range readGolden(f).Cases {
		if c.Times == 0 {
			f.Add(c.Text)
		}
	}
	toks := []*Tokenizer{tiny(f, "gpt-2"), tiny(f, "llama-bpe"), mustNew(f, small("smollm")), mustNew(f, small("gpt-2"))}
	f.Fuzz(func(t *testing.T, text string) {
		want, _ := decodeUTF8(nil, []byte(text), true)
		for i, tok := range toks {
			for _, special := range []bool{true, false} {
				ids := tok.Encode(text, special)
				if got := tok.Decode(ids); got != want {
					t.Fatalf("tokenizer %d: %q comes back as %q", i, want, got)
				}
				if got := streamed(tok, ids); got != want {
					t.Fatalf("tokenizer %d: %q streams as %q", i, want, got)
				}
			}
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	for _, kind := range []string{"smollm", "gpt-2", "llama-bpe", "qwen2"} {
		data, err := os.ReadFile("testdata/tiny-" + kind + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range sentences(f) {
		f.Add([]byte(s.JSON))
	}
	f.Add([]byte(`{"added_tokens":[{"id":2,"content":"<s>"}],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"vocab":{"a":0,"b":1},"merges":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := FromJSON("f", data)
		if err != nil {
			if tok != nil || !strings.HasPrefix(err.Error(), "f: ") {
				t.Fatalf("tokenizer %v with error %v", tok, err)
			}
			return
		}
		for _, id := range tok.Encode("Hello <s> 12 \xff\n\n you're", true) {
			if id < 0 || int(id) >= tok.Len() {
				t.Fatalf("id %d of %d", id, tok.Len())
			}
			tok.TokenText(id)
		}
	})
}

// BenchmarkReviews encodes all movie-review lines; lines/s is printed.
func BenchmarkReviews(b *testing.B) {
	tok, _ := smollm(b)
	lines := reviews(b)
	n := 0
	for _, line := range lines {
		n += len(line)
	}
	b.SetBytes(int64(n))
	var ids []int32
	for b.Loop() {
		for _, line := range lines {
			ids = tok.AppendEncode(ids[:0], line, true)
		}
	}
	b.ReportMetric(float64(len(lines))*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
