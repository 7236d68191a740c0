package task

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

func jsonl(t testing.TB, text string) *Table {
	t.Helper()
	tab, err := ReadTable(strings.NewReader(text), "t.jsonl", ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// spelled undoes the tokenizer of the tests.
func (w *words) spelled(ids []int32) string {
	var s strings.Builder
	for _, id := range ids {
		for text, i := range w.ids {
			if i == id {
				s.WriteString(text)
			}
		}
	}
	return s.String()
}

// marked shows a sequence's text with its scored tokens in brackets.
func (w *words) marked(seq Sequence) string {
	var s strings.Builder
	at := 0
	for i := 0; i <= len(seq.IDs); i++ {
		var id int32
		scored := at < len(seq.At) && int(seq.At[at]) == i-1
		switch {
		case scored:
			id = seq.Targets[at]
			at++
		case i == len(seq.IDs):
			continue
		default:
			id = seq.IDs[i]
		}
		if scored {
			fmt.Fprintf(&s, "[%s]", w.spelled([]int32{id}))
		} else {
			s.WriteString(w.spelled([]int32{id}))
		}
	}
	return s.String()
}

// render is a chat template: <role>content</>.
func render(list []Message, open bool) (string, error) {
	var s strings.Builder
	for _, m := range list {
		fmt.Fprintf(&s, "<%s> %s </> ", m.Role, m.Content)
	}
	if open {
		s.WriteString("<assistant>")
	}
	return s.String(), nil
}

func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		o    Options
		kind Kind
		want string // of the first example's sequences
	}{
		"completion": {`{"prompt":"Say it","completion":"very well"}`, Options{}, KindCompletion, "Say it[ very][ well][<end>]"},
		"columns": {`{"q":"Say it","a":"very well"}`, Options{PromptColumn: "q", CompletionColumn: "a"}, KindCompletion,
			"Say it[ very][ well][<end>]"},
		"template": {`{"q":"Say it","a":["very well","x"]}`, Options{Template: "Q: {q} A:", CompletionColumn: "a"}, KindCompletion,
			"Q: Say it A:[ very][ well][<end>]"},
		"space at the end": {`{"prompt":"Say ","completion":"it"}`, Options{}, KindCompletion, "Say[ it][<end>]"},
		"new line":         {`{"prompt":"Say:\n","completion":"it"}`, Options{}, KindCompletion, "Say:\n[it][<end>]"},
		"chat": {`{"prompt":"Say it","completion":"very well"}`, Options{Chat: true}, KindCompletion,
			"<user> Say it </> <assistant>[ very][ well][ </>][ ]"},
		"messages": {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}`,
			Options{}, KindCompletion, "<user> a </> <assistant>[ b][ </>][ ]<user> c </> <assistant>[ d][ </>][ ]"},
		"options": {`{"prompt":"It is","options":["very good","bad"],"answer":"bad"}`, Options{}, KindChoice,
			"It is[ very][ good]|It is[ bad]"},
		"option columns": {`{"q":"It is","o1":"good","o2":"bad","right":2}`,
			Options{PromptColumn: "q", OptionColumns: []string{"o1", "o2"}, AnswerColumn: "right"}, KindChoice, "It is[ good]|It is[ bad]"},
		"begin":       {`{"prompt":"Say it","completion":"well"}`, Options{Begin: []int32{7}}, KindCompletion, "<7>Say it[ well][<end>]"},
		"begin, once": {`{"prompt":"Say it","completion":"well"}`, Options{Begin: []int32{7}, Template: "<7> {prompt}"}, KindCompletion, "<7> Say it[ well][<end>]"},
	} {
		tok := &words{}
		for i := range 8 {
			tok.id(fmt.Sprintf("<%d>", i))
		}
		tok.id("<end>")
		c.o.Window, c.o.Render = 64, render
		if !c.o.Chat {
			c.o.End = []int32{tok.id("<end>")}
		}
		d, err := Build(jsonl(t, c.text), nil, tok, c.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, s := range d.Train[0].Sequences {
			got = append(got, tok.marked(s))
		}
		if all := strings.Join(got, "|"); d.Kind != c.kind || all != c.want {
			t.Errorf("%s: kind %s, %q, want %q", name, d.Kind, all, c.want)
		}
	}
}

func TestChoiceAnswers(t *testing.T) {
	row := func(answer string) string {
		return fmt.Sprintf(`{"prompt":"p %s","options":["red","blue","2"],"answer":%s}`+"\n", strings.Trim(answer, `"`), answer)
	}
	labels := func(answers ...string) []int {
		var s strings.Builder
		for _, a := range answers {
			s.WriteString(row(a))
		}
		d, err := Build(jsonl(t, s.String()), nil, &words{}, Options{Window: 16})
		if err != nil {
			t.Fatal(err)
		}
		var out []int
		for _, e := range d.Train {
			out = append(out, e.Label)
		}
		return out
	}
	if got := labels(`"blue"`, `"A"`, `"c"`, `"2"`, "1", "3"); !reflect.DeepEqual(got, []int{1, 0, 2, 2, 0, 2}) {
		t.Errorf("from 1: %v", got)
	}
	if got := labels("0", "1"); !reflect.DeepEqual(got, []int{0, 1}) {
		t.Errorf("from 0: %v", got)
	}
}

