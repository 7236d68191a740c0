package lora

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"tabtune/engine/pte"
	"tabtune/lora/gguf"
	"tabtune/lora/internal/half"
)

// Checkpoint is a llama-architecture model in a GGUF file or a Hugging Face
// folder, seen under Hugging Face's names and row order.
type Checkpoint struct {
	Config Config
	Name   string // of the file or folder, for messages
	find   func(name string) (tensorReader, error)
	hf     bool // the file has Hugging Face's names and row order
}

// tensorReader is a tensor of a file, read by rows.
type tensorReader interface {
	Rows() int64
	Cols() int64
	RowBytes() int64
	StreamF32(ctx context.Context, chunk int, fn func(first, n int64, values []float32) error) error
}

// NewCheckpoint reads the model's shape from a GGUF file and checks that every
// tensor is there with the right sizes.
func NewCheckpoint(f *gguf.File) (*Checkpoint, error) {
	arch, err := f.Metadata.String("general.architecture")
	if err != nil {
		return nil, err
	}
	if arch != "llama" {
		return nil, fmt.Errorf("%s: architecture %q is not supported (supported: llama)", f.Name, arch)
	}
	var firstErr error
	num := func(key string) int {
		v, err := f.Metadata.Int(arch + "." + key)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		return int(min(max(v, -1), math.MaxInt32))
	}
	c := &Checkpoint{Name: f.Name, find: func(name string) (tensorReader, error) { return f.Tensor(name) }, Config: Config{
		Architecture: arch, Layers: num("block_count"), Dim: num("embedding_length"), FFN: num("feed_forward_length"),
		Heads: num("attention.head_count"), Context: num("context_length"), RopeBase: 10000, TiedHead: !f.Has("output.weight"),
	}}
	if firstErr != nil {
		return nil, firstErr
	}
	c.Config.KVHeads = c.Config.Heads
	if f.Metadata.Has(arch + ".attention.head_count_kv") {
		c.Config.KVHeads = num("attention.head_count_kv")
	}
	if c.Config.Heads > 0 {
		c.Config.HeadDim = c.Config.Dim / c.Config.Heads
	}
	if f.Metadata.Has(arch + ".attention.key_length") {
		c.Config.HeadDim = num("attention.key_length")
	}
	if firstErr != nil {
		return nil, firstErr
	}
	if c.Config.NormEps, err = f.Metadata.Float(arch + ".attention.layer_norm_rms_epsilon"); err != nil {
		return nil, err
	}
	if f.Metadata.Has(arch + ".rope.freq_base") {
		if c.Config.RopeBase, err = f.Metadata.Float(arch + ".rope.freq_base"); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{".rope.scaling.type", ".expert_count"} {
		if f.Metadata.Has(arch + key) {
			if s, err := f.Metadata.String(arch + key); err == nil && s == "none" {
				continue
			}
			return nil, fmt.Errorf("%s: %s: models with rotary scaling or experts are not supported", f.Name, arch+key)
		}
	}
	if f.Has("rope_freqs.weight") {
		return nil, fmt.Errorf("%s: tensor rope_freqs.weight: models with rotary scaling are not supported", f.Name)
	}
	emb, err := f.Tensor("token_embd.weight")
	if err != nil {
		return nil, err
	}
	c.Config.Vocab = int(min(emb.Rows(), math.MaxInt32))
	if err := c.Config.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return c, c.check()
}

// source is one weight of the model and where the file has it.
type source struct {
	name, file string
	rows, cols int
	heads      int  // of a q or k projection, whose rows GGUF keeps interleaved
	linear     bool // stored in the run's DType; else norms (f32) and tables
	table      bool
}

func (c *Checkpoint) sources() []source {
	out := c.ggufSources()
	if c.hf {
		for i := range out {
			out[i].file, out[i].heads = out[i].name, 0
		}
	}
	return out
}

// ggufSources lists the weights with the names and row order of a GGUF file.
func (c *Checkpoint) ggufSources() []source {
	m := &c.Config
	out := []source{{name: "model.embed_tokens.weight", file: "token_embd.weight", rows: m.Vocab, cols: m.Dim, table: true}}
	gg := map[string]string{"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
	for l := 0; l < m.Layers; l++ {
		blk := fmt.Sprintf("blk.%d.", l)
		base := fmt.Sprintf("model.layers.%d.", l)
		out = append(out, source{name: base + "input_layernorm.weight", file: blk + "attn_norm.weight", rows: 1, cols: m.Dim},
			source{name: base + "post_attention_layernorm.weight", file: blk + "ffn_norm.weight", rows: 1, cols: m.Dim})
		for _, mod := range AllModules {
			in, o := m.moduleSize(mod)
			s := source{name: ModuleName(l, mod) + ".weight", file: blk + gg[mod] + ".weight", rows: o, cols: in, linear: true}
			switch mod {
			case "q":
				s.heads = m.Heads
			case "k":
				s.heads = m.KVHeads
			}
			out = append(out, s)
		}
	}
	out = append(out, source{name: "model.norm.weight", file: "output_norm.weight", rows: 1, cols: m.Dim})
	if !m.TiedHead {
		out = append(out, source{name: "lm_head.weight", file: "output.weight", rows: m.Vocab, cols: m.Dim, table: true})
	}
	return out
}

func (c *Checkpoint) check() error {
	for _, s := range c.sources() {
		t, err := c.find(s.file)
		if err != nil {
			return err
		}
		if t.Rows() != int64(s.rows) || t.Cols() != int64(s.cols) {
			return fmt.Errorf("%s: tensor %s is %d x %d, want %d x %d", c.Name, s.file, t.Rows(), t.Cols(), s.rows, s.cols)
		}
	}
	return nil
}

// WeightInfo describes one tensor that Stream delivers.
type WeightInfo struct {
	Name  string
	DType pte.ScalarType
	Sizes []int
	Bytes int64
}

// Weights lists the tensors of the model in the given format, in Stream's order.
func (c *Checkpoint) Weights(dt DType) []WeightInfo {
	var out []WeightInfo
	add := func(name string, st pte.ScalarType, elem int64, sizes ...int) {
		n := elem
		for _, s := range sizes {
			n *= int64(s)
		}
		out = append(out, WeightInfo{name, st, sizes, n})
	}
	for _, s := range c.sources() {
		switch c.format(s, dt) {
		case F32:
			if s.rows == 1 {
				add(s.name, pte.Float, 4, s.cols)
			} else {
				add(s.name, pte.Float, 4, s.rows, s.cols)
			}
		case Int8:
			add(s.name, pte.Char, 1, s.rows, s.cols)
			add(s.name+".scale", pte.Float, 4, s.rows)
		case Q4:
			add(s.name, pte.Byte, 1, s.rows, s.cols/2)
			add(s.name+".scale", pte.Half, 2, s.rows, s.cols/32)
			add(s.name+".min", pte.Half, 2, s.rows, s.cols/32)
		}
	}
	return out
}

func (c *Checkpoint) format(s source, dt DType) DType {
	switch {
	case dt == F32 || !s.linear && !s.table:
		return F32
	case s.table:
		return Int8
	}
	return dt
}

// TensorWriter receives the bytes of one tensor, in any order of ranges.
type TensorWriter func(off int64, b []byte) error

// Stream converts the weights, a bounded chunk at a time. open is called once
// for each tensor of Weights(dt), in order of first need; progress (may be nil)
// gets bytes of the file done and in all.
func (c *Checkpoint) Stream(ctx context.Context, dt DType, open func(WeightInfo) (TensorWriter, error), progress func(done, total int64) error) error {
	infos := map[string]WeightInfo{}
	for _, w := range c.Weights(dt) {
		infos[w.Name] = w
	}
	var total, done int64
	sources := c.sources()
	for _, s := range sources {
		t, err := c.find(s.file)
		if err != nil {
			return err
		}
		total += t.Rows() * t.RowBytes()
	}
	for _, s := range sources {
		err := c.convert(ctx, s, dt, func(name string) (TensorWriter, error) { return open(infos[name]) }, func(n int) error {
			if done += int64(n); progress == nil {
				return nil
			}
			return progress(done, total)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// convert streams one tensor of the file through a converter; fed (may be nil)
// is told the bytes of the file that were consumed.
func (c *Checkpoint) convert(ctx context.Context, s source, dt DType, open func(name string) (TensorWriter, error), fed func(int) error) error {
	t, err := c.find(s.file)
	if err != nil {
		return err
	}
	conv, err := newConverter(s, c.format(s, dt), func(suffix string) (TensorWriter, error) { return open(s.name + suffix) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	// WebAssembly has no preemption: the collector's workers run when this goroutine yields, and the heap grows until they do.
	if g, ok := t.(*gguf.Tensor); ok && conv.format == Q4 && (g.Type == gguf.Q4_0 || g.Type == gguf.Q4_1) {
		err = g.StreamRaw(ctx, 0, func(first, n int64, raw []byte) error {
			runtime.Gosched()
			if err := conv.repack(first, n, raw, g.Type); err != nil || fed == nil {
				return err
			}
			return fed(len(raw))
		})
	} else {
		err = t.StreamF32(ctx, 0, func(first, n int64, values []float32) error {
			runtime.Gosched()
			if err := conv.rows(first, n, values); err != nil || fed == nil {
				return err
			}
			return fed(int(n * t.RowBytes()))
		})
	}
	if err != nil {
		return fmt.Errorf("%s: tensor %s: %w", c.Name, s.file, err)
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

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
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

// quantizeInt8 writes round(x/s) with s = max|x|/127 and returns s.
func quantizeInt8(dst []byte, x []float32) float32 {
	var top float32
	for _, v := range x {
		top = max(top, v, -v)
	}
	if top == 0 {
		clear(dst)
		return 0
	}
	inv := 127 / top
	for i, v := range x {
		q := v * inv
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
