package engine

import (
	"fmt"
	"math"
)

// Pooling over the last two dimensions.

// window is the geometry of a pooling.
type window struct {
	planes                                 int
	in, out, kernel, stride, pad, dilation []int
}

// pool reads kernel size, stride (by default the kernel size), padding and, if it is not -1, dilation.
func (c *Call) pool(in *tensor, kernel, stride, pad, dilation int, ceil bool) *window {
	if in.dim() != 3 && in.dim() != 4 {
		c.Fail("pooling of %v", in.sizes)
		return nil
	}
	r := in.dim()
	w := &window{in: in.sizes[r-2:], planes: numel(in.sizes[:r-2]), out: make([]int, 2), kernel: c.perDim(kernel, 2, 1, nil), dilation: []int{1, 1}}
	w.stride = c.perDim(stride, 2, 1, w.kernel)
	w.pad = c.perDim(pad, 2, 0, []int{0, 0})
	if dilation >= 0 {
		w.dilation = c.perDim(dilation, 2, 1, w.dilation)
	}
	for k := range 2 {
		reach := w.dilation[k]*(w.kernel[k]-1) + 1
		if w.pad[k] > w.kernel[k]/2 {
			c.Fail("padding %d is more than half the kernel size %d", w.pad[k], w.kernel[k])
			return nil
		}
		n := w.in[k] + 2*w.pad[k] - reach
		if n < 0 {
			c.Fail("pooling of %v with a kernel of %v", in.sizes, w.kernel)
			return nil
		}
		size := n/w.stride[k] + 1
		if ceil {
			size = (n+w.stride[k]-1)/w.stride[k] + 1
			if (size-1)*w.stride[k] >= w.in[k]+w.pad[k] { // the last window has to begin inside
				size--
			}
		}
		w.out[k] = size
	}
	if c.failed() {
		return nil
	}
	return w
}

func (w *window) sizes(in *tensor) []int {
	return append(append([]int(nil), in.sizes[:in.dim()-2]...), w.out...)
}

// span returns the range of one dimension that output position o covers, without padding: [lo, hi) in steps of the dilation.
func (w *window) span(d, o int) (lo, hi int) {
	lo = o*w.stride[d] - w.pad[d]
	hi = min(lo+w.dilation[d]*(w.kernel[d]-1)+1, w.in[d])
	for lo < 0 {
		lo += w.dilation[d]
	}
	return lo, hi
}

// each calls f with every output position k and the rows and columns that it covers.
func (w *window) each(f func(k, plane, y0, y1, x0, x1 int)) {
	k := 0
	for p := range w.planes {
		for y := range w.out[0] {
			y0, y1 := w.span(0, y)
			for x := range w.out[1] {
				x0, x1 := w.span(1, x)
				f(k, p*w.in[0]*w.in[1], y0, y1, x0, x1)
				k++
			}
		}
	}
}

func sameFloat(args ...int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		d := g.Values[n.Args[0]].DType
		for _, i := range args {
			if v := g.Values[n.Args[i]]; v.Kind == KindTensor && v.DType != d {
				return fmt.Errorf("argument %d is %s, the first one %s", i, dtypeName(v.DType), dtypeName(d))
			}
		}
		if !isFloat(d) {
			return errDType("self", g.Values[n.Args[0]])
		}
		return nil
	}
}

func checkIndices(at int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		if v := g.Values[n.Args[at]]; v.DType != I64 {
			return errDType("indices", v)
		}
		if a, b := g.Values[n.Args[0]], g.Values[n.Args[at-1]]; a.DType != b.DType || a.DType == Bool {
			return errDType("self", a)
		}
		return nil
	}
}

