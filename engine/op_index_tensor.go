package engine

import (
	"bytes"
	"fmt"
	"slices"
)

// index.Tensor and index_put: advanced indexing with a list of index tensors, None for dimensions that stay. A mask stands for the
// positions of its elements that are not zero: one index for each of its dimensions.

// advanced is the resolved layout of an indexing: which dimensions are indexed, and where the indices' own dimensions go.
type advanced struct {
	dims  []int     // indexed dimensions
	idx   []indices // one for each
	shape []int     // common sizes of the indices
	at    int       // position of shape in the result: that of the first index if they stand together, else 0
	rest  []int     // dimensions that stay
	sizes []int     // of the result
}

// indices are positions in one dimension: a tensor's, or those that a mask selects.
type indices struct {
	t    *tensor // nil for a mask's
	i    []int64 // a mask's
	size []int
}

// values reads the positions.
func (x *indices) values(c *Call) []int64 {
	if x.t != nil {
		return c.In(x.t).i
	}
	return x.i
}

// masked appends the positions that mask t selects from dimension d on.
func (a *advanced) masked(c *Call, t *tensor, d int) {
	in := c.T(0)
	switch n := t.dim(); {
	case n == 0 || d+n > in.dim() || !slices.Equal(t.sizes, in.sizes[d:d+n]):
		c.failArg(1, "mask of %v at dimension %d of %v", t.sizes, d, in.sizes)
		return
	case t.addr == 0 && t.n > 0:
		c.failArg(1, "mask has no memory: nothing has computed it")
		return
	}
	mask := c.Bytes(t)
	count := t.n - bytes.Count(mask, []byte{0})
	flat := make([]int64, t.dim()*count)
	at := make([]int, t.dim())
	for k := range at {
		a.dims = append(a.dims, d+k)
		a.idx = append(a.idx, indices{i: flat[k*count : (k+1)*count], size: []int{count}})
	}
	n := 0
	each(t.sizes, at, func(i int) {
		if mask[i] != 0 {
			for k, x := range at {
				flat[k*count+n] = int64(x)
			}
			n++
		}
	})
}

func (c *Call) advanced() *advanced {
	in, list := c.T(0), c.List(1)
	a := &advanced{}
	d := 0
	for _, t := range list {
		switch {
		case t == nil:
			if d < in.dim() {
				a.rest = append(a.rest, d)
			}
			d++
			continue
		case t.dtype == Bool || t.dtype == U8:
			if a.masked(c, t, d); c.failed() {
				return nil
			}
			d += t.dim()
			continue
		case t.dtype != I64 && t.dtype != I32:
			c.failArg(1, "index of type %s", dtypeName(t.dtype))
			return nil
		}
		a.dims, a.idx = append(a.dims, d), append(a.idx, indices{t: t, size: t.sizes})
		d++
	}
	if d > in.dim() || len(a.idx) == 0 {
		c.Fail("%d indices (%d not None) for %v", len(list), len(a.idx), in.sizes)
		return nil
	}
	for ; d < in.dim(); d++ {
		a.rest = append(a.rest, d)
	}
	a.shape = a.idx[0].size
	for _, x := range a.idx[1:] {
		a.shape = c.broadcastOf(a.shape, x.size)
	}
	if a.dims[len(a.dims)-1]-a.dims[0] == len(a.dims)-1 {
		a.at = a.dims[0]
	}
	a.sizes = slices.Insert(pick(in.sizes, a.rest), a.at, a.shape...)
	// Nothing else bounds the work of an index_put whose values broadcast.
	if n := max(numel64(a.sizes), numel64(a.shape)); n > 1<<28 {
		c.Fail("indices name %d elements", n)
	}
	if c.failed() {
		return nil
	}
	return a
}

