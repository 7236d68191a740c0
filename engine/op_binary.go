package engine

import (
	"fmt"
	"math"
)

// binaryOp is an elementwise function of two tensors, or of a tensor and a number.
type binaryOp struct {
	f     func(a, b float64) float64
	i     func(a, b int64) int64
	bool  bool // the result is a bool, computed in the common type
	float bool // integers are computed, and give results, in f32
	alpha bool // the second operand is multiplied by an alpha argument first
	logic bool // operands are taken as bools

	c func(a, b complex128) complex128 // nil: no complex operands
}

func errDType(arg string, v *Value) error {
	return fmt.Errorf("%s of type %s is not supported", arg, dtypeName(v.DType))
}

func add(a, b float64) float64 { return a + b }
func sub(a, b float64) float64 { return a - b }
func mul(a, b float64) float64 { return a * b }
func div(a, b float64) float64 { return a / b }

func boolF(f func(a, b float64) bool) func(a, b float64) float64 {
	return func(a, b float64) float64 { return float64(b2i(f(a, b))) }
}
func boolI(f func(a, b int64) bool) func(a, b int64) int64 {
	return func(a, b int64) int64 { return b2i(f(a, b)) }
}

var binaryOps = map[string]binaryOp{
	"aten::add":         {f: add, i: func(a, b int64) int64 { return a + b }, alpha: true, c: func(a, b complex128) complex128 { return a + b }},
	"aten::sub":         {f: sub, i: func(a, b int64) int64 { return a - b }, alpha: true, c: func(a, b complex128) complex128 { return a - b }},
	"aten::mul":         {f: mul, i: func(a, b int64) int64 { return a * b }, c: func(a, b complex128) complex128 { return a * b }},
	"aten::div":         {f: div, float: true, c: func(a, b complex128) complex128 { return a / b }},
	"aten::maximum":     {f: maxNaN, i: func(a, b int64) int64 { return max(a, b) }},
	"aten::minimum":     {f: minNaN, i: func(a, b int64) int64 { return min(a, b) }},
	"aten::pow":         {f: math.Pow, i: powInt},
	"aten::fmod":        {f: math.Mod, i: fmodInt},
	"aten::remainder":   {f: remainderFloat, i: remainderInt},
	"aten::atan2":       {f: math.Atan2, float: true},
	"aten::bitwise_and": {i: func(a, b int64) int64 { return a & b }},
	"aten::bitwise_or":  {i: func(a, b int64) int64 { return a | b }},
	"aten::bitwise_xor": {i: func(a, b int64) int64 { return a ^ b }},
	"aten::eq":          {f: boolF(func(a, b float64) bool { return a == b }), i: boolI(func(a, b int64) bool { return a == b }), bool: true},
	"aten::ne":          {f: boolF(func(a, b float64) bool { return a != b }), i: boolI(func(a, b int64) bool { return a != b }), bool: true},
	"aten::lt":          {f: boolF(func(a, b float64) bool { return a < b }), i: boolI(func(a, b int64) bool { return a < b }), bool: true},
	"aten::le":          {f: boolF(func(a, b float64) bool { return a <= b }), i: boolI(func(a, b int64) bool { return a <= b }), bool: true},
	"aten::gt":          {f: boolF(func(a, b float64) bool { return a > b }), i: boolI(func(a, b int64) bool { return a > b }), bool: true},
	"aten::ge":          {f: boolF(func(a, b float64) bool { return a >= b }), i: boolI(func(a, b int64) bool { return a >= b }), bool: true},
	"aten::logical_and": {i: func(a, b int64) int64 { return a & b }, bool: true, logic: true},
	"aten::logical_or":  {i: func(a, b int64) int64 { return a | b }, bool: true, logic: true},
	"aten::logical_xor": {i: func(a, b int64) int64 { return a ^ b }, bool: true, logic: true},
}

