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
	TextColumn  string   // name, or number from 1; "text" when empty
	LabelColumn string   // "label" when empty
	Template    string   // DefaultTemplate when empty
	Labels      []string // values of the label column, in order; all there are, sorted, when nil
	Verbalizers []string // one word for each label; the labels themselves when nil
	Window      int      // tokens a prompt may have; required
	Long        LongRows // Truncate when empty
	TrainRows   int      // at most that many training rows; all when 0
	ValRows     int      // without a validation table: rows split off; with one: at most that many, all when 0
	Seed        int64    // of the split and of the choice of rows
	Special     bool     // recognise special tokens in prompts: for templates that spell them out, with trusted rows
}

// Label is a class.
type Label struct {
	Name       string
	Verbalizer string // as rendered, with its leading space
	Token      int32
	Train, Val int // examples
}

// Example is one tokenised prompt. The model's prediction is read off its last
// token.
type Example struct {
	IDs    []int32
	Label  int // index into Dataset.Labels
	Text   string
	Prompt string
	Row    int // in its table, from 1
}

// Dataset is what Build makes.
type Dataset struct {
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
	tmpl, err := ParseTemplate(o.Template)
	if err != nil {
		return nil, err
	}
	b := &builder{o: o, tok: tok, tmpl: tmpl, ds: &Dataset{}}
	if err := b.addTable(train, "training"); err != nil {
		return nil, err
	}
	if val != nil {
		if err := b.addTable(val, "validation"); err != nil {
			return nil, err
		}
	}
	b.labels()
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
	if o.TextColumn == "" {
		o.TextColumn = textPlace
	}
	if o.LabelColumn == "" {
		o.LabelColumn = labelPlace
	}
	if o.Template == "" {
		o.Template = DefaultTemplate
	}
	if o.Long == "" {
		o.Long = Truncate
	}
	return o
}

type builder struct {
	o      Options
	tok    Tokenizer
	tmpl   *Template
	tables []*source
	index  map[string]int // of a label
	ds     *Dataset
	errs   []Problem
}

// source is a table with the columns that were chosen.
type source struct {
	t           *Table
	what        string
	text, label int
	prompt      *bound
}

func (b *builder) addTable(t *Table, what string) error {
	s := &source{t: t, what: what}
	var err error
	if s.text, err = t.Column(b.o.TextColumn); err != nil {
		return fmt.Errorf("text column: %w", err)
	}
	if s.label, err = t.Column(b.o.LabelColumn); err != nil {
		return fmt.Errorf("label column: %w", err)
	}
	if s.text == s.label {
		return fmt.Errorf("%s: text and label are the same column %q", t.Name, t.Columns[s.text])
	}
	if s.prompt, err = b.tmpl.bind(t, s.text); err != nil {
		return err
	}
	for i, c := range s.prompt.columns {
		if c == s.label {
			return fmt.Errorf("template: {%s} shows the label in the prompt", b.tmpl.parts[i].column)
		}
	}
	b.tables = append(b.tables, s)
	return nil
}

func (s *source) labelOf(r *Row) string { return strings.TrimSpace(r.Values[s.label]) }

// labels lists the classes, finds their tokens and checks that every row has a
// listed one.
func (b *builder) labels() {
	names := b.o.Labels
	if names == nil {
		seen := map[string]bool{}
		for _, s := range b.tables {
			for i := range s.t.Rows {
				if l := s.labelOf(&s.t.Rows[i]); l != "" && !seen[l] {
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
		v, token, err := verbalize(b.tmpl, b.tok, words[i])
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
		l := s.labelOf(&s.t.Rows[i])
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
	var empty, long []int
	for _, i := range rows {
		r := &s.t.Rows[i]
		text := strings.TrimSpace(r.Values[s.text])
		if text == "" {
			empty = append(empty, i+1)
			continue
		}
		e := Example{Label: b.index[s.labelOf(r)], Text: text, Prompt: s.prompt.render(r), Row: i + 1}
		e.IDs = b.tok.Encode(e.Prompt, b.o.Special)
		if len(e.IDs) == 0 {
			empty = append(empty, i+1)
			continue
		}
		if len(e.IDs) > b.o.Window {
			long = append(long, i+1)
			if b.o.Long == Skip {
				continue
			}
			e.IDs = slices.Clone(e.IDs[len(e.IDs)-b.o.Window:])
		}
		out = append(out, e)
	}
	slices.Sort(empty)
	slices.Sort(long)
	if len(empty) > 0 {
		b.warn("text-empty", fmt.Sprintf("%s: no text in %s: left out", s.t.Name, rowList(empty)), empty)
	}
	if len(long) > 0 {
		what := "the first tokens of their prompts are dropped"
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

// Lengths are the examples' token counts, for NewSampler.
func Lengths(examples []Example) []int {
	out := make([]int, len(examples))
	for i := range examples {
		out[i] = len(examples[i].IDs)
	}
	return out
}

// ErrData is wrapped by every *DataError.
var ErrData = errors.New("the data cannot be trained on")
