package gguf

import (
	"fmt"
	"math"
)

// Kind is the type of a metadata value, numbered as in the file.
type Kind uint32

// The metadata value types of the GGUF specification.
const (
	KindUint8   Kind = 0
	KindInt8    Kind = 1
	KindUint16  Kind = 2
	KindInt16   Kind = 3
	KindUint32  Kind = 4
	KindInt32   Kind = 5
	KindFloat32 Kind = 6
	KindBool    Kind = 7
	KindString  Kind = 8
	KindArray   Kind = 9
	KindUint64  Kind = 10
	KindInt64   Kind = 11
	KindFloat64 Kind = 12
)

var kindNames = [...]string{"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32",
	"bool", "string", "array", "uint64", "int64", "float64"}

// String is the specification's name in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint32(k))
}

// minBytes is the least an element of this kind occupies, 0 for unknown kinds.
func (k Kind) minBytes() uint64 {
	switch k {
	case KindUint8, KindInt8, KindBool:
		return 1
	case KindUint16, KindInt16:
		return 2
	case KindUint32, KindInt32, KindFloat32:
		return 4
	case KindUint64, KindInt64, KindFloat64, KindString:
		return 8
	case KindArray:
		return 12
	}
	return 0
}

// Value is one metadata value.
type Value struct {
	Kind   Kind
	Elem   Kind  // of the elements, when Kind is KindArray
	Offset int64 // of the type tag in the file
	data   any
}

// Any returns the value as its Go type: uint8 ... float64, bool, string, a slice
// of one of these, or []Value for an array of arrays. The slice is shared.
func (v Value) Any() any { return v.data }

// Len is the number of elements of an array, 0 for other kinds.
func (v Value) Len() int {
	switch d := v.data.(type) {
	case []uint8:
		return len(d)
	case []int8:
		return len(d)
	case []uint16:
		return len(d)
	case []int16:
		return len(d)
	case []uint32:
		return len(d)
	case []int32:
		return len(d)
	case []uint64:
		return len(d)
	case []int64:
		return len(d)
	case []float32:
		return len(d)
	case []float64:
		return len(d)
	case []bool:
		return len(d)
	case []string:
		return len(d)
	case []Value:
		return len(d)
	}
	return 0
}

// Metadata is the key/value section. The zero value is empty.
//
// The getters return an *Error naming file, key and offset when the key is
// absent or of another type. Integers of any width are accepted where they fit.
type Metadata struct {
	file   string
	keys   []string
	values map[string]Value
}

// Keys lists the keys in file order. The slice is shared.
func (m *Metadata) Keys() []string { return m.keys }

// Has says whether the key is there.
func (m *Metadata) Has(key string) bool {
	_, ok := m.values[key]
	return ok
}

// Get returns the value of a key.
func (m *Metadata) Get(key string) (Value, bool) {
	v, ok := m.values[key]
	return v, ok
}

func (m *Metadata) want(key string) (Value, error) {
	v, ok := m.values[key]
	if !ok {
		return v, &Error{File: m.file, Field: fmt.Sprintf("metadata %q", key), Msg: "missing"}
	}
	return v, nil
}

func (m *Metadata) wrong(key string, v Value, want string) error {
	got := v.Kind.String()
	if v.Kind == KindArray {
		got = "array of " + v.Elem.String()
	}
	return &Error{File: m.file, Field: fmt.Sprintf("metadata %q", key), Offset: v.Offset,
		Msg: fmt.Sprintf("is %s, want %s", got, want)}
}

// String returns a string value.
func (m *Metadata) String(key string) (string, error) {
	v, err := m.want(key)
	if err != nil {
		return "", err
	}
	s, ok := v.data.(string)
	if !ok {
		return "", m.wrong(key, v, "string")
	}
	return s, nil
}

// Bool returns a bool value.
func (m *Metadata) Bool(key string) (bool, error) {
	v, err := m.want(key)
	if err != nil {
		return false, err
	}
	b, ok := v.data.(bool)
	if !ok {
		return false, m.wrong(key, v, "bool")
	}
	return b, nil
}

