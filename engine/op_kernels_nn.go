package engine

import (
	"tabtune/engine/kernel"
	"tabtune/engine/kernel/code"
)

// Kernel calls of products, reductions and rows. Sizes were checked by the shape rules.

func f32All(ts ...*tensor) bool {
	for _, t := range ts {
		if t != nil && t.dtype != F32 {
			return false
		}
	}
	return true
}

func mmKernel(c *Call, a, b *tensor) bool {
	out := c.Out()
	if !f32All(a, b, out) {
		return false
	}
	r := a.dim()
	m, k, n := int32(a.sizes[r-2]), int32(a.sizes[r-1]), int32(b.sizes[r-1])
	switch {
	case out.n == 0:
	case k == 0:
		return false
	case r == 2:
		c.dev().F32GemmNN(out.addr, a.addr, b.addr, 0, m, n, k, k, n, n, 1, 0)
	default:
		c.dev().F32BMMNN(out.addr, a.addr, b.addr, 0, int32(a.sizes[0]), m, n, k, k, n, n, m*k, k*n, m*n, 1, 0)
	}
	return true
}

func addmmKernel(c *Call) bool {
	bias, a, b, out := c.T(0), c.T(1), c.T(2), c.Out()
	m, k, n := int32(a.sizes[0]), int32(a.sizes[1]), int32(b.sizes[1])
	if !f32All(bias, a, b, out) || c.Float(3) != 1 || bias.dim() != 1 || bias.n != int(n) || k == 0 {
		return false
	}
	if out.n > 0 {
		c.dev().F32GemmNN(out.addr, a.addr, b.addr, bias.addr, m, n, k, k, n, n, float32(c.Float(4)), 0)
	}
	return true
}

func linearKernel(c *Call) bool {
	x, w, bias, out := c.T(0), c.T(1), c.OptT(2), c.Out()
	k := x.sizes[x.dim()-1]
	if !f32All(x, w, bias, out) || w.dim() != 2 || k == 0 || bias != nil && bias.n != w.sizes[0] {
		return false
	}
	n := int32(w.sizes[0])
	if out.n > 0 {
		var b kernel.Addr
		if bias != nil {
			b = bias.addr
		}
		c.dev().F32GemmNT(out.addr, x.addr, w.addr, b, int32(x.n/k), n, int32(k), int32(k), int32(k), n, 1, 0)
	}
	return true
}

var reductions = map[string]int32{"sum": code.ReduceSum, "mean": code.ReduceMean, "max": code.ReduceMax, "min": code.ReduceMin,
	"argmax": code.ReduceMax, "argmin": code.ReduceMin}

// reduceKernel reduces f32 over neighbouring dimensions, or booleans with "any".
func reduceKernel(c *Call, kind string, dims []int) bool {
	in, out := c.T(0), c.Out()
	from, to := F32, F32
	switch kind {
	case "argmax", "argmin":
		to = I64
	case "any":
		from, to = Bool, Bool
	}
	if in.dtype != from || out.dtype != to || in.n == 0 {
		return false
	}
	reduced := make([]bool, in.dim())
	for _, d := range dims {
		reduced[d] = true
	}
	outer, n, inner, phase := 1, 1, 1, 0
	for d, s := range in.sizes {
		switch {
		case s == 1:
		case reduced[d] && phase == 2:
			return false
		case reduced[d]:
			phase, n = 1, n*s
		case phase == 0:
			outer *= s
		default:
			phase, inner = 2, inner*s
		}
	}
	switch kind {
	case "argmax", "argmin":
		c.dev().F32ArgReduce(reductions[kind], out.addr, in.addr, int32(n), int32(outer), int32(n), int32(inner))
	case "any":
		c.dev().U8Any(out.addr, in.addr, int32(outer), int32(n), int32(inner))
	default:
		c.dev().F32Reduce(reductions[kind], out.addr, in.addr, int32(n), int32(outer), int32(n), int32(inner))
	}
	return true
}

func softmaxKernel(c *Call, log bool) bool {
	in, out := c.T(0), c.Out()
	if !f32All(in, out) || in.dim() == 0 {
		return false
	}
	if in.n == 0 {
		return true
	}
	op := code.Softmax
	if log {
		op = code.LogSoftmax
	}
	outer, n, inner := around(in.sizes, c.Dim(1, in.dim()))
	c.dev().F32Softmax(op, out.addr, int32(n), in.addr, int32(n), int32(outer), int32(n), int32(inner))
	return true
}

// layerNormKernel covers calls whose mean and deviation nobody reads.
func layerNormKernel(c *Call) bool {
	in, w, b, out := c.T(0), c.OptT(2), c.OptT(3), c.T(5)
	n := 1
	for _, s := range c.Ints(1) {
		n *= int(s)
	}
	g := c.m.g
	for _, v := range c.n.Args[6:8] {
		if len(g.Uses(v)) > 0 || g.IsOutput(v) {
			return false
		}
	}
	if !f32All(in, w, b, out) || in.n == 0 {
		return false
	}
	var wa, ba kernel.Addr
	if w != nil {
		wa = w.addr
	}
	if b != nil {
		ba = b.addr
	}
	c.dev().F32LayerNorm(out.addr, int32(n), in.addr, int32(n), wa, ba, float32(c.Float(4)), int32(in.n/n), int32(n))
	return true
}

// gatherRowsKernel gathers slices of dimension 0. An index outside, or counted from the end, is left to the reference.
func gatherRowsKernel(c *Call, srcArg, idxArg int) bool {
	return rowsKernel(c, c.Out(), c.T(srcArg), c.T(idxArg))
}

func rowsKernel(c *Call, dst, src, idx *tensor) bool {
	if dst.n == 0 {
		return true
	}
	row := numel(src.sizes[1:]) * src.elem
	if idx.dtype != I64 || dst.dtype != src.dtype || c.dev().IndexCheck(idx.addr, int32(idx.n), int64(src.sizes[0])) >= 0 {
		return false
	}
	c.dev().GatherRows(dst.addr, int32(row), src.addr, int32(row), idx.addr, int32(idx.n), int32(row), int32(src.sizes[0]))
	return true
}

// dequantizeRowsKernel covers an i8 matrix with a scale a row and zero points of 0: the weights of a linear layer.
func dequantizeRowsKernel(c *Call) bool {
	in, scale, zero, out := c.T(0), c.T(1), c.OptT(2), c.Out()
	if in.dtype != I8 || scale.dtype != F32 || out.dtype != F32 || in.dim() < 1 || c.Dim(3, in.dim()) != 0 || in.n == 0 {
		return false
	}
	if zero != nil {
		for _, b := range c.Bytes(zero) {
			if b != 0 {
				return false
			}
		}
	}
	k := int32(in.n / in.sizes[0])
	c.dev().I8Rows(out.addr, in.addr, scale.addr, 0, int32(in.sizes[0]), int32(in.sizes[0]), k, k, k)
	return true
}