func TestKindReports(t *testing.T) {
	find := func(text string, o Options) map[string][]int {
		t.Helper()
		o.Window, o.Render = max(o.Window, 10), render
		d, err := Build(jsonl(t, text), nil, &words{}, o)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string][]int{}
		for _, w := range d.Warnings {
			m[w.Code] = w.Rows
		}
		return m
	}
	line := func(p, c string) string { return fmt.Sprintf(`{"prompt":%q,"completion":%q}`+"\n", p, c) }
	got := find(line("a", "b")+line("", "c")+line("a", "b")+line("a", "c")+line("d", " ")+line("1 2 3 4 5 6 7 8 9 10 11", "x y"), Options{})
	if want := map[string][]int{"text-empty": {2, 5}, "duplicate": {3}, "conflict": {4}, "too-long": {6}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	o := `{"prompt":"a","options":["x","y"],"answer":"x"}` + "\n"
	got = find(o+`{"prompt":"a","options":["x","z"],"answer":"x"}`+"\n"+o, Options{})
	if want := map[string][]int{"duplicate": {3}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&many, `{"prompt":"%d","options":["x","y"],"answer":"x"}`+"\n", i)
	}
	if got := find(many.String(), Options{}); got["imbalance"] == nil {
		t.Errorf("%v", got)
	}
}

// A row that is too long loses the start of its prompt, all options alike, and the
// end of its answer only when the prompt is used up.
func TestKindWindow(t *testing.T) {
	for _, c := range []struct {
		text   string
		window int
		want   string
	}{
		{`{"prompt":"1 2 3 4","completion":"a b"}`, 3, " 3 4[ a][ b]"},
		{`{"prompt":"1 2","completion":"a b c d e"}`, 3, " 2[ a][ b][ c]"},
		{`{"prompt":"1 2 3 4","options":["a","a b"],"answer":"a"}`, 3, " 3 4[ a]| 3 4[ a][ b]"},
	} {
		tok := &words{}
		d, err := Build(jsonl(t, c.text), nil, tok, Options{Window: c.window})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range d.Train[0].Sequences {
			got = append(got, tok.marked(s))
			if len(s.IDs) > c.window {
				t.Errorf("%q: %d tokens in a window of %d", c.text, len(s.IDs), c.window)
			}
		}
		if all := strings.Join(got, "|"); all != c.want {
			t.Errorf("%q: %q, want %q", c.text, all, c.want)
		}
		if len(d.Warnings) != 1 || d.Warnings[0].Code != "too-long" {
			t.Errorf("%q: %+v", c.text, d.Warnings)
		}
	}
}

