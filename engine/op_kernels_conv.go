package engine

import (
	"encoding/binary"
	"math"

	"tabtune/engine/kernel"
)

// kernelReach bounds sizes with padding for kernels, which count in 32 bits.
const kernelReach = 1 << 30

// numbers writes i32 to device memory and returns its place, good for one call.
func (c *Call) numbers(l ...int) kernel.Addr {
	b := make([]byte, 4*len(l))
	for k, x := range l {
		binary.LittleEndian.PutUint32(b[4*k:], uint32(int32(x)))
	}
	at := c.scratch(int64(len(b)))
	if !c.failed() {
		c.dev().Write(at, b)
	}
	return at
}

// threeDims puts ones before the entries of l.
func threeDims(l []int, fill int) []int {
	out := []int{fill, fill, fill}
	copy(out[3-len(l):], l)
	return out
}

func convKernel(c *Call) bool {
	x, w, bias, out := c.T(0), c.T(1), c.OptT(2), c.Out()
	if !f32All(x, w, bias, out) {
		return false
	}
	if out.n == 0 {
		return true
	}
	g := c.convGeometry(x.sizes, w.sizes, 3)
	if w.n == 0 || x.n == 0 {
		return false
	}
	work := 1.0
	for d := range g.in {
		if g.in[d]+2*g.pad[d] > kernelReach || g.out[d]+g.pad[d] > kernelReach || g.stride[d] > kernelReach || g.dilation[d]*(g.kernel[d]-1) > kernelReach {
			return false
		}
		work *= float64(g.out[d])
	}
	if work > math.MaxInt32 {
		return false
	}
	ic, oc := g.channels/g.groups, g.outChannels/g.groups
	t := 0
	if g.transposed {
		t = 1
	}
	desc := []int{g.batch, g.groups, ic, oc}
	for _, l := range [][]int{threeDims(g.in, 1), threeDims(g.out, 1), threeDims(g.kernel, 1), threeDims(g.stride, 1), threeDims(g.pad, 0), threeDims(g.dilation, 1)} {
		desc = append(desc, l...)
	}
	at := c.numbers(append(desc, t)...)
	if c.failed() {
		return true
	}
	var b kernel.Addr
	if bias != nil {
		b = bias.addr
	}
	if ic == 1 && !g.transposed && len(g.in) < 3 {
		c.dev().F32Depthwise(out.addr, x.addr, w.addr, b, at)
	} else {
		c.dev().F32Conv(out.addr, x.addr, w.addr, b, at)
	}
	return true
}

// desc writes the geometry as the pooling kernels read it; false where it is too large for them.
func (w *window) desc(c *Call, countPad bool, divisor int64) (kernel.Addr, bool) {
	for d := range 2 {
		if w.in[d]+2*w.pad[d] > kernelReach || w.kernel[d] > kernelReach || w.stride[d] > kernelReach || w.dilation[d]*(w.kernel[d]-1) > kernelReach {
			return 0, false
		}
	}
	if w.kernel[0]*w.kernel[1] > kernelReach || divisor != int64(int32(divisor)) {
		return 0, false
	}
	l := []int{w.planes}
	for _, p := range [][]int{w.in, w.out, w.kernel, w.stride, w.pad, w.dilation} {
		l = append(l, p...)
	}
	return c.numbers(append(l, int(b2i(countPad)), int(divisor))...), true
}

func maxPoolKernel(c *Call) bool {
	in, out := c.T(0), c.T(6)
	w := c.pool(in, 1, 2, 3, 4, c.Bool(5))
	if !f32All(in, out) || in.n == 0 {
		return false
	}
	at, ok := w.desc(c, false, 0)
	if ok && !c.failed() {
		c.dev().F32MaxPool(out.addr, c.T(7).addr, in.addr, at)
	}
	return ok
}

func avgPoolKernel(c *Call) bool {
	in, out := c.T(0), c.Out()
	w := c.pool(in, 1, 2, 3, -1, c.Bool(4))
	if !f32All(in, out) || in.n == 0 {
		return false
	}
	at, ok := w.desc(c, c.Bool(5), c.IntOr(6, 0))
	if ok && !c.failed() {
		c.dev().F32AvgPool(out.addr, in.addr, at)
	}
	return ok
}

func adaptivePoolKernel(c *Call) bool {
	in, out := c.T(0), c.Out()
	if !f32All(in, out) || in.n == 0 {
		return false
	}
	r := in.dim()
	one := []int{1, 1}
	w := &window{planes: numel(in.sizes[:r-2]), in: in.sizes[r-2:], out: out.sizes[r-2:], kernel: one, stride: one, pad: []int{0, 0}, dilation: one}
	at, ok := w.desc(c, false, 0)
	if ok && !c.failed() {
		c.dev().F32AdaptiveAvgPool(out.addr, in.addr, at)
	}
	return ok
}

// batchNormKernel covers normalisation with known statistics: one factor and one summand a channel.
func batchNormKernel(c *Call, eps, outArg int) bool {
	in, out := c.T(0), c.T(outArg)
	if !f32All(in, c.OptT(1), c.OptT(2), c.T(3), c.T(4), out) {
		return false
	}
	if in.n == 0 {
		return true
	}
	batch, channels, inner := channelLayout(in.sizes)
	mean, v := c.In(c.T(3)), c.In(c.T(4))
	w, b := c.affine(1, 2, channels)
	pair := newArray(F32, []int{2 * channels})
	for k := range channels {
		scale := w[k] / math.Sqrt(v.f[k]+c.Float(eps))
		if math.IsInf(scale, 0) || scale != scale {
			return false // factor and summand would lose what differences of inputs say
		}
		pair.set(k, scale)
		pair.set(channels+k, b[k]-mean.f[k]*scale)
	}
	at := c.scratch(int64(8 * channels))
	if c.failed() {
		return true
	}
	c.dev().Write(at, pair.encode())
	c.dev().F32Affine(out.addr, in.addr, at, at+kernel.Addr(4*channels), int32(batch), int32(channels), int32(inner))
	return true
}
