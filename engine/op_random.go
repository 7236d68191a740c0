package engine

import "math"

// Random operators. The stock runtime seeds a generator from the machine at every call; here element k of the n-th random operator
// that a method has run since it was loaded is a fixed function of (n, k), so that a run is the same every time and everywhere: the
// output function of SplitMix64 (Steele, Lea and Flood, 2014) of a counter, its upper 53 bits as a number in [0, 1), and
// Box and Muller's transform of two such numbers for the normal distribution.

type randomStream struct{ base uint64 }

func (c *Call) random() randomStream {
	c.m.draws++
	return randomStream{splitMix(c.m.draws)}
}

func splitMix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (r randomStream) uniform(k int) float64 {
	return float64(splitMix(r.base+uint64(k)*0x9e3779b97f4a7c15)>>11) / (1 << 53)
}

func (r randomStream) normal(k int) float64 {
	u, v := r.uniform(2*k), r.uniform(2*k+1)
	return math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
}

func init() {
	fill := func(name string, draw func(r randomStream, k int) float64) {
		Register(Op{Name: name, Check: func(g *Graph, n *Node) error {
			if out := g.Values[n.Args[1]]; !isFloat(out.DType) {
				return errDType("out", out)
			}
			return nil
		}, Shape: sizesArg, Ref: func(c *Call) {
			r, res := c.random(), newArray(c.Out().dtype, c.Out().sizes)
			for k := range res.len() {
				res.set(k, draw(r, k))
			}
			c.Put(c.Out(), res)
		}})
	}
	fill("aten::rand.out", randomStream.uniform)
	fill("aten::randn.out", randomStream.normal)
	// Arguments: input, p, train, out, mask. As in the stock runtime, what is kept is not scaled.
	Register(Op{Name: "aten::native_dropout.out", Check: func(g *Graph, n *Node) error {
		if v := g.Values[n.Args[4]]; v.DType != Bool {
			return errDType("mask", v)
		}
		return sameFloat(3)(g, n)
	}, Shape: func(c *Call) {
		if p := c.Float(1); !(p >= 0 && p <= 1) {
			c.failArg(1, "is %v, want 0 to 1", p)
		}
		c.ResizeAs(c.T(3), c.T(0))
		c.ResizeAs(c.T(4), c.T(0))
	}, Ref: func(c *Call) {
		a, p := c.In(c.T(0)), c.Float(1)
		mask := newArray(Bool, a.sizes)
		train := p > 0 && (c.None(2) || c.Bool(2))
		r := c.random()
		for k := range a.len() {
			if train && r.uniform(k) < p {
				a.f[k] = 0
			} else {
				mask.i[k] = 1
			}
		}
		c.Put(c.T(3), a)
		c.Put(c.T(4), mask)
	}})
}
