package task

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// LongRows says what happens to a prompt with more tokens than the window.
type LongRows string

// The choices for long prompts.
const (
	Truncate LongRows = "truncate" // drop tokens at the start; the end, which asks the question, stays
	Skip     LongRows = "skip"     // leave the row out
)

// Options says how a table becomes examples. The zero value of a field means
// what is said there.
type Options struct {
	// Kind is found from the columns that are named here, or else from those that
	// the table has, when empty.
	Kind Kind
	Task string // the name of a task template (Tasks), which reads the columns of its files

	TextColumn  string // name, or number from 1; "text" when empty
	LabelColumn string // "label" when empty
	// Template is the prompt. It ends in {label} in label tasks (DefaultTemplate when
	// empty); elsewhere it is what the answer follows ("{prompt}" when empty).
	Template         string
	PromptColumn     string   // "prompt" when empty
	CompletionColumn string   // "completion" when empty; a JSON list holds several answers that are right
	MessagesColumn   string   // "messages" when empty
	OptionColumns    []string // one that holds a JSON list, or one for each option; "options" when nil
	AnswerColumn     string   // of a choice: the option's text, letter or number; "answer" when empty

	Labels      []string // values of the label column, in order; all there are, sorted, when nil
	Verbalizers []string // one word for each label; the labels themselves when nil
	Window      int      // tokens a prompt may have; required
	Long        LongRows // Truncate when empty
	TrainRows   int      // at most that many training rows; all when 0
	ValRows     int      // without a validation table: rows split off; with one: at most that many, all when 0
	Seed        int64    // of the split and of the choice of rows
	Special     bool     // recognise special tokens in prompts: for templates that spell them out, with trusted rows
	Chat        bool     // put prompt and completion into the model's chat template
	// Render renders a conversation with the model's chat template, open to the
	// assistant's next turn or not; nil when the model has none.
	Render func(messages []Message, open bool) (string, error)
	Begin  []int32 // tokens that begin every text, such as BOS
	End    []int32 // tokens that end a completion, such as EOS
}

// Label is a class.
type Label struct {
	Name       string
	Verbalizer string // as rendered, with its leading space
	Token      int32
	Train, Val int // examples
}

// Dataset is what Build makes.
type Dataset struct {
	Kind       Kind
	Metric     Metric // what the task is usually judged by
	Stop       string // completion: text that ends an answer; "" when only a token does
	Labels     []Label
	Train, Val []Example
	Warnings   []Problem
}

// maxLabels bounds inferred labels: more means that another column was meant.
const maxLabels = 256

// Build makes the examples of a training table and, when val is not nil, of a
// validation table. Everything found wrong is in the returned *DataError or,
// where training is still sensible, in Dataset.Warnings.
//
// Without val, ValRows rows drawn by Seed are split off for validation; what is
// left is for training. When fewer rows are asked for than there are, they are
// drawn by Seed, else they stay in file order.
func Build(train, val *Table, tok Tokenizer, o Options) (*Dataset, error) {
	o = o.withDefaults()
	if o.Window < 1 {
		return nil, fmt.Errorf("window of %d tokens", o.Window)
	}
	if o.TrainRows < 0 || o.ValRows < 0 {
		return nil, fmt.Errorf("%d training and %d validation rows: negative", o.TrainRows, o.ValRows)
	}
	if o.Long != Truncate && o.Long != Skip {
		return nil, fmt.Errorf("rows longer than the window: %q is neither %q nor %q", o.Long, Truncate, Skip)
	}
	b := &builder{o: o, tok: tok, ds: &Dataset{}}
	if err := b.choose(train); err != nil {
		return nil, err
	}
	if err := b.addTable(train, "training"); err != nil {
		return nil, err
	}
	if val != nil {
		if err := b.addTable(val, "validation"); err != nil {
			return nil, err
		}
	}
	if b.ds.Kind == KindLabels {
		b.labels()
	}
	trainRows, valRows, err := b.split()
	if err != nil {
		return nil, err
	}
	if len(b.errs) == 0 { // prompts need the labels
		b.ds.Train = b.examples(b.tables[0], trainRows)
		b.ds.Val = b.examples(b.tables[len(b.tables)-1], valRows)
	}
	b.report()
	if len(b.errs) > 0 {
		return nil, &DataError{Problems: b.errs}
	}
	return b.ds, nil
}

