package task

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is something wrong with the data.
type Problem struct {
	Code    string // stable, for programs: label-unknown, too-long, duplicate, ...
	Message string // for people; names the file and the first rows
	Rows    []int  // from 1; at most maxProblemRows of them
}

const (
	maxProblemRows = 1000
	shownRows      = 10
	imbalance      = 0.8 // a class with a larger share than this is worth a word
)

// DataError is what stops training: every problem that was found, not the first.
type DataError struct{ Problems []Problem }

// Error joins the problems' messages.
func (e *DataError) Error() string {
	msgs := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		msgs[i] = p.Message
	}
	return ErrData.Error() + ": " + strings.Join(msgs, "; ")
}

// Unwrap returns ErrData.
func (e *DataError) Unwrap() error { return ErrData }

func problem(code, msg string, rows []int) Problem {
	return Problem{code, msg, append([]int{}, rows[:min(len(rows), maxProblemRows)]...)}
}

func (b *builder) fail(code, msg string, rows []int) {
	b.errs = append(b.errs, problem(code, msg, rows))
}

func (b *builder) warn(code, msg string, rows []int) {
	b.ds.Warnings = append(b.ds.Warnings, problem(code, msg, rows))
}

// rowList is "row 3" or "rows 3, 17, 20 and 5 more".
func rowList(rows []int) string {
	var s strings.Builder
	s.WriteString("row")
	if len(rows) > 1 {
		s.WriteByte('s')
	}
	for i, r := range rows[:min(len(rows), shownRows)] {
		if i > 0 {
			s.WriteByte(',')
		}
		fmt.Fprintf(&s, " %d", r)
	}
	if more := len(rows) - shownRows; more > 0 {
		fmt.Fprintf(&s, " and %d more", more)
	}
	return s.String()
}

// report looks at the examples as a whole: duplicates, rows in both parts,
// balance, and whether the tokenizer keeps the verbalizer apart.
func (b *builder) report() {
	if len(b.errs) > 0 {
		return
	}
	d := b.ds
	inTrain := b.duplicates(b.tables[0].t.Name, d.Train)
	b.duplicates(b.tables[len(b.tables)-1].t.Name, d.Val)
	var both []int
	for i := range d.Val {
		if inTrain[d.Val[i].key()] {
			both = append(both, d.Val[i].Row)
		}
	}
	if slices.Sort(both); len(both) > 0 {
		b.warn("train-and-validation", fmt.Sprintf("%s: validation %s also for training: the result will look too good",
			b.tables[len(b.tables)-1].t.Name, rowList(both)), both)
	}
	switch d.Kind {
	case KindLabels:
		for i := range d.Train {
			d.Labels[d.Train[i].Label].Train++
		}
		for i := range d.Val {
			d.Labels[d.Val[i].Label].Val++
		}
		b.balance("training", len(d.Train), func(l *Label) int { return l.Train })
		if len(d.Val) > 0 {
			b.balance("validation", len(d.Val), func(l *Label) int { return l.Val })
		}
		b.boundary()
	case KindChoice:
		b.positions()
	}
}

// key is what makes two examples the same question.
func (e *Example) key() string {
	if len(e.Options) == 0 {
		return e.Prompt
	}
	return e.Prompt + "\x00" + strings.Join(e.Options, "\x00")
}

// answer is what is right, for comparison between examples.
func (e *Example) answer() string {
	if len(e.Answers) > 0 {
		return e.Answers[0]
	}
	return strconv.Itoa(e.Label)
}

// minPositions is from how many rows on the place of the right option says something.
const minPositions = 20

// positions reports a right option that nearly always stands at the same place.
func (b *builder) positions() {
	if len(b.ds.Train) < minPositions {
		return
	}
	count := map[int]int{}
	for i := range b.ds.Train {
		count[b.ds.Train[i].Label]++
	}
	for at, n := range count {
		if float64(n) > imbalance*float64(len(b.ds.Train)) {
			b.warn("imbalance", fmt.Sprintf("in %d of %d training rows option %d is right", n, len(b.ds.Train), at+1), nil)
		}
	}
}

// duplicates reports repeated prompts, apart by whether the labels agree, and
// returns the set of prompts.
func (b *builder) duplicates(name string, examples []Example) map[string]bool {
	first := make(map[string]string, len(examples)) // answer of the first one
	set := make(map[string]bool, len(examples))
	var same, differ []int
	for i := range examples {
		e := &examples[i]
		k := e.key()
		if a, ok := first[k]; !ok {
			first[k] = e.answer()
			set[k] = true
		} else if a == e.answer() {
			same = append(same, e.Row)
		} else {
			differ = append(differ, e.Row)
		}
	}
	slices.Sort(same)
	slices.Sort(differ)
	if len(same) > 0 {
		b.warn("duplicate", fmt.Sprintf("%s: the same prompt as in an earlier row: %s", name, rowList(same)), same)
	}
	if len(differ) > 0 {
		what := map[Kind]string{KindLabels: "label", KindChoice: "right option", KindCompletion: "completion"}[b.ds.Kind]
		b.warn("conflict", fmt.Sprintf("%s: the same prompt as in an earlier row with another %s: %s", name, what, rowList(differ)), differ)
	}
	return set
}

func (b *builder) balance(what string, n int, count func(*Label) int) {
	for i := range b.ds.Labels {
		l := &b.ds.Labels[i]
		switch c := count(l); {
		case c == 0:
			b.warn("class-missing", fmt.Sprintf("no %s row has label %q", what, l.Name), nil)
		case float64(c) > imbalance*float64(n):
			b.warn("imbalance", fmt.Sprintf("%d of %d %s rows have label %q", c, n, what, l.Name), nil)
		}
	}
}

// boundary checks, on the first example, that prompt and verbalizer are
// tokenised together as they are apart; else the model would be asked for a
// token that the text never has there.
func (b *builder) boundary() {
	if len(b.ds.Train) == 0 {
		return
	}
	e := &b.ds.Train[0]
	apart := b.tok.Encode(e.Prompt, b.o.Special)
	for i := range b.ds.Labels {
		l := &b.ds.Labels[i]
		if together := b.tok.Encode(e.Prompt+l.Verbalizer, b.o.Special); !slices.Equal(together, append(slices.Clone(apart), l.Token)) {
			b.warn("boundary", fmt.Sprintf("the tokenizer joins the end of the prompt with %q: put a space in front of {label}", l.Verbalizer), []int{e.Row})
		}
	}
}
