package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"tabtune/lora/internal/half"
)

// Writer builds a GGUF version 3 file: Set the metadata, Add the tensors, then
// WriteTo. The same calls give the same bytes.
type Writer struct {
	keys    []string
	values  map[string]any
	tensors []pending
	names   map[string]bool
}

type pending struct {
	name  string
	typ   Type
	shape []int64
	bytes int64
	write func(io.Writer) error
}

// NewWriter returns an empty file.
func NewWriter() *Writer {
	return &Writer{values: map[string]any{}, names: map[string]bool{}}
}

// Set adds a key, or replaces its value. value is a Go value that Value.Any
// could return: uint8 ... float64, bool, string or a slice of one of these.
// general.alignment is the writer's own (32).
func (w *Writer) Set(key string, value any) error {
	if key == "" || len(key) > maxKeyLen || key == "general.alignment" {
		return fmt.Errorf("gguf: metadata key %q cannot be set", key)
	}
	if _, _, ok := kindOf(value); !ok {
		return fmt.Errorf("gguf: metadata %q: values of type %T cannot be stored", key, value)
	}
	if _, ok := w.values[key]; !ok {
		if len(w.keys) == maxKeys {
			return fmt.Errorf("gguf: more than %d metadata keys", maxKeys)
		}
		w.keys = append(w.keys, key)
	}
	w.values[key] = value
	return nil
}

// Add appends a tensor of the row-major shape. write is called by WriteTo and
// must write exactly the tensor's bytes.
func (w *Writer) Add(name string, t Type, shape []int64, write func(io.Writer) error) error {
	if name == "" || len(name) > maxNameLen || w.names[name] || len(w.tensors) == maxTensors {
		return fmt.Errorf("gguf: tensor %q: name empty, too long or used twice, or too many tensors", name)
	}
	if len(shape) < 1 || len(shape) > maxDims {
		return fmt.Errorf("gguf: tensor %q: %d dimensions (1 to %d are valid)", name, len(shape), maxDims)
	}
	elems := int64(1)
	for _, d := range shape {
		if d <= 0 || d > maxElements/elems {
			return fmt.Errorf("gguf: tensor %q: shape %v is empty or too large", name, shape)
		}
		elems *= d
	}
	cols := shape[len(shape)-1]
	row, err := RowBytes(t, cols)
	if err != nil {
		return fmt.Errorf("gguf: tensor %q: %w", name, err)
	}
	w.names[name] = true
	w.tensors = append(w.tensors, pending{name, t, append([]int64(nil), shape...), row * (elems / cols), write})
	return nil
}

// AddF32 appends a tensor whose values, row-major, are encoded as type t (see
// EncodeRow) when the file is written.
func (w *Writer) AddF32(name string, t Type, shape []int64, values []float32) error {
	n := int64(1)
	for _, d := range shape {
		n *= max(d, 0)
	}
	if n != int64(len(values)) {
		return fmt.Errorf("gguf: tensor %q: shape %v has %d values, got %d", name, shape, n, len(values))
	}
	if !canEncode(t) {
		return fmt.Errorf("gguf: tensor %q: cannot encode %s", name, t)
	}
	return w.Add(name, t, shape, func(out io.Writer) error {
		cols := int(shape[len(shape)-1])
		rb, err := RowBytes(t, int64(cols))
		if err != nil {
			return err
		}
		buf := make([]byte, rb)
		for r := 0; r < len(values); r += cols {
			if err := EncodeRow(buf, values[r:r+cols], t); err != nil {
				return err
			}
			if _, err := out.Write(buf); err != nil {
				return err
			}
		}
		return nil
	})
}

func align(n int64) int64 { return (n + defaultAlignment - 1) / defaultAlignment * defaultAlignment }

// WriteTo writes the whole file and returns the number of bytes written.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	e := &encoder{w: bufio.NewWriterSize(out, 1<<16)}
	e.u32(0x46554747)
	e.u32(3)
	e.u64(uint64(len(w.tensors)))
	e.u64(uint64(len(w.keys)))
	for _, k := range w.keys {
		e.str(k)
		kind, elem, _ := kindOf(w.values[k])
		e.u32(uint32(kind))
		if kind == KindArray {
			e.u32(uint32(elem))
		}
		e.value(w.values[k])
	}
	off := int64(0)
	for _, t := range w.tensors {
		e.str(t.name)
		e.u32(uint32(len(t.shape)))
		for d := len(t.shape) - 1; d >= 0; d-- {
			e.u64(uint64(t.shape[d]))
		}
		e.u32(uint32(t.typ))
		e.u64(uint64(off))
		off += align(t.bytes)
	}
	e.pad()
	for _, t := range w.tensors {
		if e.err != nil {
			break
		}
		start := e.n
		if err := t.write(e); err != nil && e.err == nil {
			e.err = fmt.Errorf("gguf: tensor %q: %w", t.name, err)
		}
		if got := e.n - start; e.err == nil && got != t.bytes {
			e.err = fmt.Errorf("gguf: tensor %q: %d bytes written, its shape and type need %d", t.name, got, t.bytes)
		}
		e.pad()
	}
	if e.err == nil {
		e.err = e.w.Flush()
	}
	return e.n, e.err
}

// encoder writes little-endian values and keeps the first error.
type encoder struct {
	w   *bufio.Writer
	n   int64
	err error
}

// Write makes the encoder the io.Writer that tensors write to.
func (e *encoder) Write(b []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.w.Write(b)
	e.n += int64(n)
	e.err = err
	return n, err
}

