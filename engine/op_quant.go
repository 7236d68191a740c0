package engine

import (
	"fmt"
	"math"
)

// Operators of the quantized_decomposed library: real = (quantized - zero point) * scale.

// channels describes one quantisation: scale and zero point for each index of an axis, or one for all (axis -1).
type channels struct {
	scale, zero func(ch int) float64
	axis        int
	row         int // if not 0, a channel is a run of so many elements
}

func constantChannel(scale, zero float64) channels {
	return channels{scale: func(int) float64 { return scale }, zero: func(int) float64 { return zero }, axis: -1}
}

// perElement returns a function from element to channel.
func (q channels) perElement(sizes []int) func(k int) int {
	if q.row > 0 {
		return func(k int) int { return k / q.row }
	}
	if q.axis < 0 || len(sizes) == 0 {
		return func(int) int { return 0 }
	}
	_, n, inner := around(sizes, q.axis)
	return func(k int) int { return k / inner % n }
}

func dequantize(c *Call, q channels) {
	in, out := c.In(c.T(0)), c.Out()
	ch := q.perElement(in.sizes)
	res := newArray(out.dtype, out.sizes)
	for k := range in.len() {
		i := ch(k)
		// Both factors are f32 in the stock runtime, so is their product.
		res.set(k, float64(float32(in.at(k)-q.zero(i))*float32(q.scale(i))))
	}
	c.PutBytes(out, res.encode())
}

func quantize(c *Call, q channels, lo, hi int64) {
	in, out := c.In(c.T(0)), c.Out()
	ch := q.perElement(in.sizes)
	res := newArray(out.dtype, out.sizes)
	for k := range in.len() {
		i := ch(k)
		inv := float32(1) / float32(q.scale(i))
		r := math.RoundToEven(float64(inv*float32(in.at(k)))) + q.zero(i)
		if r != r {
			r = q.zero(i)
		}
		res.setInt(k, min(max(truncInt(r), lo), hi))
	}
	c.PutBytes(out, res.encode())
}

// perTensor reads scale and zero point from numbers or one-element tensors.
func (c *Call) perTensor() channels {
	var x [2]float64
	for i := range x {
		if s := c.slot(1 + i); s.kind == KindTensor {
			x[i] = c.In(s.t).at(0)
		} else {
			x[i] = c.Float(1 + i)
		}
	}
	return constantChannel(x[0], x[1])
}

// perChannel reads the tensors of scales and zero points.
func (c *Call) perChannel(axis int) channels {
	scale := c.In(c.T(1))
	q := channels{scale: scale.at, zero: func(int) float64 { return 0 }, axis: axis}
	if t := c.OptT(2); t != nil && t.n > 0 {
		zero := c.In(t)
		q.zero = zero.at
	}
	return q
}

func oneElement(c *Call, args ...int) {
	for _, i := range args {
		if t := c.T(i); t.n != 1 {
			c.failArg(i, "has sizes %v, want one element", t.sizes)
		}
	}
}

// channelShape checks scales and zero points for an axis of the first argument.
func channelShape(c *Call, axis int) {
	in := c.T(0)
	if in.dim() == 0 {
		c.Fail("a tensor without dimensions has no axis")
		return
	}
	for i := 1; i <= 2; i++ {
		if t := c.OptT(i); t != nil && t.n != in.sizes[axis] && !(i == 2 && t.n == 0) {
			c.failArg(i, "has sizes %v for %d channels", t.sizes, in.sizes[axis])
		}
	}
	shapeSame(c)
}

func checkQuant(quantised, real int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		at := func(i int) *Value {
			if i < 0 {
				i = len(n.Args) - 1
			}
			return g.Values[n.Args[i]]
		}
		if v := at(quantised); isFloat(v.DType) || v.DType == Bool {
			return fmt.Errorf("quantised tensor of type %s", dtypeName(v.DType))
		}
		if v := at(real); !isFloat(v.DType) {
			return fmt.Errorf("real tensor of type %s", dtypeName(v.DType))
		}
		return nil
	}
}

