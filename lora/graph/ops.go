package graph

import (
	"fmt"
	"math"

	"tabtune/engine/pte"
)

// The methods below append one core ATen operator each (the operator's name is
// in the code) and derive the output's shape. Sizes are compared symbolically.

func broadcast(a, b []Dim) []Dim {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := append([]Dim(nil), a...)
	off := len(a) - len(b)
	for i, d := range b {
		o := &out[off+i]
		switch {
		case *o == d || d == D(1):
		case *o == D(1):
			*o = d
		default:
			panic(fmt.Sprintf("graph: cannot broadcast %v with %v", a, b))
		}
	}
	return out
}

func (g *Graph) binary(name, overload string, a, b *Tensor, extra ...any) *Tensor {
	args := append([]any{a, b}, extra...)
	return g.Op(name, overload, a.DType, broadcast(a.Shape, b.Shape), args...)
}

// Add returns a + b.
func (g *Graph) Add(a, b *Tensor) *Tensor { return g.binary("aten::add", "out", a, b, int64(1)) }

// Sub returns a - b.
func (g *Graph) Sub(a, b *Tensor) *Tensor { return g.binary("aten::sub", "out", a, b, int64(1)) }

// Mul returns a * b.
func (g *Graph) Mul(a, b *Tensor) *Tensor { return g.binary("aten::mul", "out", a, b) }

// Xor returns a ^ b for integers.
func (g *Graph) Xor(a, b *Tensor) *Tensor { return g.binary("aten::bitwise_xor", "Tensor_out", a, b) }

// XorScalar returns a ^ c for integers.
func (g *Graph) XorScalar(a *Tensor, c int64) *Tensor {
	return g.Op("aten::bitwise_xor", "Scalar_out", a.DType, a.Shape, a, c)
}

// AndScalar returns a & c for integers.
func (g *Graph) AndScalar(a *Tensor, c int64) *Tensor {
	return g.Op("aten::bitwise_and", "Scalar_out", a.DType, a.Shape, a, c)
}

// ShiftRight returns a >> c for integers.
func (g *Graph) ShiftRight(a *Tensor, c int64) *Tensor {
	return g.Op("aten::bitwise_right_shift", "Tensor_Scalar_out", a.DType, a.Shape, a, c)
}

// AddScalar returns a + c; c is an int64 for integer tensors, else a float64.
func (g *Graph) AddScalar(a *Tensor, c any) *Tensor {
	return g.Op("aten::add", "Scalar_out", a.DType, a.Shape, a, c, int64(1))
}

// MulScalar returns a * c; c is an int64 for integer tensors, else a float64.
func (g *Graph) MulScalar(a *Tensor, c any) *Tensor {
	return g.Op("aten::mul", "Scalar_out", a.DType, a.Shape, a, c)
}

func (g *Graph) unary(name string, a *Tensor) *Tensor {
	return g.Op(name, "out", a.DType, a.Shape, a)
}

// Neg, Log, Sqrt, Rsqrt, Cos, Sigmoid and Relu are elementwise.
func (g *Graph) Neg(a *Tensor) *Tensor     { return g.unary("aten::neg", a) }
func (g *Graph) Log(a *Tensor) *Tensor     { return g.unary("aten::log", a) }
func (g *Graph) Sqrt(a *Tensor) *Tensor    { return g.unary("aten::sqrt", a) }
func (g *Graph) Rsqrt(a *Tensor) *Tensor   { return g.unary("aten::rsqrt", a) }
func (g *Graph) Cos(a *Tensor) *Tensor     { return g.unary("aten::cos", a) }
func (g *Graph) Sigmoid(a *Tensor) *Tensor { return g.unary("aten::sigmoid", a) }
func (g *Graph) Relu(a *Tensor) *Tensor    { return g.unary("aten::relu", a) }

// GeluTanh is the approximation of GELU by tanh.
func (g *Graph) GeluTanh(a *Tensor) *Tensor {
	return g.Op("aten::gelu", "out", a.DType, a.Shape, a, "tanh")
}

// Convert returns a in another element type.
func (g *Graph) Convert(a *Tensor, dt pte.ScalarType) *Tensor {
	order := make([]any, len(a.Shape))
	for i := range order {
		order[i] = int64(i)
	}
	return g.Op("dim_order_ops::_to_dim_order_copy", "out", dt, a.Shape, a, false, order)
}

// View returns a with another shape of as many elements. At most one dimension
// may need inference; sizes that were not read before with Size count as such.
func (g *Graph) View(a *Tensor, shape ...Dim) *Tensor {
	sizes := make([]any, len(shape))
	unknown := -1
	for i, d := range shape {
		if d.Static() {
			sizes[i] = d.Num
			continue
		}
		if unknown < 0 {
			unknown = i
			sizes[i] = int64(-1)
			continue
		}
		sizes[i] = g.intOf(d)
	}
	return g.Op("aten::view_copy", "out", a.DType, shape, a, sizes)
}

// Permute returns a with its dimensions in the given order.
func (g *Graph) Permute(a *Tensor, order ...int) *Tensor {
	shape := make([]Dim, len(order))
	args := make([]any, len(order))
	for i, o := range order {
		shape[i] = a.Shape[o]
		args[i] = int64(o)
	}
	return g.Op("aten::permute_copy", "out", a.DType, shape, a, args)
}

