package engine

import (
	"encoding/binary"
	"math"

	"tabtune/engine/kernel"
	"tabtune/engine/kernel/code"
)

// Which kernel computes an elementwise call, and with which strides. Everything that is not covered runs the reference.

var f32Unary = map[string]int32{
	"aten::neg.out": code.F32Neg, "aten::abs.out": code.F32Abs, "aten::exp.out": code.F32Exp, "aten::log.out": code.F32Log, "aten::sqrt.out": code.F32Sqrt,
	"aten::rsqrt.out": code.F32Rsqrt, "aten::sin.out": code.F32Sin, "aten::cos.out": code.F32Cos, "aten::tanh.out": code.F32Tanh,
	"aten::sigmoid.out": code.F32Sigmoid, "aten::relu.out": code.F32Relu, "gelu": code.F32Gelu, "gelu tanh": code.F32GeluTanh,
	"aten::reciprocal.out": code.F32Reciprocal, "aten::floor.out": code.F32Floor, "aten::ceil.out": code.F32Ceil, "aten::round.out": code.F32Round,
	"aten::trunc.out": code.F32Trunc, "aten::erf.out": code.F32Erf,
}

var f32Binary = map[string]int32{
	"aten::add": code.F32Add, "aten::sub": code.F32Sub, "aten::mul": code.F32Mul, "aten::div": code.F32Div, "aten::maximum": code.F32Max,
	"aten::minimum": code.F32Min, "aten::pow": code.F32Pow,
}

var intBinary = map[string]int32{
	"aten::add": code.IntAdd, "aten::sub": code.IntSub, "aten::mul": code.IntMul, "div floor": code.IntFloorDiv, "div trunc": code.IntTruncDiv,
	"aten::remainder": code.IntFloorMod, "aten::fmod": code.IntTruncMod, "aten::bitwise_and": code.IntAnd, "aten::bitwise_or": code.IntOr,
	"aten::bitwise_xor": code.IntXor, "shift left": code.IntShl, "aten::maximum": code.IntMax, "aten::minimum": code.IntMin,
}

var comparisons = map[string]int32{
	"aten::eq": code.CmpEq, "aten::ne": code.CmpNe, "aten::lt": code.CmpLt, "aten::le": code.CmpLe, "aten::gt": code.CmpGt, "aten::ge": code.CmpGe,
}

var boolBinary = map[string]int32{
	"aten::logical_and": code.BoolAnd, "aten::logical_or": code.BoolOr, "aten::logical_xor": code.BoolXor,
	"aten::bitwise_and": code.BoolAnd, "aten::bitwise_or": code.BoolOr, "aten::bitwise_xor": code.BoolXor, "aten::eq": code.BoolEq, "aten::ne": code.BoolXor,
}

var kernelTypes = map[DType]int32{
	F32: code.DtypeF32, F16: code.DtypeF16, BF16: code.DtypeBf16, F64: code.DtypeF64, I8: code.DtypeI8, U8: code.DtypeU8, I16: code.DtypeI16,
	I32: code.DtypeI32, I64: code.DtypeI64, Bool: code.DtypeBool,
}

// unaryKernel runs the elementwise kernel of the named function if there is one for the call's types.
func unaryKernel(c *Call, name string) bool {
	in, out := c.T(0), c.Out()
	d, n := c.dev(), int32(in.n)
	switch {
	case in.n == 0:
		return true
	case in.dtype == F32 && out.dtype == F32:
		if op, ok := f32Unary[name]; ok {
			d.F32Unary(op, out.addr, in.addr, n)
			return true
		}
	case name == "aten::logical_not.out" && out.dtype == Bool && in.dtype == Bool:
		d.BoolScalar(code.BoolXor, out.addr, in.addr, 1, n)
		return true
	case name == "aten::logical_not.out" && out.dtype == Bool && in.dtype == F32:
		d.F32CompareScalar(code.CmpEq, out.addr, in.addr, 0, n)
		return true
	case name == "aten::logical_not.out" && out.dtype == Bool && in.dtype == I64:
		d.I64CompareScalar(code.CmpEq, out.addr, in.addr, 0, n)
		return true
	case name == "aten::neg.out" && in.dtype == I64 && out.dtype == I64:
		d.I64Scalar(code.IntSub, out.addr, in.addr, 0, 1, 1, n)
		return true
	case name == "aten::bitwise_not.out" && in.dtype == I64 && out.dtype == I64:
		d.I64Scalar(code.IntXor, out.addr, in.addr, -1, 1, 0, n)
		return true
	}
	return false
}

