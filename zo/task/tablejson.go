package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// document takes a whole JSON document: a list of objects; an object that holds one
// as "data", as SQuAD's files do; or an object whose values are objects, as DROP's
// files are, with the keys as column "id". first is the line that data begins in.
func (p *tableReader) document(data []byte, first int) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	at, counted := first, int64(0)
	line := func() int {
		now := dec.InputOffset()
		at, counted = at+bytes.Count(data[counted:now], []byte("\n")), now
		return at
	}
	bad := func(err error) error { return p.fail(line(), dec.InputOffset(), err, "invalid JSON") }
	elements := func() error {
		for dec.More() {
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				return bad(err)
			}
			if err := p.object(raw, line(), dec.InputOffset()-int64(len(raw))); err != nil {
				return err
			}
		}
		if _, err := dec.Token(); err != nil {
			return bad(err)
		}
		return nil
	}
	tok, err := dec.Token()
	if err != nil {
		return bad(err)
	}
	switch tok {
	case json.Delim('['):
		if err := elements(); err != nil {
			return err
		}
	case json.Delim('{'):
		for dec.More() {
			tok, err := dec.Token()
			if err != nil {
				return bad(err)
			}
			key := tok.(string) // the decoder allows nothing else here
			begin := line()
			var raw json.RawMessage
			if err := dec.Decode(&raw); err != nil {
				return bad(err)
			}
			switch {
			case key == "data" && raw[0] == '[':
				inner := &tableReader{t: p.t, base: p.base + dec.InputOffset() - int64(len(raw)), index: p.index}
				if err := inner.document(raw, begin); err != nil {
					return err
				}
				p.index = inner.index
			case raw[0] == '{':
				id, _ := json.Marshal(key) // strings always marshal
				if bytes.Equal(bytes.TrimSpace(raw[1:]), []byte("}")) {
					return p.fail(begin, dec.InputOffset(), nil, "%q: empty object", key)
				}
				row := append(append([]byte(`{"id":`), id...), ',')
				if err := p.object(append(row, raw[1:]...), begin, dec.InputOffset()-int64(len(raw))); err != nil {
					return err
				}
			case key == "version": // of SQuAD's files
			default:
				return p.fail(begin, dec.InputOffset(), nil, "%q is neither an object nor a list named data", key)
			}
		}
		if _, err := dec.Token(); err != nil {
			return bad(err)
		}
	default:
		return p.fail(1, 0, nil, "neither a list nor an object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return p.fail(line(), dec.InputOffset(), nil, "more behind the end of the document")
	}
	return nil
}

// object takes an object: a line of JSONL, or a part of a document. Strings are taken as they are, null is empty,
// everything else keeps its JSON text.
func (p *tableReader) object(line []byte, n int, off int64) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	bad := func(err error) error { return p.fail(n, off+dec.InputOffset(), err, "invalid JSON") }
	tok, err := dec.Token()
	if err != nil {
		return bad(err)
	}
	if tok != json.Delim('{') {
		return p.fail(n, off, nil, "not a JSON object")
	}
	if p.index == nil {
		p.index = map[string]int{}
	}
	values := make([]string, len(p.t.Columns))
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return bad(err)
		}
		key := tok.(string) // the decoder allows nothing else here
		if seen[key] {
			return p.fail(n, off+dec.InputOffset(), nil, "key %q appears twice", key)
		}
		seen[key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return bad(err)
		}
		v := string(raw)
		switch {
		case raw[0] == '"':
			if err := json.Unmarshal(raw, &v); err != nil {
				return bad(err)
			}
		case v == "null":
			v = ""
		}
		if len(v) > MaxField {
			return p.fail(n, off, nil, "%q has %d bytes, the limit is %d", key, len(v), MaxField)
		}
		i, ok := p.index[key]
		if !ok {
			if i = len(p.t.Columns); i == MaxColumns {
				return p.fail(n, off, nil, "more than %d different keys", MaxColumns)
			}
			p.index[key] = i
			p.t.Columns = append(p.t.Columns, key)
			values = append(values, "")
		}
		values[i] = v
	}
	if _, err := dec.Token(); err != nil {
		return bad(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return p.fail(n, off+dec.InputOffset(), nil, "more than one value in the line")
	}
	if len(values) == 0 {
		return p.fail(n, off, nil, "empty object")
	}
	return p.add(values, n, off)
}
