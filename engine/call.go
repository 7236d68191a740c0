package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"tabtune/engine/kernel"
	"tabtune/engine/pte"
)

// Call is one execution of a node: what operators see. Accessors take the argument's position in the schema; the first
// failure is kept and ends the call after the current function returns, so operators check c.failed() only
// before they use what they fetched in a way that could panic.
type Call struct {
	m   *Method
	n   *Node
	by  Server // of the call in progress
	err error
}

// run sets the outputs' sizes and computes them.
func (c *Call) run(n *Node) error {
	c.n, c.by, c.err = n, ByGo, nil
	op := n.op
	op.Shape(c)
	if c.err != nil {
		return c.err
	}
	if n.over > 0 && !slices.Equal(c.T(n.over-1).sizes, c.Out().sizes) {
		return fmt.Errorf("argument %d has sizes %v, planned as the output's, which are %v", n.over-1, c.T(n.over-1).sizes, c.Out().sizes)
	}
	if n.InAl {
		c.by = ByView
		c.alias()
		return c.err
	}
	if op.Scalar {
		op.Ref(c)
		return c.err
	}
	for i, a := range n.Args {
		if a < 0 || i >= len(op.schema.Args) {
			continue
		}
		if err := c.ready(a); err != nil {
			return fmt.Errorf("argument %d (%s): %w", i, op.schema.Args[i].Name, err)
		}
	}
	if c.runKernel() {
		c.by = ByKernel
		return c.err
	}
	if c.err == nil {
		op.Ref(c)
	}
	return c.err
}

