package engine

import (
	"fmt"
	"math"
)

// Batch and group normalisation.

// channelLayout sees a tensor as [batch, channels, inner]; one without a second dimension has only channels.
func channelLayout(sizes []int) (batch, channels, inner int) {
	if len(sizes) < 2 {
		return 1, numel(sizes), 1
	}
	return sizes[0], sizes[1], numel(sizes[2:])
}

// affine reads optional scale and shift of n channels, 1 and 0 by default.
func (c *Call) affine(weight, bias, n int) (w, b []float64) {
	w, b = make([]float64, n), make([]float64, n)
	for k := range w {
		w[k] = 1
	}
	for i, to := range map[int][]float64{weight: w, bias: b} {
		if t := c.OptT(i); t != nil {
			a := c.In(t)
			for k := range to {
				to[k] = a.at(k)
			}
		}
	}
	return w, b
}

// perChannelArgs fails the call unless each given argument has n elements.
func (c *Call) perChannelArgs(n int, args ...int) {
	for _, i := range args {
		if t := c.OptT(i); t != nil && t.n != n {
			c.failArg(i, "has sizes %v for %d channels", t.sizes, n)
		}
	}
}

// normalise computes (x - mean) * rstd * weight + bias for each channel of a.
func normalise(a *array, mean, rstd, w, b []float64) *array {
	_, channels, inner := channelLayout(a.sizes)
	res := newArray(a.dtype, a.sizes)
	for k := range a.len() {
		ch := k / inner % channels
		res.set(k, (a.f[k]-mean[ch])*rstd[ch]*w[ch]+b[ch])
	}
	return res
}

func init() {
	running := func(name string, eps, out int, check func(g *Graph, n *Node) error) {
		Register(Op{Name: name, By: "SIMD f32", Check: func(g *Graph, n *Node) error {
			if err := sameFloat(1, 2, 3, 4, out)(g, n); err != nil {
				return err
			}
			return check(g, n)
		}, Shape: func(c *Call) {
			in := c.T(0)
			_, channels, _ := channelLayout(in.sizes)
			c.perChannelArgs(channels, 1, 2, 3, 4)
			c.ResizeAs(c.T(out), in)
			c.Resize(c.T(out+1), 0)
			c.Resize(c.T(out+2), 0)
		}, Ref: func(c *Call) {
			a, mean, v := c.In(c.T(0)), c.In(c.T(3)), c.In(c.T(4))
			w, b := c.affine(1, 2, mean.len())
			rstd := make([]float64, v.len())
			for k := range rstd {
				rstd[k] = 1 / math.Sqrt(v.f[k]+c.Float(eps))
			}
			c.Put(c.T(out), normalise(a, mean.f, rstd, w, b))
		}, Kernel: func(c *Call) bool { return batchNormKernel(c, eps, out) }})
	}
	running("aten::_native_batch_norm_legit_no_training.out", 6, 7, func(*Graph, *Node) error { return nil })
	running("aten::_native_batch_norm_legit.out", 7, 8, func(g *Graph, n *Node) error {
		if x, ok := g.ConstInt(n.Args[5]); !ok || x != 0 {
			return fmt.Errorf("batch normalisation in training mode: the stock runtime has inference only")
		}
		return nil
	})
	Register(Op{Name: "aten::_native_batch_norm_legit.no_stats_out", Check: sameFloat(1, 2, 6, 7, 8), Shape: func(c *Call) {
		in := c.T(0)
		if in.dim() < 2 {
			c.Fail("batch normalisation of %v", in.sizes)
			return
		}
		c.perChannelArgs(in.sizes[1], 1, 2)
		c.ResizeAs(c.T(6), in)
		c.Resize(c.T(7), in.sizes[1])
		c.Resize(c.T(8), in.sizes[1])
	}, Ref: func(c *Call) {
		a := c.In(c.T(0))
		batch, channels, inner := channelLayout(a.sizes)
		mean, rstd := make([]float64, channels), make([]float64, channels)
		n := float64(batch * inner)
		for k := range a.len() {
			mean[k/inner%channels] += a.f[k] / n
		}
		for k := range a.len() {
			d := a.f[k] - mean[k/inner%channels]
			rstd[k/inner%channels] += d * d / n
		}
		for k := range rstd {
			rstd[k] = 1 / math.Sqrt(rstd[k]+c.Float(5))
		}
		w, b := c.affine(1, 2, channels)
		c.Put(c.T(6), normalise(a, mean, rstd, w, b))
		c.putFloats(c.T(7), mean)
		c.putFloats(c.T(8), rstd)
	}})
	// Arguments: input, weight, bias, N, C, HxW, group, eps, out, mean, rstd.
	Register(Op{Name: "aten::native_group_norm.out", Check: sameFloat(1, 2, 8, 9, 10), Shape: func(c *Call) {
		in := c.T(0)
		n, channels, plane, groups := c.Int(3), c.Int(4), c.Int(5), c.Int(6)
		if in.dim() < 2 || int64(in.sizes[0]) != n || int64(in.sizes[1]) != channels || int64(numel(in.sizes[2:])) != plane || groups < 1 || channels%groups != 0 {
			c.Fail("%d groups of %v as %d x %d x %d", groups, in.sizes, n, channels, plane)
			return
		}
		c.perChannelArgs(int(channels), 1, 2)
		c.ResizeAs(c.T(8), in)
		c.Resize(c.T(9), int(n), int(groups))
		c.Resize(c.T(10), int(n), int(groups))
	}, Ref: func(c *Call) {
		a := c.In(c.T(0))
		rows, channels, inner := c.T(9).n, int(c.Int(4)), int(c.Int(5))
		w, b := c.affine(1, 2, channels)
		mean, rstd := make([]float64, rows), make([]float64, rows)
		res := newArray(a.dtype, a.sizes)
		for r := range rows {
			n := a.len() / rows
			x := a.f[r*n : (r+1)*n]
			m, v := moments(x)
			mean[r], rstd[r] = m, 1/math.Sqrt(v+c.Float(7))
			for k := range x {
				ch := (r*n + k) / inner % channels
				res.set(r*n+k, (x[k]-m)*rstd[r]*w[ch]+b[ch])
			}
		}
		c.Put(c.T(8), res)
		c.putFloats(c.T(9), mean)
		c.putFloats(c.T(10), rstd)
	}})
}

// moments returns mean and variance; of nothing, 0 and NaN.
func moments(x []float64) (mean, v float64) {
	if len(x) == 0 {
		return 0, math.NaN()
	}
	for _, e := range x {
		mean += e
	}
	mean /= float64(len(x))
	for _, e := range x {
		v += (e - mean) * (e - mean)
	}
	return mean, v / float64(len(x))
}
