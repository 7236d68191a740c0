package lora

import (
	"math"
	"strings"
	"testing"

	"tabtune/engine"
	"tabtune/engine/kernel"
)

// TestMLPInBlocks runs enough rows for several blocks of the fused MLP, the last one of an odd number of rows, and
// compares with every sequence alone, bit for bit, and with the operators one by one.
func TestMLPInBlocks(t *testing.T) {
	dev := newDevice(t, 2)
	for _, m := range tinyModels(t) {
		if m.dtype != F32 {
			mlpInBlocks(t, dev, m.c, m.dtype)
		}
	}
}

func mlpInBlocks(t *testing.T, dev *kernel.Device, c *Checkpoint, dt DType) {
	t.Helper()
	const n, width = 29, 23
	ids := make([]int64, n*width)
	for i := range ids {
		ids[i] = int64(i * 7919 % c.Config.Vocab)
	}
	file, err := Build(Spec{Model: c.Config, DType: dt, Window: 24, Rows: 1, Scored: 1, PrefixRows: n})
	if err != nil {
		t.Fatal(err)
	}
	w := loadWeights(t, c, dt)
	prefix := func(opt engine.Options, ids []int64, n int) []float32 {
		opt.Data = []engine.DataSource{w}
		p, err := engine.Load(dev, file, opt)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		m := method(t, p, "prefix")
		fused := 0
		for _, node := range m.Graph().Nodes {
			fused += strings.Count(node.Op, "tabtune::mlp")
		}
		if !opt.NoPasses && fused != c.Config.Layers {
			t.Fatalf("%s: %d fused MLPs in %d layers", dt, fused, c.Config.Layers)
		}
		set(t, m, 0, engine.Int64s(ids, n, width))
		run(t, m)
		v, err := m.Output(0)
		if err != nil {
			t.Fatal(err)
		}
		return p.ReadFloat32s(v)
	}
	all := prefix(engine.Options{}, ids, n)
	for i := range n {
		one := prefix(engine.Options{}, ids[i*width:(i+1)*width], 1)
		for j, v := range one {
			if got := all[i*len(one)+j]; math.Float32bits(got) != math.Float32bits(v) {
				t.Fatalf("%s: sequence %d, element %d is %v among %d, %v alone", dt, i, j, got, n, v)
			}
		}
	}
	for name, opt := range map[string]engine.Options{"operators": {NoPasses: true}, "references": {Reference: true}} {
		if d := worst(all, prefix(opt, ids, n)); !(d < 1e-3) {
			t.Errorf("%s: fused and %s differ by %g", dt, name, d)
		}
	}
}
