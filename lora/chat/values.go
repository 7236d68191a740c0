package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// fromJSON reads a JSON value, keeping the order of keys and whole numbers whole.
func fromJSON(raw json.RawMessage) (value, error) {
	if len(raw) > maxValue {
		return jinja.None(), errSize
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	v, err := readJSON(dec, maxDepth)
	if err != nil {
		return v, fmt.Errorf("offset %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return v, fmt.Errorf("offset %d: more than one JSON value", dec.InputOffset())
	}
	return v, nil
}

func readJSON(dec *json.Decoder, depth int) (value, error) {
	tok, err := dec.Token()
	if err != nil {
		return jinja.None(), err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return jinja.FromGoValue(tok), nil
	}
	if depth == 0 {
		return jinja.None(), errSize
	}
	if delim == '[' {
		var items []value
		for dec.More() {
			v, err := readJSON(dec, depth-1)
			if err != nil {
				return v, err
			}
			items = append(items, v)
		}
		_, err = dec.Token()
		return jinja.NewList(items), err
	}
	d := jinja.NewDict()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return d, err
		}
		v, err := readJSON(dec, depth-1)
		if err != nil {
			return v, err
		}
		d.AsDict().Set(key.(string), v)
	}
	_, err = dec.Token()
	return d, err
}

func sortedKeys(m map[string]json.RawMessage) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// tojson is the filter as transformers defines it: Python's json.dumps(x,
// ensure_ascii=False, indent=..., separators=..., sort_keys=...).
func tojson(args []value, kwargs map[string]value) (value, error) {
	w := jsonWriter{item: ", ", key: ": ", indent: -1}
	if len(args) > 1 {
		return jinja.None(), errors.New("tojson: arguments are supported by name only")
	}
	for k, v := range kwargs {
		switch k {
		case "ensure_ascii":
			if v.IsTruthy() {
				return v, errors.New("tojson: ensure_ascii is not supported")
			}
		case "indent":
			if v.IsNone() {
				continue
			}
			n, err := number(v)
			if err != nil || n < 0 || n > 64 {
				return v, errors.New("tojson: indent must be a number from 0 to 64")
			}
			w.indent, w.item = int(n), ","
		case "sort_keys":
			w.sort = v.IsTruthy()
		case "separators":
		default:
			return v, fmt.Errorf("tojson: argument %.40q is not supported", k)
		}
	}
	if v, ok := kwargs["separators"]; ok && !v.IsNone() {
		if !v.IsList() || v.AsList().Len() != 2 || !v.AsList().Get(0).IsString() || !v.AsList().Get(1).IsString() {
			return v, errors.New("tojson: separators must be two texts")
		}
		w.item, w.key = v.AsList().Get(0).AsString(), v.AsList().Get(1).AsString()
	}
	if _, ok := measure(args[0], maxDepth, maxValue); !ok {
		return jinja.None(), errSize
	}
	if err := w.write(args[0], 0); err != nil {
		return jinja.None(), fmt.Errorf("tojson: %w", err)
	}
	return jinja.NewString(w.String()), nil
}

type jsonWriter struct {
	strings.Builder
	item, key string
	indent    int // or -1
	sort      bool
}

func (w *jsonWriter) newline(depth int) {
	if w.indent >= 0 {
		w.WriteByte('\n')
		w.WriteString(strings.Repeat(" ", w.indent*depth))
	}
}

func (w *jsonWriter) write(v value, depth int) error {
	if w.Len() > maxValue {
		return errSize
	}
	switch {
	case v.IsString():
		w.quote(v.AsString())
	case v.IsBool():
		w.WriteString(strconv.FormatBool(v.AsBool()))
	case v.IsInt():
		w.WriteString(strconv.FormatInt(v.AsInt(), 10))
	case v.IsFloat():
		w.WriteString(float(v.AsFloat()))
	case v.IsNone():
		w.WriteString("null")
	case v.IsList():
		w.WriteByte('[')
		for i, item := range v.AsList().Items {
			if i > 0 {
				w.WriteString(w.item)
			}
			w.newline(depth + 1)
			if err := w.write(item, depth+1); err != nil {
				return err
			}
		}
		if v.AsList().Len() > 0 {
			w.newline(depth)
		}
		w.WriteByte(']')
	case v.IsDict():
		keys := v.AsDict().OrderedKeys()
		if w.sort {
			slices.Sort(keys)
		}
		w.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				w.WriteString(w.item)
			}
			w.newline(depth + 1)
			w.quote(k)
			w.WriteString(w.key)
			if err := w.write(v.AsDict().Data[k], depth+1); err != nil {
				return err
			}
		}
		if len(keys) > 0 {
			w.newline(depth)
		}
		w.WriteByte('}')
	default:
		return fmt.Errorf("%.40s cannot be written as JSON", v.String())
	}
	return nil
}

func (w *jsonWriter) quote(s string) {
	w.WriteByte('"')
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '"' || r == '\\':
			w.WriteByte('\\')
			w.WriteRune(r)
		case r < 0x20:
			if at := strings.IndexRune("\b\f\n\r\t", r); at >= 0 {
				w.WriteByte('\\')
				w.WriteByte("bfnrt"[at])
			} else {
				fmt.Fprintf(w, `\u%04x`, r)
			}
		default:
			w.WriteString(s[i : i+n])
		}
		i += n
	}
	w.WriteByte('"')
}

// float is Python's repr of a float.
func float(f float64) string {
	switch {
	case math.IsInf(f, 0):
		return map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
	case math.IsNaN(f):
		return "NaN"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// strftime is Python's, for the directives that templates use.
func strftime(t time.Time, format string) (string, error) {
	if len(format) > 256 {
		return "", errors.New("strftime_now: the format is longer than 256 bytes")
	}
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
		'B': "January", 'b': "Jan", 'h': "Jan", 'A': "Monday", 'a': "Mon", 'j': "002", 'F': "2006-01-02", 'T': "15:04:05",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		if format[i] == '%' {
			b.WriteByte('%')
			continue
		}
		layout, ok := layouts[format[i]]
		if !ok {
			return "", fmt.Errorf("strftime_now: %%%c is not supported", format[i])
		}
		b.WriteString(t.Format(layout))
	}
	return b.String(), nil
}
