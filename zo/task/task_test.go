package task

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// words is a tokenizer for tests: a token is a word with the space before it;
// words of more than eight letters are two tokens.
type words struct{ ids map[string]int32 }

func (w *words) id(s string) int32 {
	if w.ids == nil {
		w.ids = map[string]int32{}
	}
	if _, ok := w.ids[s]; !ok {
		w.ids[s] = int32(len(w.ids))
	}
	return w.ids[s]
}

func (w *words) Encode(text string, special bool) []int32 {
	var out []int32
	for len(text) > 0 {
		n := strings.IndexByte(text[1:], ' ') + 1
		if n == 0 {
			n = len(text)
		}
		if n > 9 {
			n = 9
		}
		out = append(out, w.id(text[:n]))
		text = text[n:]
	}
	return out
}

func (w *words) Continue(text string, special bool) []int32 { return w.Encode(text, special) }

func table(t testing.TB, csv string) *Table {
	t.Helper()
	tab, err := ReadTable(strings.NewReader(csv), "t.csv", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

const small = "text,label\nfine film,pos\nno good,neg\nso so,neg\nlovely,pos\n"

func options() Options {
	return Options{Labels: []string{"neg", "pos"}, Verbalizers: []string{"terrible", "great"}, Window: 16}
}

func TestBuild(t *testing.T) {
	tok := &words{}
	d, err := Build(table(t, small), nil, tok, options())
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Train) != 4 || len(d.Val) != 0 || len(d.Warnings) != 0 {
		t.Fatalf("%+v", d)
	}
	e := d.Train[1]
	if e.Prompt != "no good It was" || e.Text != "no good" || e.Label != 0 || e.Row != 2 || len(e.IDs) != 4 {
		t.Errorf("%+v", e)
	}
	want := []Label{{"neg", " terrible", tok.id(" terrible"), 2, 0}, {"pos", " great", tok.id(" great"), 2, 0}}
	if !reflect.DeepEqual(d.Labels, want) {
		t.Errorf("%+v", d.Labels)
	}
	if got := Lengths(d.Train); !reflect.DeepEqual(got, []int{4, 4, 4, 3}) {
		t.Errorf("lengths %v", got)
	}
	// Without lists: the labels in the table, sorted, stand for themselves.
	d, err = Build(table(t, small), nil, tok, Options{Window: 16, Template: "{text}:{label}", LabelColumn: "2", TextColumn: "1"})
	if err != nil || d.Labels[0].Verbalizer != "neg" || d.Labels[1].Name != "pos" || d.Train[0].Prompt != "fine film:" {
		t.Errorf("%+v %v", d, err)
	}
}

func TestBuildSplit(t *testing.T) {
	var s strings.Builder
	s.WriteString("text,label\n")
	for i := 0; i < 100; i++ {
		fmt.Fprintf(&s, "text %d,%s\n", i, []string{"neg", "pos"}[i%2])
	}
	rows := func(es []Example) (out []int) {
		for _, e := range es {
			out = append(out, e.Row)
		}
		return
	}
	o := options()
	o.ValRows, o.TrainRows, o.Seed = 20, 50, 5
	one, err := Build(table(t, s.String()), nil, &words{}, o)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := Build(table(t, s.String()), nil, &words{}, o)
	if !reflect.DeepEqual(rows(one.Train), rows(two.Train)) || !reflect.DeepEqual(rows(one.Val), rows(two.Val)) {
		t.Error("the same seed splits differently")
	}
	if len(one.Train) != 50 || len(one.Val) != 20 {
		t.Errorf("%d and %d rows", len(one.Train), len(one.Val))
	}
	seen := map[int]bool{}
	for _, r := range append(rows(one.Train), rows(one.Val)...) {
		if seen[r] {
			t.Errorf("row %d is in the split twice", r)
		}
		seen[r] = true
	}
	o.TrainRows = 0
	all, err := Build(table(t, s.String()), nil, &words{}, o)
	if err != nil || len(all.Train) != 80 || !reflect.DeepEqual(rows(all.Val), rows(one.Val)) {
		t.Errorf("%d %v", len(all.Train), err)
	}
	o.Seed = 6
	if other, _ := Build(table(t, s.String()), nil, &words{}, o); reflect.DeepEqual(rows(other.Val), rows(all.Val)) {
		t.Error("another seed splits the same")
	}
	o.ValRows = 3
	both, err := Build(table(t, s.String()), table(t, s.String()), &words{}, o)
	if err != nil || len(both.Val) != 3 || len(both.Train) != 100 {
		t.Fatalf("%v", err)
	}
	if len(both.Warnings) != 1 || both.Warnings[0].Code != "train-and-validation" || len(both.Warnings[0].Rows) != 3 {
		t.Errorf("%+v", both.Warnings)
	}
	o.ValRows = 100
	if _, err := Build(table(t, s.String()), nil, &words{}, o); err == nil || !strings.Contains(err.Error(), "has 100 rows, too few") {
		t.Errorf("%v", err)
	}
}

// Every finding of the report, with its rows.
func TestWarnings(t *testing.T) {
	csv := "text,label\nfine film,pos\n  ,pos\nfine film,pos\nfine film,neg\na b c d e f g h,pos\nx,pos\ny,pos\nz,pos\nw,pos\nv,pos\n"
	o := options()
	o.Window = 8
	find := func(d *Dataset) map[string][]int {
		m := map[string][]int{}
		for _, w := range d.Warnings {
			m[w.Code] = w.Rows
		}
		return m
	}
	d, err := Build(table(t, csv), nil, &words{}, o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]int{"text-empty": {2}, "duplicate": {3}, "conflict": {4}, "too-long": {5}, "imbalance": {}}
	got := find(d)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if e := d.Train[3]; e.Row != 5 || len(e.IDs) != 8 || !strings.HasPrefix(e.Prompt, "a b") {
		t.Errorf("%+v", e)
	}
	full := (&words{}).Encode("a b c d e f g h It was", false)
	if len(full) != 10 {
		t.Fatal(len(full))
	}
	o.Long = Skip
	if d, err = Build(table(t, csv), nil, &words{}, o); err != nil || len(d.Train) != 8 {
		t.Errorf("%d %v", len(d.Train), err)
	}
	o.Labels, o.Verbalizers = append(o.Labels, "none"), append(o.Verbalizers, "maybe")
	if d, err = Build(table(t, csv), nil, &words{}, o); err != nil || find(d)["class-missing"] == nil {
		t.Errorf("%+v %v", d, err)
	}
	// "x:" and "pos" are one word for the test's tokenizer, unlike apart.
	d, err = Build(table(t, small), nil, &words{}, Options{Window: 8, Template: "{text} x:{label}"})
	if err != nil || find(d)["boundary"] == nil {
		t.Errorf("%+v %v", d, err)
	}
}

func TestTruncateKeepsTheEnd(t *testing.T) {
	tok := &words{}
	o := options()
	o.Window = 3
	d, err := Build(table(t, "text,label\na b c d,pos\ne f g h,neg\n"), nil, tok, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int32{tok.id(" d"), tok.id(" It"), tok.id(" was")}; !reflect.DeepEqual(d.Train[0].IDs, want) {
		t.Errorf("%v, want %v", d.Train[0].IDs, want)
	}
}

func TestBuildErrors(t *testing.T) {
	for name, c := range map[string]struct {
		csv    string
		change func(*Options)
		want   string
	}{
		"unknown label": {small + "a,maybe\nb,?\n", nil, `t.csv: a label that is not listed ("maybe", for one) in rows 5, 6`},
		"no label":      {small + "a,\n", nil, "t.csv: no label in row 5"},
		"long word":     {small, func(o *Options) { o.Verbalizers[1] = "extraordinary" }, `label "pos" " extraordinary" is 2 tokens`},
		"two words":     {small, func(o *Options) { o.Verbalizers[1] = "very good" }, "is 2 tokens"},
		"empty word":    {small, func(o *Options) { o.Verbalizers[1] = " " }, `label "pos" is empty`},
		"same word":     {small, func(o *Options) { o.Verbalizers[1] = "terrible" }, "same verbalizer token"},
		"counts":        {small, func(o *Options) { o.Verbalizers = o.Verbalizers[:1] }, "1 verbalizers"},
		"one label":     {small, func(o *Options) { o.Labels = o.Labels[:1] }, "at least two"},
		"twice":         {small, func(o *Options) { o.Labels[1] = "neg" }, "listed twice"},
		"window":        {small, func(o *Options) { o.Window = 0 }, "window of 0 tokens"},
		"negative":      {small, func(o *Options) { o.ValRows = -1 }, "negative"},
		"policy":        {small, func(o *Options) { o.Long = "x" }, `"x" is neither`},
		"text column":   {small, func(o *Options) { o.TextColumn = "body" }, `text column: t.csv: no column "body"; the columns are ["text" "label"]`},
		"label column":  {small, func(o *Options) { o.LabelColumn = "3" }, `label column: t.csv: no column "3"`},
		"same column":   {small, func(o *Options) { o.LabelColumn = "1" }, "the same column"},
		"leak":          {"text,label,stars\na,pos,5\nb,neg,1\n", func(o *Options) { o.LabelColumn, o.Template = "stars", "{text} {stars} {label}" }, "shows the label"},
		"template":      {small, func(o *Options) { o.Template = "{title} {label}" }, `template: t.csv: no column "title"`},
		"empty texts":   {"text,label\n,pos\n ,neg\n", nil, "no training row is left"},
		"many labels":   {many(), func(o *Options) { o.Labels, o.Verbalizers = nil, nil }, "has 300 different values"},
	} {
		o := options()
		if c.change != nil {
			c.change(&o)
		}
		if _, err := Build(table(t, c.csv), nil, &words{}, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", name, err, c.want)
		}
	}
	// All problems at once, and rows for programs.
	o := options()
	o.Verbalizers[0] = "extraordinary"
	_, err := Build(table(t, small+"a,maybe\nb,\n"), nil, &words{}, o)
	var de *DataError
	if !errors.As(err, &de) || !errors.Is(err, ErrData) || len(de.Problems) != 3 || de.Problems[2].Code != "label-unknown" ||
		!reflect.DeepEqual(de.Problems[2].Rows, []int{5}) {
		t.Errorf("%+v", err)
	}
}

func many() string {
	var s strings.Builder
	s.WriteString("text,label\n")
	for i := 0; i < 300; i++ {
		fmt.Fprintf(&s, "t,%d\n", i)
	}
	return s.String()
}

func TestTemplate(t *testing.T) {
	tab := table(t, "text,label,title\nbody,x,Head\n")
	for s, want := range map[string][2]string{
		"{text} It was {label}":             {"body It was", " w"},
		"{title}: {text}\nAnswer:\n{label}": {"Head: body\nAnswer:\n", "w"},
		"{{{text}}} {label}":                {"{body}", " w"},
		"{text}  {label}":                   {"body ", " w"},
		"{text}{label}":                     {"body", "w"},
		"{3} {label}":                       {"Head", " w"},
	} {
		tm, err := ParseTemplate(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
			continue
		}
		b, err := tm.bind(tab, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]string{b.render(&tab.Rows[0]), tm.Verbalizer("w")}; got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
		if tm.Verbalizer(" w") != " w" {
			t.Errorf("%q: a space of its own was doubled", s)
		}
	}
	for s, want := range map[string]string{
		"":                                     "{label} must be the end",
		"{text}":                               "{label} must be the end",
		"{text} {label}.":                      "character 15: {label} must be the end",
		"{label} {text} {label}":               "{label} must be the end",
		"{label}":                              "no {text}",
		"{text {label}":                        `"text {label" is not a column name`,
		"{text} {label":                        "'{' is not closed",
		"text} {label}":                        "'}' without '{'",
		"{} {label}":                           `"" is not a column name`,
		strings.Repeat("x", 1e5):               "the limit is",
		strings.Repeat("{a}", 999) + "{label}": "more than 256 placeholders",
	} {
		if _, err := ParseTemplate(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want ...%s...", s, err, want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("{text} It was {label}")
	f.Add("{{ {1}{label}")
	tab := table(f, small)
	f.Fuzz(func(t *testing.T, s string) {
		tm, err := ParseTemplate(s)
		if err != nil {
			return
		}
		if b, err := tm.bind(tab, 0); err == nil {
			b.render(&tab.Rows[0])
		}
	})
}
