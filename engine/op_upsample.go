package engine

import (
	"fmt"
	"math"
)

// Upsampling and sampling of the last two dimensions of [N, C, H, W].

// upsampleSizes resolves output sizes and the scales (output by input) of a .vec overload: sizes or factors, never both.
func (c *Call) upsampleSizes(size, factor int) (out [2]int, scale [2]float64) {
	in, want, factors := c.T(0), c.Ints(size), c.Floats(factor)
	if in.dim() != 4 || (len(want) == 2) == (len(factors) == 2) || in.sizes[2] == 0 || in.sizes[3] == 0 {
		c.Fail("upsampling of %v to size %v by factors %v", in.sizes, want, factors)
		return out, scale
	}
	for k := range 2 {
		n := float64(in.sizes[2+k])
		if len(factors) == 2 {
			scale[k] = factors[k]
			n *= scale[k]
		} else {
			scale[k] = float64(want[k]) / n
			n = float64(want[k])
		}
		if !(n >= 1 && n <= math.MaxInt32) || !(scale[k] > 0) {
			c.Fail("upsampling of %v to size %v by factors %v", in.sizes, want, factors)
			return out, scale
		}
		out[k] = int(n)
	}
	return out, scale
}

// areaScale is the distance of two outputs in the input.
func areaScale(in, out int, align bool, scale float64) float32 {
	switch {
	case !align:
		return float32(1 / scale)
	case out > 1:
		return float32(float64(in-1) / float64(out-1))
	}
	return 0
}

// lerp says where an output is between two inputs: (1-t) of element a and t of element b.
type lerp struct {
	a, b int
	t    float64
}

func lerps(in, out int, align bool, ratio float32) []lerp {
	l := make([]lerp, out)
	for o := range l {
		if in == out {
			l[o] = lerp{o, o, 0}
			continue
		}
		x := ratio * float32(o)
		if !align {
			x = max(ratio*(float32(o)+0.5)-0.5, 0)
		}
		a := min(int(x), in-1)
		l[o] = lerp{a, min(a+1, in-1), float64(min(max(x-float32(a), 0), 1))}
	}
	return l
}

// filter is one output's taps of an antialiased upsampling: weights of the inputs from `from` on.
type filter struct {
	from    int
	weights []float64
}

func antialias(in, out int, ratio float32) []filter {
	l := make([]filter, out)
	support, inverse := float32(1), float32(1)
	if ratio >= 1 {
		support, inverse = ratio, 1/ratio
	}
	for o := range l {
		center := ratio * (float32(o) + 0.5)
		from, to := max(int(center-support+0.5), 0), min(int(center+support+0.5), in)
		var w []float64
		total := float32(0)
		for x := from; x < to; x++ {
			d := (float32(x) - center + 0.5) * inverse
			f := max(1-float32(math.Abs(float64(d))), 0)
			total += f
			w = append(w, float64(f))
		}
		if total <= 0 {
			l[o] = filter{max(0, min(int(center), in-1)), []float64{1}}
			continue
		}
		for k := range w {
			w[k] = float64(float32(w[k]) / total)
		}
		l[o] = filter{from, w}
	}
	return l
}