// walk calls f with every position of the result and the flat position in the indexed tensor.
func (a *advanced) walk(c *Call, in *tensor, f func(k, at int)) {
	st := stridesOf(in.sizes)
	base := make([]int, numel(a.shape)) // offset that the indices select
	for i, x := range a.idx {
		idx := x.values(c)
		k := 0
		walk(a.shape, func(off []int) {
			if !c.failed() {
				base[k] += c.indexOf(1, off[0], idx[off[0]], in.sizes[a.dims[i]]) * st[a.dims[i]]
			}
			k++
		}, broadcastStrides(x.size, a.shape))
	}
	if c.failed() {
		return
	}
	// Strides of the result into base and into the dimensions that stay.
	n := len(a.shape)
	baseSt := make([]int, len(a.sizes))
	copy(baseSt[a.at:], stridesOf(a.shape))
	restSt := slices.Insert(pick(st, a.rest), a.at, make([]int, n)...)
	k := 0
	walk(a.sizes, func(off []int) {
		f(k, base[off[0]]+off[1])
		k++
	}, baseSt, restSt)
}

// rows reports whether the indexing is one index tensor on dimension 0: a gather or scatter of rows.
func (a *advanced) rows() bool { return len(a.dims) == 1 && a.dims[0] == 0 && a.idx[0].t != nil }

func init() {
	Register(Op{Name: "aten::index.Tensor_out", By: "scalar C rows, all types", Check: checkSameType, Shape: func(c *Call) {
		if a := c.advanced(); a != nil {
			c.Resize(c.Out(), a.sizes...)
		}
	}, Ref: func(c *Call) {
		in, out := c.T(0), c.Out()
		src, dst := c.Bytes(in), make([]byte, out.bytes())
		e := in.elem
		c.advanced().walk(c, in, func(k, at int) { copy(dst[k*e:(k+1)*e], src[at*e:]) })
		if !c.failed() {
			c.PutBytes(out, dst)
		}
	}, Kernel: func(c *Call) bool {
		a := c.advanced()
		return a.rows() && rowsKernel(c, c.Out(), c.T(0), a.idx[0].t)
	}})
	put := func(name string, out func(c *Call) *tensor) {
		Register(Op{Name: name, Check: func(g *Graph, n *Node) error {
			if in, v := g.Values[n.Args[0]], g.Values[n.Args[2]]; in.DType != v.DType {
				return fmt.Errorf("values of type %s put into %s", dtypeName(v.DType), dtypeName(in.DType))
			}
			if name == "aten::index_put_" { // its result is self
				return nil
			}
			return checkSameType(g, n)
		}, Shape: func(c *Call) {
			a := c.advanced()
			if a == nil {
				return
			}
			if s, ok := broadcastSizes(c.T(2).sizes, a.sizes); !ok || !slices.Equal(s, a.sizes) {
				c.Fail("values %v do not broadcast to %v", c.T(2).sizes, a.sizes)
			}
			if out(c) != c.T(0) {
				c.ResizeAs(out(c), c.T(0))
			}
		}, Ref: func(c *Call) {
			a := c.advanced()
			res, vals, acc := c.In(c.T(0)), c.In(c.T(2)), c.Bool(3)
			at := make([]int, 0, numel(a.sizes))
			walk(a.sizes, func(off []int) { at = append(at, off[0]) }, broadcastStrides(vals.sizes, a.sizes))
			a.walk(c, c.T(0), func(k, to int) {
				switch {
				case res.f != nil && acc:
					res.set(to, res.f[to]+vals.f[at[k]])
				case res.f != nil:
					res.f[to] = vals.f[at[k]]
				case acc:
					res.setInt(to, res.i[to]+vals.i[at[k]])
				default:
					res.i[to] = vals.i[at[k]]
				}
			})
			if !c.failed() {
				c.Put(out(c), res)
			}
		}})
	}
	put("aten::index_put.out", func(c *Call) *tensor { return c.Out() })
	put("aten::index_put_", func(c *Call) *tensor { return c.T(0) })
}
