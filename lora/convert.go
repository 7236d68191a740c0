package lora

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"tabtune/lora/gguf"
	"tabtune/lora/internal/half"
	"tabtune/lora/safetensors"
)

// chunkBytes is how much of a file is in memory at a time: large enough to amortise a read, small beside any model.
const chunkBytes = 1 << 20

// buffers are the memory of a conversion, kept from one tensor to the next: hundreds of fresh ones would be hundreds of megabytes
// before the collector has its turn.
type buffers struct {
	raw    []byte
	values []float32
}

// StoredRows are rows [First, First+N) of a tensor as its file has them.
type StoredRows struct {
	Name     string    // of the weight
	Format   DType     // that it becomes
	Type     gguf.Type // how Raw is to be read
	First, N int
	Cols     int
	// HalfHead is half the rows of a head where rows change places, else 0: row (head, i, side) of the file goes to (head, side, i).
	HalfHead int
	Raw      []byte // valid during the call only
}

// storedType is how a file's tensor is to be read, in GGUF's terms; false where GGUF has no such type.
func storedType(t tensorReader) (gguf.Type, bool) {
	switch t := t.(type) {
	case *gguf.Tensor:
		return t.Type, true
	case *safetensors.Tensor:
		typ, ok := map[safetensors.DType]gguf.Type{safetensors.F32: gguf.F32, safetensors.F16: gguf.F16, safetensors.BF16: gguf.BF16, safetensors.F64: gguf.F64}[t.DType]
		return typ, ok
	}
	return 0, false
}