func init() {
	Register(Op{Name: "aten::max_pool2d_with_indices.out", By: "scalar C f32", Check: checkIndices(7), Shape: func(c *Call) {
		if w := c.pool(c.T(0), 1, 2, 3, 4, c.Bool(5)); w != nil {
			c.Resize(c.T(6), w.sizes(c.T(0))...)
			c.Resize(c.T(7), w.sizes(c.T(0))...)
		}
	}, Ref: func(c *Call) {
		w, in := c.pool(c.T(0), 1, 2, 3, 4, c.Bool(5)), c.In(c.T(0))
		out, idx := newArray(in.dtype, c.T(6).sizes), newArray(I64, c.T(7).sizes)
		w.each(func(k, plane, y0, y1, x0, x1 int) {
			best := -1
			for y := y0; y < y1; y += w.dilation[0] {
				for x := x0; x < x1; x += w.dilation[1] {
					at := y*w.in[1] + x
					if best < 0 || in.at(plane+at) > in.at(plane+best) || in.at(plane+at) != in.at(plane+at) {
						best = at
					}
				}
			}
			if best >= 0 {
				idx.i[k] = int64(best)
				out.copyElement(k, in, plane+best)
			} else {
				out.set(k, math.Inf(-1))
			}
		})
		c.Put(c.T(6), out)
		c.Put(c.T(7), idx)
	}, Kernel: maxPoolKernel})
	Register(Op{Name: "aten::max_pool2d_with_indices_backward.grad_input", Check: func(g *Graph, n *Node) error {
		if v := g.Values[n.Args[7]]; v.DType != I64 {
			return errDType("indices", v)
		}
		return sameFloat(1, 8)(g, n)
	}, Shape: func(c *Call) {
		grad, in, idx := c.T(0), c.T(1), c.T(7)
		if w := c.pool(in, 2, 3, 4, 5, c.Bool(6)); w != nil && (grad.n != idx.n || grad.n != numel(w.sizes(in))) {
			c.Fail("gradient %v and indices %v of a pooling to %v", grad.sizes, idx.sizes, w.sizes(in))
		}
		c.ResizeAs(c.Out(), in)
	}, Ref: func(c *Call) {
		grad, idx := c.In(c.T(0)), c.In(c.T(7))
		res := newArray(grad.dtype, c.T(1).sizes)
		w := c.pool(c.T(1), 2, 3, 4, 5, c.Bool(6))
		plane, window := numel(w.in), numel(w.out)
		for k := range grad.len() {
			i := c.indexOf(7, k, idx.i[k], plane)
			if c.failed() {
				return
			}
			at := k/window*plane + i
			res.set(at, res.f[at]+grad.f[k])
		}
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::avg_pool2d.out", By: "scalar C f32", Check: checkSameType, Shape: func(c *Call) {
		if w := c.pool(c.T(0), 1, 2, 3, -1, c.Bool(4)); w != nil {
			c.Resize(c.Out(), w.sizes(c.T(0))...)
		}
		if !c.None(6) && c.Int(6) == 0 {
			c.failArg(6, "is 0")
		}
	}, Ref: func(c *Call) {
		w, in := c.pool(c.T(0), 1, 2, 3, -1, c.Bool(4)), c.In(c.T(0))
		res := newArray(in.dtype, c.Out().sizes)
		w.each(func(k, plane, y0, y1, x0, x1 int) {
			sum, exact := 0.0, int64(0)
			for y := y0; y < y1; y++ {
				for x := x0; x < x1; x++ {
					sum += in.at(plane + y*w.in[1] + x)
					exact += in.intAt(plane + y*w.in[1] + x)
				}
			}
			count := int64(max(y1-y0, 0) * max(x1-x0, 0))
			if c.Bool(5) { // padding counts, but not what ceil mode adds beyond it
				count = w.padded(0, k/w.out[1]%w.out[0]) * w.padded(1, k%w.out[1])
			}
			count = c.IntOr(6, count)
			if res.f != nil {
				res.set(k, sum/float64(count))
			} else if count != 0 {
				res.setInt(k, exact/count)
			}
		})
		c.Put(c.Out(), res)
	}, Kernel: avgPoolKernel})
	Register(Op{Name: "aten::_adaptive_avg_pool2d.out", By: "SIMD f32", Check: checkSameType, Shape: func(c *Call) {
		in := c.T(0)
		want := c.perDim(1, 2, 0, nil)
		if in.dim() != 3 && in.dim() != 4 || in.sizes[in.dim()-1] == 0 || in.sizes[in.dim()-2] == 0 {
			c.Fail("pooling of %v to %v", in.sizes, want)
			return
		}
		c.Resize(c.Out(), append(append([]int(nil), in.sizes[:in.dim()-2]...), want...)...)
	}, Ref: func(c *Call) {
		in, out := c.In(c.T(0)), c.Out()
		r := len(in.sizes)
		h, w, oh, ow := in.sizes[r-2], in.sizes[r-1], out.sizes[r-2], out.sizes[r-1]
		res := newArray(in.dtype, out.sizes)
		for k := range res.len() {
			plane, oy, ox := k/(oh*ow)*h*w, k/ow%oh, k%ow
			y0, y1, x0, x1 := oy*h/oh, ((oy+1)*h+oh-1)/oh, ox*w/ow, ((ox+1)*w+ow-1)/ow
			sum := 0.0
			for y := y0; y < y1; y++ {
				for x := x0; x < x1; x++ {
					sum += in.at(plane + y*w + x)
				}
			}
			res.set(k, sum/float64((y1-y0)*(x1-x0)))
		}
		c.Put(out, res)
	}, Kernel: adaptivePoolKernel})
}

// padded is the size of the window at output position o with the padding that it covers.
func (w *window) padded(d, o int) int64 {
	lo := o*w.stride[d] - w.pad[d]
	return int64(min(lo+w.kernel[d], w.in[d]+w.pad[d]) - lo)
}

// copyElement sets element k to element i of an array of the same type.
func (a *array) copyElement(k int, from *array, i int) {
	switch {
	case a.f != nil:
		a.f[k] = from.f[i]
	case a.c != nil:
		a.c[k] = from.c[i]
	default:
		a.i[k] = from.i[i]
	}
}
