package task

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTaskTemplates renders small files in the forms in which the data sets are
// distributed and compares with testdata/tasks/*.golden. UPDATE_GOLDEN=1 rewrites those.
func TestTaskTemplates(t *testing.T) {
	files := map[string][]string{"sst2": {"sst2.tsv"}, "rte": {"rte.jsonl", "rte.tsv"}, "cb": {"cb.jsonl"}, "boolq": {"boolq.jsonl"}, "wsc": {"wsc.jsonl"},
		"wic": {"wic.jsonl"}, "multirc": {"multirc.jsonl"}, "copa": {"copa.jsonl"}, "record": {"record.jsonl"}, "squad": {"squad.json", "squad.jsonl"},
		"drop": {"drop.json"}, "mrpc": {"mrpc.tsv"}, "qqp": {"qqp.tsv"}, "qnli": {"qnli.tsv"}, "wnli": {"wnli.tsv"}, "arc": {"arc.jsonl"},
		"arc-letters": {"arc.jsonl"}, "hellaswag": {"hellaswag.jsonl"}, "hellaswag-letters": {"hellaswag.jsonl"}, "winogrande": {"winogrande.jsonl"}}
	for _, info := range Tasks() {
		if files[info.Name] == nil {
			t.Errorf("%s has no file to test it with", info.Name)
		}
		for _, file := range files[info.Name] {
			got := renderFile(t, info, file)
			path := filepath.Join("testdata", "tasks", info.Name+".golden")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s from %s:\n%s\nwant\n%s", info.Name, file, got, want)
			}
		}
	}
}

