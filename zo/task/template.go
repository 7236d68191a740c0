package task

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxTemplate  = 1 << 16
	textPlace    = "text"
	labelPlace   = "label"
	maxTemplateN = 256 // placeholders
)

// DefaultTemplate is the prompt of the sentiment protocol.
const DefaultTemplate = "{text} It was {label}"

// Template is a parsed prompt template. "{text}" is the text column, "{label}"
// the verbalizer, which has to be the end, any other name a column of the table;
// "{{" and "}}" are braces.
type Template struct {
	parts []part
	space bool // one space in front of {label}, which belongs to the verbalizer
}

type part struct {
	literal string
	column  string // when not empty, the place of a value
}

// ParseTemplate reads a template of a label task. It needs {label} at the end,
// once, and at least one other placeholder.
func ParseTemplate(s string) (*Template, error) { return parseTemplate(s, true) }

// ParsePrompt reads a template without a {label}, which an answer follows.
func ParsePrompt(s string) (*Template, error) { return parseTemplate(s, false) }

func parseTemplate(s string, withLabel bool) (*Template, error) {
	bad := func(at int, format string, args ...any) error {
		return fmt.Errorf("template %q: character %d: %s", s, at+1, fmt.Sprintf(format, args...))
	}
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("template of %d bytes, the limit is %d", len(s), maxTemplate)
	}
	t := &Template{}
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			t.parts = append(t.parts, part{literal: lit.String()})
			lit.Reset()
		}
	}
	ended := false
	for i := 0; i < len(s); i++ {
		if ended {
			return nil, bad(i, "{label} must be the end of the template")
		}
		c := s[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(s) && s[i+1] == c:
			lit.WriteByte(c)
			i++
		case c == '}':
			return nil, bad(i, "'}' without '{' (write '}}' for a brace)")
		case c == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, bad(i, "'{' is not closed (write '{{' for a brace)")
			}
			name := s[i+1 : i+end]
			if name == "" || strings.ContainsAny(name, "{\n") {
				return nil, bad(i, "%q is not a column name", name)
			}
			flush()
			if ended = withLabel && name == labelPlace; !ended {
				t.parts = append(t.parts, part{column: name})
			}
			if len(t.parts) > maxTemplateN {
				return nil, bad(i, "more than %d placeholders", maxTemplateN)
			}
			i += end
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	if withLabel && !ended {
		return nil, fmt.Errorf("template %q: {label} must be the end of the template", s)
	}
	columns := 0
	for _, p := range t.parts {
		if p.column != "" {
			columns++
		}
	}
	if columns == 0 {
		return nil, fmt.Errorf("template %q: no {text} and no other column", s)
	}
	if !withLabel {
		return t, nil
	}
	// Byte-level tokenizers keep a space with the word after it, so one space in
	// front of {label} is part of the verbalizer, not of the prompt.
	if last := &t.parts[len(t.parts)-1]; strings.HasSuffix(last.literal, " ") {
		t.space = true
		if last.literal = last.literal[:len(last.literal)-1]; last.literal == "" {
			t.parts = t.parts[:len(t.parts)-1]
		}
	}
	return t, nil
}

// Verbalizer is the text that stands for a label as it is rendered: with the
// space that the template has in front of {label}. A space that word begins
// with already is not doubled.
func (t *Template) Verbalizer(word string) string {
	if t.space && !strings.HasPrefix(word, " ") {
		return " " + word
	}
	return word
}

// bound is a template whose columns were found in a table.
type bound struct {
	t       *Template
	columns []int // for each part: the column, or -1
}

// bind finds the columns; text is that of {text}, or below 0 where it is a name
// like any other.
func (t *Template) bind(tab *Table, text int) (*bound, error) {
	b := &bound{t, make([]int, len(t.parts))}
	for i, p := range t.parts {
		switch {
		case p.column == "":
			b.columns[i] = -1
		case p.column == textPlace && text >= 0:
			b.columns[i] = text
		default:
			c, err := tab.Column(p.column)
			if err != nil {
				return nil, fmt.Errorf("template: %w", err)
			}
			b.columns[i] = c
		}
	}
	return b, nil
}

// render is the prompt of a row: everything in front of the verbalizer.
func (b *bound) render(r *Row) string { return b.renderAs(r, true) }

// renderAs renders a row with the values' outer white space or without it.
func (b *bound) renderAs(r *Row, trim bool) string {
	var s strings.Builder
	for i, c := range b.columns {
		if c < 0 {
			s.WriteString(b.t.parts[i].literal)
		} else {
			v := r.Values[c]
			if trim {
				v = strings.TrimSpace(v)
			}
			s.WriteString(v)
		}
	}
	return s.String()
}

// Tokenizer turns text into token ids. special says whether special tokens that
// are spelled out in the text (<|im_start|>) become themselves; none is added.
// Continue is Encode of text that goes on from other text, which some vocabularies begin otherwise.
type Tokenizer interface {
	Encode(text string, special bool) []int32
	Continue(text string, special bool) []int32
}

// verbalize finds the one token of a label.
func verbalize(t *Template, tok Tokenizer, word string) (string, int32, error) {
	if strings.TrimSpace(word) == "" {
		return "", 0, errors.New("is empty")
	}
	v := t.Verbalizer(word)
	ids := tok.Continue(v, false)
	if len(ids) != 1 {
		return "", 0, fmt.Errorf("%q is %d tokens, must be one: choose a shorter, more common word", v, len(ids))
	}
	return v, ids[0], nil
}
