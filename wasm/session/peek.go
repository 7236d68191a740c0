package session

import (
	"io"
	"unicode/utf8"

	"tabtune/zo/task"
)

// peekParams name a file; no model need be open.
type peekParams struct {
	Path     string `json:"path"`
	Format   string `json:"format"`
	Encoding string `json:"encoding"`
	NoHeader bool   `json:"noHeader"`
	Rows     int    `json:"rows"` // to show; 0: 5
}

type peekResult struct {
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`  // the first ones, long values cut
	Total   int        `json:"total"` // rows of the file
	Kind    string     `json:"kind"`  // what the columns' names suggest: labels, choice, completion
}

// Bounds of what data.peek shows.
const (
	maxPeekRows  = 100
	maxPeekValue = 500 // bytes
)

// peekData shows the columns and the first rows of a file, for a person to say what
// they are.
func (s *Session) peekData(p peekParams) (peekResult, error) {
	if p.Rows == 0 {
		p.Rows = 5
	}
	if p.Rows < 0 || p.Rows > maxPeekRows {
		return peekResult{}, invalid("rows: %d, want 1 to %d", p.Rows, maxPeekRows)
	}
	t, err := readTable(dataParams{Format: p.Format, Encoding: p.Encoding, NoHeader: p.NoHeader}, p.Path, io.Discard)
	if err != nil {
		return peekResult{}, err
	}
	r := peekResult{Columns: t.Columns, Rows: [][]string{}, Total: len(t.Rows), Kind: string(task.GuessKind(t))}
	for _, row := range t.Rows[:min(p.Rows, len(t.Rows))] {
		values := make([]string, len(row.Values))
		for i, v := range row.Values {
			values[i] = cut(v, maxPeekValue)
		}
		r.Rows = append(r.Rows, values)
	}
	return r, nil
}

// cut shortens a text to at most n bytes, at a character's end.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

type taskInfo struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Metric string `json:"metric"`
	Files  string `json:"files"` // the form of the files that it reads
}

// listTasks lists the templates that data.open's task names.
func (s *Session) listTasks(none) ([]taskInfo, error) {
	var out []taskInfo
	for _, t := range task.Tasks() {
		out = append(out, taskInfo{t.Name, string(t.Kind), string(t.Metric), t.Files})
	}
	return out, nil
}
