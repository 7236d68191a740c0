package engine

import "math"

// Operators on numbers: symbolic sizes and loop counters.

func registerScalar(name string, f func(c *Call)) {
	Register(Op{Name: name, Scalar: true, Shape: func(*Call) {}, Ref: f})
}

// arith registers an operator on two numbers: integers give an integer, else floats.
func arith(name string, i func(a, b int64) int64, f func(a, b float64) float64) {
	registerScalar(name, func(c *Call) {
		a, b := c.Num(0), c.Num(1)
		switch {
		case c.failed():
		case a.kind == KindFloat || b.kind == KindFloat:
			c.SetFloat(f(a.float(), b.float()))
		default:
			c.SetInt(i(a.i, b.i))
		}
	})
}

func compare(name string, i func(a, b int64) bool, f func(a, b float64) bool) {
	registerScalar(name, func(c *Call) {
		a, b := c.Num(0), c.Num(1)
		switch {
		case c.failed():
		case a.kind == KindFloat || b.kind == KindFloat:
			c.SetBool(f(a.float(), b.float()))
		default:
			c.SetBool(i(a.i, b.i))
		}
	})
}

func init() {
	registerScalar("aten::sym_size.int", func(c *Call) {
		t := c.T(0)
		d := c.Dim(1, t.dim())
		if t.dim() == 0 {
			c.Fail("size of a tensor without dimensions")
		}
		if !c.failed() {
			c.SetInt(int64(t.sizes[d]))
		}
	})
	registerScalar("aten::sym_numel", func(c *Call) { c.SetInt(int64(c.T(0).n)) })
	Register(Op{Name: "aten::_local_scalar_dense", Shape: func(c *Call) {
		if c.T(0).n < 1 {
			c.failArg(0, "has no element")
		}
	}, Ref: func(c *Call) {
		t := c.T(0)
		b := make([]byte, t.elem)
		c.dev().Read(b, t.addr)
		a := decodeArray(t.dtype, []int{1}, b)
		switch {
		case a.f != nil:
			c.SetFloat(a.f[0])
		case t.dtype == Bool:
			c.SetBool(a.i[0] != 0)
		default:
			c.SetInt(a.i[0])
		}
	}})
	arith("executorch_prim::add.Scalar", func(a, b int64) int64 { return a + b }, add)
	arith("executorch_prim::sub.Scalar", func(a, b int64) int64 { return a - b }, sub)
	arith("executorch_prim::mul.Scalar", func(a, b int64) int64 { return a * b }, mul)
	arith("executorch_prim::sym_max.Scalar", func(a, b int64) int64 { return max(a, b) }, math.Max)
	arith("executorch_prim::sym_min.Scalar", func(a, b int64) int64 { return min(a, b) }, math.Min)
	nonzero := func(name string, i func(a, b int64) int64, f func(a, b float64) float64) {
		registerScalar(name, func(c *Call) {
			a, b := c.Num(0), c.Num(1)
			switch {
			case c.failed():
			case a.kind == KindFloat || b.kind == KindFloat:
				c.SetFloat(f(a.float(), b.float()))
			case b.i == 0:
				c.Fail("division of %d by zero", a.i)
			default:
				c.SetInt(i(a.i, b.i))
			}
		})
	}
	floorF := func(a, b float64) float64 {
		if b == 0 {
			return math.Copysign(math.Inf(1), a)
		}
		return floorDivFloat(a, b)
	}
	nonzero("executorch_prim::floordiv.Scalar", floorDivInt, floorF)
	nonzero("executorch_prim::floordiv.int", floorDivInt, floorF)
	nonzero("executorch_prim::mod.Scalar", remainderInt, remainderFloat)
	nonzero("executorch_prim::mod.int", remainderInt, remainderFloat)
	registerScalar("executorch_prim::truediv.Scalar", func(c *Call) { c.SetFloat(c.Num(0).float() / c.Num(1).float()) })
	compare("executorch_prim::eq.Scalar", func(a, b int64) bool { return a == b }, func(a, b float64) bool { return a == b })
	compare("executorch_prim::lt.Scalar", func(a, b int64) bool { return a < b }, func(a, b float64) bool { return a < b })
	compare("executorch_prim::le.Scalar", func(a, b int64) bool { return a <= b }, func(a, b float64) bool { return a <= b })
	compare("executorch_prim::gt.Scalar", func(a, b int64) bool { return a > b }, func(a, b float64) bool { return a > b })
	compare("executorch_prim::ge.Scalar", func(a, b int64) bool { return a >= b }, func(a, b float64) bool { return a >= b })
	registerScalar("executorch_prim::neg.Scalar", func(c *Call) {
		if a := c.Num(0); a.kind == KindFloat {
			c.SetFloat(-a.f)
		} else {
			c.SetInt(-a.i)
		}
	})
	registerScalar("executorch_prim::sym_not.Scalar", func(c *Call) { c.SetBool(!c.Bool(0)) })
	registerScalar("executorch_prim::sym_float.Scalar", func(c *Call) { c.SetFloat(c.Num(0).float()) })
	registerScalar("executorch_prim::sym_ite.Scalar", func(c *Call) {
		i := 2
		if c.Bool(0) {
			i = 1
		}
		if s := *c.slot(i); !c.failed() {
			*c.ret() = s
		}
	})
	for name, f := range map[string]func(float64) float64{"ceil": math.Ceil, "round": math.RoundToEven, "trunc": math.Trunc, "sym_int": math.Trunc} {
		registerScalar("executorch_prim::"+name+".Scalar", func(c *Call) {
			x := c.Num(0)
			if x.kind != KindFloat {
				c.SetInt(x.i)
				return
			}
			r := f(x.f)
			if !(r >= math.MinInt64 && r < math.MaxInt64) {
				c.Fail("%v does not fit an integer", x.f)
				return
			}
			c.SetInt(int64(r))
		})
	}

	// The body of a map or scan writes its result at an index; the destination grows by one along its first dimension.
	registerMove(Op{Name: "executorch_prim::et_copy_index.tensor", Shape: func(c *Call) {
		to, from, i := c.T(0), c.T(1), c.Int(2)
		if i < 0 || i >= math.MaxInt32 || to.dim() != from.dim()+1 || to.dtype != from.dtype {
			c.Fail("copy of %s%v to index %d of %s%v", dtypeName(from.dtype), from.sizes, i, dtypeName(to.dtype), to.sizes)
			return
		}
		c.Resize(to, append([]int{int(i) + 1}, from.sizes...)...)
	}, Check: func(g *Graph, n *Node) error { return nil }}, func(c *Call) []moveJob {
		from := c.T(1)
		return []moveJob{{src: from, dst: c.T(0), sizes: []int{from.n}, srcSt: []int{1}, dstSt: []int{1}, dstOff: int(c.Int(2)) * from.n}}
	})
}
