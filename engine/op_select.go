package engine

// where, clamp and masked_fill.

func init() {
	Register(Op{Name: "aten::where.self_out", By: "SIMD, all types", Elementwise: true, Shape: func(c *Call) { c.Resize(c.Out(), c.broadcast(c.T(0), c.T(1), c.T(2))...) }, Check: func(g *Graph, n *Node) error {
		if m := g.Values[n.Args[0]]; m.DType != Bool && m.DType != U8 {
			return errDType("condition", m)
		}
		return nil
	}, Kernel: whereKernel, Ref: func(c *Call) {
		cond := c.In(c.T(0))
		oa, a := c.operand(1)
		ob, b := c.operand(2)
		if c.failed() {
			return
		}
		d := promoteOperands(oa, ob)
		res := newArray(d, c.Out().sizes)
		a, b = a.convert(d), b.convert(d)
		k := 0
		walk(res.sizes, func(off []int) {
			x, i := a, off[1]
			if cond.i[off[0]] == 0 {
				x, i = b, off[2]
			}
			if x.f != nil {
				res.f[k] = x.f[i]
			} else {
				res.i[k] = x.i[i]
			}
			k++
		}, broadcastStrides(cond.sizes, res.sizes), broadcastStrides(a.sizes, res.sizes), broadcastStrides(b.sizes, res.sizes))
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::masked_fill.Scalar_out", Shape: func(c *Call) { c.Resize(c.Out(), c.broadcast(c.T(0), c.T(1))...) }, Ref: func(c *Call) {
		a, mask, x := c.In(c.T(0)), c.In(c.T(1)), c.Num(2)
		res := newArray(a.dtype, c.Out().sizes)
		k := 0
		walk(res.sizes, func(off []int) {
			switch {
			case mask.intAt(off[1]) == 0 && a.f != nil:
				res.f[k] = a.f[off[0]]
			case mask.intAt(off[1]) == 0:
				res.i[k] = a.i[off[0]]
			case x.kind == KindFloat:
				res.set(k, x.f)
			default:
				res.setInt(k, x.i)
			}
			k++
		}, broadcastStrides(a.sizes, res.sizes), broadcastStrides(mask.sizes, res.sizes))
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::clamp.out", By: "SIMD f32, i64", Elementwise: true, Shape: shapeSame, Kernel: clampKernel, Ref: func(c *Call) {
		in := c.In(c.T(0))
		ops := []operand{{in.dtype, min(1, len(in.sizes)) + 1}}
		for i := 1; i <= 2; i++ {
			if !c.None(i) {
				ops = append(ops, operand{c.Num(i).dtype(), 0})
			}
		}
		d := promoteOperands(ops...)
		in = in.convert(d)
		res := newArray(d, in.sizes)
		for k := range in.len() {
			if in.f != nil {
				x := in.f[k]
				if !c.None(1) {
					x = maxNaN(x, roundFloat(d, c.Num(1).float()))
				}
				if !c.None(2) {
					x = minNaN(x, roundFloat(d, c.Num(2).float()))
				}
				res.set(k, x)
				continue
			}
			x := in.i[k]
			if !c.None(1) {
				x = max(x, c.Num(1).int())
			}
			if !c.None(2) {
				x = min(x, c.Num(2).int())
			}
			res.setInt(k, x)
		}
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::clamp.Tensor_out", Shape: func(c *Call) {
		ts := []*tensor{c.T(0)}
		for i := 1; i <= 2; i++ {
			if t := c.OptT(i); t != nil {
				ts = append(ts, t)
			}
		}
		c.Resize(c.Out(), c.broadcast(ts...)...)
	}, Ref: func(c *Call) {
		op, acc := c.operand(0)
		d, sizes := op.dtype, c.Out().sizes
		for i := 1; i <= 2; i++ {
			if c.None(i) {
				continue
			}
			ob, b := c.operand(i)
			d = promoteOperands(operand{d, op.prio}, ob)
			a, b := acc.convert(d), b.convert(d)
			res := newArray(d, sizes)
			k := 0
			walk(sizes, func(off []int) {
				switch {
				case a.f != nil && i == 1:
					res.set(k, maxNaN(a.f[off[0]], b.f[off[1]]))
				case a.f != nil:
					res.set(k, minNaN(a.f[off[0]], b.f[off[1]]))
				case i == 1:
					res.setInt(k, max(a.i[off[0]], b.i[off[1]]))
				default:
					res.setInt(k, min(a.i[off[0]], b.i[off[1]]))
				}
				k++
			}, broadcastStrides(a.sizes, sizes), broadcastStrides(b.sizes, sizes))
			acc = res
		}
		c.Put(c.Out(), acc)
	}})
}
