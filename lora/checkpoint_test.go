package lora

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"tabtune/engine/pte"
	"tabtune/internal/tinymodel"
	"tabtune/lora/gguf"
	"tabtune/lora/internal/half"
)

// floats reads a tensor of the file, rows as the file has them.
func floats(t *testing.T, c *Checkpoint, name string) []float32 {
	t.Helper()
	info, err := c.find(name)
	if err != nil {
		t.Fatal(err)
	}
	raw, out := make([]byte, info.Rows()*info.RowBytes()), make([]float32, info.Rows()*info.Cols())
	if err := info.ReadRaw(raw, 0, info.Rows()); err != nil {
		t.Fatal(err)
	}
	if err := info.Decode(out, raw); err != nil {
		t.Fatal(err)
	}
	return out
}

// rotateHalf puts rows of (head, i, half) in the order (head, half, i).
func rotateHalf(v []float32, heads, headDim, cols int) []float32 {
	out := make([]float32, len(v))
	for h := range heads {
		for i := range headDim / 2 {
			for side := range 2 {
				to, from := h*headDim+side*headDim/2+i, h*headDim+2*i+side
				copy(out[to*cols:(to+1)*cols], v[from*cols:(from+1)*cols])
			}
		}
	}
	return out
}

// converted is the model's weights in a format, by name.
func converted(t *testing.T, c *Checkpoint, dt DType) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	if err := c.Stream(context.Background(), dt, func(i WeightInfo) (TensorWriter, error) {
		if out[i.Name] != nil {
			t.Errorf("%s is opened twice", i.Name)
		}
		buf := make([]byte, i.Bytes)
		out[i.Name] = buf
		return func(off int64, b []byte) error { copy(buf[off:], b); return nil }, nil
	}, nil); err != nil {
		t.Fatal(err)
	}
	for _, w := range c.Weights(dt) {
		if out[w.Name] == nil {
			t.Errorf("%s is listed and not delivered", w.Name)
		}
	}
	return out
}

func f32At(b []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
}

func f16At(b []byte, i int) float32 { return half.F16ToF32(binary.LittleEndian.Uint16(b[2*i:])) }

// TestConversion compares every weight, from every type of source and in every
// format, with the values in the file.
func TestConversion(t *testing.T) {
	const headDim = tinymodel.Dim / tinymodel.Heads
	for _, from := range []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q4_0, gguf.Q4_1} {
		c := tinyOf(t, tinymodel.Options{Matrix: from})
		for _, dt := range []DType{F32, Int8, Q4} {
			got := converted(t, c, dt)
			for _, x := range []struct {
				name, file  string
				heads, cols int
				format      DType
			}{
				{"model.embed_tokens.weight", "token_embd.weight", 0, tinymodel.Dim, map[DType]DType{F32: F32, Int8: Int8, Q4: Int8}[dt]},
				{"model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight", tinymodel.Heads, tinymodel.Dim, dt},
				{"model.layers.2.self_attn.k_proj.weight", "blk.2.attn_k.weight", tinymodel.KVHeads, tinymodel.Dim, dt},
				{"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", 0, tinymodel.Dim, dt},
				{"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", 0, tinymodel.FFN, dt},
				{"model.layers.2.input_layernorm.weight", "blk.2.attn_norm.weight", 0, tinymodel.Dim, F32},
			} {
				want := floats(t, c, x.file)
				if x.heads > 0 {
					want = rotateHalf(want, x.heads, headDim, x.cols)
				}
				exact := x.format == F32 || x.format == Q4 && (from == gguf.Q4_0 || from == gguf.Q4_1)
				b := got[x.name]
				for i, v := range want {
					row := i / x.cols
					var w, bound float32
					switch x.format {
					case F32:
						w = f32At(b, i)
					case Int8:
						s := f32At(got[x.name+".scale"], row)
						w, bound = s*float32(int8(b[i])), 0.5001*s
					case Q4:
						group := i / 32
						d, m := f16At(got[x.name+".scale"], group), f16At(got[x.name+".min"], group)
						n := b[16*group+i%16] >> (i % 32 / 16 * 4) & 15
						// The scale and the minimum are rounded to f16's 11 bits.
						w, bound = d*float32(n)+m, 0.51*d+(15*d+float32(math.Abs(float64(m))))/1024
					}
					if exact && w != v || !exact && !(float32(math.Abs(float64(w-v))) <= bound) {
						t.Fatalf("%s as %s: %s[%d] is %v, in the file %v (bound %v)", from, dt, x.name, i, w, v, bound)
					}
				}
			}
		}
	}
}

// TestInt8UsesItsRange looks for the largest weight of each row at +-127.
func TestInt8UsesItsRange(t *testing.T) {
	got := converted(t, tinyCheckpoint(t), Int8)["model.layers.0.mlp.up_proj.weight"]
	for r := 0; r < len(got); r += tinymodel.Dim {
		top := 0
		for _, b := range got[r : r+tinymodel.Dim] {
			top = max(top, int(int8(b)), -int(int8(b)))
		}
		if top != 127 {
			t.Errorf("row %d: largest weight %d, want 127", r/tinymodel.Dim, top)
		}
	}
	if s := quantizeInt8(make([]byte, 4), make([]float32, 4)); s != 0 {
		t.Errorf("scale %v of a row of zeros", s)
	}
}

// TestBadWeights converts numbers that cannot be.
func TestBadWeights(t *testing.T) {
	row := func(v float32) []float32 {
		x := make([]float32, 64)
		x[40] = v
		return x
	}
	for _, x := range []struct {
		format DType
		value  float32
		word   string
	}{{F32, float32(math.NaN()), "column 40"}, {Int8, float32(math.Inf(1)), "column 40"}, {Q4, float32(math.Inf(-1)), "column 40"}, {Q4, 1e30, "group 1"}} {
		conv, err := newConverter(source{name: "w", rows: 1, cols: 64, linear: true}, x.format, func(string) (TensorWriter, error) {
			return func(int64, []byte) error { return nil }, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := conv.rows(0, 1, row(x.value)); err == nil || !strings.Contains(err.Error(), x.word) {
			t.Errorf("%s of %v: error %v, want %q", x.format, x.value, err, x.word)
		}
	}
}

// TestWriteData writes the .ptd of each format and reads it back.
func TestWriteData(t *testing.T) {
	c := tinyCheckpoint(t)
	for _, dt := range []DType{F32, Int8, Q4} {
		var b bytes.Buffer
		if err := c.WriteData(context.Background(), &b, dt); err != nil {
			t.Fatal(err)
		}
		f, err := pte.DecodeData(bytes.NewReader(b.Bytes()), "tiny.ptd")
		if err != nil {
			t.Fatal(err)
		}
		want := converted(t, c, dt)
		for _, w := range c.Weights(dt) {
			named, sec, ok := f.Lookup(w.Name)
			if !ok || named.Layout == nil || named.Layout.ScalarType != w.DType || len(named.Layout.Sizes) != len(w.Sizes) {
				t.Fatalf("%s: %s: found %v, layout %+v", dt, w.Name, ok, named.Layout)
			}
			for i, n := range w.Sizes {
				if int(named.Layout.Sizes[i]) != n {
					t.Errorf("%s: %s: sizes %v, want %v", dt, w.Name, named.Layout.Sizes, w.Sizes)
				}
			}
			got, err := sec.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want[w.Name]) {
				t.Errorf("%s: %s differs from what Stream gives", dt, w.Name)
			}
		}
	}
}
