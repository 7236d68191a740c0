package session

import (
	"math"

	"tabtune/engine/kernel"
	"tabtune/lora"
)

// products prepares the seven linear products of the layers from lo to below hi over m rows of activations, quantised already. run does them, free
// gives back the memory of the activations.
func (s *Session) products(lo, hi, m int) (run, free func(), err error) {
	dev, c := s.dev, &s.model.ckpt.Config
	widest := max(c.Dim, c.FFN, c.Heads*c.HeadDim)
	floats := int64(4 * m * widest)
	scales := int64(4 * m * (widest/32 + 2))
	base, err := dev.Alloc(2*floats+scales, 64)
	if err != nil {
		return nil, nil, err
	}
	x, y, sx := base, base+kernel.Addr(floats), base+kernel.Addr(2*floats)
	sums := sx + kernel.Addr(4*m)
	dev.MemSet(base, 0, 2*floats+scales)
	var calls []func()
	for l := lo; l < hi; l++ {
		for _, mod := range lora.AllModules {
			name := lora.ModuleName(l, mod) + ".weight"
			w := s.model.weights[name]
			n, k := int32(w.Sizes[0]), int32(w.Sizes[1])
			scale, low := s.model.weights[name+".scale"].Addr, s.model.weights[name+".min"].Addr
			switch s.model.dtype {
			case lora.F32:
				calls = append(calls, func() { dev.F32GemmNT(y, x, w.Addr, 0, int32(m), n, k, k, k, n, 1, 0) })
			case lora.Int8:
				calls = append(calls, func() { dev.I8Gemm(y, x, sx, w.Addr, scale, 0, int32(m), n, k, k, n, 0) })
			default:
				calls = append(calls, func() { dev.Q4Gemm(y, x, sx, sums, w.Addr, scale, low, 0, int32(m), n, 2*k, n, 0) })
			}
		}
	}
	return func() {
		for _, c := range calls {
			c()
		}
	}, func() { dev.Free(base) }, nil
}

// besides is what a training step takes over its linear products: attention, norms, adapters, and rows filled up to the batch's longest. Without the
// last, docs/BENCHMARKS.md has 1.17: the products' tokens a second times all layers (forward_vs_gemm_t2), over 4 x 64 times the rows of prefix_vs_all.
const besides = 1.3

// tokenSeconds is about how long one layer takes for one token of a large batch: its products are timed once a model, on the open weights. 0: unknown,
// where memory is too short to try.
func (s *Session) tokenSeconds() float64 {
	const rows = 256
	if s.model.tokenSeconds > 0 {
		return s.model.tokenSeconds
	}
	last := s.model.ckpt.Config.Layers - 1
	run, free, err := s.products(last, last+1, rows)
	if err != nil {
		return 0
	}
	defer free()
	run() // wakes the threads
	best := math.Inf(1)
	for range 3 { // other programs only make it slower
		began := s.now()
		run()
		best = min(best, s.now().Sub(began).Seconds())
	}
	s.model.tokenSeconds = best / rows * besides
	return s.model.tokenSeconds
}

// seconds estimates how long a run takes: the layers below the adapters once a row, the steps, and its evaluations with one before and one after it.
// What a learning-rate finder and generated answers take is not in it.
func (s *Session) seconds(c *runConfig, forwardTokens int64) float64 {
	train, val := tokensOf(s.data.all(s.data.train)), tokensOf(s.data.val)
	layers, top := int64(c.spec.Model.Layers), int64(c.top)
	evals := int64(2)
	var steps int64
	if c.est != nil {
		steps = int64(c.Steps)
		evals += 1 + steps/int64(max(1, c.EvalEvery))
	}
	passes := (train+val)*(layers-top) + steps*forwardTokens*top + evals*val*top
	if c.head {
		passes += train * int64(c.spec.Top)
	}
	return float64(passes) * s.tokenSeconds()
}

// tokensOf counts the tokens of all sequences.
func tokensOf(items []item) (n int64) {
	for _, it := range items {
		for i := range it.example.Sequences {
			n += int64(len(it.example.Sequences[i].IDs))
		}
	}
	return n
}
