package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Files that nest questions in passages become tables with a row a question. Rows
// of such a table are numbered through, in the order of the file.

// flatten makes a table of the rows that each adds for every row of t. each's
// errors name the row of the file.
func flatten(t *Table, columns []string, each func(get func(column string) string, add func(values ...string)) error) (*Table, error) {
	out := &Table{Name: t.Name, Columns: columns}
	size := 0 // of all values: a text stands once in the file, and in every row made of it
	for i := range t.Rows {
		r := &t.Rows[i]
		get := func(column string) string {
			if c := slices.Index(t.Columns, column); c >= 0 {
				return r.Values[c]
			}
			return ""
		}
		err := each(get, func(values ...string) {
			for _, v := range values {
				size += len(v)
			}
			if size <= MaxBytes {
				out.Rows = append(out.Rows, Row{Line: r.Line, Values: values})
			}
		})
		if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", t.Name, i+1, err)
		}
		if size > MaxBytes {
			return nil, fmt.Errorf("%s: row %d: the questions with their texts are more than %d bytes", t.Name, i+1, MaxBytes)
		}
		if len(out.Rows) > MaxRows {
			return nil, fmt.Errorf("%s: more than %d questions", t.Name, MaxRows)
		}
	}
	if len(out.Rows) == 0 {
		return nil, fmt.Errorf("%s: no questions", t.Name)
	}
	return out, nil
}

func hasColumn(t *Table, name string) bool { return slices.Contains(t.Columns, name) }

func jsonList(v []string) string {
	b, _ := json.Marshal(v) // strings always marshal
	return string(b)
}

// expandWSC takes the spans out of SuperGLUE's target.
func expandWSC(t *Table) (*Table, error) {
	if !hasColumn(t, "target") {
		return t, nil
	}
	return flatten(t, []string{"text", "span1_text", "span2_text", "label"}, func(get func(string) string, add func(...string)) error {
		var target struct {
			Span1 string `json:"span1_text"`
			Span2 string `json:"span2_text"`
		}
		if err := unmarshal("target", get("target"), &target); err != nil {
			return err
		}
		add(get("text"), target.Span1, target.Span2, get("label"))
		return nil
	})
}

// expandMultiRC makes a row of every answer to every question of a passage.
func expandMultiRC(t *Table) (*Table, error) {
	if !hasColumn(t, "passage") {
		return t, nil
	}
	return flatten(t, []string{"paragraph", "question", "answer", "label"}, func(get func(string) string, add func(...string)) error {
		var passage struct {
			Text      string `json:"text"`
			Questions []struct {
				Question string `json:"question"`
				Answers  []struct {
					Text  string          `json:"text"`
					Label json.RawMessage `json:"label"`
				} `json:"answers"`
			} `json:"questions"`
		}
		if err := unmarshal("passage", get("passage"), &passage); err != nil {
			return err
		}
		for _, q := range passage.Questions {
			for _, a := range q.Answers {
				add(passage.Text, q.Question, a.Text, string(a.Label))
			}
		}
		return nil
	})
}

// expandReCoRD makes a row of every query on a passage; entities are places in its
// text, ends included.
func expandReCoRD(t *Table) (*Table, error) {
	if !hasColumn(t, "qas") {
		return t, nil
	}
	return flatten(t, []string{"passage", "query", "entities", "answers"}, func(get func(string) string, add func(...string)) error {
		var passage struct {
			Text     string `json:"text"`
			Entities []struct {
				Start int `json:"start"`
				End   int `json:"end"`
			} `json:"entities"`
		}
		var qas []struct {
			Query   string `json:"query"`
			Answers []struct {
				Text string `json:"text"`
			} `json:"answers"`
		}
		if err := unmarshal("passage", get("passage"), &passage); err != nil {
			return err
		}
		if err := unmarshal("qas", get("qas"), &qas); err != nil {
			return err
		}
		text := []rune(passage.Text) // places count characters
		var entities []string
		seen, size := map[string]bool{}, 0
		for i, e := range passage.Entities {
			if e.Start < 0 || e.End < e.Start || e.End >= len(text) {
				return fmt.Errorf("passage: entity %d lies at %d to %d of a text of %d characters", i+1, e.Start, e.End, len(text))
			}
			s := string(text[e.Start : e.End+1])
			if seen[s] {
				continue
			}
			seen[s] = true
			if size += len(s); size > MaxField {
				return fmt.Errorf("passage: its entities have more than %d bytes", MaxField)
			}
			entities = append(entities, s)
		}
		list := jsonList(entities)
		for _, q := range qas {
			var answers []string
			for _, a := range q.Answers {
				answers = append(answers, a.Text)
			}
			add(passage.Text, q.Query, list, jsonList(answers))
		}
		return nil
	})
}