func init() {
	const ns = "quantized_decomposed::"
	Register(Op{Name: ns + "dequantize_per_channel.out", By: "SIMD i8 rows to f32", Check: checkQuant(0, -1), Shape: func(c *Call) { channelShape(c, c.Dim(3, c.T(0).dim())) },
		Kernel: dequantizeRowsKernel, Ref: func(c *Call) { dequantize(c, c.perChannel(c.Dim(3, c.T(0).dim()))) }})
	Register(Op{Name: ns + "dequantize_per_tensor.out", Check: checkQuant(0, -1), Shape: shapeSame, Ref: func(c *Call) { dequantize(c, c.perTensor()) }})
	Register(Op{Name: ns + "dequantize_per_tensor.Tensor_out", Check: checkQuant(0, -1), Shape: func(c *Call) { oneElement(c, 1, 2); shapeSame(c) },
		Ref: func(c *Call) { dequantize(c, c.perTensor()) }})
	Register(Op{Name: ns + "quantize_per_channel.out", Check: checkQuant(-1, 0), Shape: func(c *Call) { channelShape(c, c.Dim(3, c.T(0).dim())) },
		Ref: func(c *Call) { quantize(c, c.perChannel(c.Dim(3, c.T(0).dim())), c.Int(4), c.Int(5)) }})
	Register(Op{Name: ns + "quantize_per_tensor.out", Check: checkQuant(-1, 0), Shape: shapeSame, Ref: func(c *Call) { quantize(c, c.perTensor(), c.Int(3), c.Int(4)) }})
	Register(Op{Name: ns + "quantize_per_tensor.Tensor_out", Check: checkQuant(-1, 0), Shape: func(c *Call) { oneElement(c, 1, 2); shapeSame(c) },
		Ref: func(c *Call) { quantize(c, c.perTensor(), c.Int(3), c.Int(4)) }})
	for _, dtype := range []bool{false, true} {
		name, idx := ns+"embedding_byte.out", 5
		if dtype {
			name = ns + "embedding_byte.dtype_out"
		}
		Register(Op{Name: name, By: "SIMD i8 to f32", Check: checkIndex(idx), Shape: func(c *Call) {
			w, s := c.T(0), c.T(1)
			if w.dim() != 2 || w.elem != 1 || s.dim() < 1 || s.sizes[0] != w.sizes[0] || s.n == 0 || w.sizes[1]%(s.n/w.sizes[0]) != 0 {
				c.Fail("weight %s%v with scales %v", dtypeName(w.dtype), w.sizes, s.sizes)
				return
			}
			if z := c.OptT(2); z != nil && z.n != 0 && z.n != s.n {
				c.failArg(2, "has sizes %v for scales %v", z.sizes, s.sizes)
				return
			}
			c.Resize(c.Out(), append(append([]int(nil), c.T(idx).sizes...), w.sizes[1])...)
		}, Kernel: func(c *Call) bool { return c.embeddingByteKernel(idx) }, Ref: func(c *Call) { c.embeddingByte(idx) }})
	}
}

// embeddingByteKernel covers int8 rows with one f32 scale each and no zero points.
func (c *Call) embeddingByteKernel(idxArg int) bool {
	w, s, idx, out := c.T(0), c.T(1), c.T(idxArg), c.Out()
	if z := c.OptT(2); z != nil && z.n != 0 || w.dtype != I8 || s.dtype != F32 || s.n != w.sizes[0] || idx.dtype != I64 || out.dtype != F32 {
		return false
	}
	rows, k := int32(w.sizes[0]), int32(w.sizes[1])
	if idx.n == 0 || k == 0 {
		return true
	}
	if bad := c.dev().IndexCheck(idx.addr, int32(idx.n), int64(rows)); bad >= 0 {
		return false // the reference says which index, or wraps a negative one
	}
	c.dev().I8Rows(out.addr, w.addr, s.addr, idx.addr, int32(idx.n), rows, k, k, k)
	return true
}

// embeddingByte gathers rows of an 8-bit matrix and dequantises them by groups of the row.
func (c *Call) embeddingByte(idxArg int) {
	w, out := c.T(0), c.Out()
	idx := c.In(c.T(idxArg))
	q := c.perChannel(0)
	width := w.sizes[1]
	groups := c.T(1).n / w.sizes[0]
	size := width / groups
	res := newArray(out.dtype, out.sizes)
	row := make([]byte, width)
	for k, x := range idx.i {
		i := c.indexOf(idxArg, k, x, w.sizes[0])
		if c.failed() {
			return
		}
		if width > 0 {
			c.dev().Read(row, w.addr+addrOf(int64(i)*int64(width)))
		}
		vals := decodeArray(w.dtype, nil, row)
		for j := range width {
			g := i*groups + j/size
			res.set(k*width+j, float64(float32(vals.at(j)-q.zero(g))*float32(q.scale(g))))
		}
	}
	c.PutBytes(out, res.encode())
}
