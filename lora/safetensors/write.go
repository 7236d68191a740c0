package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"

	"tabtune/lora/internal/half"
)

// Out is a tensor to be written. Write must write exactly the data, row-major
// and little-endian.
type Out struct {
	Name  string
	DType DType
	Shape []int64
	Write func(io.Writer) error
}

// Raw is an Out of bytes that are as they go into the file.
func Raw(name string, d DType, shape []int64, data []byte) Out {
	return Out{name, d, shape, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

// Float32s is an Out of values stored as d: F32, or F16 or BF16 rounded to
// nearest even.
func Float32s(name string, d DType, shape []int64, values []float32) Out {
	return Out{name, d, shape, func(w io.Writer) error {
		le := binary.LittleEndian
		return inPages(w, values, func(b []byte, x float32) ([]byte, error) {
			switch d {
			case F32:
				return le.AppendUint32(b, math.Float32bits(x)), nil
			case F16:
				return le.AppendUint16(b, half.F32ToF16(x)), nil
			case BF16:
				return le.AppendUint16(b, half.F32ToBF16(x)), nil
			}
			return nil, fmt.Errorf("float32 values cannot be stored as %s", d)
		})
	}}
}

// Int64s is an Out of I64 values.
func Int64s(name string, shape []int64, values []int64) Out {
	return Out{name, I64, shape, func(w io.Writer) error {
		return inPages(w, values, func(b []byte, x int64) ([]byte, error) {
			return binary.LittleEndian.AppendUint64(b, uint64(x)), nil
		})
	}}
}

// inPages encodes values a page at a time.
func inPages[T any](w io.Writer, values []T, put func([]byte, T) ([]byte, error)) error {
	const page = 4096
	buf := make([]byte, 0, page*8)
	for i, x := range values {
		var err error
		if buf, err = put(buf, x); err != nil {
			return err
		}
		if (i+1)%page == 0 || i == len(values)-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	return nil
}

// Write writes a file. The same tensors (in any order) and metadata give the
// same bytes: data is ordered by element size, largest first, then by name, as
// the reference implementation does, which aligns every tensor to its element;
// metadata keys are sorted; the header is padded with spaces to 8 bytes.
func Write(w io.Writer, tensors []Out, metadata map[string]string) error {
	ts := append([]Out(nil), tensors...)
	sort.SliceStable(ts, func(i, j int) bool {
		a, b := ts[i].DType.Size(), ts[j].DType.Size()
		return a > b || a == b && ts[i].Name < ts[j].Name
	})
	sizes := make([]int64, len(ts))
	seen := map[string]bool{metadataKey: true}
	var head bytes.Buffer
	head.WriteByte('{')
	if len(metadata) > 0 {
		m, err := json.Marshal(metadata) // sorts the keys
		if err != nil {
			return fmt.Errorf("safetensors: metadata: %w", err)
		}
		fmt.Fprintf(&head, "%q:%s", metadataKey, m)
	}
	off := int64(0)
	for i, t := range ts {
		if seen[t.Name] {
			return fmt.Errorf("safetensors: tensor name %q cannot be used (twice)", t.Name)
		}
		seen[t.Name] = true
		n := int64(1)
		for _, d := range t.Shape {
			n *= d
		}
		sizes[i] = n * t.DType.Size()
		shape := t.Shape
		if shape == nil {
			shape = []int64{}
		}
		dtype := t.DType
		e := entry{DType: &dtype, Shape: shape, Offsets: []int64{off, off + sizes[i]}}
		if _, msg := e.tensor(t.Name); msg != "" {
			return fmt.Errorf("safetensors: tensor %q: %s", t.Name, msg)
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		desc, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		if head.Len() > 1 {
			head.WriteByte(',')
		}
		fmt.Fprintf(&head, "%s:%s", name, desc)
		off += sizes[i]
	}
	head.WriteByte('}')
	for head.Len()%8 != 0 {
		head.WriteByte(' ')
	}
	if head.Len() > maxHeader {
		return fmt.Errorf("safetensors: header of %d bytes is above the limit of %d", head.Len(), maxHeader)
	}
	bw := bufio.NewWriterSize(w, 1<<16)
	bw.Write(binary.LittleEndian.AppendUint64(nil, uint64(head.Len()))) // errors stick until Flush
	bw.Write(head.Bytes())
	for i, t := range ts {
		c := &counter{w: bw}
		if err := t.Write(c); err != nil {
			return fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		if c.n != sizes[i] {
			return fmt.Errorf("safetensors: tensor %q: %d bytes written, %s%v needs %d", t.Name, c.n, t.DType, t.Shape, sizes[i])
		}
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
