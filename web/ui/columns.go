package ui

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strings"
)

// Columns reads the column names from the beginning of a CSV, TSV or JSONL file, and guesses which hold text and label. The file itself is
// read and checked by the module; this only fills the form. It returns nil when there are none to be seen.
func Columns(name string, head []byte) (cols []string, text, label string) {
	lower := strings.ToLower(name)
	if strings.HasSuffix(lower, ".jsonl") {
		line, _, _ := strings.Cut(string(head), "\n")
		var row map[string]json.RawMessage
		if json.Unmarshal([]byte(line), &row) != nil {
			return nil, "", ""
		}
		for k := range row {
			cols = append(cols, k)
		}
		slices.Sort(cols)
	} else {
		r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(head), "\ufeff")))
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
	text, label = cols[0], cols[len(cols)-1]
	for _, c := range cols {
		switch strings.ToLower(strings.TrimSpace(c)) {
		case "text", "sentence", "review", "content", "prompt", "input":
			text = c
		case "label", "class", "sentiment", "category", "target", "output":
			label = c
		}
	}
	return cols, text, label
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
