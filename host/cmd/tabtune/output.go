package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// printJSON writes a value as one line, its keys in snake_case.
func (a *app) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // keep every digit
	var tree any
	if err := d.Decode(&tree); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(snakeKeys(tree)); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	_, err = a.out.Write(line.Bytes())
	return err
}

// snakeKeys renames the keys of objects, all the way down.
func snakeKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[snake(k)] = snakeKeys(x)
		}
		return out
	case []any:
		for i := range v {
			v[i] = snakeKeys(v[i])
		}
	}
	return v
}

// snake turns rowsPerSecond into rows_per_second.
func snake(s string) string {
	var b strings.Builder
	runes := []rune(s)
	for i, r := range runes {
		if unicode.IsUpper(r) {
			if i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// runTask runs a task with typed events, and returns its value both raw, for --json, and as R.
func runTask[R, E any](ctx context.Context, e engine, name string, params any, event func(E) error) (r R, raw json.RawMessage, err error) {
	raw, err = e.Task(ctx, name, params, func(b json.RawMessage) error {
		var v E
		if err := json.Unmarshal(b, &v); err != nil {
			return fmt.Errorf("%s: event: %w", name, err)
		}
		return event(v)
	})
	if err != nil {
		return r, nil, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, nil, fmt.Errorf("%s: value: %w", name, err)
	}
	return r, raw, nil
}