func (o Options) withDefaults() Options {
	if o.Long == "" {
		o.Long = Truncate
	}
	return o
}

type builder struct {
	o      Options
	tok    Tokenizer
	def    *definition
	tables []*source
	index  map[string]int // of a label
	ds     *Dataset
	errs   []Problem
}

// source is a table and how to read its rows.
type source struct {
	t      *Table
	what   string
	label  func(*Row) string // label tasks
	render func(*Row) (record, error)
}

func (b *builder) addTable(t *Table, what string) error {
	if b.def.expand != nil {
		flat, err := b.def.expand(t)
		if err != nil {
			return fmt.Errorf("task %s: %w", b.def.name, err)
		}
		t = flat
	}
	s := &source{t: t, what: what}
	if err := b.def.bind(b, s); err != nil {
		return err
	}
	b.tables = append(b.tables, s)
	return nil
}

// labels lists the classes, finds their tokens and checks that every row has a
// listed one.
func (b *builder) labels() {
	names := b.o.Labels
	if names == nil {
		seen := map[string]bool{}
		for _, s := range b.tables {
			for i := range s.t.Rows {
				if l := s.label(&s.t.Rows[i]); l != "" && !seen[l] {
					seen[l] = true
					names = append(names, l)
				}
			}
		}
		slices.Sort(names)
		if len(names) > maxLabels {
			b.fail("labels", fmt.Sprintf("the label column has %d different values (%q, %q, ...): is it the right one?",
				len(names), names[0], names[1]), nil)
			return
		}
	}
	if len(names) < 2 {
		b.fail("labels", fmt.Sprintf("%d labels %q, at least two are needed", len(names), names), nil)
		return
	}
	words := b.o.Verbalizers
	if words == nil {
		words = names
	}
	if len(words) != len(names) {
		b.fail("verbalizers", fmt.Sprintf("%d verbalizers %q for %d labels %q", len(words), words, len(names), names), nil)
		return
	}
	b.index = map[string]int{}
	tokens := map[int32]string{}
	for i, raw := range names {
		name := strings.TrimSpace(raw)
		if _, dup := b.index[name]; dup || name == "" {
			b.fail("labels", fmt.Sprintf("label %q is empty or listed twice", name), nil)
			continue
		}
		b.index[name] = i
		v, token, err := verbalize(b.def.prompt, b.tok, words[i])
		if err != nil {
			b.fail("verbalizer-tokens", fmt.Sprintf("the verbalizer of label %q %v", name, err), nil)
			continue
		}
		if other, dup := tokens[token]; dup {
			b.fail("verbalizer-tokens", fmt.Sprintf("labels %q and %q have the same verbalizer token %d", other, name, token), nil)
		}
		tokens[token] = name
		b.ds.Labels = append(b.ds.Labels, Label{Name: name, Verbalizer: v, Token: token})
	}
	for _, s := range b.tables {
		b.checkLabels(s)
	}
}

func (b *builder) checkLabels(s *source) {
	var none, unlisted []int
	example := ""
	for i := range s.t.Rows {
		l := s.label(&s.t.Rows[i])
		if l == "" {
			none = append(none, i+1)
		} else if _, ok := b.index[l]; !ok {
			if example == "" {
				example = l
			}
			unlisted = append(unlisted, i+1)
		}
	}
	if none != nil {
		b.fail("label-empty", fmt.Sprintf("%s: no label in %s", s.t.Name, rowList(none)), none)
	}
	if unlisted != nil {
		b.fail("label-unknown", fmt.Sprintf("%s: a label that is not listed (%q, for one) in %s", s.t.Name, example, rowList(unlisted)), unlisted)
	}
}