// side is one operand of a kernel: a tensor, or a number.
type side struct {
	t *tensor
	x number
}

// side returns argument i; a tensor with one element of another type than d counts as a number.
func (c *Call) side(i int, d DType) side {
	if c.slot(i).kind != KindTensor {
		return side{x: c.Num(i)}
	}
	t := c.T(i)
	if t.dtype == d || t.n != 1 {
		return side{t: t}
	}
	a := c.In(t)
	if a.f != nil {
		return side{x: number{kind: KindFloat, f: a.f[0]}}
	}
	return side{x: number{kind: KindInt, i: a.i[0]}}
}

// typeOf returns how promotion sees argument i.
func (c *Call) typeOf(i int) operand {
	if s := c.slot(i); s.kind == KindTensor && s.t != nil {
		return operand{s.t.dtype, min(1, s.t.dim()) + 1}
	}
	return operand{c.Num(i).dtype(), 0}
}

// binaryKernel runs the kernel of a function of two operands if there is one.
func binaryKernel(c *Call, base string, op binaryOp) bool {
	out := c.Out()
	if out.n == 0 {
		return true
	}
	d := promoteOperands(c.typeOf(0), c.typeOf(1))
	if op.logic {
		if c.T(0).dtype != Bool || c.T(1).dtype != Bool {
			return false
		}
		d = Bool
	}
	if op.float && !isFloat(d) || c.failed() {
		return false
	}
	want := d
	if op.bool {
		want = Bool
	}
	if out.dtype != want {
		return false
	}
	a, b := c.side(0, d), c.side(1, d)
	if a.t == nil && b.t == nil || a.t != nil && a.t.dtype != d || b.t != nil && b.t.dtype != d {
		return false
	}
	if cmp, ok := comparisons[base]; ok && d != Bool {
		return compareKernel(c, cmp, d, a, b)
	}
	alpha := c.alpha(op)
	switch d {
	case F32:
		code1, ok := f32Binary[base]
		if !ok {
			return false
		}
		return f32Kernel(c, base, code1, a, b, float32(alpha.float()))
	case I64, I32:
		code1, ok := intBinary[base]
		if base == "shift right" {
			code1, ok = code.IntShr, true
		}
		if !ok || alpha.kind == KindFloat {
			return false
		}
		return intKernel(c, code1, d, a, b, alpha.i)
	case Bool:
		code1, ok := boolBinary[base]
		if !ok {
			return false
		}
		return boolKernel(c, code1, a, b)
	}
	return false
}

func f32Kernel(c *Call, base string, op int32, a, b side, alpha float32) bool {
	out, d := c.Out(), c.dev()
	if a.t == nil || b.t == nil {
		t, x, reversed := a.t, b.x, int32(0)
		if t == nil {
			t, x, reversed = b.t, a.x, 1
		}
		if t.n != out.n {
			return false
		}
		if base == "aten::pow" && reversed == 0 && x.float() == 2 {
			d.F32Unary(code.F32Square, out.addr, t.addr, int32(out.n))
			return true
		}
		d.F32Scalar(op, out.addr, t.addr, float32(x.float()), alpha, reversed, int32(out.n))
		return true
	}
	l, ok := c.layout(out, a.t, b.t)
	if !ok {
		return false
	}
	if l.plane {
		d.F32Binary(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], alpha, l.rows, l.cols)
		return true
	}
	d.F32BinaryNd(op, out.addr, a.t.addr, b.t.addr, alpha, l.desc(c))
	return true
}

func intKernel(c *Call, op int32, dt DType, a, b side, alpha int64) bool {
	out, d := c.Out(), c.dev()
	if a.t == nil || b.t == nil {
		t, x, reversed := a.t, b.x, int32(0)
		if t == nil {
			t, x, reversed = b.t, a.x, 1
		}
		if t.n != out.n || x.kind == KindFloat {
			return false
		}
		if dt == I64 {
			d.I64Scalar(op, out.addr, t.addr, x.i, alpha, reversed, int32(out.n))
		} else {
			d.I32Scalar(op, out.addr, t.addr, int32(x.i), int32(alpha), reversed, int32(out.n))
		}
		return true
	}
	l, ok := c.layout(out, a.t, b.t)
	switch {
	case !ok:
		return false
	case !l.plane:
		d.IntBinaryNd(kernelTypes[dt], op, out.addr, a.t.addr, b.t.addr, alpha, l.desc(c))
	case dt == I64:
		d.I64Binary(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], alpha, l.rows, l.cols)
	default:
		d.I32Binary(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], int32(alpha), l.rows, l.cols)
	}
	return true
}

