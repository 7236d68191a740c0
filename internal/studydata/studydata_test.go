package studydata

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"tabtune/zo/task"
)

// letters is a tokenizer for tests: words with the space in front of them.
type letters struct{ ids map[string]int32 }

func (l *letters) Continue(text string, special bool) []int32 { return l.Encode(text, special) }

func (l *letters) Encode(text string, _ bool) []int32 {
	var out []int32
	for text != "" {
		n := strings.IndexAny(text[1:], " \n|") + 1
		if n == 0 {
			n = len(text)
		}
		if _, ok := l.ids[text[:n]]; !ok {
			l.ids[text[:n]] = int32(len(l.ids))
		}
		out = append(out, l.ids[text[:n]])
		text = text[n:]
	}
	return out
}

// The sets are what they were when results were written down.
func TestSame(t *testing.T) {
	want := map[string]string{"agreement": "22b1d90db25d3d52", "passages": "e111b6113a53324f", "records": "d731e5fd67d9835e", "tickets": "07129ec1bad38918"}
	for _, s := range Sets {
		var train, val bytes.Buffer
		if err := s.Write(&train, &val, 1); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(slices.Concat(train.Bytes(), val.Bytes()))
		if got := hex.EncodeToString(sum[:8]); got != want[s.Name] {
			t.Errorf("%s: %s", s.Name, got)
		}
		var other bytes.Buffer
		if err := s.Write(&other, &val, 2); err != nil || bytes.Equal(other.Bytes(), train.Bytes()) {
			t.Errorf("%s: another seed gives the same rows (%v)", s.Name, err)
		}
	}
}

// Every set opens without being told its columns, without a warning.
func TestBuild(t *testing.T) {
	for _, s := range Sets {
		var train, val bytes.Buffer
		if err := s.Write(&train, &val, 1); err != nil {
			t.Fatal(err)
		}
		var tables []*task.Table
		for _, b := range []*bytes.Buffer{&train, &val} {
			tab, err := task.ReadTable(b, s.Name+".jsonl", task.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			tables = append(tables, tab)
		}
		d, err := task.Build(tables[0], tables[1], &letters{map[string]int32{}}, task.Options{Window: 64, Labels: s.Labels, Verbalizers: s.Words})
		if err != nil {
			t.Errorf("%s: %v", s.Name, err)
			continue
		}
		if string(d.Kind) != s.Kind || len(d.Train) != TrainRows || len(d.Val) != ValRows || len(d.Warnings) != 0 {
			t.Errorf("%s: kind %s, %d and %d rows, %+v", s.Name, d.Kind, len(d.Train), len(d.Val), d.Warnings)
		}
		if _, err := task.ParseMetric(s.Metric, d.Kind); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// The right answers are right.
func TestAnswers(t *testing.T) {
	for _, s := range Sets {
		var train, val bytes.Buffer
		if err := s.Write(&train, &val, 3); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(train.String()) {
			var row struct {
				Prompt, Completion, Answer, Text, Label string
				Options                                 []string
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			switch s.Name {
			case "agreement":
				plural := strings.HasSuffix(strings.Fields(row.Prompt)[1], "s")
				if plural != strings.HasPrefix(row.Answer, "are ") || !slices.Contains(row.Options, row.Answer) {
					t.Errorf("%s", line)
				}
			case "passages":
				if !strings.Contains(strings.Split(row.Prompt, "\n")[0], row.Completion) {
					t.Errorf("%s", line)
				}
			case "records":
				for _, part := range strings.Split(row.Completion, "|") {
					if !strings.Contains(row.Prompt, part) {
						t.Errorf("%s", line)
					}
				}
			case "tickets":
				if strings.Contains(row.Text, "%!") || !slices.Contains(s.Labels, row.Label) {
					t.Errorf("%s", line)
				}
			}
		}
	}
}