// Overloads of binaryOps: names with a tensor and with a number as second operand.
var (
	tensorOverloads = []string{"aten::add.out", "aten::sub.out", "aten::mul.out", "aten::div.out", "aten::maximum.out", "aten::minimum.out",
		"aten::pow.Tensor_Tensor_out", "aten::fmod.Tensor_out", "aten::remainder.Tensor_out", "aten::atan2.out",
		"aten::bitwise_and.Tensor_out", "aten::bitwise_or.Tensor_out", "aten::bitwise_xor.Tensor_out",
		"aten::eq.Tensor_out", "aten::ne.Tensor_out", "aten::lt.Tensor_out", "aten::le.Tensor_out", "aten::gt.Tensor_out", "aten::ge.Tensor_out",
		"aten::logical_and.out", "aten::logical_or.out", "aten::logical_xor.out"}
	scalarOverloads = []string{"aten::add.Scalar_out", "aten::sub.Scalar_out", "aten::mul.Scalar_out", "aten::div.Scalar_out",
		"aten::pow.Tensor_Scalar_out", "aten::fmod.Scalar_out", "aten::remainder.Scalar_out",
		"aten::bitwise_and.Scalar_out", "aten::bitwise_or.Scalar_out", "aten::bitwise_xor.Scalar_out",
		"aten::eq.Scalar_out", "aten::ne.Scalar_out", "aten::lt.Scalar_out", "aten::le.Scalar_out", "aten::gt.Scalar_out", "aten::ge.Scalar_out"}
)

func init() {
	for _, name := range tensorOverloads {
		op := binaryOps[baseName(name)]
		var inPlace []int
		if name == "aten::add.out" || name == "aten::sub.out" || name == "aten::mul.out" {
			inPlace = []int{0, 1}
		}
		Register(Op{Name: name, Elementwise: true, Complex: op.c != nil, By: op.by(), InPlace: inPlace, Shape: shapeBroadcast, Check: checkBinary(op), Ref: func(c *Call) { c.mapBinary(op) },
			Kernel: func(c *Call) bool { return binaryKernel(c, baseName(name), op) }})
	}
	for _, name := range scalarOverloads {
		op := binaryOps[baseName(name)]
		Register(Op{Name: name, Elementwise: true, By: op.by(), Shape: shapeSame, Check: checkBinary(op), Ref: func(c *Call) { c.mapBinary(op) },
			Kernel: func(c *Call) bool { return binaryKernel(c, baseName(name), op) }})
	}
	for _, name := range []string{"aten::div.out_mode", "aten::div.Scalar_mode_out"} {
		shape := shapeBroadcast
		if name == "aten::div.Scalar_mode_out" {
			shape = shapeSame
		}
		Register(Op{Name: name, Elementwise: true, By: "SIMD f32, i32, i64", Shape: func(c *Call) { shape(c); c.divMode() }, Ref: func(c *Call) { _, op := c.divMode(); c.mapBinary(op) },
			Kernel: func(c *Call) bool { base, op := c.divMode(); return binaryKernel(c, base, op) }})
	}
	floor := binaryOp{f: floorDivFloat, i: floorDivInt}
	Register(Op{Name: "aten::floor_divide.out", Elementwise: true, By: floor.by(), Shape: shapeBroadcast, Ref: func(c *Call) { c.mapBinary(floor) },
		Kernel: func(c *Call) bool { return binaryKernel(c, "div floor", floor) }})
	Register(Op{Name: "aten::pow.Scalar_out", Shape: func(c *Call) { c.ResizeAs(c.Out(), c.T(1)) }, Ref: func(c *Call) { c.mapBinary(binaryOps["aten::pow"]) }})
	rsub := binaryOp{f: func(a, b float64) float64 { return b - a }, i: func(a, b int64) int64 { return b - a }}
	Register(Op{Name: "aten::rsub.Scalar_out", Shape: shapeSame, Ref: func(c *Call) {
		if c.Num(2).float() != 1 {
			alpha := c.Num(2)
			c.mapBinary(binaryOp{f: func(a, b float64) float64 { return b - a*alpha.float() }, i: func(a, b int64) int64 { return b - a*alpha.int() }})
			return
		}
		c.mapBinary(rsub)
	}})
	for _, sh := range []struct {
		name string
		f    func(a, b int64) int64
	}{{"left", shiftLeft}, {"right", shiftRight}} {
		op := binaryOp{i: sh.f}
		Register(Op{Name: "aten::bitwise_" + sh.name + "_shift.Tensor_out", By: op.by(), Shape: shapeBroadcast, Check: checkBinary(op), Ref: func(c *Call) { c.mapBinary(op) },
			Kernel: func(c *Call) bool { return binaryKernel(c, "shift "+sh.name, op) }})
		Register(Op{Name: "aten::bitwise_" + sh.name + "_shift.Tensor_Scalar_out", By: op.by(), Shape: shapeSame, Check: checkBinary(op), Ref: func(c *Call) { c.mapBinary(op) },
			Kernel: func(c *Call) bool { return binaryKernel(c, "shift "+sh.name, op) }})
	}
}

