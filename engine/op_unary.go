package engine

import (
	"math"
	"math/cmplx"
)

// unaryOp is an elementwise function of one tensor.
type unaryOp struct {
	f    func(x float64) float64
	i    func(x int64) int64 // for integer and bool inputs; nil: computed in f32
	bool bool                // the result is a bool
}

var unaryOps = map[string]unaryOp{
	"aten::abs.out":         {f: math.Abs, i: func(x int64) int64 { return max(x, -x) }},
	"aten::neg.out":         {f: func(x float64) float64 { return -x }, i: func(x int64) int64 { return -x }},
	"aten::ceil.out":        {f: math.Ceil, i: same},
	"aten::floor.out":       {f: math.Floor, i: same},
	"aten::round.out":       {f: math.RoundToEven, i: same},
	"aten::trunc.out":       {f: math.Trunc, i: same},
	"aten::sign.out":        {f: signFloat, i: func(x int64) int64 { return b2i(x > 0) - b2i(x < 0) }},
	"aten::relu.out":        {f: func(x float64) float64 { return maxNaN(x, 0) }, i: func(x int64) int64 { return max(x, 0) }},
	"aten::bitwise_not.out": {i: func(x int64) int64 { return ^x }},
	"aten::logical_not.out": {f: func(x float64) float64 { return float64(b2i(x == 0)) }, i: func(x int64) int64 { return b2i(x == 0) }, bool: true},
	"aten::isinf.out":       {f: func(x float64) float64 { return float64(b2i(math.IsInf(x, 0))) }, i: func(int64) int64 { return 0 }, bool: true},
	"aten::isnan.out":       {f: func(x float64) float64 { return float64(b2i(x != x)) }, i: func(int64) int64 { return 0 }, bool: true},
	"aten::exp.out":         {f: math.Exp},
	"aten::expm1.out":       {f: math.Expm1},
	"aten::log.out":         {f: math.Log},
	"aten::log10.out":       {f: math.Log10},
	"aten::log1p.out":       {f: math.Log1p},
	"aten::log2.out":        {f: math.Log2},
	"aten::sqrt.out":        {f: math.Sqrt},
	"aten::rsqrt.out":       {f: func(x float64) float64 { return 1 / math.Sqrt(x) }},
	"aten::reciprocal.out":  {f: func(x float64) float64 { return 1 / x }},
	"aten::sin.out":         {f: math.Sin},
	"aten::cos.out":         {f: math.Cos},
	"aten::tan.out":         {f: math.Tan},
	"aten::asin.out":        {f: math.Asin},
	"aten::acos.out":        {f: math.Acos},
	"aten::atan.out":        {f: math.Atan},
	"aten::sinh.out":        {f: math.Sinh},
	"aten::cosh.out":        {f: math.Cosh},
	"aten::tanh.out":        {f: math.Tanh},
	"aten::asinh.out":       {f: math.Asinh},
	"aten::acosh.out":       {f: math.Acosh},
	"aten::atanh.out":       {f: math.Atanh},
	"aten::erf.out":         {f: math.Erf},
	"aten::sigmoid.out":     {f: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }},
}

func same(x int64) int64 { return x }

