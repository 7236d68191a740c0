package ui

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// Columns reads the column names from the beginning of a CSV, TSV or JSONL file, in the file's order, and guesses which hold text and label, or what takes
// their place in other tasks: prompt and completion, the question and its answer, the messages. The file itself is read and checked by the module; this only
// fills the form. It returns nil when there are none to be seen.
func Columns(name string, head []byte) (cols []string, text, label string) {
	lower := strings.ToLower(name)
	start := strings.TrimPrefix(string(head), "\ufeff")
	if strings.HasSuffix(lower, ".jsonl") {
		cols = keys(strings.TrimLeft(start, " \t\r\n"))
	} else {
		r := csv.NewReader(strings.NewReader(start))
		r.LazyQuotes = true
		if strings.HasSuffix(lower, ".tsv") {
			r.Comma = '\t'
		}
		row, err := r.Read()
		if err != nil && err != io.EOF {
			return nil, "", ""
		}
		cols = row
	}
	if len(cols) == 0 || len(cols) > 1000 {
		return nil, "", ""
	}
	has := func(name string) bool { return slices.Contains(cols, name) }
	switch { // what decides the kind of task decides its columns
	case has("messages"):
		return cols, "messages", cols[len(cols)-1]
	case has("prompt") && has("completion"):
		return cols, "prompt", "completion"
	case has("options") && has("answer"):
		label = "answer"
	}
	label = cmp.Or(label, named(cols, labelNames))
	text = named(cols, textNames)
	for i := range cols {
		if c := cols[i]; text == "" && c != label && c != "options" {
			text = c
		}
		if c := cols[len(cols)-1-i]; label == "" && c != text {
			label = c
		}
	}
	return cols, cmp.Or(text, cols[0]), cmp.Or(label, cols[0])
}

// Names of columns in data sets that are shared, the surest first.
var (
	textNames  = []string{"text", "sentence", "review", "content", "prompt", "input", "question", "instruction"}
	labelNames = []string{"label", "class", "sentiment", "category", "target", "output", "completion", "answer", "response"}
)

// named is the column with the first of some names, in any case.
func named(cols, names []string) string {
	for _, n := range names {
		for _, c := range cols {
			if strings.EqualFold(strings.TrimSpace(c), n) {
				return c
			}
		}
	}
	return ""
}

// keys lists those of the JSON object that a text begins with; of an object that is cut short, as long conversations are, those in front of the cut.
func keys(text string) (all []string) {
	d := json.NewDecoder(strings.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		if err != nil || !ok {
			break
		}
		if !slices.Contains(all, key) {
			all = append(all, key)
		}
		var value json.RawMessage
		if err := d.Decode(&value); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return nil
		}
	}
	return all
}

// List splits a comma-separated field, keeping inner spaces ("very bad, good" has two entries) and dropping empty ones.
func List(s string) []string {
	out := []string{}
	for _, f := range strings.Split(s, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

// CSVLine writes one line of a CSV file.
func CSVLine(fields ...string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // into memory
	w.Flush()
	return b.String()
}

// PastedFormat tells the format of pasted text by its first line: the ending of a file that would hold it.
func PastedFormat(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	switch {
	case strings.HasPrefix(line, "{"):
		return ".jsonl"
	case strings.Contains(line, "\t"):
		return ".tsv"
	}
	return ".csv"
}