func TestKindErrors(t *testing.T) {
	msg := func(s string) string { return `{"messages":` + s + `}` }
	for name, c := range map[string]struct {
		text string
		o    Options
		want string
	}{
		"no column":        {`{"prompt":"a","completion":"b"}`, Options{CompletionColumn: "c"}, `completion column: t.jsonl: no column "c"`},
		"leak":             {`{"prompt":"a","completion":"b"}`, Options{Template: "{completion}", CompletionColumn: "completion"}, "shows the completion"},
		"answer leak":      {`{"prompt":"a","options":["x","y"],"answer":"x"}`, Options{Kind: KindChoice, Template: "{prompt} {answer}"}, "shows the answer"},
		"kind":             {`{"prompt":"a","completion":"b"}`, Options{Kind: "x"}, `kind "x"`},
		"no template":      {msg(`[{"role":"user","content":"a"}]`), Options{}, "chat template"},
		"chat no template": {`{"prompt":"a","completion":"b"}`, Options{Chat: true}, "no chat template"},
		"one option":       {`{"prompt":"a","options":["x"],"answer":"x"}`, Options{}, "row 1 cannot be used (1 options, want 2 to 64)"},
		"empty option":     {`{"prompt":"a","options":["x"," "],"answer":"x"}`, Options{}, "option 2 is empty"},
		"which":            {`{"prompt":"a","options":["x","y"],"answer":"z"}`, Options{}, `answer "z" is none of the 2 options`},
		"no answer":        {`{"prompt":"a","options":["x","y"],"answer":null}`, Options{}, "row 1 cannot be used (no answer)"},
		"not messages":     {msg(`"x"`), Options{Render: render}, "row 1 cannot be used (messages: want a list"},
		"nobody answers":   {msg(`[{"role":"user","content":"a"}]`), Options{Render: render}, "no message is the assistant's"},
		"answers first":    {msg(`[{"role":"assistant","content":"a"}]`), Options{Render: render}, "the first message is the assistant's"},
		"no role":          {msg(`[{"content":"a"}]`), Options{Render: render}, "message 1 has no role"},
		"odd template": {msg(`[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`),
			Options{Render: func(l []Message, _ bool) (string, error) { return fmt.Sprint(len(l)), nil }}, "renders message 2 otherwise"},
		"task":        {`{"prompt":"a","completion":"b"}`, Options{Task: "nothing"}, `task "nothing" is not known`},
		"task column": {`{"prompt":"a","completion":"b"}`, Options{Task: "sst2", TextColumn: "x"}, "has its own prompt and columns; a text column"},
	} {
		c.o.Window = 32
		if _, err := Build(jsonl(t, c.text), nil, &words{}, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", name, err, c.want)
		}
	}
}

func TestNormalizeAnswer(t *testing.T) {
	for s, want := range map[string]string{
		"The  Cat!":         "cat",
		"a man, an apple":   "man apple",
		"Theatre another A": "theatre another",
		"plan-a":            "plana",
		"U.S. $5":           "us 5",
		"naïve — the end":   "naïve — end",
		"_the_ a_b":         "ab",
		"":                  "",
	} {
		if got := NormalizeAnswer(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestAnswerScores(t *testing.T) {
	for _, c := range []struct {
		got   string
		right []string
		em    float64
		f1    float64
	}{
		{"the Eiffel Tower", []string{"Eiffel tower."}, 1, 1},
		{"tower", []string{"Eiffel tower", "Paris"}, 0, 2.0 / 3},
		{"x x", []string{"x y"}, 0, 0.5},
		{"no", []string{"yes"}, 0, 0},
		{"the", []string{"a"}, 1, 1},
		{"", []string{"a word"}, 0, 0},
	} {
		if em, f1 := AnswerScores(c.got, c.right); em != c.em || f1 != c.f1 {
			t.Errorf("%q for %q: %v, %v, want %v, %v", c.got, c.right, em, f1, c.em, c.f1)
		}
	}
}

func TestLabelF1(t *testing.T) {
	// Two classes: of class 1, tp 1, fp 1, fn 1.
	if got := LabelF1([]int{1, 1, 0, 0}, []int{1, 0, 1, 0}, 2); got != 0.5 {
		t.Errorf("two classes: %v", got)
	}
	// Three: f1 of 0 is 1, of 1 is 2/3, of 2 is 0; class 3 does not occur.
	if got := LabelF1([]int{0, 1, 2}, []int{0, 1, 1}, 4); math.Abs(got-5.0/9) > 1e-15 {
		t.Errorf("four classes: %v", got)
	}
	if got := LabelF1([]int{0}, []int{0}, 2); got != 0 {
		t.Errorf("no positive: %v", got)
	}
	for _, s := range []string{"", "loss"} {
		if _, err := ParseMetric(s, KindLabels); err == nil {
			t.Errorf("metric %q", s)
		}
	}
}