// Uint returns a non-negative integer of any width.
func (m *Metadata) Uint(key string) (uint64, error) {
	v, err := m.want(key)
	if err != nil {
		return 0, err
	}
	if u, ok := v.data.(uint64); ok {
		return u, nil
	}
	i, ok := toInt(v.data)
	if !ok {
		return 0, m.wrong(key, v, "unsigned integer")
	}
	if i < 0 {
		return 0, &Error{File: m.file, Field: fmt.Sprintf("metadata %q", key), Offset: v.Offset,
			Msg: fmt.Sprintf("is %d, want a value of at least 0", i)}
	}
	return uint64(i), nil
}

// Int returns an integer of any width that fits in 64 signed bits.
func (m *Metadata) Int(key string) (int64, error) {
	v, err := m.want(key)
	if err != nil {
		return 0, err
	}
	i, ok := toInt(v.data)
	if !ok {
		return 0, m.wrong(key, v, "integer below 2^63")
	}
	return i, nil
}

// Float returns a finite float32 or float64 value.
func (m *Metadata) Float(key string) (float64, error) {
	v, err := m.want(key)
	if err != nil {
		return 0, err
	}
	var f float64
	switch d := v.data.(type) {
	case float32:
		f = float64(d)
	case float64:
		f = d
	default:
		return 0, m.wrong(key, v, "float")
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, &Error{File: m.file, Field: fmt.Sprintf("metadata %q", key), Offset: v.Offset,
			Msg: fmt.Sprintf("is %v, want a finite number", f)}
	}
	return f, nil
}

// Strings returns an array of strings. The slice is shared: do not change it.
func (m *Metadata) Strings(key string) ([]string, error) {
	v, err := m.want(key)
	if err != nil {
		return nil, err
	}
	s, ok := v.data.([]string)
	if !ok {
		return nil, m.wrong(key, v, "array of string")
	}
	return s, nil
}

// Ints returns an array of integers of any width that fit in 64 signed bits.
func (m *Metadata) Ints(key string) ([]int64, error) {
	v, err := m.want(key)
	if err != nil {
		return nil, err
	}
	switch d := v.data.(type) {
	case []uint8:
		return widen(d), nil
	case []int8:
		return widen(d), nil
	case []uint16:
		return widen(d), nil
	case []int16:
		return widen(d), nil
	case []uint32:
		return widen(d), nil
	case []int32:
		return widen(d), nil
	case []int64:
		return d, nil
	case []uint64:
		for i, x := range d {
			if x > math.MaxInt64 {
				return nil, &Error{File: m.file, Field: fmt.Sprintf("metadata %q", key), Offset: v.Offset,
					Msg: fmt.Sprintf("element %d is %d, want a value below 2^63", i, x)}
			}
		}
		return widen(d), nil
	}
	return nil, m.wrong(key, v, "array of integers")
}

// Floats returns an array of float32 or float64, as float64.
func (m *Metadata) Floats(key string) ([]float64, error) {
	v, err := m.want(key)
	if err != nil {
		return nil, err
	}
	switch d := v.data.(type) {
	case []float64:
		return d, nil
	case []float32:
		out := make([]float64, len(d))
		for i, x := range d {
			out[i] = float64(x)
		}
		return out, nil
	}
	return nil, m.wrong(key, v, "array of floats")
}

// Bools returns an array of bools.
func (m *Metadata) Bools(key string) ([]bool, error) {
	v, err := m.want(key)
	if err != nil {
		return nil, err
	}
	b, ok := v.data.([]bool)
	if !ok {
		return nil, m.wrong(key, v, "array of bool")
	}
	return b, nil
}

func widen[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64](in []T) []int64 {
	out := make([]int64, len(in))
	for i, x := range in {
		out[i] = int64(x)
	}
	return out
}

// toInt converts any integer that fits in an int64.
func toInt(v any) (int64, bool) {
	switch d := v.(type) {
	case uint8:
		return int64(d), true
	case int8:
		return int64(d), true
	case uint16:
		return int64(d), true
	case int16:
		return int64(d), true
	case uint32:
		return int64(d), true
	case int32:
		return int64(d), true
	case int64:
		return d, true
	case uint64:
		return int64(d), d <= math.MaxInt64
	}
	return 0, false
}
