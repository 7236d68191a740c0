package engine

import (
	"fmt"
	"math"
)

// Convolutions over one to three spatial dimensions.

// convolution is the resolved geometry of one call. in, out and kernel are spatial sizes. For a transposed convolution the
// input plays the part of the output: weight is [channels, outChannels/groups, kernel...].
type convolution struct {
	batch, channels, outChannels, groups          int
	in, out, kernel, stride, pad, dilation, extra []int
	transposed                                    bool
}

// perDim reads a list with one entry a spatial dimension, or one for all; lo is the least allowed.
func (c *Call) perDim(arg, n int, lo int64, def []int) []int {
	l := c.Ints(arg)
	if len(l) == 0 && def != nil {
		return def
	}
	if len(l) != n && len(l) != 1 {
		c.failArg(arg, "has %d entries for %d spatial dimensions", len(l), n)
		l = []int64{lo}
	}
	out := make([]int, n)
	for k := range out {
		x := l[min(k, len(l)-1)]
		if x < lo || x > math.MaxInt32 {
			c.failArg(arg, "has %d, want %d or more", x, lo)
			x = max(lo, 1)
		}
		out[k] = int(x)
	}
	return out
}

// convGeometry reads the arguments of a convolution of sizes in with a weight; first is the position of stride in the schema.
func (c *Call) convGeometry(in, weight []int, first int) *convolution {
	n := len(in) - 2
	if n < 1 || n > 3 || len(weight) != len(in) {
		c.Fail("convolution of %v with weight %v", in, weight)
		return nil
	}
	g := &convolution{batch: in[0], channels: in[1], in: in[2:], kernel: weight[2:], stride: c.perDim(first, n, 1, nil), pad: c.perDim(first+1, n, 0, nil),
		dilation: c.perDim(first+2, n, 1, nil), transposed: c.Bool(first + 3), extra: make([]int, n), out: make([]int, n)}
	groups := c.Int(first + 5)
	if c.failed() || groups < 1 || groups > int64(max(g.channels, 1)) || g.channels%int(groups) != 0 {
		c.Fail("convolution of %v in %d groups", in, groups)
		return nil
	}
	g.groups = int(groups)
	if g.transposed {
		g.outChannels = weight[1] * g.groups
		g.extra = c.perDim(first+4, n, 0, g.extra)
		if weight[0] != g.channels {
			c.Fail("transposed convolution of %v with weight %v", in, weight)
		}
	} else {
		g.outChannels = weight[0]
		if weight[1] != g.channels/g.groups || g.outChannels%g.groups != 0 {
			c.Fail("convolution of %v in %d groups with weight %v", in, g.groups, weight)
		}
	}
	for k := range g.out {
		reach := g.dilation[k] * (g.kernel[k] - 1)
		size := (g.in[k]+2*g.pad[k]-reach-1)/g.stride[k] + 1
		if g.in[k]+2*g.pad[k] < reach+1 {
			size = 0
		}
		if g.transposed {
			size = (g.in[k]-1)*g.stride[k] - 2*g.pad[k] + reach + g.extra[k] + 1
		}
		if size < 1 || size > math.MaxInt32 {
			c.Fail("convolution of %v with weight %v has output size %d", in, weight, size)
			return nil
		}
		g.out[k] = size
	}
	if c.failed() {
		return nil
	}
	return g
}

func (g *convolution) outSizes() []int { return append([]int{g.batch, g.outChannels}, g.out...) }

// taps calls f for every product of one batch and group: positions in input and output planes (channel included) and in the weight.
func (g *convolution) taps(f func(in, out, weight int)) {
	inPlane, outPlane, taps := numel(g.in), numel(g.out), numel(g.kernel)
	ic, oc := g.channels/g.groups, g.outChannels/g.groups
	// Of the two spatial index sets the small one steps by the stride: the output's, or the input's if transposed.
	small, large := g.out, g.in
	if g.transposed {
		small, large = large, small
	}
	type pair struct{ at, to, tap int }
	pairs := make([]pair, 0, 64)
	idx, tap := make([]int, len(small)), make([]int, len(small))
	each(small, idx, func(s int) {
		each(g.kernel, tap, func(t int) {
			to := 0
			for d := range idx {
				x := idx[d]*g.stride[d] - g.pad[d] + tap[d]*g.dilation[d]
				if x < 0 || x >= large[d] {
					return
				}
				to = to*large[d] + x
			}
			pairs = append(pairs, pair{s, to, t})
		})
		for o := range oc {
			for i := range ic {
				for _, p := range pairs {
					if g.transposed {
						f(i*inPlane+p.at, o*outPlane+p.to, (i*oc+o)*taps+p.tap)
					} else {
						f(i*inPlane+p.to, o*outPlane+p.at, (o*ic+i)*taps+p.tap)
					}
				}
			}
		}
		pairs = pairs[:0]
	})
}

// each calls f for every index of sizes in row-major order, with its flat position; idx holds the index.
func each(sizes, idx []int, f func(k int)) {
	clear(idx)
	for k := range numel(sizes) {
		f(k)
		for d := len(sizes) - 1; d >= 0; d-- {
			if idx[d]++; idx[d] < sizes[d] {
				break
			}
			idx[d] = 0
		}
	}
}

