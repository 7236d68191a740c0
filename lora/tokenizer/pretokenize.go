package tokenizer

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// preKind names a pre-tokenizer: the rule that cuts text into pieces which are
// then merged each for itself. The rules are published as regular expressions
// with lookahead; next implements them by hand over the classes they use:
// letters \p{L}, numbers \p{N}, White_Space \s, and the rest.
type preKind uint8

const (
	// preGPT2 is ByteLevel's own expression, of GPT-2:
	//	'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
	preGPT2 preKind = iota + 1
	// preSmolLM cuts every number character out first (Digits), and then applies
	// GPT-2's expression to each part between, so that lookahead ends at a number.
	preSmolLM
	// preLlama3 is
	//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
	//	 ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
	preLlama3
	// preQwen2 is preLlama3 with single numbers: \p{N} in place of \p{N}{1,3}.
	preQwen2
)

// The expressions as tokenizer.json files spell them.
const (
	patternGPT2   = `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternGPT2b  = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preByName maps tokenizer.ggml.pre to a pre-tokenizer and to what goes with it
// in the tokenizer.json of those models: NFC normalisation and ignore_merges.
func preByName(name string) (kind preKind, nfc, ignoreMerges bool, err error) {
	switch name {
	case "smollm", "starcoder", "refact":
		return preSmolLM, false, false, nil
	case "gpt-2", "phi-2":
		return preGPT2, false, false, nil
	case "llama-bpe", "llama3", "llama-v3":
		return preLlama3, false, true, nil
	case "qwen2", "deepseek-r1-qwen":
		return preQwen2, true, false, nil
	}
	return 0, false, false, fmt.Errorf("pre-tokenizer %.60q is not supported (known: smollm, gpt-2, llama-bpe, qwen2)", name)
}

type class uint8

const (
	other class = iota
	letter
	number
	space
)

var asciiClass = func() (t [utf8.RuneSelf]class) {
	for r := range t {
		t[r] = classOf(rune(r))
	}
	return t
}()

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// at returns the character of s at byte i, its class and the index behind it;
// at the end of s, the rune is -1 and the index i.
func at(s string, i int) (r rune, c class, end int) {
	if i >= len(s) {
		return -1, other, i
	}
	if s[i] < utf8.RuneSelf {
		return rune(s[i]), asciiClass[s[i]], i + 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return r, classOf(r), i + n
}

// run returns the end of the run of characters of class c from byte i on.
func run(s string, i int, c class) int {
	for i < len(s) {
		_, k, end := at(s, i)
		if k != c {
			break
		}
		i = end
	}
	return i
}

// next returns the end of the piece that begins at byte i < len(s). It is always
// beyond i. Going through a text this way takes linear time: of what it looks at
// beyond a piece, only runs of spaces can be long, and a run is seen at most three times.
func (p preKind) next(s string, i int) int {
	if p == preGPT2 || p == preSmolLM {
		return p.nextGPT2(s, i)
	}
	return p.nextLlama3(s, i)
}

func (p preKind) nextGPT2(s string, i int) int {
	r, c, end := at(s, i)
	if r == '\'' {
		if n := contraction(s[end:]); n > 0 {
			return end + n
		}
	}
	if c == number && p == preSmolLM {
		return end
	}
	if c != space {
		return run(s, end, c)
	}
	if r == ' ' && end < len(s) {
		if _, k, e := at(s, end); k != space && !(k == number && p == preSmolLM) {
			return run(s, e, k)
		}
	}
	return p.spaces(s, i, end)
}

// spaces ends a piece of white space, whose first character ends at end:
// \s+(?!\S)|\s+ takes the whole run at the end of the text, else all but its last
// character, which belongs to what follows, else (a run of one) that character.
func (p preKind) spaces(s string, i, end int) int {
	last := i // where the last character of the run begins
	for end < len(s) {
		_, k, e := at(s, end)
		if k != space {
			if k == number && p == preSmolLM {
				return end // Digits cut the text here
			}
			if last > i {
				return last
			}
			return end
		}
		last, end = end, e
	}
	return end
}

func (p preKind) nextLlama3(s string, i int) int {
	r, c, end := at(s, i)
	if r == '\'' {
		if n := contractionFold(s[end:]); n > 0 {
			return end + n
		}
	}
	switch c {
	case letter:
		return run(s, end, letter)
	case number:
		if p == preLlama3 {
			for range 2 {
				_, k, e := at(s, end)
				if k != number {
					break
				}
				end = e
			}
		}
		return end
	}
	_, k, e := at(s, end)
	if k == letter && r != '\r' && r != '\n' {
		return run(s, e, letter)
	}
	if c == other {
		return newlines(s, run(s, end, other))
	}
	if r == ' ' && end < len(s) && k == other {
		return newlines(s, run(s, e, other))
	}
	// \s*[\r\n]+ : up to the last line break of the run, if there is one.
	stop := 0
	for j := i; j < len(s); {
		r, k, e := at(s, j)
		if k != space {
			break
		}
		if j = e; r == '\r' || r == '\n' {
			stop = j
		}
	}
	if stop > 0 {
		return stop
	}
	return p.spaces(s, i, end)
}

// newlines returns the end of the line breaks from byte i on.
func newlines(s string, i int) int {
	for i < len(s) && (s[i] == '\r' || s[i] == '\n') {
		i++
	}
	return i
}

// contraction returns the length of s, t, d, m, ll, ve or re at the start of s, or 0.
func contraction(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] {
	case 's', 'd', 'm', 't':
		return 1
	}
	if len(s) >= 2 && (s[:2] == "ll" || s[:2] == "ve" || s[:2] == "re") {
		return 2
	}
	return 0
}

// contractionFold is contraction whatever the case. U+017F, the long s, folds to s.
func contractionFold(s string) int {
	if s == "" {
		return 0
	}
	switch s[0] | 0x20 {
	case 's', 'd', 'm', 't':
		if s[0] >= 'A' {
			return 1
		}
	}
	if len(s) >= 2 {
		if s[:2] == "\u017F" {
			return 2
		}
		switch string([]byte{s[0] | 0x20, s[1] | 0x20}) {
		case "ll", "ve", "re":
			return 2
		}
	}
	return 0
}