// expandSQuAD makes a row of every question of an article.
func expandSQuAD(t *Table) (*Table, error) {
	if !hasColumn(t, "paragraphs") {
		return t, nil
	}
	return flatten(t, []string{"title", "context", "question", "answers"}, func(get func(string) string, add func(...string)) error {
		var paragraphs []struct {
			Context string `json:"context"`
			QAs     []struct {
				Question string `json:"question"`
				Answers  []struct {
					Text string `json:"text"`
				} `json:"answers"`
			} `json:"qas"`
		}
		if err := unmarshal("paragraphs", get("paragraphs"), &paragraphs); err != nil {
			return err
		}
		for _, p := range paragraphs {
			for _, q := range p.QAs {
				answers := []string{}
				for _, a := range q.Answers {
					answers = append(answers, a.Text)
				}
				add(get("title"), p.Context, q.Question, jsonList(answers))
			}
		}
		return nil
	})
}

// expandDROP makes a row of every question on a passage.
func expandDROP(t *Table) (*Table, error) {
	if !hasColumn(t, "qa_pairs") {
		return t, nil
	}
	return flatten(t, []string{"passage", "question", "answers"}, func(get func(string) string, add func(...string)) error {
		var pairs []struct {
			Question  string       `json:"question"`
			Answer    dropAnswer   `json:"answer"`
			Validated []dropAnswer `json:"validated_answers"`
		}
		if err := unmarshal("qa_pairs", get("qa_pairs"), &pairs); err != nil {
			return err
		}
		for _, p := range pairs {
			var answers []string
			for _, a := range append([]dropAnswer{p.Answer}, p.Validated...) {
				if s := a.String(); s != "" && !slices.Contains(answers, s) {
					answers = append(answers, s)
				}
			}
			add(get("passage"), p.Question, jsonList(answers))
		}
		return nil
	})
}

// dropAnswer is a number, a date or spans of the passage.
type dropAnswer struct {
	Number json.RawMessage `json:"number"`
	Date   struct {
		Day   string `json:"day"`
		Month string `json:"month"`
		Year  string `json:"year"`
	} `json:"date"`
	Spans []string `json:"spans"`
}

// String is the answer as text; several spans are joined by ", ".
func (a dropAnswer) String() string {
	if n := strings.Trim(string(a.Number), `"`); n != "" && n != "null" {
		return n
	}
	if len(a.Spans) > 0 {
		return strings.Join(a.Spans, ", ")
	}
	return strings.Join(strings.Fields(a.Date.Day+" "+a.Date.Month+" "+a.Date.Year), " ")
}

// expandARC takes stem and choices out of ARC's question object.
func expandARC(t *Table) (*Table, error) {
	if hasColumn(t, "choices") {
		return t, nil
	}
	return flatten(t, []string{"question", "choices", "answerKey"}, func(get func(string) string, add func(...string)) error {
		var q struct {
			Stem    string `json:"stem"`
			Choices []struct {
				Text  string `json:"text"`
				Label string `json:"label"`
			} `json:"choices"`
		}
		if err := unmarshal("question", get("question"), &q); err != nil {
			return err
		}
		if len(q.Choices) == 0 {
			return errors.New("question: no choices")
		}
		var list arcChoices
		for _, c := range q.Choices {
			list.Text, list.Label = append(list.Text, c.Text), append(list.Label, c.Label)
		}
		b, _ := json.Marshal(list) // strings always marshal
		add(q.Stem, string(b), get("answerKey"))
		return nil
	})
}

// answerTexts reads answers that are a list of texts, or an object that holds one
// under the given key, as published conversions of the data sets have it.
func answerTexts(v, key string) ([]string, error) {
	v = strings.TrimSpace(v)
	if strings.HasPrefix(v, "{") {
		var object map[string]json.RawMessage
		if err := unmarshal("answers", v, &object); err != nil {
			return nil, err
		}
		v = string(object[key])
		if v == "" {
			return nil, errors.New("answers: no " + strconv.Quote(key) + " in it")
		}
	}
	var list []string
	if err := unmarshal("answers", v, &list); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(s string) bool { return strings.TrimSpace(s) == "" }), nil
}
