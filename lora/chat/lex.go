package chat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a template may be at most. The bounds on nesting and tokens also bound the
// depth of recursion, which in WebAssembly is far smaller than elsewhere.
const (
	maxTemplate = 256 << 10 // bytes of source
	maxTokens   = 1024      // tokens of one tag
	maxNesting  = 32        // open brackets in a tag; open blocks
)

type segKind uint8

const (
	segText segKind = iota
	segOutput
	segStatement
	segComment
)

// segment is a stretch of a template: text, or a tag and its tokens.
type segment struct {
	kind        segKind
	line        int
	text        string // of segText, white space control applied
	toks        []token
	left, right byte // '-' or '+' beside the delimiters, else 0
}

type tokKind uint8

const (
	tokName tokKind = iota
	tokNumber
	tokString
	tokOp
)

type token struct {
	kind tokKind
	text string // a string's value, else as written
}

func (t token) is(op string) bool { return t.kind == tokOp && t.text == op }

// lex cuts a template into segments and applies Jinja's white space control as
// transformers sets it: trim_blocks, lstrip_blocks, and not keep_trailing_newline.
func lex(src string) ([]segment, error) {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	src = strings.TrimSuffix(src, "\n")
	var segs []segment
	line := 1
	for len(src) > 0 {
		at := nextTag(src)
		text := src[:at]
		if at < len(src) || text != "" {
			segs = append(segs, segment{kind: segText, line: line, text: text})
		}
		line += strings.Count(text, "\n")
		if at == len(src) {
			break
		}
		seg, n, err := lexTag(src[at:])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		seg.line = line
		segs = append(segs, seg)
		line += strings.Count(src[at:at+n], "\n")
		src = src[at+n:]
	}
	trim(segs)
	return segs, nil
}

func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && (s[i+1] == '{' || s[i+1] == '%' || s[i+1] == '#') {
			return i
		}
	}
	return len(s)
}

// trim applies white space control: texts and tags alternate in segs.
func trim(segs []segment) {
	lineStart := true // the text begins a line, as far as lstrip_blocks is concerned
	for i := range segs {
		if segs[i].kind != segText {
			continue
		}
		s := segs[i].text
		if i > 0 {
			lineStart = false
			switch prev := segs[i-1]; {
			case prev.right == '-':
				all := s
				s = strings.TrimLeftFunc(s, isSpace)
				lineStart = strings.HasSuffix(all[:len(all)-len(s)], "\n")
			case prev.right == 0 && prev.kind != segOutput && strings.HasPrefix(s, "\n"):
				s, lineStart = s[1:], true
			}
		}
		if i+1 < len(segs) {
			switch next := segs[i+1]; {
			case next.left == '-':
				s = strings.TrimRightFunc(s, isSpace)
			case next.left == 0 && next.kind != segOutput:
				from := strings.LastIndexByte(s, '\n') + 1
				if (from > 0 || lineStart) && strings.TrimLeftFunc(s[from:], isSpace) == "" {
					s = s[:from]
				}
			}
		}
		segs[i].text = s
	}
}

// isSpace is Python's \s.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1C && r <= 0x1F }