func init() {
	resize := func(c *Call, out [2]int) {
		in := c.T(0)
		if !c.failed() {
			c.Resize(c.Out(), in.sizes[0], in.sizes[1], out[0], out[1])
		}
	}
	Register(Op{Name: "aten::upsample_nearest2d.vec_out", Check: checkSameType, Shape: func(c *Call) {
		out, _ := c.upsampleSizes(1, 2)
		resize(c, out)
	}, Ref: func(c *Call) {
		in, out := c.In(c.T(0)), c.Out()
		_, scale := c.upsampleSizes(1, 2)
		var at [2][]int
		for d := range 2 {
			ratio := areaScale(in.sizes[2+d], out.sizes[2+d], false, scale[d])
			for o := range out.sizes[2+d] {
				at[d] = append(at[d], min(int(float32(o)*ratio), in.sizes[2+d]-1))
			}
		}
		res := newArray(in.dtype, out.sizes)
		w := in.sizes[3]
		k := 0
		for p := range in.sizes[0] * in.sizes[1] {
			for _, y := range at[0] {
				for _, x := range at[1] {
					res.copyElement(k, in, (p*in.sizes[2]+y)*w+x)
					k++
				}
			}
		}
		c.Put(out, res)
	}})
	Register(Op{Name: "aten::upsample_bilinear2d.vec_out", Check: checkSameType, Shape: func(c *Call) {
		out, _ := c.upsampleSizes(1, 3)
		resize(c, out)
	}, Ref: func(c *Call) {
		in, out := c.In(c.T(0)), c.Out()
		_, scale := c.upsampleSizes(1, 3)
		var l [2][]lerp
		for d := range 2 {
			n, m := in.sizes[2+d], out.sizes[2+d]
			l[d] = lerps(n, m, c.Bool(2), areaScale(n, m, c.Bool(2), scale[d]))
		}
		res := newArray(in.dtype, out.sizes)
		k := 0
		for p := range in.sizes[0] * in.sizes[1] {
			at := func(y, x int) float64 { return in.at((p*in.sizes[2]+y)*in.sizes[3] + x) }
			for _, y := range l[0] {
				for _, x := range l[1] {
					top := at(y.a, x.a)*(1-x.t) + at(y.a, x.b)*x.t
					bottom := at(y.b, x.a)*(1-x.t) + at(y.b, x.b)*x.t
					res.set(k, top*(1-y.t)+bottom*y.t)
					k++
				}
			}
		}
		c.Put(out, res)
	}})
	// Arguments: self, output_size, align_corners, scales_h, scales_w.
	Register(Op{Name: "aten::_upsample_bilinear2d_aa.out", Check: checkSameType, Shape: func(c *Call) {
		in, want := c.T(0), c.perDim(1, 2, 1, nil)
		if in.dim() != 4 || numel(in.sizes[2:]) == 0 {
			c.Fail("upsampling of %v", in.sizes)
			return
		}
		for i := 3; i <= 4; i++ {
			if !c.None(i) && !(c.Float(i) > 0) {
				c.failArg(i, "is %v", c.Float(i))
				return
			}
		}
		for d := range 2 { // a small scale makes every filter as wide as the image
			if c.None(3) || c.None(4) {
				break
			}
			width := min(float64(in.sizes[2+d]), 2*max(1/c.Float(3+d), 1)+2)
			if float64(want[d])*width > 1<<26 {
				c.failArg(3+d, "is %v: filters of %.0f weights for %d results", c.Float(3+d), width, want[d])
				return
			}
		}
		resize(c, [2]int(want))
	}, Ref: func(c *Call) {
		in, out := c.In(c.T(0)), c.Out()
		var f [2][]filter
		for d := range 2 {
			n, m := in.sizes[2+d], out.sizes[2+d]
			scale := float64(m) / float64(n)
			if !c.None(3) && !c.None(4) {
				scale = c.Float(3 + d)
			}
			f[d] = antialias(n, m, areaScale(n, m, c.Bool(2), scale))
		}
		res := newArray(in.dtype, out.sizes)
		k := 0
		for p := range in.sizes[0] * in.sizes[1] {
			for _, y := range f[0] {
				for _, x := range f[1] {
					sum := 0.0
					for i, wy := range y.weights {
						for j, wx := range x.weights {
							sum += in.at((p*in.sizes[2]+y.from+i)*in.sizes[3]+x.from+j) * wy * wx
						}
					}
					res.set(k, sum)
					k++
				}
			}
		}
		c.Put(out, res)
	}})
	Register(Op{Name: "aten::grid_sampler_2d.out", Check: func(g *Graph, n *Node) error {
		for _, i := range []int{2, 3} {
			if x, ok := g.ConstInt(n.Args[i]); ok && (x < 0 || x > 2) {
				return fmt.Errorf("argument %d is %d, want 0 to 2", i, x)
			}
		}
		return sameFloat(1, 5)(g, n)
	}, Shape: func(c *Call) {
		in, grid := c.T(0), c.T(1)
		if in.dim() != 4 || grid.dim() != 4 || grid.sizes[0] != in.sizes[0] || grid.sizes[3] != 2 || numel(in.sizes[2:]) == 0 {
			c.Fail("grid %v for %v", grid.sizes, in.sizes)
			return
		}
		if m, p := c.Int(2), c.Int(3); m < 0 || m > 2 || p < 0 || p > 2 {
			c.Fail("interpolation %d, padding %d", m, p)
			return
		}
		c.Resize(c.Out(), in.sizes[0], in.sizes[1], grid.sizes[1], grid.sizes[2])
	}, Ref: gridSample})
}