// convert streams one tensor of the file to its weights. rows (may be nil) is offered the file's rows first; fed (may be nil) is told
// the bytes of the file that were consumed.
func (c *Checkpoint) convert(ctx context.Context, s source, dt DType, b *buffers, open func(name string) (TensorWriter, error), rows func(StoredRows) bool, fed func(int) error) error {
	t, err := c.find(s.file)
	if err != nil {
		return err
	}
	conv, err := newConverter(s, c.format(s, dt), func(suffix string) (TensorWriter, error) { return open(s.name + suffix) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if err := conv.stream(ctx, t, b, rows, fed); err != nil {
		return fmt.Errorf("%s: tensor %s: %w", c.Name, s.file, err)
	}
	return nil
}

func (c *converter) stream(ctx context.Context, t tensorReader, b *buffers, rows func(StoredRows) bool, fed func(int) error) error {
	typ, known := storedType(t)
	if err := t.CanDecode(); err != nil {
		return err
	}
	repacks := c.format == Q4 && known && (typ == gguf.Q4_0 || typ == gguf.Q4_1)
	width, total := t.RowBytes(), t.Rows()
	per := min(max(chunkBytes/width, 1), total)
	for first := int64(0); first < total; first += per {
		if err := ctx.Err(); err != nil {
			return err
		}
		runtime.Gosched() // WebAssembly has no preemption: the collector's workers run now, and the heap grows until they do
		n := min(per, total-first)
		b.raw = grow(b.raw, int(n*width))
		if err := t.ReadRaw(b.raw, first, n); err != nil {
			return err
		}
		switch {
		case rows != nil && known && c.src.plus == 0 && rows(StoredRows{c.src.name, c.format, typ, int(first), int(n), c.src.cols, c.src.halfHead(), b.raw}):
		case repacks:
			if err := c.repack(first, n, b.raw, typ); err != nil {
				return err
			}
		default:
			b.values = grow(b.values, int(n)*c.src.cols)
			if err := t.Decode(b.values, b.raw); err != nil {
				return err
			}
			if c.src.plus != 0 {
				for i := range b.values {
					b.values[i] += c.src.plus
				}
			}
			if err := c.rows(first, n, b.values); err != nil {
				return err
			}
		}
		if fed != nil {
			if err := fed(len(b.raw)); err != nil {
				return err
			}
		}
	}
	return nil
}

// converter turns rows of one tensor into a weight format.
type converter struct {
	src              source
	format           DType
	main, scale, low TensorWriter
	out, side, side2 []byte
}

func newConverter(s source, format DType, open func(suffix string) (TensorWriter, error)) (*converter, error) {
	c := &converter{src: s, format: format}
	var err error
	if c.main, err = open(""); err != nil {
		return nil, err
	}
	if format != F32 {
		if c.scale, err = open(".scale"); err != nil {
			return nil, err
		}
	}
	if format == Q4 {
		if c.low, err = open(".min"); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// target is where a row of the file goes: llama.cpp stores the rows of q and k as
// (head, i, half) where Hugging Face's rotate-half form has (head, half, i).
func (c *converter) target(row int64) int64 { return int64(c.src.hfRow(int(row))) }

// halfHead is half the rows of a head where rows change places, else 0.
func (s *source) halfHead() int {
	if s.heads == 0 {
		return 0
	}
	return s.rows / s.heads / 2
}

func (s *source) hfRow(row int) int {
	if s.heads == 0 {
		return row
	}
	hd := s.rows / s.heads
	head, r := row/hd, row%hd
	return head*hd + r%2*(hd/2) + r/2
}

// put writes n rows of width bytes that start at row first of the file.
func (c *converter) put(w TensorWriter, first, n int64, width int, b []byte) error {
	if c.src.heads == 0 {
		return w(first*int64(width), b)
	}
	for i := int64(0); i < n; i++ {
		if err := w(c.target(first+i)*int64(width), b[i*int64(width):(i+1)*int64(width)]); err != nil {
			return err
		}
	}
	return nil
}

func grow[T any](b []T, n int) []T {
	if cap(b) < n {
		return make([]T, n)
	}
	return b[:n]
}

func (c *converter) rows(first, n int64, v []float32) error {
	cols := c.src.cols
	for i, x := range v {
		if x-x != 0 { // NaN or infinite
			return fmt.Errorf("row %d, column %d is %v", first+int64(i/cols), i%cols, x)
		}
	}
	switch c.format {
	case F32:
		c.out = grow(c.out, 4*len(v))
		for i, x := range v {
			binary.LittleEndian.PutUint32(c.out[4*i:], math.Float32bits(x))
		}
		return c.put(c.main, first, n, 4*cols, c.out)
	case Int8:
		c.out, c.side = grow(c.out, len(v)), grow(c.side, 4*int(n))
		for r := 0; r < int(n); r++ {
			s := quantizeInt8(c.out[r*cols:(r+1)*cols], v[r*cols:(r+1)*cols])
			binary.LittleEndian.PutUint32(c.side[4*r:], math.Float32bits(s))
		}
		if err := c.put(c.main, first, n, cols, c.out); err != nil {
			return err
		}
		return c.put(c.scale, first, n, 4, c.side)
	}
	groups := cols / 32
	c.out, c.side, c.side2 = grow(c.out, len(v)/2), grow(c.side, 2*groups*int(n)), grow(c.side2, 2*groups*int(n))
	for i := 0; i < len(v)/32; i++ {
		d, m := quantizeQ4(c.out[16*i:16*i+16], v[32*i:32*i+32])
		if d&0x7c00 == 0x7c00 || m&0x7c00 == 0x7c00 {
			return fmt.Errorf("row %d: group %d has values beyond the range of f16", first+int64(i/groups), i%groups)
		}
		binary.LittleEndian.PutUint16(c.side[2*i:], d)
		binary.LittleEndian.PutUint16(c.side2[2*i:], m)
	}
	return c.putQ4(first, n)
}

func (c *converter) putQ4(first, n int64) error {
	groups := c.src.cols / 32
	if err := c.put(c.main, first, n, 16*groups, c.out); err != nil {
		return err
	}
	if err := c.put(c.scale, first, n, 2*groups, c.side); err != nil {
		return err
	}
	return c.put(c.low, first, n, 2*groups, c.side2)
}

// repack splits GGUF's 4-bit blocks into nibbles, scales and minima. Q4_0 is
// d*(q-8), so its minimum is -8d, exact in f16 unless d is near the top of its range.
func (c *converter) repack(first, n int64, raw []byte, t gguf.Type) error {
	groups := c.src.cols / 32 * int(n)
	size := len(raw) / groups
	c.out, c.side, c.side2 = grow(c.out, 16*groups), grow(c.side, 2*groups), grow(c.side2, 2*groups)
	for g := 0; g < groups; g++ {
		b := raw[g*size : (g+1)*size]
		d := binary.LittleEndian.Uint16(b)
		m := uint16(0)
		if t == gguf.Q4_1 {
			m = binary.LittleEndian.Uint16(b[2:])
		} else {
			m = half.F32ToF16(-8 * half.F16ToF32(d))
		}
		if d&0x7c00 == 0x7c00 || m&0x7c00 == 0x7c00 {
			return fmt.Errorf("row %d: the scale of group %d is not a finite number", first+int64(g/(c.src.cols/32)), g%(c.src.cols/32))
		}
		binary.LittleEndian.PutUint16(c.side[2*g:], d)
		binary.LittleEndian.PutUint16(c.side2[2*g:], m)
		copy(c.out[16*g:], b[size-16:])
	}
	return c.putQ4(first, n)
}

// quantizeInt8 writes round(x/s) with s = max|x|/127 and returns s: the bits of the kernel i8_from_stored.
func quantizeInt8(dst []byte, x []float32) float32 {
	var top float32
	for _, v := range x {
		top = max(top, v, -v)
	}
	inv := 127 / top
	if top == 0 || inv > math.MaxFloat32 { // so near zero that its inverse is infinite
		clear(dst)
		return 0
	}
	for i, v := range x {
		q := float32(v * inv)
		if q >= 0 {
			q += 0.5
		} else {
			q -= 0.5
		}
		dst[i] = byte(int8(q))
	}
	return top / 127
}

// quantizeQ4 writes 32 nibbles in Q4_1's order and returns scale and minimum.
func quantizeQ4(dst []byte, x []float32) (d, m uint16) {
	lo, hi := x[0], x[0]
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	m = half.F32ToF16(lo)
	d = half.F32ToF16((hi - lo) / 15)
	fm, fd := half.F16ToF32(m), half.F16ToF32(d)
	inv := float32(0)
	if fd > 0 {
		inv = 1 / fd
	}
	nibble := func(v float32) byte { return byte(min(max((v-fm)*inv+0.5, 0), 15)) }
	for j := 0; j < 16; j++ {
		dst[j] = nibble(x[j]) | nibble(x[j+16])<<4
	}
	return d, m
}