// baseName cuts the overload off.
func baseName(op string) string {
	for i := range op {
		if op[i] == '.' {
			return op[:i]
		}
	}
	return op
}

// by names what the kernels cover.
func (op binaryOp) by() string {
	switch {
	case op.logic:
		return "SIMD bool"
	case op.f == nil:
		return "SIMD i32, i64, bool"
	case op.i == nil:
		return "SIMD f32"
	}
	return "SIMD f32, i32, i64"
}

func shapeBroadcast(c *Call) { c.Resize(c.Out(), c.broadcast(c.T(0), c.T(1))...) }

func checkBinary(op binaryOp) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		for _, a := range []int{n.Args[0], n.Args[1]} {
			if v := g.Values[a]; op.f == nil && !op.logic && (v.Kind == KindTensor && isFloat(v.DType) || v.Kind == KindFloat && !v.computed) {
				return fmt.Errorf("floating operand %s is not supported", v)
			}
		}
		out := g.Values[n.Args[len(n.Args)-1]]
		if op.float && !isFloat(out.DType) && !isComplex(out.DType) {
			return errDType("out", out)
		}
		for _, a := range []int{n.Args[0], n.Args[1]} {
			if v := g.Values[a]; v.Kind == KindTensor && isComplex(v.DType) && !isComplex(out.DType) {
				return errDType("out", out)
			}
		}
		return nil
	}
}

// divMode returns the function for the call's rounding mode and its name for kernels.
func (c *Call) divMode() (string, binaryOp) {
	switch mode := c.Str(2); mode {
	case "":
		return "aten::div", binaryOps["aten::div"]
	case "floor":
		return "div floor", binaryOp{f: floorDivFloat, i: floorDivInt}
	case "trunc":
		return "div trunc", binaryOp{f: func(a, b float64) float64 { return math.Trunc(a / b) }, i: func(a, b int64) int64 {
			if b == 0 {
				return 0
			}
			return a / b
		}}
	default:
		c.failArg(2, "rounding mode %q is not known", mode)
		return "", binaryOps["aten::div"]
	}
}

// operand returns argument i as promotion sees it and as an array in its own type; numbers become 0-d arrays.
func (c *Call) operand(i int) (operand, *array) {
	if s := c.slot(i); s.kind != KindTensor {
		x := c.Num(i)
		a := newArray(x.dtype(), nil)
		if x.kind == KindFloat {
			a.f[0] = x.f
		} else {
			a.i[0] = x.i
		}
		return operand{x.dtype(), 0}, a
	}
	t := c.T(i)
	return operand{t.dtype, min(1, t.dim()) + 1}, c.In(t)
}

// alpha returns the alpha argument of add and sub, 1 for other operators.
func (c *Call) alpha(op binaryOp) number {
	if op.alpha {
		if i := c.n.op.schema.Index("alpha"); i >= 0 {
			return c.Num(i)
		}
	}
	return number{kind: KindInt, i: 1}
}

