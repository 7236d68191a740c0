package engine

import (
	"context"
	"testing"
)

// BenchmarkSmallSteps runs the MP-LoRA fixture, whose tensors are tiny: the time is that of dispatch, shape rules and calls into
// kernels.wasm. ns/node is the figure to watch.
func BenchmarkSmallSteps(b *testing.B) {
	p := loadFixture(b, "mplora", Options{})
	m, err := p.Method("forward")
	if err != nil {
		b.Fatal(err)
	}
	ins := []Tensor{Int64s(make([]int64, 48), 4, 12), Int64s(make([]int64, 4), 4), Int64s([]int64{1, 2}, 2), Float32s([]float32{0.01}), Int64s([]int64{3, 4}, 2), Float32s([]float32{0, 0}, 2)}
	for i, t := range ins {
		if err := m.SetInput(i, t); err != nil {
			b.Fatal(err)
		}
	}
	nodes := 0
	device(b).SetThreads(1)
	defer device(b).SetThreads(2)
	for b.Loop() {
		if err := m.Execute(context.Background()); err != nil {
			b.Fatal(err)
		}
		nodes += len(m.g.Nodes)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(nodes), "ns/node")
	b.ReportMetric(float64(m.Memory().Arena), "arena-bytes")
}
