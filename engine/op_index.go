package engine

import (
	"fmt"
	"slices"
)

// Operators that read or write where index tensors say. Every index is checked before it is used.

// indexOf returns an index element wrapped into [0, n), or fails the call.
func (c *Call) indexOf(arg int, k int, x int64, n int) int {
	if x < -int64(n) || x >= int64(n) {
		c.failArg(arg, "element %d is %d, outside [%d, %d)", k, x, -n, n)
		return 0
	}
	if x < 0 {
		x += int64(n)
	}
	return int(x)
}

func checkIndex(args ...int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		for _, i := range args {
			if v := g.Values[n.Args[i]]; v.DType != I64 && v.DType != I32 {
				return fmt.Errorf("argument %d: index of type %s", i, dtypeName(v.DType))
			}
		}
		return nil
	}
}

func init() {
	Register(Op{Name: "aten::embedding.out", By: "scalar C, all types", Check: func(g *Graph, n *Node) error {
		if g.Values[n.Args[0]].DType != g.Values[n.Args[5]].DType {
			return errDType("out", g.Values[n.Args[5]])
		}
		return checkIndex(1)(g, n)
	}, Shape: func(c *Call) {
		w, idx := c.T(0), c.T(1)
		if w.dim() != 2 {
			c.failArg(0, "has sizes %v, want [rows, width]", w.sizes)
			return
		}
		c.Resize(c.Out(), append(slices.Clone(idx.sizes), w.sizes[1])...)
	}, Ref: func(c *Call) { c.gatherRows(0, 1) }, Kernel: func(c *Call) bool { return gatherRowsKernel(c, 0, 1) }})
	Register(Op{Name: "aten::index_select.out", By: "scalar C, all types", Check: func(g *Graph, n *Node) error {
		if err := checkSameType(g, n); err != nil {
			return err
		}
		return checkIndex(2)(g, n)
	}, Shape: func(c *Call) {
		in, idx := c.T(0), c.T(2)
		d := c.Dim(1, in.dim())
		if idx.dim() > 1 || in.dim() == 0 {
			c.failArg(2, "has sizes %v for %v", idx.sizes, in.sizes)
			return
		}
		sizes := slices.Clone(in.sizes)
		sizes[d] = idx.n
		c.Resize(c.Out(), sizes...)
	}, Kernel: func(c *Call) bool {
		return c.T(0).dim() > 0 && c.Dim(1, c.T(0).dim()) == 0 && gatherRowsKernel(c, 0, 2)
	}, Ref: func(c *Call) {
		in, idx, out := c.T(0), c.In(c.T(2)), c.Out()
		outer, n, inner := around(in.sizes, c.Dim(1, in.dim()))
		src := c.Bytes(in)
		row := inner * in.elem
		dst := make([]byte, 0, out.bytes())
		for o := range outer {
			for k, x := range idx.i {
				i := c.indexOf(2, k, x, n)
				if c.failed() {
					return
				}
				dst = append(dst, src[(o*n+i)*row:(o*n+i+1)*row]...)
			}
		}
		c.PutBytes(out, dst)
	}})
	Register(Op{Name: "aten::gather.out", Check: func(g *Graph, n *Node) error {
		if err := checkSameType(g, n); err != nil {
			return err
		}
		return checkIndex(2)(g, n)
	}, Shape: func(c *Call) {
		c.indexShape(c.T(0), c.Dim(1, c.T(0).dim()), c.T(2))
		c.ResizeAs(c.Out(), c.T(2))
	}, Ref: func(c *Call) {
		in, idx, out := c.In(c.T(0)), c.In(c.T(2)), c.Out()
		res := newArray(out.dtype, out.sizes)
		c.walkIndex(2, in.sizes, c.Dim(1, len(in.sizes)), idx, func(k, at int) {
			if in.f != nil {
				res.f[k] = in.f[at]
			} else {
				res.i[k] = in.i[at]
			}
		})
		if !c.failed() {
			c.Put(out, res)
		}
	}})
	scatter := func(name string, value func(c *Call) (*array, bool), add bool) {
		Register(Op{Name: name, Check: func(g *Graph, n *Node) error {
			if err := checkSameType(g, n); err != nil {
				return err
			}
			return checkIndex(2)(g, n)
		}, Shape: func(c *Call) {
			in, idx := c.T(0), c.T(2)
			c.indexShape(in, c.Dim(1, in.dim()), idx)
			if s := c.slot(3); s.kind == KindTensor && s.t != nil {
				if s.t.dim() != idx.dim() || s.t.dtype != in.dtype {
					c.failArg(3, "is %s%v for index %v", dtypeName(s.t.dtype), s.t.sizes, idx.sizes)
					return
				}
				for d := range idx.sizes {
					if idx.sizes[d] > s.t.sizes[d] {
						c.failArg(3, "has sizes %v for index %v", s.t.sizes, idx.sizes)
						return
					}
				}
			}
			shapeSame(c)
		}, Ref: func(c *Call) {
			res, idx := c.In(c.T(0)), c.In(c.T(2))
			src, scalar := value(c)
			if c.failed() {
				return
			}
			st := make([]int, len(idx.sizes))
			if !scalar {
				st = stridesOf(src.sizes)
			}
			at := make([]int, 0, idx.len())
			walk(idx.sizes, func(off []int) { at = append(at, off[0]) }, st)
			c.walkIndex(2, res.sizes, c.Dim(1, len(res.sizes)), idx, func(k, to int) {
				switch x := at[k]; {
				case res.f != nil && add:
					res.set(to, res.f[to]+src.at(x))
				case res.f != nil:
					res.set(to, src.at(x))
				case add:
					res.setInt(to, res.i[to]+src.intAt(x))
				default:
					res.setInt(to, src.intAt(x))
				}
			})
			if !c.failed() {
				c.Put(c.Out(), res)
			}
		}})
	}
	tensorSrc := func(c *Call) (*array, bool) { return c.In(c.T(3)), false }
	scatter("aten::scatter.src_out", tensorSrc, false)
	scatter("aten::scatter_add.out", tensorSrc, true)
	scatter("aten::scatter.value_out", func(c *Call) (*array, bool) { _, a := c.operand(3); return a, true }, false)
}

