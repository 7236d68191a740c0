package task

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind says how a row is scored.
type Kind string

// The kinds of tasks.
const (
	KindLabels     Kind = "labels"     // one token among the labels' verbalizers, behind the prompt
	KindChoice     Kind = "choice"     // the option of highest mean log-probability a token
	KindCompletion Kind = "completion" // every token of the completion, over the vocabulary
)

// Sequence is one row through the model with its scored positions: the
// prediction made at IDs[At[i]] is scored for Targets[i]. At ascends.
type Sequence struct {
	IDs     []int32
	At      []int32
	Targets []int32 // token ids; in label tasks the index of the label
}

// Example is one row of a table, tokenised.
type Example struct {
	IDs []int32 // of the prompt; what is generated continues them
	// Sequences are what is scored: one, or in a choice one for each option.
	Sequences []Sequence
	Label     int      // index into Dataset.Labels, or of the first right option; -1 in completions
	Right     []int    // choice: all options that are right
	Options   []string // choice: as written in the table
	Answers   []string // completion: the answers that count as right; the first is trained on
	Text      string   // for people: the row without its prompt
	Prompt    string
	Row       int // in its table, from 1
}

// Longest is the number of tokens of the example's longest sequence.
func (e *Example) Longest() int {
	n := 0
	for i := range e.Sequences {
		n = max(n, len(e.Sequences[i].IDs))
	}
	return n
}

// Scored is the number of scored positions of all the example's sequences.
func (e *Example) Scored() int {
	n := 0
	for i := range e.Sequences {
		n += len(e.Sequences[i].At)
	}
	return n
}

// record is a row as rendered text.
type record struct {
	text    string
	prompt  string
	seqs    [][]segment
	right   []int
	options []string
	answers []string
}

// segment is a part of a sequence that is scored or is not. With end, the token
// that ends a text follows and is scored too.
type segment struct {
	text   string
	scored bool
	end    bool
}

// errEmptyRow is a row with nothing in it; it is left out.
var errEmptyRow = errors.New("empty")

// encode tokenises a record. Segments are tokenised apart, as they are when a
// prompt is continued; long says that the window cut something off.
func (b *builder) encode(rec *record) (e Example, long bool, err error) {
	e = Example{Label: -1, Right: rec.right, Options: rec.options, Answers: rec.answers, Text: rec.text, Prompt: rec.prompt}
	if rec.right != nil {
		e.Label = rec.right[0]
	}
	e.IDs = b.promptIDs(rec.prompt)
	if over := len(e.IDs) - b.o.Window; over > 0 {
		e.IDs = b.cutFront(e.IDs, over)
	}
	type tokens struct {
		ids    []int32
		scored []bool
		head   int // tokens in front of the first scored one
	}
	all := make([]tokens, len(rec.seqs))
	over := 0
	for k, segs := range rec.seqs {
		t := &all[k]
		last := 0
		for i, s := range segs {
			var ids []int32
			if i == 0 {
				ids = b.promptIDs(s.text)
				t.ids, ids = slices.Clone(ids[:len(b.o.Begin)]), ids[len(b.o.Begin):]
				t.scored = make([]bool, len(t.ids))
			} else {
				ids = b.tok.Continue(s.text, b.o.Special)
			}
			if s.end {
				ids = slices.Concat(ids, b.o.End)
			}
			if s.scored && last == 0 {
				t.head = len(t.ids)
			}
			for range ids {
				t.scored = append(t.scored, s.scored)
			}
			t.ids = append(t.ids, ids...)
			if s.scored {
				last = len(t.ids)
			}
		}
		// What stands behind the last scored token decides nothing.
		t.ids, t.scored = t.ids[:last], t.scored[:last]
		if len(t.ids) < 2 {
			return e, false, errEmptyRow
		}
		over = max(over, len(t.ids)-1-b.o.Window)
	}
	for k := range all {
		t := &all[k]
		if over > 0 { // the same part of the prompt goes from every option
			long = true
			keep := len(b.o.Begin)
			if n := min(over, t.head-keep-1); n > 0 {
				t.ids = slices.Delete(t.ids, keep, keep+n)
				t.scored = slices.Delete(t.scored, keep, keep+n)
			}
			if len(t.ids)-1 > b.o.Window {
				t.ids, t.scored = t.ids[:b.o.Window+1], t.scored[:b.o.Window+1]
			}
		}
		seq := Sequence{IDs: t.ids[:len(t.ids)-1]}
		for i := 1; i < len(t.ids); i++ {
			if t.scored[i] {
				seq.At, seq.Targets = append(seq.At, int32(i-1)), append(seq.Targets, t.ids[i])
			}
		}
		if seq.At == nil {
			return e, false, fmt.Errorf("the window of %d tokens leaves no scored token", b.o.Window)
		}
		e.Sequences = append(e.Sequences, seq)
	}
	return e, long, nil
}

// promptIDs tokenises the start of a text.
func (b *builder) promptIDs(prompt string) []int32 {
	return Begun(b.o.Begin, b.tok.Encode(prompt, b.o.Special))
}

// Begun is a text's ids with begin in front, once: a chat template may have written it there.
func Begun(begin, ids []int32) []int32 {
	if n := len(begin); n > 0 && (len(ids) < n || !slices.Equal(ids[:n], begin)) {
		return slices.Concat(begin, ids)
	}
	return ids
}

// cutFront drops n tokens behind those that begin every text.
func (b *builder) cutFront(ids []int32, n int) []int32 {
	keep := min(len(b.o.Begin), len(ids)-n)
	return slices.Concat(ids[:keep], ids[keep+n:])
}

// join puts one space between a prompt and what continues it, unless one of them
// has white space there. Byte-level tokenizers keep a space with the word after
// it, so spaces at the end of the prompt go to the continuation.
func join(prompt, next string) (string, string) {
	cut := strings.TrimRight(prompt, " ")
	switch {
	case len(cut) < len(prompt):
		if strings.HasPrefix(next, " ") {
			return cut, next
		}
		return cut, prompt[len(cut):] + next
	case prompt == "" || next == "" || strings.ContainsAny(next[:1], " \n\t") || strings.HasSuffix(prompt, "\n") || strings.HasSuffix(prompt, "\t"):
		return prompt, next
	}
	return prompt, " " + next
}