// gridSample samples the input where the grid says, in [-1, 1] over the image. Interpolation: 0 bilinear, 1 nearest, 2 bicubic;
// padding: 0 zeros, 1 border, 2 reflection.
func gridSample(c *Call) {
	in, grid, out := c.In(c.T(0)), c.In(c.T(1)), c.Out()
	mode, pad, align := c.Int(2), c.Int(3), c.Bool(4)
	h, w := in.sizes[2], in.sizes[3]
	res := newArray(in.dtype, out.sizes)
	channels, points := in.sizes[1], out.sizes[2]*out.sizes[3]
	for k := range in.sizes[0] * points {
		n, p := k/points, k%points
		x, y := unnormalise(grid.f[2*k], w, align), unnormalise(grid.f[2*k+1], h, align)
		if mode != 2 {
			x, y = padCoordinate(x, w, pad, align), padCoordinate(y, h, pad, align)
		}
		for ch := range channels {
			plane := (n*channels + ch) * h * w
			at := func(yi, xi float64) float64 {
				if mode == 2 {
					yi, xi = padCoordinate(yi, h, pad, align), padCoordinate(xi, w, pad, align)
				} else if pad != 0 {
					yi, xi = min(max(yi, 0), float64(h-1)), min(max(xi, 0), float64(w-1))
				}
				if !(yi >= 0 && yi < float64(h) && xi >= 0 && xi < float64(w)) {
					return 0
				}
				return in.f[plane+int(yi)*w+int(xi)]
			}
			var v float64
			x0, y0 := math.Floor(x), math.Floor(y)
			tx, ty := x-x0, y-y0
			switch mode {
			case 0:
				v = at(y0, x0)*(1-tx)*(1-ty) + at(y0, x0+1)*tx*(1-ty) + at(y0+1, x0)*(1-tx)*ty + at(y0+1, x0+1)*tx*ty
			case 1:
				v = at(math.RoundToEven(y), math.RoundToEven(x))
			default:
				cx, cy := cubic(tx), cubic(ty)
				for i := range 4 {
					row := 0.0
					for j := range 4 {
						row += at(y0-1+float64(i), x0-1+float64(j)) * cx[j]
					}
					v += row * cy[i]
				}
			}
			res.set((n*channels+ch)*points+p, v)
		}
	}
	c.Put(out, res)
}

func unnormalise(x float64, size int, align bool) float64 {
	if align {
		return (x + 1) / 2 * float64(size-1)
	}
	return ((x+1)*float64(size) - 1) / 2
}

// padCoordinate brings a coordinate into the image: clipped for border, mirrored for reflection.
func padCoordinate(x float64, size int, pad int64, align bool) float64 {
	switch pad {
	case 0:
		return x
	case 2:
		low, span := -0.5, float64(size)
		if align {
			low, span = 0, float64(size-1)
		}
		if span == 0 {
			x = 0
			break
		}
		x = math.Abs(x - low)
		extra := math.Mod(x, span)
		if math.Mod(math.Floor(x/span), 2) == 0 {
			x = extra + low
		} else {
			x = span - extra + low
		}
	}
	if x != x {
		x = 0
	}
	return min(max(x, 0), float64(size-1))
}

// cubic returns the weights of Keys' cubic convolution with a = -0.75 for the four neighbours of a point at t.
func cubic(t float64) [4]float64 {
	const a = -0.75
	near := func(x float64) float64 { return ((a+2)*x-(a+3))*x*x + 1 }
	far := func(x float64) float64 { return ((a*x-5*a)*x+8*a)*x - 4*a }
	return [4]float64{far(t + 1), near(t), near(1 - t), far(2 - t)}
}