func readTask(t testing.TB, file string) *Table {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "tasks", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tab, err := ReadTable(f, file, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// renderFile shows every example of a file with the scored tokens in brackets.
func renderFile(t *testing.T, info Info, file string) string {
	t.Helper()
	tok := &words{}
	d, err := Build(readTask(t, file), nil, tok, Options{Task: info.Name, Window: 256})
	if err != nil {
		t.Fatalf("%s: %v", info.Name, err)
	}
	if d.Kind != info.Kind || d.Metric != info.Metric {
		t.Errorf("%s: kind %s, metric %s", info.Name, d.Kind, d.Metric)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s, judged by %s", d.Kind, d.Metric)
	for _, l := range d.Labels {
		fmt.Fprintf(&s, ", %s: %q", l.Name, l.Verbalizer)
	}
	s.WriteString("\n")
	for _, e := range d.Train {
		fmt.Fprintf(&s, "\n== row %d", e.Row)
		switch d.Kind {
		case KindLabels:
			fmt.Fprintf(&s, ", %s\n%s\n", d.Labels[e.Label].Name, tok.spelled(e.IDs)+"["+d.Labels[e.Label].Verbalizer+"]")
			continue
		case KindChoice:
			fmt.Fprintf(&s, ", right: %v of %q", e.Right, e.Options)
		default:
			fmt.Fprintf(&s, ", answers: %q, ended by %q", e.Answers, d.Stop)
		}
		for _, q := range e.Sequences {
			fmt.Fprintf(&s, "\n-- %s", tok.marked(q))
		}
		s.WriteString("\n")
	}
	return s.String()
}

func TestTaskNames(t *testing.T) {
	for _, name := range []string{"SST-2", "sst2", "arc_letters", "ARC-Letters", "HellaSwag"} {
		b := &builder{}
		if _, err := b.named(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := renderFile(t, Tasks()[slices.IndexFunc(Tasks(), func(i Info) bool { return i.Name == "arc" })], "arc-flat.jsonl"); !strings.Contains(got, "-- Question: Which melts?\nAnswer:[ ice]") {
		t.Errorf("flat ARC: %s", got)
	}
}

func TestTaskErrors(t *testing.T) {
	for _, c := range []struct{ task, text, want string }{
		{"copa", `{"premise":"a.","choice1":"b","choice2":"c","question":"why","label":0}`, `row 1 cannot be used (question "why": want cause or effect)`},
		{"copa", `{"premise":"a.","choice1":"b","choice2":"c","question":"cause","label":2}`, `"2" is not the number of one of 2 options (0 to 1)`},
		{"copa", `{"premise":"a.","choice1":"b","choice2":"c","label":1}`, `task copa: t.jsonl: no column "question"`},
		{"sst2", `{"sentence":"a","label":0}` + "\n" + `{"sentence":"b","label":7}`, `a label that is not listed ("7", for one) in row 2`},
		{"record", `{"passage":"a","query":"x","entities":["a"],"answers":["a"]}`, "no @placeholder"},
		{"record", `{"passage":"a","query":"@placeholder","entities":["a","b"],"answers":["c"]}`, "no entity is an answer"},
		{"record", `{"passage":{"text":"abc","entities":[{"start":1,"end":3}]},"qas":[]}`, "row 1: passage: entity 1 lies at 1 to 3 of a text of 3 characters"},
		{"record", `{"passage":{"text":"abc","entities":[{"start":-1,"end":0}]},"qas":[]}`, "entity 1 lies at -1"},
		{"multirc", `{"passage":{"text":1}}`, "row 1: passage: json:"},
		{"multirc", `{"passage":{"text":"x"}}`, "no questions"},
		{"squad", `{"title":"a","context":"b","question":"c","answers":{"x":1}}`, `answers: no "text" in it`},
		{"squad", `{"title":"a","context":"b","question":"c","answers":"x"}`, "row 1 cannot be used (answers: invalid character"},
		{"arc", `{"question":"a","choices":{"text":["x","y"],"label":["A"]},"answerKey":"A"}`, "choices: 2 texts and 1 labels"},
		{"arc", `{"question":"a","choices":{"text":["x","y"],"label":["A","B"]},"answerKey":"C"}`, `answerKey "C" is none of`},
		{"winogrande", `{"sentence":"a b","option1":"x","option2":"y","answer":"1"}`, "the sentence has no _"},
		{"hellaswag", `{"activity_label":"a","ctx_a":"b","ctx_b":"","endings":["x"],"label":0}`, "endings: 1 options, want 2"},
		{"wsc", `{"text":"a","target":"b","label":true}`, "row 1: target: invalid"},
	} {
		_, err := Build(jsonl(t, c.text), nil, &words{}, Options{Task: c.task, Window: 64})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: %v, want ...%s...", c.task, c.text, err, c.want)
		}
	}
}

// TestNestedBounds has small files whose rows would not be: a long passage under
// many questions, and entities that are nearly all of it.
func TestNestedBounds(t *testing.T) {
	long := strings.Repeat("x", 1<<18)
	many := strings.Repeat(`{"question":"q","answers":[{"text":"a","label":0},{"text":"b","label":1}]},`, 1000)
	for _, c := range []struct{ task, text, want string }{
		{"multirc", `{"passage":{"text":"` + long + `","questions":[` + many[:len(many)-1] + `]}}`, "row 1: the questions with their texts are more than 268435456 bytes"},
		{"record", `{"passage":{"text":"` + long + `","entities":[{"start":0,"end":262000},{"start":0,"end":262001},{"start":0,"end":262002},` +
			`{"start":0,"end":262003},{"start":0,"end":262004}]},"qas":[]}`, "row 1: passage: its entities have more than 1048576 bytes"},
	} {
		_, err := Build(jsonl(t, c.text), nil, &words{}, Options{Task: c.task, Window: 64})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", c.task, err, c.want)
		}
	}
}

func TestReadJSON(t *testing.T) {
	for text, want := range map[string]string{
		`[{"a":1},{"a":"x","b":[2]}]`:                  `[a b] [1 ] [x [2]]`,
		"{\"version\":1,\"data\":[\n{\"a\":1}\n]}":     `[a] [1]`,
		`{"p":{"a":1},"q":{"a":2}}`:                    `[id a] [p 1] [q 2]`,
		"\n\n{\"version\":\"1\",\n\"p\":{\"a\":null}}": `[id a] [p ]`,
	} {
		tab, err := ReadTable(strings.NewReader(text), "t.json", ReadOptions{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := fmt.Sprint(tab.Columns)
		for _, r := range tab.Rows {
			got += fmt.Sprint(" ", r.Values)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"":                         "t.json: line 1, byte 0: invalid JSON",
		"1":                        "neither a list nor an object",
		"[]":                       "no rows",
		"[{\"a\":1},\n{\"a\" 2}]":  "t.json: line 1, byte 9: invalid JSON",
		"[{\"a\":1},\n3]":          "t.json: line 2, byte 10: not a JSON object",
		`[{"a":1}] x`:              "behind the end",
		`{"a":3}`:                  `"a" is neither an object nor a list named data`,
		`{"a":{}}`:                 `"a": empty object`,
		`{"data":[{"a":1,"a":2}]}`: `key "a" appears twice`,
		`{"p":{"id":1}}`:           `key "id" appears twice`,
	} {
		if _, err := ReadTable(strings.NewReader(text), "t.json", ReadOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want ...%s...", text, err, want)
		}
	}
}

// FuzzTasks: no file makes a task template panic.
func FuzzTasks(f *testing.F) {
	entries, err := os.ReadDir(filepath.Join("testdata", "tasks"))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join("testdata", "tasks", e.Name()))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, e.Name())
	}
	all := Tasks()
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		tab, err := ReadTable(strings.NewReader(string(data)), name, ReadOptions{})
		if err != nil {
			return
		}
		for i := range all {
			d, err := Build(tab, nil, &words{}, Options{Task: all[i].Name, Window: 16})
			if err == nil && len(d.Train) == 0 {
				t.Errorf("%s: no example and no error", all[i].Name)
			}
		}
		if d, err := Build(tab, nil, &words{}, Options{Window: 16, Render: render}); err == nil && len(d.Train) == 0 {
			t.Error("no example and no error")
		}
	})
}