func boolKernel(c *Call, op int32, a, b side) bool {
	out, d := c.Out(), c.dev()
	if a.t == nil || b.t == nil {
		t, x := a.t, b.x
		if t == nil {
			t, x = b.t, a.x
		}
		if t.n != out.n {
			return false
		}
		d.BoolScalar(op, out.addr, t.addr, int32(b2i(x.float() != 0)), int32(out.n))
		return true
	}
	l, ok := c.layout(out, a.t, b.t)
	if !ok || !l.plane {
		return false
	}
	d.BoolBinary(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], l.rows, l.cols)
	return true
}

func compareKernel(c *Call, op int32, dt DType, a, b side) bool {
	out, d := c.Out(), c.dev()
	if dt != F32 && dt != I32 && dt != I64 || a.t == nil {
		return false
	}
	if b.t == nil {
		if a.t.n != out.n {
			return false
		}
		n := int32(out.n)
		switch dt {
		case F32:
			d.F32CompareScalar(op, out.addr, a.t.addr, float32(b.x.float()), n)
		case I32:
			if b.x.int() != int64(int32(b.x.int())) {
				return false
			}
			d.I32CompareScalar(op, out.addr, a.t.addr, int32(b.x.int()), n)
		default:
			d.I64CompareScalar(op, out.addr, a.t.addr, b.x.int(), n)
		}
		return true
	}
	l, ok := c.layout(out, a.t, b.t)
	switch {
	case !ok:
		return false
	case !l.plane:
		d.CompareNd(kernelTypes[dt], op, out.addr, a.t.addr, b.t.addr, l.desc(c))
	case dt == F32:
		d.F32Compare(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], l.rows, l.cols)
	case dt == I32:
		d.I32Compare(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], l.rows, l.cols)
	default:
		d.I64Compare(op, out.addr, a.t.addr, l.row[1], l.col[1], b.t.addr, l.row[2], l.col[2], l.rows, l.cols)
	}
	return true
}

// maxKernelDims is the most dimensions that a kernel's descriptor holds.
const maxKernelDims = 8

// layout is a broadcast walk over a result and its inputs with as few dimensions as possible: strides[0] is the result's.
type layout struct {
	sizes      []int
	strides    [][]int
	plane      bool // at most two dimensions; then the fields below say the same
	rows, cols int32
	row, col   []int32
}

// layout merges dimensions of the output and the inputs that broadcast to it.
func (c *Call) layout(out *tensor, ins ...*tensor) (layout, bool) {
	all := [][]int{stridesOf(out.sizes)}
	for _, t := range ins {
		all = append(all, broadcastStrides(t.sizes, out.sizes))
	}
	l := layout{strides: make([][]int, len(all))}
	for d, n := range out.sizes {
		if n == 1 {
			continue
		}
		k := len(l.sizes) - 1
		join := k >= 0
		for s := range all {
			join = join && l.strides[s][k] == all[s][d]*n
		}
		if join {
			l.sizes[k] *= n
		} else {
			l.sizes = append(l.sizes, n)
			k++
			for s := range all {
				l.strides[s] = append(l.strides[s], 0)
			}
		}
		for s := range all {
			l.strides[s][k] = all[s][d]
		}
	}
	if len(l.sizes) > maxKernelDims {
		return l, false
	}
	if len(l.sizes) <= 2 {
		l.plane = true
		sizes := append([]int{1, 1}, l.sizes...)
		l.rows, l.cols = int32(sizes[len(sizes)-2]), int32(sizes[len(sizes)-1])
		for _, st := range l.strides {
			st = append([]int{0, 0}, st...)
			l.row, l.col = append(l.row, int32(st[len(st)-2])), append(l.col, int32(st[len(st)-1]))
		}
	}
	return l, true
}