// split chooses the rows (indices) of both parts.
func (b *builder) split() (train, val []int, err error) {
	o, n := b.o, len(b.tables[0].t.Rows)
	choose := func(n, limit int, stream uint64) []int {
		if limit > 0 && limit < n {
			return newRNG(o.Seed, stream).perm(n)[:limit]
		}
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		return all
	}
	if len(b.tables) == 2 {
		return choose(n, o.TrainRows, streamSplit), choose(len(b.tables[1].t.Rows), o.ValRows, streamVal), nil
	}
	if o.ValRows == 0 {
		return choose(n, o.TrainRows, streamSplit), nil, nil
	}
	if o.ValRows >= n {
		return nil, nil, fmt.Errorf("%s: has %d rows, too few to split off %d for validation", b.tables[0].t.Name, n, o.ValRows)
	}
	order := newRNG(o.Seed, streamSplit).perm(n)
	val, train = order[:o.ValRows], order[o.ValRows:]
	if o.TrainRows > 0 && o.TrainRows < len(train) {
		train = train[:o.TrainRows]
	} else {
		slices.Sort(train)
	}
	return train, val, nil
}

// examples tokenises rows and notes the ones that are empty or too long.
func (b *builder) examples(s *source, rows []int) []Example {
	var out []Example
	var empty, long, bad []int
	var cause error
	for _, i := range rows {
		r := &s.t.Rows[i]
		rec, err := s.render(r)
		var e Example
		var cut bool
		if err == nil {
			if b.ds.Kind == KindLabels {
				e, cut, err = b.encodeLabel(&rec, b.index[s.label(r)])
			} else {
				e, cut, err = b.encode(&rec)
			}
		}
		switch {
		case errors.Is(err, errEmptyRow):
			empty = append(empty, i+1)
			continue
		case err != nil:
			if cause == nil {
				cause = err
			}
			bad = append(bad, i+1)
			continue
		}
		e.Row = i + 1
		if cut {
			long = append(long, i+1)
			if b.o.Long == Skip {
				continue
			}
		}
		out = append(out, e)
	}
	if bad != nil {
		slices.Sort(bad)
		b.fail("row-invalid", fmt.Sprintf("%s: %s cannot be used (%v)", s.t.Name, rowList(bad), cause), bad)
	}
	slices.Sort(empty)
	slices.Sort(long)
	if len(empty) > 0 {
		b.warn("text-empty", fmt.Sprintf("%s: no text in %s: left out", s.t.Name, rowList(empty)), empty)
	}
	if len(long) > 0 {
		what := "the first tokens of their prompts are dropped, or else the last of their answers"
		if b.ds.Kind == KindLabels {
			what = "the first tokens of their prompts are dropped"
		}
		if b.o.Long == Skip {
			what = "left out"
		}
		b.warn("too-long", fmt.Sprintf("%s: longer than the window of %d tokens: %s: %s", s.t.Name, b.o.Window, rowList(long), what), long)
	}
	if len(out) == 0 && len(rows) > 0 {
		b.fail("no-rows", fmt.Sprintf("%s: no %s row is left", s.t.Name, s.what), nil)
	}
	return out
}

// encodeLabel tokenises a prompt that a verbalizer follows.
func (b *builder) encodeLabel(rec *record, label int) (e Example, long bool, err error) {
	ids := b.promptIDs(rec.prompt)
	if len(ids) == len(b.o.Begin) {
		return e, false, errEmptyRow
	}
	if over := len(ids) - b.o.Window; over > 0 {
		ids, long = b.cutFront(ids, over), true
	}
	seq := Sequence{IDs: ids, At: []int32{int32(len(ids) - 1)}, Targets: []int32{int32(label)}}
	return Example{IDs: ids, Sequences: []Sequence{seq}, Label: label, Text: rec.text, Prompt: rec.prompt}, long, nil
}

// Lengths are the token counts of the examples' longest sequences, for NewSampler.
func Lengths(examples []Example) []int {
	out := make([]int, len(examples))
	for i := range examples {
		out[i] = examples[i].Longest()
	}
	return out
}

// ErrData is wrapped by every *DataError.
var ErrData = errors.New("the data cannot be trained on")
