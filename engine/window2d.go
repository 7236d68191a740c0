package engine

import (
	"encoding/binary"
	"fmt"
	"math"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/ref"
)

// window2d is the geometry of a convolution or pooling over two dimensions.
type window2d = ref.Window

// onePixel is the window of a linear layer.
var onePixel = window2d{KH: 1, KW: 1, SH: 1, SW: 1, DH: 1, DW: 1}

// maxWindow bounds kernel sizes, strides, dilations and paddings: no sum of products of two of them overflows.
const maxWindow = 1 << 20

// maxImage bounds heights and widths: with padding, positions fit the kernels' i32.
const maxImage = 1 << 28

// window reads the geometry from argument i: kernel, stride and dilation by height and width, then the four paddings.
func (c *Call) window(i int) window2d {
	l := c.Ints(i)
	if len(l) != 10 {
		c.failArg(i, "has %d numbers, want 10", len(l))
		return onePixel
	}
	for k, x := range l {
		if x > maxWindow || k < 6 && x < 1 || x < 0 {
			c.failArg(i, "window %v", l)
			return onePixel
		}
	}
	at := func(k int) int { return int(l[k]) }
	return window2d{KH: at(0), KW: at(1), SH: at(2), SW: at(3), DH: at(4), DW: at(5), Top: at(6), Left: at(7), Bottom: at(8), Right: at(9)}
}

// windowDescriptor writes the geometry for the kernels of c/conv_nhwc.c.
func (c *Call) windowDescriptor(w window2d, oh, ow int) kernel.Addr {
	addr := c.descriptor(nil)
	if c.failed() {
		return 0
	}
	var b [40]byte
	for i, x := range []int{w.KH, w.KW, w.SH, w.SW, w.DH, w.DW, w.Top, w.Left, oh, ow} {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(int32(x)))
	}
	c.dev().Write(addr, b[:])
	return addr
}

// image checks that argument i is a channels-last image and returns it.
func (c *Call) image(i int) *tensor {
	x := c.T(i)
	if x.dim() != 4 || x.sizes[1] > maxImage || x.sizes[2] > maxImage {
		c.failArg(i, "has sizes %v, want [n, h, w, c] with height and width of at most %d", x.sizes, maxImage)
		t := tensor{dtype: x.dtype, elem: x.elem, sizes: []int{0, 1, 1, 1}}
		return &t
	}
	return x
}

// filtered sizes the output of a window over image x with the given channels.
func (c *Call) filtered(x *tensor, w window2d, channels int) {
	oh, ow, ok := w.Out(x.sizes[1], x.sizes[2])
	if !ok {
		c.Fail("kernel %dx%d does not fit in an image of %v", w.KH, w.KW, x.sizes)
		return
	}
	if x.sizes[3] == 0 || channels == 0 {
		c.Fail("image of %v with %d output channels", x.sizes, channels)
		return
	}
	c.Resize(c.Out(), x.sizes[0], oh, ow, channels)
}

// vector checks that tensor t, if there is one, has n elements.
func (c *Call) vector(what string, t *tensor, n int) {
	if t != nil && t.n != n {
		c.Fail("%s has %d elements, want %d", what, t.n, n)
	}
}

// weights checks a filter [out, kh, kw, in/groups] for image x and returns the output's channels.
func (c *Call) weights(x, w *tensor, win window2d, groups int64) int {
	if w.dim() != 4 || groups < 1 || groups > math.MaxInt32 {
		c.Fail("filter of %v in %d groups", w.sizes, groups)
		return 0
	}
	if g := int(groups); w.sizes[1] != win.KH || w.sizes[2] != win.KW || w.sizes[3]*g != x.sizes[3] || w.sizes[0]%g != 0 {
		c.Fail("filter of %v in %d groups, kernel %dx%d, for an image of %v", w.sizes, groups, win.KH, win.KW, x.sizes)
		return 0
	}
	return w.sizes[0]
}

// floating requires arguments of the output's floating type, or absent ones.
func floating(args ...int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		out := g.Values[n.Args[len(n.Args)-1]]
		if !isFloat(out.DType) {
			return errDType("out", out)
		}
		for _, i := range args {
			if n.Args[i] < 0 || g.Values[n.Args[i]].Kind == KindNone {
				continue
			}
			if v := g.Values[n.Args[i]]; v.Kind == KindTensor && v.DType != out.DType {
				return fmt.Errorf("argument %d is %s, the output %s", i, dtypeName(v.DType), dtypeName(out.DType))
			}
		}
		return nil
	}
}