func (e *encoder) pad() {
	var zeros [defaultAlignment]byte
	e.Write(zeros[:align(e.n)-e.n])
}

func (e *encoder) u32(v uint32) { e.Write(binary.LittleEndian.AppendUint32(nil, v)) }
func (e *encoder) u64(v uint64) { e.Write(binary.LittleEndian.AppendUint64(nil, v)) }

func (e *encoder) str(s string) {
	e.u64(uint64(len(s)))
	e.Write([]byte(s))
}

// value writes a scalar, or the count and the elements of an array.
func (e *encoder) value(v any) {
	switch d := v.(type) {
	case string:
		e.str(d)
		return
	case []string:
		e.u64(uint64(len(d)))
		for _, s := range d {
			e.str(s)
		}
		return
	}
	if kind, _, _ := kindOf(v); kind == KindArray {
		e.u64(uint64(Value{data: v}.Len()))
	}
	if e.err == nil {
		e.err = binary.Write(e, binary.LittleEndian, v)
	}
}

// kindOf maps a Go value to its kinds.
func kindOf(v any) (kind, elem Kind, ok bool) {
	switch v.(type) {
	case uint8:
		return KindUint8, 0, true
	case int8:
		return KindInt8, 0, true
	case uint16:
		return KindUint16, 0, true
	case int16:
		return KindInt16, 0, true
	case uint32:
		return KindUint32, 0, true
	case int32:
		return KindInt32, 0, true
	case float32:
		return KindFloat32, 0, true
	case bool:
		return KindBool, 0, true
	case string:
		return KindString, 0, true
	case uint64:
		return KindUint64, 0, true
	case int64:
		return KindInt64, 0, true
	case float64:
		return KindFloat64, 0, true
	case []uint8:
		return KindArray, KindUint8, true
	case []int8:
		return KindArray, KindInt8, true
	case []uint16:
		return KindArray, KindUint16, true
	case []int16:
		return KindArray, KindInt16, true
	case []uint32:
		return KindArray, KindUint32, true
	case []int32:
		return KindArray, KindInt32, true
	case []float32:
		return KindArray, KindFloat32, true
	case []bool:
		return KindArray, KindBool, true
	case []string:
		return KindArray, KindString, true
	case []uint64:
		return KindArray, KindUint64, true
	case []int64:
		return KindArray, KindInt64, true
	case []float64:
		return KindArray, KindFloat64, true
	}
	return 0, 0, false
}

func canEncode(t Type) bool {
	return t == F32 || t == F16 || t == BF16 || t == Q8_0 || t == Q4_1
}

// EncodeRow is the inverse of DequantizeRow for F32, F16, BF16, Q8_0 and Q4_1,
// with the rounding of ggml's reference quantiser. len(dst) must be what
// RowBytes says for len(src). The quantised types refuse values that are not
// finite, since one of them would spoil its whole block.
func EncodeRow(dst []byte, src []float32, t Type) error {
	if !canEncode(t) {
		return fmt.Errorf("cannot encode %s", t)
	}
	n, err := RowBytes(t, int64(len(src)))
	if err != nil {
		return err
	}
	if int64(len(dst)) != n {
		return fmt.Errorf("%d values of %s take %d bytes, got %d", len(src), t, n, len(dst))
	}
	switch t {
	case F32:
		for i, x := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	case F16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], half.F32ToF16(x))
		}
	case BF16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], half.F32ToBF16(x))
		}
	default:
		for _, x := range src {
			if x-x != 0 {
				return errors.New("a value is not finite")
			}
		}
		if t == Q8_0 {
			encodeQ8_0(dst, src)
		} else {
			encodeQ4_1(dst, src)
		}
	}
	return nil
}

// encodeQ8_0: d = max|x|/127, q = round half away from zero of x/d.
func encodeQ8_0(dst []byte, src []float32) {
	for ; len(src) > 0; dst, src = dst[34:], src[32:] {
		var top float32
		for _, x := range src[:32] {
			top = max(top, float32(math.Abs(float64(x))))
		}
		d := top / 127
		inv := float32(0)
		if d != 0 {
			inv = 1 / d
		}
		binary.LittleEndian.PutUint16(dst, half.F32ToF16(d))
		for i, x := range src[:32] {
			// inv is infinite when d is subnormal; keep such blocks at the ends.
			q := math.Round(float64(float32(x * inv)))
			if q != q {
				q = 0
			}
			dst[2+i] = byte(int8(max(-127, min(127, q))))
		}
	}
}

// encodeQ4_1: m = min, d = (max-min)/15, q = floor((x-m)/d + 1/2).
func encodeQ4_1(dst []byte, src []float32) {
	for ; len(src) > 0; dst, src = dst[20:], src[32:] {
		lo, hi := src[0], src[0]
		for _, x := range src[:32] {
			lo, hi = min(lo, x), max(hi, x)
		}
		d := float32(hi-lo) / 15
		inv := float32(0)
		if d != 0 {
			inv = 1 / d
		}
		binary.LittleEndian.PutUint16(dst, half.F32ToF16(d))
		binary.LittleEndian.PutUint16(dst[2:], half.F32ToF16(lo))
		quant := func(x float32) byte {
			q := float32(float32(x-lo)*inv) + 0.5
			if q != q {
				q = 0
			}
			return byte(max(0, min(15, q)))
		}
		for j := 0; j < 16; j++ {
			dst[4+j] = quant(src[j]) | quant(src[j+16])<<4
		}
	}
}
