// Package task turns tables into training examples, and judges answers.
//
// A table is a CSV, TSV, JSONL or JSON file. In a task of labels each row is rendered
// through a prompt template that ends in {label} ("{text} It was {label}"); each
// label has a verbalizer, a word of one token that stands for it at that place. In a
// choice the prompt is followed by one of several options, in a completion by an
// answer of any length, of which every token is scored; conversations go through the
// model's chat template. Tasks lists templates for published data sets. Build gives
// the tokenised examples, says everything that is wrong with the data before any
// training (with row numbers), and splits off validation rows. Sampler draws
// batches. Both are deterministic functions of a seed, on every machine and in
// every later version (see rng.go).
//
// Rows are numbered from 1, not counting the header.
package task

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits on what ReadTable accepts.
const (
	MaxBytes   = 256 << 20
	MaxRows    = 1 << 20
	MaxColumns = 1024
	MaxField   = 1 << 20 // bytes of one value
	MaxCells   = 1 << 24 // rows times columns
)

// Format is a file format.
type Format string

// The formats ReadTable reads.
const (
	CSV   Format = "csv"   // RFC 4180, with quoting
	TSV   Format = "tsv"   // tabs between values, no quoting
	JSONL Format = "jsonl" // one JSON object a line
	JSON  Format = "json"  // a list of objects, alone or under "data"; or an object of objects
)

// ReadOptions says how a table file is read. The zero value takes the format
// from the file name and expects UTF-8 and, in CSV and TSV, a header row.
type ReadOptions struct {
	Format   Format
	Latin1   bool // ISO 8859-1 instead of UTF-8
	NoHeader bool // CSV and TSV: columns are named 1, 2, ...
}

// Table is a file of rows, each with a value for every column.
type Table struct {
	Name    string // of the file, for messages
	Columns []string
	Rows    []Row
}

// Row is one row of a table.
type Row struct {
	Line   int // where it starts in the file, from 1
	Values []string
}

// FileError is a file that cannot be read as a table.
type FileError struct {
	File   string
	Line   int   // from 1; 0 when unknown
	Offset int64 // in bytes
	Msg    string
	Err    error
}

// Error names the file, the line and the offset.
func (e *FileError) Error() string {
	s := fmt.Sprintf("%s: line %d, byte %d: %s", e.File, e.Line, e.Offset, e.Msg)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// FormatOf guesses the format from a file name.
func FormatOf(name string) (Format, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv":
		return CSV, nil
	case ".tsv", ".tab", ".txt":
		return TSV, nil
	case ".jsonl", ".ndjson":
		return JSONL, nil
	case ".json":
		return JSON, nil
	}
	return "", fmt.Errorf("%s: cannot tell the format from the name: say csv, tsv, jsonl or json", name)
}

// ReadTable reads a table. name is used in messages and to guess the format.
// Offsets in messages count from the start of the file (for latin-1 input, of
// the text once it is UTF-8).
func ReadTable(r io.Reader, name string, o ReadOptions) (*Table, error) {
	if o.Format == "" {
		f, err := FormatOf(name)
		if err != nil {
			return nil, err
		}
		o.Format = f
	}
	data, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", name, MaxBytes)
	}
	data, bom, err := decodeText(data, name, o.Latin1)
	if err != nil {
		return nil, err
	}
	p := &tableReader{t: &Table{Name: name}, base: int64(bom), header: !o.NoHeader}
	switch o.Format {
	case CSV:
		err = p.csv(data)
	case TSV:
		err = p.lines(data, func(line []byte, n int, off int64) error {
			return p.record(strings.Split(string(line), "\t"), n, off)
		})
	case JSONL:
		err = p.lines(data, p.object)
	case JSON:
		err = p.document(data, 1)
	default:
		err = fmt.Errorf("%s: unknown format %q (csv, tsv, jsonl and json are read)", name, o.Format)
	}
	if err != nil {
		return nil, err
	}
	if len(p.t.Rows) == 0 {
		return nil, fmt.Errorf("%s: no rows", name)
	}
	if o.Format == JSONL || o.Format == JSON {
		for i := range p.t.Rows { // columns that turned up later are empty before
			r := &p.t.Rows[i]
			for len(r.Values) < len(p.t.Columns) {
				r.Values = append(r.Values, "")
			}
		}
	}
	return p.t, nil
}