func signFloat(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

// maxNaN and minNaN return NaN if either argument is, as PyTorch's do.
func maxNaN(a, b float64) float64 { return max(a, b) }
func minNaN(a, b float64) float64 { return min(a, b) }

func init() {
	for name, u := range unaryOps {
		op := Op{Name: name, Elementwise: true, By: unaryBy(name), Complex: name == "aten::abs.out", Shape: shapeSame, Check: checkUnary(u), Ref: func(c *Call) { c.mapUnary(u) }}
		if op.By != "" {
			op.Kernel = func(c *Call) bool { return unaryKernel(c, name) }
		}
		Register(op)
	}
	Register(Op{Name: "aten::gelu.out", Elementwise: true, By: "SIMD f32", Shape: shapeSame, Check: checkUnary(unaryOp{f: math.Exp}), Kernel: func(c *Call) bool {
		if c.Str(1) == "tanh" {
			return unaryKernel(c, "gelu tanh")
		}
		return unaryKernel(c, "gelu")
	}, Ref: func(c *Call) {
		f := func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x*math.Sqrt2/2)) }
		if c.Str(1) == "tanh" {
			f = func(x float64) float64 {
				return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
			}
		}
		c.mapUnary(unaryOp{f: f})
	}})
	Register(Op{Name: "aten::elu.out", Elementwise: true, Shape: shapeSame, Ref: func(c *Call) {
		alpha, scale, in := c.Float(1), c.Float(2), c.Float(3)
		c.mapUnary(unaryOp{f: func(x float64) float64 {
			if x <= 0 {
				return math.Expm1(x*in) * alpha * scale
			}
			return x * scale
		}})
	}})
	Register(Op{Name: "aten::leaky_relu.out", Elementwise: true, Shape: shapeSame, Ref: func(c *Call) {
		slope := c.Float(1)
		c.mapUnary(unaryOp{f: func(x float64) float64 {
			if x > 0 {
				return x
			}
			return x * slope
		}})
	}})
	Register(Op{Name: "aten::hardtanh.out", By: "SIMD f32, i64", Elementwise: true, Shape: shapeSame, Kernel: clampKernel, Ref: func(c *Call) {
		lo, hi := c.Num(1), c.Num(2)
		c.mapUnary(unaryOp{
			f: func(x float64) float64 { return minNaN(maxNaN(x, lo.float()), hi.float()) },
			i: func(x int64) int64 { return min(max(x, lo.int()), hi.int()) },
		})
	}})
	Register(Op{Name: "aten::logit.out", Elementwise: true, Shape: shapeSame, Ref: func(c *Call) {
		eps := math.NaN()
		if !c.None(1) {
			eps = c.Float(1)
		}
		c.mapUnary(unaryOp{f: func(x float64) float64 {
			if eps == eps {
				x = min(max(x, eps), 1-eps)
			}
			return math.Log(x / (1 - x))
		}})
	}})
}

// unaryBy names what unaryKernel covers.
func unaryBy(name string) string {
	_, f := f32Unary[name]
	switch {
	case name == "aten::logical_not.out":
		return "SIMD f32, i64, bool"
	case name == "aten::bitwise_not.out":
		return "SIMD i64"
	case name == "aten::neg.out" && f:
		return "SIMD f32, i64"
	case f:
		return "SIMD f32"
	}
	return ""
}

// shapeSame gives the output the sizes of the first argument.
func shapeSame(c *Call) { c.ResizeAs(c.Out(), c.T(0)) }

func checkUnary(u unaryOp) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		in, out := g.Values[n.Args[0]], g.Values[n.Args[len(n.Args)-1]]
		switch {
		case u.f == nil && isFloat(in.DType):
			return errDType("self", in)
		case u.i == nil && !isFloat(out.DType):
			return errDType("out", out)
		}
		return nil
	}
}

// mapUnary computes out[k] = f(self[k]) in self's type, or f32 if self is no float and the function needs one.
func (c *Call) mapUnary(u unaryOp) {
	in := c.In(c.T(0))
	if c.failed() {
		return
	}
	if in.c != nil { // only abs takes complex numbers
		in = &array{dtype: F64, sizes: in.sizes, f: magnitudes(in.c)}
	}
	d := in.dtype
	if !isFloat(d) && u.i == nil {
		d = F32
	}
	if u.bool {
		d = Bool
	} else {
		in = in.convert(d)
	}
	res := newArray(d, in.sizes)
	for k := range in.len() {
		if in.f != nil {
			res.set(k, u.f(in.f[k]))
		} else {
			res.setInt(k, u.i(in.i[k]))
		}
	}
	c.Put(c.Out(), res)
}

func magnitudes(c []complex128) []float64 {
	f := make([]float64, len(c))
	for k, v := range c {
		f[k] = cmplx.Abs(v)
	}
	return f
}
