package lora

import (
	"context"
	"fmt"
	"io"
	"slices"

	"tabtune/engine/pte"
)

// WriteData writes the model's weights as a .ptd in the format that Build's
// programs look up. No more is in memory than a chunk, what goes with a tensor
// (scales, minima) and the tensors whose rows change places (q and k of a GGUF).
func (c *Checkpoint) WriteData(ctx context.Context, w io.Writer, dt DType) error {
	return pte.EncodeData(w, c.entries(ctx, dt))
}

// WriteProgram writes the program of s as one .pte with the weights in it, for runtimes that take no .ptd: what Build
// makes external is a constant there. One tensor of the checkpoint is in memory at a time.
func (c *Checkpoint) WriteProgram(ctx context.Context, w io.Writer, s Spec) error {
	p, err := Build(s)
	if err != nil {
		return err
	}
	segments, err := p.SegmentWriters()
	if err != nil {
		return err
	}
	// The constants that the program has already stay in front, as they lie.
	var tensors []pte.SegmentWriter
	offsets := []int64{0}
	at := len(segments)
	if own := p.ConstantSegment; own != nil {
		at, offsets = own.Segment, own.Offsets
		tensors = append(tensors, segments[at])
	} else {
		segments = append(segments, pte.SegmentWriter{})
	}
	external := map[string][]*pte.Tensor{}
	for _, plan := range p.Plans {
		for _, v := range plan.Values {
			if t, ok := v.(*pte.Tensor); ok && t.External {
				external[t.Name] = append(external[t.Name], t)
			}
		}
	}
	first := len(tensors)
	for _, e := range c.entries(ctx, s.DType) {
		used := external[e.Key]
		if len(used) == 0 {
			continue
		}
		delete(external, e.Key)
		for _, t := range used {
			t.External, t.Buffer = false, uint32(len(offsets)+len(tensors)-first)
		}
		tensors = append(tensors, e.Data)
	}
	for name := range external {
		return fmt.Errorf("the checkpoint has no tensor %s in %s", name, s.DType)
	}
	packed, segment := pte.Pack(at, tensors)
	p.ConstantSegment = &pte.Subsegments{Segment: at, Offsets: append(slices.Clone(offsets), packed.Offsets[1+first:]...)}
	segments[at] = segment
	return pte.Encode(w, p, segments)
}

// entries lists the weights in a format, to be written in this order.
func (c *Checkpoint) entries(ctx context.Context, dt DType) []pte.DataEntry {
	infos := map[string]WeightInfo{}
	for _, info := range c.Weights(dt) {
		infos[info.Name] = info
	}
	var entries []pte.DataEntry
	var b buffers
	for _, s := range c.sources() {
		parts := map[string][]byte{} // of this source, once the first of its entries is written
		for _, suffix := range []string{"", ".scale", ".min"} {
			info, ok := infos[s.name+suffix]
			if !ok {
				continue
			}
			layout := &pte.TensorLayout{ScalarType: info.DType}
			for i, n := range info.Sizes {
				layout.Sizes = append(layout.Sizes, int32(n))
				layout.DimOrder = append(layout.DimOrder, uint8(i))
			}
			entries = append(entries, pte.DataEntry{Key: info.Name, Layout: layout, Data: pte.SegmentWriter{Size: info.Bytes, Write: func(w io.Writer) error {
				if len(parts) == 0 {
					if err := c.convert(ctx, s, dt, &b, func(name string) (TensorWriter, error) {
						if name == s.name && s.heads == 0 { // its rows come in order
							parts[name] = []byte{}
							return inOrder(w, name), nil
						}
						buf := make([]byte, infos[name].Bytes)
						parts[name] = buf
						return func(off int64, b []byte) error { copy(buf[off:], b); return nil }, nil
					}, nil, nil); err != nil {
						return err
					}
				}
				b := parts[info.Name]
				if b == nil {
					return fmt.Errorf("%s: written twice", info.Name)
				}
				parts[info.Name] = nil
				_, err := w.Write(b)
				return err
			}}})
		}
	}
	return entries
}

// inOrder writes to w what comes in the order of its offsets, and nothing else.
func inOrder(w io.Writer, name string) TensorWriter {
	var at int64
	return func(off int64, b []byte) error {
		if off != at {
			return fmt.Errorf("%s: bytes from %d on come after %d", name, off, at)
		}
		n, err := w.Write(b)
		at += int64(n)
		return err
	}
}