// ready checks that a tensor, or those of a list, have memory.
func (c *Call) ready(a int) error {
	s := &c.m.slots[a]
	switch s.kind {
	case KindTensor:
		if s.t.addr == 0 && s.t.n > 0 {
			return fmt.Errorf("value %d (%s) has no memory: nothing has computed it", a, c.m.g.Values[a])
		}
	case KindTensorList:
		for _, e := range c.m.g.Values[a].List {
			if e >= 0 {
				if err := c.ready(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// alias gives the output the memory of the first argument.
func (c *Call) alias() {
	src, out := c.T(0), c.T(len(c.n.op.schema.Args)-1)
	out.addr = src.addr
	if c.n.op.SubOffset != nil {
		off := c.n.op.SubOffset(c)
		if off < 0 || off+out.bytes() > src.bytes() {
			c.Fail("view of %d bytes at %d is outside %d bytes", out.bytes(), off, src.bytes())
			return
		}
		out.addr += kernel.Addr(off)
	}
}

// Fail keeps the first error.
func (c *Call) Fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *Call) failed() bool { return c.err != nil }

// Arg fails the call with an error that names argument i.
func (c *Call) failArg(i int, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("argument %d (%s): %w", i, c.n.op.schema.Args[i].Name, fmt.Errorf(format, args...))
	}
}

func (c *Call) dev() *kernel.Device { return c.m.p.dev }

func (c *Call) slot(i int) *slot {
	a := c.n.Args[i]
	if a < 0 {
		return &slot{}
	}
	return &c.m.slots[a]
}

// None reports whether argument i is absent.
func (c *Call) None(i int) bool { return c.slot(i).kind == KindNone }

var emptyTensor = tensor{dtype: F32, elem: 4, sizes: []int{0}}

// T returns a tensor argument.
func (c *Call) T(i int) *tensor {
	s := c.slot(i)
	if s.kind != KindTensor || s.t == nil {
		c.failArg(i, "is a %s, want a tensor", s.kind)
		t := emptyTensor
		return &t
	}
	return s.t
}

// OptT returns a tensor argument, or nil for None.
func (c *Call) OptT(i int) *tensor {
	if c.None(i) {
		return nil
	}
	return c.T(i)
}

// Out returns the last argument: the output of an operator with one.
func (c *Call) Out() *tensor { return c.T(len(c.n.op.schema.Args) - 1) }

// List returns the tensors of a list; an entry is nil for None.
func (c *Call) List(i int) []*tensor {
	a := c.n.Args[i]
	if a < 0 || c.m.slots[a].kind != KindTensorList {
		c.failArg(i, "is not a tensor list")
		return nil
	}
	l := make([]*tensor, len(c.m.g.Values[a].List))
	for k, e := range c.m.g.Values[a].List {
		if e >= 0 {
			if l[k] = c.m.slots[e].t; l[k] == nil {
				c.failArg(i, "entry %d is not a tensor", k)
				return nil
			}
		}
	}
	return l
}

// number is a Scalar argument.
type number struct {
	kind Kind // KindInt, KindFloat or KindBool
	i    int64
	f    float64
}

func (x number) float() float64 {
	if x.kind == KindFloat {
		return x.f
	}
	return float64(x.i)
}

func (x number) int() int64 {
	if x.kind == KindFloat {
		return truncInt(x.f)
	}
	return x.i
}

// dtype is the type that the number has in promotion; F64 stands for any float.
func (x number) dtype() DType {
	switch x.kind {
	case KindFloat:
		return F64
	case KindBool:
		return Bool
	}
	return I64
}

// Num returns a number argument of any type.
func (c *Call) Num(i int) number {
	s := c.slot(i)
	switch s.kind {
	case KindInt:
		return number{kind: KindInt, i: s.i}
	case KindFloat:
		return number{kind: KindFloat, f: s.f}
	case KindBool:
		return number{kind: KindBool, i: b2i(s.b)}
	}
	c.failArg(i, "is a %s, want a number", s.kind)
	return number{kind: KindInt}
}

// Int returns an integer argument.
func (c *Call) Int(i int) int64 {
	s := c.slot(i)
	switch s.kind {
	case KindInt:
		return s.i
	case KindBool:
		return b2i(s.b)
	}
	c.failArg(i, "is a %s, want an integer", s.kind)
	return 0
}

// IntOr returns an integer argument, or def for None.
func (c *Call) IntOr(i int, def int64) int64 {
	if c.None(i) {
		return def
	}
	return c.Int(i)
}

// Float returns a float argument.
func (c *Call) Float(i int) float64 { return c.Num(i).float() }

// Bool returns a bool argument.
func (c *Call) Bool(i int) bool {
	x := c.Num(i)
	return x.i != 0 || x.f != 0
}

// Str returns a string argument, "" for None.
func (c *Call) Str(i int) string {
	if a := c.n.Args[i]; a >= 0 && c.m.g.Values[a].Kind == KindString {
		return c.m.g.Values[a].Str
	}
	return ""
}

// Ints returns a list of integers, nil for None. An element may have been computed in this run.
func (c *Call) Ints(i int) []int64 {
	a := c.n.Args[i]
	if a < 0 || c.m.slots[a].kind == KindNone {
		return nil
	}
	v := c.m.g.Values[a]
	if v.Kind != KindIntList {
		c.failArg(i, "is a %s, want an int list", v.Kind)
		return nil
	}
	l := make([]int64, len(v.List))
	for k, e := range v.List {
		if s := &c.m.slots[e]; s.kind == KindInt {
			l[k] = s.i
		} else {
			c.failArg(i, "entry %d is a %s", k, s.kind)
		}
	}
	return l
}

// Floats returns a list of floats, nil for None.
func (c *Call) Floats(i int) []float64 {
	if a := c.n.Args[i]; a >= 0 && c.m.g.Values[a].Kind == KindFloatList {
		return c.m.g.Values[a].Floats
	}
	return nil
}

// Dims returns a list of dimensions of a tensor with the given rank, each once, as non-negative indices. A rank of 0 counts as 1.
func (c *Call) Dims(i, rank int) []int {
	l := c.Ints(i)
	out := make([]int, 0, len(l))
	for _, d := range l {
		k := c.wrapDim(i, d, rank)
		if slices.Contains(out, k) {
			c.failArg(i, "dimension %d appears twice", d)
		}
		out = append(out, k)
	}
	return out
}

// Dim returns a dimension argument as a non-negative index.
func (c *Call) Dim(i, rank int) int { return c.wrapDim(i, c.Int(i), rank) }

func (c *Call) wrapDim(i int, d int64, rank int) int {
	r := int64(max(rank, 1))
	if d < -r || d >= r {
		c.failArg(i, "dimension %d of %d", d, rank)
		return 0
	}
	if d < 0 {
		d += r
	}
	return int(d)
}

// SetInt, SetFloat and SetBool store the result of an operator that returns a number.
func (c *Call) SetInt(x int64)     { *c.ret() = slot{kind: KindInt, i: x} }
func (c *Call) SetFloat(x float64) { *c.ret() = slot{kind: KindFloat, f: x} }
func (c *Call) SetBool(x bool)     { *c.ret() = slot{kind: KindBool, b: x} }

func (c *Call) ret() *slot {
	a := c.n.Args[len(c.n.op.schema.Args)-1]
	if a < 0 {
		return &slot{}
	}
	return &c.m.slots[a]
}

// Resize sets the sizes of an output, within its bounds.
func (c *Call) Resize(t *tensor, sizes ...int) {
	if c.err == nil {
		if err := c.m.resize(t, sizes); err != nil {
			c.Fail("output value %d: %w", t.value, err)
		}
	}
}

// ResizeAs gives the output the sizes of another tensor.
func (c *Call) ResizeAs(t, like *tensor) { c.Resize(t, like.sizes...) }

var errNegative = errors.New("negative size")

func (m *Method) resize(t *tensor, sizes []int) error {
	if slices.Equal(t.sizes, sizes) && (t.dynamic != pte.DynamicUnbound || t.addr != 0) {
		return nil
	}
	if len(sizes) > maxDims {
		return fmt.Errorf("%d dimensions, at most %d are supported", len(sizes), maxDims)
	}
	for _, s := range sizes {
		if s < 0 || s > math.MaxInt32 {
			return fmt.Errorf("sizes %v: %w", sizes, errNegative)
		}
	}
	n := numel64(sizes)
	need := n * int64(t.elem)
	switch {
	case n > math.MaxInt32:
		return fmt.Errorf("sizes %v have more than %d elements", sizes, math.MaxInt32)
	case t.dynamic == pte.Static:
		return fmt.Errorf("sizes %v, but they are always %v", sizes, t.sizes)
	case len(sizes) != len(t.sizes):
		return fmt.Errorf("sizes %v have %d dimensions, planned are %d", sizes, len(sizes), len(t.sizes))
	case t.dynamic == pte.DynamicBound:
		if need > t.bound {
			return fmt.Errorf("sizes %v need %d bytes, the bound is %d (sizes %v)", sizes, need, t.bound, m.g.Values[t.value].Sizes)
		}
	default:
		if !t.own || need > t.bound {
			if t.own {
				m.p.dev.Free(t.addr)
				t.addr, t.own = 0, false
			}
			addr, err := m.p.dev.Alloc(max(need, 1), align)
			if err != nil {
				return fmt.Errorf("sizes %v: %w", sizes, err)
			}
			t.addr, t.own, t.bound = addr, true, need
		}
	}
	t.sizes = append(t.sizes[:0], sizes...)
	t.n = int(n)
	return nil
}

// In reads a tensor from the device in row-major order, for references.
func (c *Call) In(t *tensor) *array {
	return decodeArray(t.dtype, slices.Clone(t.sizes), c.Bytes(t))
}

// Bytes reads a tensor's bytes from the device, in row-major order.
func (c *Call) Bytes(t *tensor) []byte { return readTensor(c.dev(), t) }

// Put writes a reference's result to the device, converted to the tensor's element type.
func (c *Call) Put(t *tensor, a *array) { c.PutBytes(t, a.convert(t.dtype).encode()) }

// PutBytes writes a tensor's bytes, given in row-major order.
func (c *Call) PutBytes(t *tensor, b []byte) {
	if int64(len(b)) != t.bytes() {
		c.Fail("reference made %d bytes for a tensor of %d", len(b), t.bytes())
		return
	}
	writeTensor(c.dev(), t, b)
}

// addrOf converts a checked byte count to an address offset.
func addrOf(n int64) kernel.Addr { return kernel.Addr(uint32(n)) }

// Bools returns a list of bools, nil for None.
func (c *Call) Bools(i int) []bool {
	if a := c.n.Args[i]; a >= 0 && c.m.g.Values[a].Kind == KindBoolList {
		return c.m.g.Values[a].Bools
	}
	return nil
}
