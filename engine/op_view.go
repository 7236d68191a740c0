package engine

import "slices"

// Operators whose output has the input's elements in the same order. They copy, unless aliasViews makes them views.

func init() {
	whole := func(c *Call) []moveJob {
		in, out := c.T(0), c.Out()
		return []moveJob{{src: in, dst: out, sizes: []int{in.n}, srcSt: []int{1}, dstSt: []int{1}}}
	}
	view := func(name string, shape func(c *Call)) {
		registerMove(Op{Name: name, View: true, Shape: shape}, whole)
	}
	view("aten::view_copy.out", func(c *Call) { c.Resize(c.Out(), c.viewSizes(c.T(0), c.Ints(1))...) })
	view("executorch_prim::et_view.default", func(c *Call) { c.Resize(c.Out(), c.viewSizes(c.T(0), c.Ints(1))...) })
	view("aten::unsqueeze_copy.out", func(c *Call) {
		in := c.T(0)
		d := c.Dim(1, in.dim()+1)
		c.Resize(c.Out(), slices.Insert(slices.Clone(in.sizes), d, 1)...)
	})
	view("aten::squeeze_copy.dim_out", func(c *Call) {
		in := c.T(0)
		c.Resize(c.Out(), squeeze(in.sizes, []int{c.Dim(1, in.dim())})...)
	})
	view("aten::squeeze_copy.dims_out", func(c *Call) {
		in := c.T(0)
		c.Resize(c.Out(), squeeze(in.sizes, c.Dims(1, in.dim()))...)
	})
	for _, name := range []string{"aten::clone.out", "aten::alias_copy.out", "aten::lift_fresh_copy.out", "aten::detach_copy.out",
		"et_copy::_d2h_copy.out", "et_copy::_h2d_copy.out"} {
		view(name, shapeSame)
	}
}

func squeeze(sizes []int, dims []int) []int {
	out := []int{}
	for d, s := range sizes {
		if s != 1 || !slices.Contains(dims, d) {
			out = append(out, s)
		}
	}
	return out
}

// viewSizes resolves a size of -1 and checks that the number of elements stays.
func (c *Call) viewSizes(in *tensor, want []int64) []int {
	sizes := make([]int, len(want))
	infer, n := -1, int64(1)
	for d, s := range want {
		switch {
		case s == -1 && infer < 0:
			infer = d
			continue
		case s < 0 || s > maxElements:
			c.Fail("view sizes %v", want)
			return nil
		}
		sizes[d] = int(s)
		n = numel64([]int{int(n), int(s)})
	}
	if infer >= 0 && n > 0 {
		sizes[infer] = in.n / int(n)
		n *= int64(sizes[infer])
	}
	if n != int64(in.n) {
		c.Fail("view of %v as %v", in.sizes, want)
	}
	return sizes
}