// mapBinary computes the output in the operands' common type.
func (c *Call) mapBinary(op binaryOp) {
	oa, a := c.operand(0)
	ob, b := c.operand(1)
	if c.failed() {
		return
	}
	d := promoteOperands(oa, ob)
	switch {
	case isComplex(d) || isComplex(c.Out().dtype):
		c.mapComplex(op, a, b)
		return
	case op.logic:
		d = Bool
	case op.float && !isFloat(d):
		d = F32
	case op.i == nil && !isFloat(d):
		d = F32
	}
	a, b = a.convert(d), b.convert(d)
	alpha := c.alpha(op)
	res := newArray(d, c.broadcastOf(a.sizes, b.sizes))
	if op.bool {
		res = newArray(Bool, res.sizes)
	}
	if c.failed() {
		return
	}
	k := 0
	walk(res.sizes, func(off []int) {
		if a.f != nil {
			y := b.f[off[1]]
			if alpha.float() != 1 {
				y = roundFloat(d, y*alpha.float())
			}
			res.set(k, op.f(a.f[off[0]], y))
		} else {
			res.setInt(k, op.i(a.i[off[0]], b.i[off[1]]*alpha.int()))
		}
		k++
	}, broadcastStrides(a.sizes, res.sizes), broadcastStrides(b.sizes, res.sizes))
	c.Put(c.Out(), res)
}

// mapComplex is mapBinary for complex results.
func (c *Call) mapComplex(op binaryOp, a, b *array) {
	alpha := complex(c.alpha(op).float(), 0)
	res := newArray(C128, c.broadcastOf(a.sizes, b.sizes))
	if c.failed() {
		return
	}
	k := 0
	walk(res.sizes, func(off []int) {
		res.c[k] = op.c(a.complexAt(off[0]), alpha*b.complexAt(off[1]))
		k++
	}, broadcastStrides(a.sizes, res.sizes), broadcastStrides(b.sizes, res.sizes))
	c.Put(c.Out(), res)
}

func (c *Call) broadcastOf(a, b []int) []int {
	s, ok := broadcastSizes(a, b)
	if !ok {
		c.Fail("sizes %v and %v do not broadcast", a, b)
	}
	return s
}

// powInt is integer power; negative exponents give 0 but for bases 1 and -1, as in PyTorch.
func powInt(a, b int64) int64 {
	if b < 0 {
		switch a {
		case 1:
			return 1
		case -1:
			return 1 - 2*(b&1)
		}
		return 0
	}
	r := int64(1)
	for ; b > 0; b >>= 1 {
		if b&1 != 0 {
			r *= a
		}
		a *= a
	}
	return r
}

func fmodInt(a, b int64) int64 {
	if b == 0 {
		return 0
	}
	return a % b
}

func remainderInt(a, b int64) int64 {
	if b == 0 {
		return 0
	}
	r := a % b
	if r != 0 && (r < 0) != (b < 0) {
		r += b
	}
	return r
}

func remainderFloat(a, b float64) float64 {
	r := math.Mod(a, b)
	if r != 0 && (r < 0) != (b < 0) {
		r += b
	}
	return r
}

func floorDivInt(a, b int64) int64 {
	if b == 0 {
		return 0
	}
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

func floorDivFloat(a, b float64) float64 {
	if b == 0 {
		return a / b
	}
	mod := math.Mod(a, b)
	q := (a - mod) / b
	if mod != 0 && (b < 0) != (mod < 0) {
		q--
	}
	if q == 0 {
		return math.Copysign(0, a/b)
	}
	f := math.Floor(q)
	if q-f > 0.5 {
		f++
	}
	return f
}

func shiftLeft(a, b int64) int64 {
	if b < 0 || b >= 64 {
		return 0
	}
	return a << uint(b)
}

func shiftRight(a, b int64) int64 {
	if b < 0 || b >= 64 {
		b = 63
	}
	return a >> uint(b)
}
