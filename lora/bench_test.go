package lora

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"tabtune/engine"
	"tabtune/engine/kernel"
	"tabtune/internal/assets"
	"tabtune/lora/gguf"
)

// BenchmarkForward times SmolLM2-135M's trunk, 8 x 64 tokens, one thread, and
// logs where the time goes.
func BenchmarkForward(b *testing.B) {
	f, closer, err := gguf.Open(assets.Need(b, assets.Model))
	if err != nil {
		b.Fatal(err)
	}
	defer closer.Close()
	c, err := NewCheckpoint(f)
	if err != nil {
		b.Fatal(err)
	}
	for _, dt := range []DType{Int8, Q4, F32} {
		b.Run(string(dt), func(b *testing.B) {
			dev := newDevice(b, 1)
			w := weightMap{}
			if err := c.Stream(context.Background(), dt, func(i WeightInfo) (TensorWriter, error) {
				addr, err := dev.Alloc(i.Bytes, 64)
				w[i.Name] = engine.External{DType: i.DType, Sizes: i.Sizes, Addr: addr, Size: i.Bytes}
				return func(off int64, p []byte) error { dev.Write(addr+kernel.Addr(off), p); return nil }, err
			}, nil); err != nil {
				b.Fatal(err)
			}
			file, err := Build(Spec{Model: c.Config, DType: dt, Window: 64, Rows: 1, Scored: 1})
			if err != nil {
				b.Fatal(err)
			}
			took := map[string]time.Duration{}
			p, err := engine.Load(dev, file, engine.Options{Data: []engine.DataSource{w}})
			if err != nil {
				b.Fatal(err)
			}
			p.Observe(func(s engine.Step) { took[s.Node.Op] += s.Took })
			m, err := p.Method("prefix")
			if err != nil {
				b.Fatal(err)
			}
			if err := m.SetInput(0, engine.Int64s(make([]int64, 8*64), 8, 64)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := m.Execute(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(8*64*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
			for _, op := range slices.SortedFunc(maps.Keys(took), func(x, y string) int { return -cmp.Compare(took[x], took[y]) }) {
				b.Logf("%8.1f ms  %s", took[op].Seconds()*1000/float64(b.N), op)
			}
		})
	}
}
