package lora

import (
	"context"
	"fmt"
	"io"

	"tabtune/engine/pte"
)

// WriteData writes the model's weights as a .ptd in the format that Build's
// programs look up. One tensor of the checkpoint is in memory at a time.
func (c *Checkpoint) WriteData(ctx context.Context, w io.Writer, dt DType) error {
	infos := map[string]WeightInfo{}
	for _, info := range c.Weights(dt) {
		infos[info.Name] = info
	}
	var entries []pte.DataEntry
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
					if err := c.convert(ctx, s, dt, func(name string) (TensorWriter, error) {
						buf := make([]byte, infos[name].Bytes)
						parts[name] = buf
						return func(off int64, b []byte) error { copy(buf[off:], b); return nil }, nil
					}, nil); err != nil {
						return err
					}
				}
				b, ok := parts[info.Name]
				if !ok {
					return fmt.Errorf("%s: written twice", info.Name)
				}
				parts[info.Name] = nil
				_, err := w.Write(b)
				return err
			}}})
		}
	}
	return pte.EncodeData(w, entries)
}