// decodeText removes a byte order mark and returns valid UTF-8 without NUL.
func decodeText(b []byte, name string, latin1 bool) ([]byte, int, error) {
	at := func(i int, format string, args ...any) error {
		return &FileError{File: name, Line: 1 + bytes.Count(b[:i], []byte("\n")), Offset: int64(i), Msg: fmt.Sprintf(format, args...)}
	}
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return nil, 0, at(0, "UTF-16 text; save it as UTF-8")
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return nil, 0, at(i, "a zero byte: this is not a text file")
	}
	if latin1 {
		out := make([]byte, 0, len(b)+len(b)/8)
		for _, c := range b {
			out = utf8.AppendRune(out, rune(c))
		}
		return out, 0, nil
	}
	bom := 0
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		bom = 3
	}
	for i := bom; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return nil, 0, at(i, "byte %#02x is not valid UTF-8; if the file is latin-1, say so (encoding latin-1)", b[i])
		}
		i += n
	}
	return b[bom:], bom, nil
}

type tableReader struct {
	t      *Table
	base   int64 // bytes in front of the data
	header bool  // the next record is the header
	index  map[string]int
}

func (p *tableReader) fail(line int, off int64, err error, format string, args ...any) error {
	return &FileError{File: p.t.Name, Line: line, Offset: p.base + off, Msg: fmt.Sprintf(format, args...), Err: err}
}

func (p *tableReader) csv(data []byte) error {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord = -1 // record says which row is ragged
	for {
		start := r.InputOffset()
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			var pe *csv.ParseError
			if errors.As(err, &pe) {
				return p.fail(pe.Line, start, pe.Err, "row that starts in line %d, column %d", pe.StartLine, pe.Column)
			}
			return p.fail(0, start, err, "cannot read")
		}
		line, _ := r.FieldPos(0)
		if err := p.record(rec, line, start); err != nil {
			return err
		}
	}
}

// lines calls fn with every line that is not blank.
func (p *tableReader) lines(data []byte, fn func(line []byte, n int, off int64) error) error {
	for n, off := 1, int64(0); len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		if len(bytes.TrimSpace(line)) > 0 {
			if err := fn(bytes.TrimSuffix(line, []byte("\r")), n, off); err != nil {
				return err
			}
		}
		off += int64(len(data) - len(rest))
		data = rest
	}
	return nil
}

// record takes the header or a row of CSV or TSV.
func (p *tableReader) record(rec []string, line int, off int64) error {
	for i, v := range rec {
		if len(v) > MaxField {
			return p.fail(line, off, nil, "value %d has %d bytes, the limit is %d", i+1, len(v), MaxField)
		}
	}
	if p.t.Columns == nil {
		if len(rec) > MaxColumns {
			return p.fail(line, off, nil, "%d columns, the limit is %d", len(rec), MaxColumns)
		}
		p.t.Columns = make([]string, len(rec))
		seen := map[string]bool{}
		for i := range rec {
			name := strconv.Itoa(i + 1)
			if p.header {
				name = strings.TrimSpace(rec[i])
			}
			if name != "" && seen[name] {
				return p.fail(line, off, nil, "column %q appears twice in the header", name)
			}
			seen[name] = true
			p.t.Columns[i] = name
		}
		if p.header {
			return nil
		}
	}
	if len(rec) != len(p.t.Columns) {
		return p.fail(line, off, nil, "row %d has %d values, want %d", len(p.t.Rows)+1, len(rec), len(p.t.Columns))
	}
	return p.add(rec, line, off)
}

func (p *tableReader) add(values []string, line int, off int64) error {
	if len(p.t.Rows) == MaxRows {
		return p.fail(line, off, nil, "more than %d rows", MaxRows)
	}
	if (len(p.t.Rows)+1)*len(p.t.Columns) > MaxCells {
		return p.fail(line, off, nil, "more than %d values (rows times columns)", MaxCells)
	}
	p.t.Rows = append(p.t.Rows, Row{Line: line, Values: values})
	return nil
}

// Column finds a column by its name or, failing that, by its number from 1.
func (t *Table) Column(sel string) (int, error) {
	for i, c := range t.Columns {
		if c == sel && sel != "" {
			return i, nil
		}
	}
	if n, err := strconv.Atoi(sel); err == nil && n >= 1 && n <= len(t.Columns) {
		return n - 1, nil
	}
	shown := t.Columns
	if len(shown) > 20 {
		shown = shown[:20]
	}
	return 0, fmt.Errorf("%s: no column %q; the columns are %q", t.Name, sel, shown)
}