// gatherRows copies rows of a matrix, or slices of dimension 0, by index.
func (c *Call) gatherRows(srcArg, idxArg int) {
	in, idx, out := c.T(srcArg), c.In(c.T(idxArg)), c.Out()
	row := int64(numel(in.sizes[1:])) * int64(in.elem)
	b := make([]byte, out.bytes())
	var whole []byte // of a table that is not row-major
	if !contiguousOrder(in.order, in.sizes) {
		whole = c.Bytes(in)
	}
	for k, x := range idx.i {
		i := int64(c.indexOf(idxArg, k, x, in.sizes[0]))
		dst := b[int64(k)*row : int64(k+1)*row]
		switch {
		case c.failed():
			return
		case row == 0:
		case whole != nil:
			copy(dst, whole[i*row:])
		default:
			c.dev().Read(dst, in.addr+addrOf(i*row))
		}
	}
	c.PutBytes(out, b)
}

// indexShape checks an index tensor of gather and scatter: the same rank, and no larger than in but in dim.
func (c *Call) indexShape(in *tensor, dim int, idx *tensor) {
	if idx.n == 0 {
		return
	}
	if max(in.dim(), 1) != max(idx.dim(), 1) {
		c.Fail("index %v for %v", idx.sizes, in.sizes)
		return
	}
	for d := range min(in.dim(), idx.dim()) {
		if d != dim && idx.sizes[d] > in.sizes[d] {
			c.Fail("index %v for %v along %d", idx.sizes, in.sizes, dim)
			return
		}
	}
}

// walkIndex calls f with each position of the index tensor and the flat position it names in a tensor of the given sizes.
func (c *Call) walkIndex(arg int, sizes []int, dim int, idx *array, f func(k, at int)) {
	if len(sizes) == 0 {
		sizes, dim = []int{1}, 0
	}
	is := idx.sizes
	if len(is) == 0 {
		is = []int{1}
	}
	st := stridesOf(sizes)
	along := st[dim]
	other := slices.Clone(st)
	other[dim] = 0
	k := 0
	if idx.len() == 0 {
		return
	}
	walk(is, func(off []int) {
		if c.failed() {
			return
		}
		if i := c.indexOf(arg, k, idx.i[k], sizes[dim]); !c.failed() {
			f(k, off[0]+i*along)
		}
		k++
	}, other)
}
