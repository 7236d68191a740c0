package export

import (
	"context"
	"fmt"
	"io"

	"tabtune/lora"
	"tabtune/lora/gguf"
	"tabtune/lora/peft"
)

// File types of general.file_type, as llama.cpp numbers them.
const (
	fileTypeF16 = 1
	fileTypeQ8  = 7
)

// Merged writes the model file f with the adapter added into its weights, in type t, F16 or Q8_0: matrices in t, vectors (norms) in F32, the metadata
// as it was but for name and type. Rows whose length Q8_0's blocks of 32 do not divide are stored in F16. c must be f's checkpoint. It goes
// through the file once, a bounded chunk at a time; progress (may be nil) gets bytes of f done and in all.
func Merged(ctx context.Context, w io.Writer, f *gguf.File, c *lora.Checkpoint, a *peft.Adapter, t gguf.Type, progress func(done, total int64) error) error {
	if t != gguf.F16 && t != gguf.Q8_0 {
		return fmt.Errorf("export: a merged model in %s is not supported (supported: F16, Q8_0)", t)
	}
	if err := a.Validate(); err != nil {
		return err
	}
	mods, err := modulesOf(c, a)
	if err != nil {
		return err
	}
	adapted := map[string]lora.GGUFTensor{}
	for _, g := range c.GGUFTensors() {
		if mods[g.Module] != nil {
			adapted[g.Name] = g
		}
	}
	out := gguf.NewWriter()
	if err := copyMetadata(out, f, t); err != nil {
		return err
	}
	var done, total int64
	for _, src := range f.Tensors {
		total += src.Rows() * src.RowBytes()
	}
	for _, src := range f.Tensors {
		typ := t
		if src.Rows() == 1 || len(src.Shape) == 1 {
			typ = gguf.F32
		} else if t == gguf.Q8_0 && src.Cols()%32 != 0 {
			typ = gguf.F16
		}
		m := merger{rank: a.Rank}
		if g, ok := adapted[src.Name]; ok {
			m.layer, m.module, m.scale = &g, mods[g.Module], float32(a.Scale(mods[g.Module]))
			if m.module.Rank != 0 {
				m.rank = m.module.Rank
			}
		}
		err := out.Add(src.Name, typ, src.Shape, func(w io.Writer) error {
			row, err := gguf.RowBytes(typ, src.Cols())
			if err != nil {
				return err
			}
			buf := make([]byte, row)
			return src.StreamF32(ctx, 0, func(first, n int64, values []float32) error {
				cols := int(src.Cols())
				for r := range int(n) {
					v := values[r*cols : (r+1)*cols]
					m.add(v, int(first)+r)
					if err := gguf.EncodeRow(buf, v, typ); err != nil {
						return fmt.Errorf("row %d: %w", int(first)+r, err)
					}
					if _, err := w.Write(buf); err != nil {
						return err
					}
				}
				if done += n * src.RowBytes(); progress == nil {
					return nil
				}
				return progress(done, total)
			})
		})
		if err != nil {
			return err
		}
	}
	_, err = out.WriteTo(w)
	return err
}

// merger adds an adapter to the rows of one tensor.
type merger struct {
	layer  *lora.GGUFTensor
	module *peft.Module
	scale  float32
	rank   int
}

// add adds scale B A to row i of the file.
func (m *merger) add(v []float32, i int) {
	if m.layer == nil {
		return
	}
	b := m.module.B[m.layer.Row(i)*m.rank:][:m.rank]
	for r, x := range b {
		if x *= m.scale; x == 0 {
			continue
		}
		for k, y := range m.module.A[r*len(v) : (r+1)*len(v)] {
			v[k] += x * y
		}
	}
}

func copyMetadata(out *gguf.Writer, f *gguf.File, t gguf.Type) error {
	for _, key := range f.Metadata.Keys() {
		v, _ := f.Metadata.Get(key)
		value := v.Any()
		switch key {
		case "general.alignment":
			continue // the writer's own
		case "general.name":
			if s, ok := value.(string); ok {
				value = s + " (fine-tuned)"
			}
		case "general.file_type":
			continue
		}
		if err := out.Set(key, value); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	ft := uint32(fileTypeF16)
	if t == gguf.Q8_0 {
		ft = fileTypeQ8
	}
	return out.Set("general.file_type", ft)
}