// Slice returns a[..., start:end, ...] along dim; end is a Dim.
func (g *Graph) Slice(a *Tensor, dim, start int, end Dim) *Tensor {
	shape := append([]Dim(nil), a.Shape...)
	if end.Static() {
		shape[dim] = D(int(end.Num) - start)
	} else if start == 0 {
		shape[dim] = end
	} else {
		panic("graph: a dynamic slice must start at 0")
	}
	return g.Op("aten::slice_copy", "Tensor_out", a.DType, shape, a, int64(dim), int64(start), g.intOf(end), int64(1))
}

// Cat joins tensors along dim.
func (g *Graph) Cat(dim int, ts ...*Tensor) *Tensor {
	shape := append([]Dim(nil), ts[0].Shape...)
	for _, t := range ts[1:] {
		a, b := shape[dim], t.Shape[dim]
		if a.Syms != b.Syms || a.Den != b.Den {
			panic("graph: cat of unlike symbolic sizes")
		}
		shape[dim].Num += b.Num
	}
	return g.Op("aten::cat", "out", ts[0].DType, shape, ts, int64(dim))
}

// IndexSelect returns rows of a (dimension 0) at index i64[m].
func (g *Graph) IndexSelect(a, index *Tensor) *Tensor {
	shape := append([]Dim{index.Shape[0]}, a.Shape[1:]...)
	return g.Op("aten::index_select", "out", a.DType, shape, a, int64(0), index)
}

// Linear returns x w^T for x [m,k] and w [n,k].
func (g *Graph) Linear(x, w *Tensor) *Tensor {
	if x.Shape[1] != w.Shape[1] {
		panic(fmt.Sprintf("graph: linear of %v by %v", x.Shape, w.Shape))
	}
	return g.Op("aten::linear", "out", x.DType, []Dim{x.Shape[0], w.Shape[0]}, x, w, nil)
}

// MM returns a b for a [m,k] and b [k,n].
func (g *Graph) MM(a, b *Tensor) *Tensor {
	return g.Op("aten::mm", "out", a.DType, []Dim{a.Shape[0], b.Shape[1]}, a, b)
}

// BMM returns the batched product of a [B,m,k] and b [B,k,n].
func (g *Graph) BMM(a, b *Tensor) *Tensor {
	if a.Shape[0] != b.Shape[0] || a.Shape[2] != b.Shape[1] {
		panic(fmt.Sprintf("graph: bmm of %v by %v", a.Shape, b.Shape))
	}
	return g.Op("aten::bmm", "out", a.DType, []Dim{a.Shape[0], a.Shape[1], b.Shape[2]}, a, b)
}

// Softmax and LogSoftmax work on the last dimension.
func (g *Graph) Softmax(a *Tensor) *Tensor {
	return g.Op("aten::_softmax", "out", a.DType, a.Shape, a, int64(len(a.Shape)-1), false)
}

// LogSoftmax is the logarithm of Softmax.
func (g *Graph) LogSoftmax(a *Tensor) *Tensor {
	return g.Op("aten::_log_softmax", "out", a.DType, a.Shape, a, int64(len(a.Shape)-1), false)
}

// MeanLast returns the mean over the last dimension, kept with size 1.
func (g *Graph) MeanLast(a *Tensor) *Tensor {
	shape := append([]Dim(nil), a.Shape...)
	shape[len(shape)-1] = D(1)
	return g.Op("aten::mean", "out", a.DType, shape, a, []any{int64(-1)}, true, nil)
}

// Gather returns a[i, index[i, j]] along dimension 1.
func (g *Graph) Gather(a, index *Tensor) *Tensor {
	return g.Op("aten::gather", "out", a.DType, index.Shape, a, int64(1), index, false)
}

// Arange returns start, start+step, ... below end as i64.
func (g *Graph) Arange(start, end, step int64) *Tensor {
	n := (end - start + step - 1) / step
	return g.Op("aten::arange", "start_out", pte.Long, []Dim{D(int(n))}, start, end, step)
}

// ArangeSize returns 0 .. d-1 as f32, d symbolic.
func (g *Graph) ArangeSize(d Dim) *Tensor {
	return g.Op("aten::arange", "start_out", pte.Float, []Dim{d}, int64(0), g.intOf(d), int64(1))
}

// DequantizePerChannel returns w[i,:] * scale[i] for w i8[out,in], scale f32[out].
func (g *Graph) DequantizePerChannel(w, scale *Tensor) *Tensor {
	return g.Op("quantized_decomposed::dequantize_per_channel", "out", pte.Float, w.Shape,
		w, scale, nil, int64(0), int64(-127), int64(127), int64(pte.Char), nil)
}

// EmbeddingByte returns rows of w i8[V,d] times scale f32[V] at indices.
func (g *Graph) EmbeddingByte(w, scale, index *Tensor) *Tensor {
	shape := append(append([]Dim(nil), index.Shape...), w.Shape[1])
	return g.Op("quantized_decomposed::embedding_byte", "out", pte.Float, shape,
		w, scale, nil, int64(math.MinInt8), int64(math.MaxInt8), index)
}

// Embedding returns rows of w at indices.
func (g *Graph) Embedding(w, index *Tensor) *Tensor {
	shape := append(append([]Dim(nil), index.Shape...), w.Shape[1])
	return g.Op("aten::embedding", "out", w.DType, shape, w, index, int64(-1), false, false)
}