// lexTag reads the tag at the start of s and returns it with its length in bytes.
func lexTag(s string) (segment, int, error) {
	seg := segment{}
	closer := "}}"
	switch s[1] {
	case '{':
		seg.kind = segOutput
	case '%':
		seg.kind, closer = segStatement, "%}"
	case '#':
		seg.kind = segComment
	}
	i := 2
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		seg.left = s[i]
		i++
	}
	if seg.kind == segComment {
		n := strings.Index(s[i:], "#}")
		if n < 0 {
			return seg, 0, fmt.Errorf("a comment is not closed")
		}
		if n > 0 && (s[i+n-1] == '-' || s[i+n-1] == '+') {
			seg.right = s[i+n-1]
		}
		return seg, i + n + 2, nil
	}
	var open []byte
	for i < len(s) {
		rest := s[i:]
		if len(open) == 0 {
			if strings.HasPrefix(rest, closer) {
				return seg, i + 2, nil
			}
			if (rest[0] == '-' || rest[0] == '+') && strings.HasPrefix(rest[1:], closer) {
				seg.right = rest[0]
				return seg, i + 3, nil
			}
		}
		if r, n := utf8.DecodeRuneInString(rest); isSpace(r) {
			i += n
			continue
		}
		tok, n, err := lexToken(rest)
		if err != nil {
			return seg, 0, err
		}
		if tok.kind == tokOp {
			switch c := tok.text[0]; c {
			case '(', '[', '{':
				if open = append(open, c); len(open) > maxNesting {
					return seg, 0, fmt.Errorf("more than %d open brackets", maxNesting)
				}
			case ')', ']', '}':
				if len(open) == 0 || open[len(open)-1] != map[byte]byte{')': '(', ']': '[', '}': '{'}[c] {
					return seg, 0, fmt.Errorf("unexpected %q", c)
				}
				open = open[:len(open)-1]
			}
		}
		if seg.toks = append(seg.toks, tok); len(seg.toks) > maxTokens {
			return seg, 0, fmt.Errorf("a tag of more than %d tokens", maxTokens)
		}
		i += n
	}
	return seg, 0, fmt.Errorf("a tag is not closed")
}

const digits = "0123456789"

func isName(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// lexToken reads the token at the start of s and returns it with its length in bytes.
func lexToken(s string) (token, int, error) {
	c := s[0]
	switch {
	case c == '\'' || c == '"':
		return lexString(s)
	case strings.IndexByte(digits, c) >= 0:
		n := len(s) - len(strings.TrimLeft(s, digits))
		if n+1 < len(s) && s[n] == '.' && strings.IndexByte(digits, s[n+1]) >= 0 {
			n = len(s) - len(strings.TrimLeft(s[n+1:], digits))
		}
		if n > 18 || n < len(s) && isName(s[n]) {
			return token{}, 0, fmt.Errorf("number %.24q is not supported", s)
		}
		return token{tokNumber, s[:n]}, n, nil
	case isName(c):
		n := 1
		for n < len(s) && isName(s[n]) {
			n++
		}
		if strings.HasPrefix(s[:n], "__") {
			return token{}, 0, fmt.Errorf("name %.40q is reserved", s[:n])
		}
		return token{tokName, s[:n]}, n, nil
	}
	if len(s) >= 2 {
		switch s[:2] {
		case "**", "//", "==", "!=", "<=", ">=":
			return token{tokOp, s[:2]}, 2, nil
		}
	}
	if strings.IndexByte("+-*/%<>=.,:|~()[]{}", c) < 0 {
		r, _ := utf8.DecodeRuneInString(s)
		return token{}, 0, fmt.Errorf("unexpected character %q", r)
	}
	return token{tokOp, s[:1]}, 1, nil
}

// lexString reads a string literal with Python's escapes.
func lexString(s string) (token, int, error) {
	var b strings.Builder
	for i := 1; i < len(s); {
		c := s[i]
		if c == s[0] {
			return token{tokString, b.String()}, i + 1, nil
		}
		i++
		if c != '\\' || i == len(s) {
			b.WriteByte(c)
			continue
		}
		e := s[i]
		i++
		if at := strings.IndexByte(`abfnrtv\'"`, e); at >= 0 {
			b.WriteByte("\a\b\f\n\r\t\v\\'\""[at])
			continue
		}
		hex := map[byte]int{'x': 2, 'u': 4, 'U': 8}[e]
		switch {
		case hex > 0:
			if i+hex > len(s) {
				return token{}, 0, fmt.Errorf("a string is not closed")
			}
			v, err := strconv.ParseUint(s[i:i+hex], 16, 32)
			if err != nil || !utf8.ValidRune(rune(v)) {
				return token{}, 0, fmt.Errorf("escape \\%c%.8q is not a character", e, s[i:i+hex])
			}
			b.WriteRune(rune(v))
			i += hex
		case e == '\n': // a continued line
		case e >= '0' && e <= '7' || e == 'N':
			return token{}, 0, fmt.Errorf("escape \\%c is not supported", e)
		default:
			b.WriteByte('\\')
			b.WriteByte(e)
		}
	}
	return token{}, 0, fmt.Errorf("a string is not closed")
}