// blocks calls f with the offsets of input, output and weight of every batch and group, and the group's first output channel.
func (g *convolution) blocks(f func(in, out, weight int)) {
	inSize, outSize := g.channels*numel(g.in)/g.groups, g.outChannels*numel(g.out)/g.groups
	wSize := g.channels / g.groups * g.outChannels / g.groups * numel(g.kernel)
	for b := range g.batch {
		for k := range g.groups {
			f((b*g.groups+k)*inSize, (b*g.groups+k)*outSize, k*wSize)
		}
	}
}

func (g *convolution) ref(x, w, bias *array, dtype DType, sizes []int) *array {
	res := newArray(dtype, sizes)
	plane := numel(g.out)
	acc := make([]float64, res.len())
	exact := make([]int64, res.len())
	g.blocks(func(in, out, weight int) {
		g.taps(func(i, o, k int) {
			if x.f != nil {
				acc[out+o] += x.f[in+i] * w.f[weight+k]
			} else {
				exact[out+o] += x.i[in+i] * w.i[weight+k]
			}
		})
	})
	for k := range acc {
		if bias != nil {
			ch := k / plane % g.outChannels
			acc[k] += bias.at(ch)
			exact[k] += bias.intAt(ch)
		}
		if res.f != nil {
			res.set(k, acc[k])
		} else {
			res.setInt(k, exact[k])
		}
	}
	return res
}

func init() {
	Register(Op{Name: "aten::convolution.out", By: "SIMD f32", Check: func(g *Graph, n *Node) error {
		x, w, out := g.Values[n.Args[0]], g.Values[n.Args[1]], g.Values[n.Args[9]]
		if x.DType != w.DType || x.DType != out.DType || x.DType == Bool {
			return fmt.Errorf("convolution of %s with %s into %s", dtypeName(x.DType), dtypeName(w.DType), dtypeName(out.DType))
		}
		return nil
	}, Shape: func(c *Call) {
		g := c.convGeometry(c.T(0).sizes, c.T(1).sizes, 3)
		if g == nil {
			return
		}
		if b := c.OptT(2); b != nil && b.n != g.outChannels {
			c.failArg(2, "has sizes %v for %d channels", b.sizes, g.outChannels)
		}
		c.Resize(c.Out(), g.outSizes()...)
	}, Ref: func(c *Call) {
		g := c.convGeometry(c.T(0).sizes, c.T(1).sizes, 3)
		var bias *array
		if b := c.OptT(2); b != nil {
			bias = c.In(b)
		}
		c.Put(c.Out(), g.ref(c.In(c.T(0)), c.In(c.T(1)), bias, c.Out().dtype, c.Out().sizes))
	}, Kernel: convKernel})
	// Arguments: grad_output, input, weight, bias_sizes, stride, ..., output_mask, and the gradients of input, weight and bias.
	Register(Op{Name: "aten::convolution_backward.out", Check: func(g *Graph, n *Node) error {
		for _, i := range []int{1, 2, 11, 12, 13} {
			if v := g.Values[n.Args[i]]; v.Kind == KindTensor && v.DType != g.Values[n.Args[0]].DType || v.Kind == KindTensor && !isFloat(v.DType) {
				return fmt.Errorf("argument %d has element type %s", i, dtypeName(v.DType))
			}
		}
		if m := g.Values[n.Args[10]]; len(m.Bools) != 3 {
			return fmt.Errorf("output mask of %d entries", len(m.Bools))
		}
		return nil
	}, Shape: func(c *Call) {
		grad, x, w := c.T(0), c.T(1), c.T(2)
		g := c.convGeometry(x.sizes, w.sizes, 4)
		if g == nil {
			return
		}
		if want := g.outSizes(); numel64(want) != int64(grad.n) || grad.dim() != x.dim() {
			c.failArg(0, "has sizes %v, want %v", grad.sizes, want)
			return
		}
		mask := c.Bools(10)
		for k, sizes := range [][]int{x.sizes, w.sizes, {g.outChannels}} {
			if mask[k] {
				c.Resize(c.T(11+k), sizes...)
			}
		}
	}, Ref: func(c *Call) {
		grad, x, w := c.In(c.T(0)), c.In(c.T(1)), c.In(c.T(2))
		g := c.convGeometry(x.sizes, w.sizes, 4)
		gx, gw, gb := newArray(F64, x.sizes), newArray(F64, w.sizes), newArray(F64, []int{g.outChannels})
		g.blocks(func(in, out, weight int) {
			g.taps(func(i, o, k int) {
				gx.f[in+i] += grad.f[out+o] * w.f[weight+k]
				gw.f[weight+k] += grad.f[out+o] * x.f[in+i]
			})
		})
		plane := numel(g.out)
		for k := range grad.len() {
			gb.f[k/plane%g.outChannels] += grad.f[k]
		}
		for k, a := range []*array{gx, gw, gb} {
			if c.Bools(10)[k] {
				c.Put(c.T(11+k), a)
			}
		}
	}})
}
