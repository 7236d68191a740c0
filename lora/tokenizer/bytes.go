package tokenizer

// The byte-level alphabet of GPT-2: the 188 printable Latin-1 bytes stand for
// themselves, the other 68 are the characters from U+0100 on, in order.
var (
	byteToRune [256]rune
	runeBytes  [0x144]int16 // by rune: the byte, or -1
)

func init() {
	for r := range runeBytes {
		runeBytes[r] = -1
	}
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			r = next
			next++
		}
		byteToRune[b] = r
		runeBytes[r] = int16(b)
	}
}

// runeToByte is the inverse of byteToRune.
func runeToByte(r rune) (byte, bool) {
	if r < 0 || int(r) >= len(runeBytes) || runeBytes[r] < 0 {
		return 0, false
	}
	return byte(runeBytes[r]), true
}

// decodeUTF8 appends src to dst as valid UTF-8 and returns it as a string. The
// longest prefix of src that starts but does not finish a well-formed character is
// replaced by one U+FFFD and reading goes on behind it (Unicode 15, section 3.9,
// "U+FFFD substitution of maximal subparts", as Python and browsers do). Unless
// final, an unfinished character at the end of src is returned as rest instead.
func decodeUTF8(dst, src []byte, final bool) (s string, rest []byte) {
	for i := 0; i < len(src); {
		n, ok, short := sequence(src[i:])
		switch {
		case ok:
			dst = append(dst, src[i:i+n]...)
		case short && !final:
			return string(dst), src[i:]
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i += n
	}
	return string(dst), nil
}

// sequence looks at the character at the start of b (not empty): n bytes long
// when ok, else the first n bytes are a maximal subpart; short says that b ends within it.
func sequence(b []byte) (n int, ok, short bool) {
	c := b[0]
	if c < 0x80 {
		return 1, true, false
	}
	lo, hi := byte(0x80), byte(0xBF) // bounds of the second byte (Unicode table 3-7)
	var want int
	switch {
	case c >= 0xC2 && c <= 0xDF:
		want = 2
	case c >= 0xE0 && c <= 0xEF:
		want = 3
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		want = 4
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	default:
		return 1, false, false
	}
	for n = 1; n < want; n++ {
		if n == len(b) {
			return n, false, true
		}
		if b[n] < lo || b[n] > hi {
			return n, false, false
		}
		lo, hi = 0x80, 0xBF
	}
	return n, true, false
}

// Stream decodes ids one at a time, for showing text while it is generated. The
// strings it returns, put together, are what Decode returns for all the ids.
type Stream struct {
	t    *Tokenizer
	held []byte
}

// NewStream returns a decoder at the start of a text.
func (t *Tokenizer) NewStream() *Stream { return &Stream{t: t} }

// Next returns the text that id completes; the bytes of a character that is not
// whole yet (at most three) are held back.
func (s *Stream) Next(id int32) string {
	text, rest := decodeUTF8(nil, s.t.appendBytes(s.held, id), false)
	s.held = append([]byte(nil), rest...)
	return text
}

// Flush ends the text: it returns U+FFFD if an unfinished character is held back.
func (s *Stream) Flush() string {
	text, _ := decodeUTF8(nil, s.held, true)
	s.held = nil
	return text
}
