package task

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReadTable(t *testing.T) {
	cols := []string{"text", "label"}
	for name, c := range map[string]struct {
		file, data string
		o          ReadOptions
		columns    []string
		rows       []Row
	}{
		"csv":       {"a.csv", "text,label\r\n\"a, \"\"b\"\"\nc\",x\n\nd,y\n", ReadOptions{}, cols, []Row{{2, []string{"a, \"b\"\nc", "x"}}, {5, []string{"d", "y"}}}},
		"bom":       {"a.csv", "\xef\xbb\xbftext,label\né,x\n", ReadOptions{}, cols, []Row{{2, []string{"é", "x"}}}},
		"latin-1":   {"a.csv", "text,label\n\xe9,x\n", ReadOptions{Latin1: true}, cols, []Row{{2, []string{"é", "x"}}}},
		"no header": {"a.CSV", "a,x\n", ReadOptions{NoHeader: true}, []string{"1", "2"}, []Row{{1, []string{"a", "x"}}}},
		"tsv":       {"a.tsv", "text\tlabel\n\"a\tx\n\nb\"c\ty", ReadOptions{}, cols, []Row{{2, []string{"\"a", "x"}}, {4, []string{"b\"c", "y"}}}},
		"jsonl": {"a.jsonl", `{"text":"a\u00e9","label":1}` + "\n\n" + `{"label":true,"n":[1, 2],"text":null}` + "\r\n", ReadOptions{},
			[]string{"text", "label", "n"}, []Row{{1, []string{"aé", "1", ""}}, {3, []string{"", "true", "[1, 2]"}}}},
		"said": {"data", "text\tlabel\na\tx\n", ReadOptions{Format: TSV}, cols, []Row{{2, []string{"a", "x"}}}},
	} {
		tab, err := ReadTable(strings.NewReader(c.data), c.file, c.o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(tab.Columns, c.columns) || !reflect.DeepEqual(tab.Rows, c.rows) {
			t.Errorf("%s: %q %+v", name, tab.Columns, tab.Rows)
		}
	}
}

func TestReadTableErrors(t *testing.T) {
	for name, c := range map[string]struct {
		file, data, want string
	}{
		"invalid utf-8": {"a.csv", "text,label\ngood,x\nb\xe9d,y\n", `a.csv: line 3, byte 19: byte 0xe9 is not valid UTF-8; if the file is latin-1`},
		"utf-16":        {"a.csv", "\xff\xfet\x00", "UTF-16"},
		"binary":        {"a.csv", "text,label\na\x00,x\n", "line 2, byte 12: a zero byte"},
		"quote":         {"a.csv", "text,label\n\"a,x\n", "a.csv: line 2, byte 11: row that starts in line 2"},
		"bare quote":    {"a.csv", "text,label\na,x\nb\"c,y\n", `line 3, byte 15: row that starts in line 3, column 2: bare "`},
		"ragged":        {"a.csv", "text,label\na,x\nb\n", "line 3, byte 15: row 2 has 1 values, want 2"},
		"twice":         {"a.csv", "text,text\na,x\n", `column "text" appears twice`},
		"empty":         {"a.csv", "", "a.csv: no rows"},
		"header only":   {"a.csv", "text,label\n", "a.csv: no rows"},
		"ragged tsv":    {"a.tsv", "text\tlabel\na\tb\tc\n", "line 2, byte 11: row 1 has 3 values"},
		"array":         {"a.jsonl", "{\"a\":1}\n[1]\n", "a.jsonl: line 2, byte 8: not a JSON object"},
		"json":          {"a.jsonl", "{\"a\":1}\n{\"a\":}\n", "line 2, byte 1"},
		"cut json":      {"a.jsonl", "{\"a\":1", "invalid JSON"},
		"two values":    {"a.jsonl", "{\"a\":1}{\"a\":2}\n", "more than one value"},
		"key twice":     {"a.jsonl", "{\"a\":1,\"a\":2}\n", `key "a" appears twice`},
		"no keys":       {"a.jsonl", "{}\n", "empty object"},
		"name":          {"data", "x", "cannot tell the format"},
		"field":         {"a.csv", "text,label\n" + strings.Repeat("x", MaxField+1) + ",y\n", "value 1 has 1048577 bytes"},
		"columns":       {"a.csv", strings.Repeat(",", MaxColumns) + "\n", "1025 columns"},
	} {
		_, err := ReadTable(strings.NewReader(c.data), c.file, ReadOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ...%s...", name, err, c.want)
		}
	}
	p := &tableReader{t: &Table{Name: "a.csv", Columns: make([]string, MaxColumns), Rows: make([]Row, MaxCells/MaxColumns)}}
	if err := p.add(make([]string, MaxColumns), 9, 0); err == nil || !strings.Contains(err.Error(), "more than 16777216 values") {
		t.Errorf("cells: %v", err)
	}
	if _, err := ReadTable(strings.NewReader("x"), "x", ReadOptions{Format: "xls"}); err == nil {
		t.Error("unknown format was read")
	}
	var fe *FileError
	_, err := ReadTable(strings.NewReader("a\n\xff\n"), "a.csv", ReadOptions{})
	if !errors.As(err, &fe) || fe.Line != 2 || fe.Offset != 2 || fe.File != "a.csv" {
		t.Errorf("%+v", err)
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add([]byte(small), "csv", false, false)
	f.Add([]byte("a\tb\n1\t2\n"), "tsv", true, true)
	f.Add([]byte(`{"text":"a","label":{"b":[null]}}`+"\n"), "jsonl", false, false)
	f.Fuzz(func(t *testing.T, b []byte, format string, latin1, noHeader bool) {
		tab, err := ReadTable(bytes.NewReader(b), "f", ReadOptions{Format: Format(format), Latin1: latin1, NoHeader: noHeader})
		if err != nil {
			return
		}
		for _, r := range tab.Rows {
			if len(r.Values) != len(tab.Columns) || r.Line < 1 {
				t.Fatalf("%d values for %d columns in line %d", len(r.Values), len(tab.Columns), r.Line)
			}
			for _, v := range r.Values {
				if !utf8.ValidString(v) {
					t.Fatalf("%q is not UTF-8", v)
				}
			}
		}
		Build(tab, nil, &words{}, Options{TextColumn: "1", LabelColumn: "2", Window: 8, ValRows: 1})
	})
}