// desc writes the walk as kernels read it and returns its place in device memory, good for one call.
func (l *layout) desc(c *Call) kernel.Addr { return c.descriptor(l.sizes, l.strides...) }

func (c *Call) descriptor(sizes []int, strides ...[]int) kernel.Addr {
	p := c.m.p
	if p.desc == 0 {
		addr, err := p.dev.Alloc(4*(8+8*5), align)
		if err != nil {
			c.Fail("%w", err)
			return 0
		}
		p.desc = addr
		p.retired = append(p.retired, addr)
	}
	var b [4 * (8 + 8*5)]byte
	put := func(at int, l []int) {
		for k, x := range l {
			binary.LittleEndian.PutUint32(b[4*(at+k):], uint32(int32(x)))
		}
	}
	put(0, []int{len(sizes)})
	put(8, sizes)
	for k, s := range strides {
		put(16+8*k, s)
	}
	p.dev.Write(p.desc, b[:4*(16+8*len(strides))])
	return p.desc
}

// stridedKernel copies a strided block with elements of e bytes.
func stridedKernel(c *Call, dst, src kernel.Addr, sizes, ds, ss []int, e int) bool {
	if len(sizes) > maxKernelDims || e > 8 {
		return false
	}
	desc := c.descriptor(sizes, ds, ss)
	if c.failed() {
		return true
	}
	c.dev().CopyNd(int32(e), dst, src, desc)
	return true
}

// convertKernel converts element types.
func convertKernel(c *Call, src, dst *tensor) bool {
	from, ok1 := kernelTypes[src.dtype]
	to, ok2 := kernelTypes[dst.dtype]
	if !ok1 || !ok2 {
		return false
	}
	c.dev().Convert(to, dst.addr, from, src.addr, int32(src.n))
	return true
}

func whereKernel(c *Call) bool {
	cond, a, b, out := c.T(0), c.T(1), c.T(2), c.Out()
	if out.n == 0 {
		return true
	}
	if a.dtype != out.dtype || b.dtype != out.dtype {
		return false
	}
	l, ok := c.layout(out, cond, a, b)
	switch {
	case !ok:
		return false
	case l.plane:
		c.dev().Where(int32(out.elem), out.addr, cond.addr, l.row[1], l.col[1], a.addr, l.row[2], l.col[2], b.addr, l.row[3], l.col[3], l.rows, l.cols)
	default:
		c.dev().WhereNd(int32(out.elem), out.addr, cond.addr, a.addr, b.addr, l.desc(c))
	}
	return true
}

func clampKernel(c *Call) bool {
	in, out := c.T(0), c.Out()
	if in.dtype != out.dtype || in.n == 0 {
		return in.n == 0
	}
	switch in.dtype {
	case F32:
		lo, hi := float32(math.Inf(-1)), float32(math.Inf(1))
		if !c.None(1) {
			lo = float32(c.Float(1))
		}
		if !c.None(2) {
			hi = float32(c.Float(2))
		}
		if lo != lo || hi != hi {
			return false
		}
		c.dev().F32Clamp(out.addr, in.addr, lo, hi, int32(in.n))
		return true
	case I64:
		lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
		for i, x := range []*int64{&lo, &hi} {
			if c.None(1 + i) {
				continue
			}
			v := c.Num(1 + i)
			if v.kind == KindFloat {
				return false
			}
			*x = v.i
		}
		c.dev().I64Clamp(out.addr, in.addr, lo, hi, int32(in.n))
		return true
	}
	return false
}

// fillKernel sets every element to the little-endian pattern of one.
func fillKernel(c *Call, t *tensor, pattern []byte) {
	var b [8]byte
	copy(b[:], pattern)
	c.dev().Fill(int32(len(pattern)), t.addr, int64(binary.LittleEndian.Uint64(b[:])), int32(t.n))
}

// arangeKernel runs arange for f32 and i64.
func arangeKernel(c *Call, start, step number) bool {
	out := c.Out()
	switch {
	case out.n == 0:
	case out.dtype == I64 && start.kind != KindFloat && step.kind != KindFloat:
		c.dev().I64Arange(out.addr, start.i, step.i, int32(out.n))
	case out.dtype == F32:
		c.dev().F32Arange(out.addr, int64(math.Float64bits(start.float())), int64(math.Float64bits(step.float())), int32(out.n))
	default:
		return false
	}
	return true
}
