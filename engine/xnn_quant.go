package engine

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"

	"tabtune/engine/pte"
)

// Quantised operations. Numbers of a type with one scale are real = (q - zero point) * scale; the arithmetic is XNNPACK's, so
// that results are the same integers.

// bounds returns the least and the greatest number of a quantised type.
func (v *xnnValue) bounds() (lo, hi int64) {
	if v.DType == pte.XNNQUint8 {
		return 0, math.MaxUint8
	}
	return math.MinInt8, math.MaxInt8
}

// quantise rounds a real number as the value's numbers are, half to even.
func (v *xnnValue) quantise(x float32) int64 {
	lo, hi := v.bounds()
	q := math.RoundToEven(float64(x*(1/v.Scale))) + float64(v.ZeroPoint)
	return truncInt(min(max(q, float64(lo)), float64(hi)))
}

// range8 returns the bounds of a node's output as the output's numbers.
func (b *xnnBuilder) range8(n *pte.XNNNode, out *xnnValue) (lo, hi int) {
	l, h := out.bounds()
	if n.Clamp {
		l, h = out.quantise(n.Min), out.quantise(n.Max)
	}
	return b.g.AddInt(l), b.g.AddInt(h)
}

// dequantised returns the tensor of a value as f32.
func (b *xnnBuilder) dequantised(v *xnnValue) int {
	if v.DType == pte.XNNF32 {
		return v.at
	}
	to := b.like(v.at, F32)
	b.dequantise(v, to)
	return to
}

// dequantise converts an int8 value.
func (b *xnnBuilder) dequantise(v *xnnValue, to int) {
	if v.DType != pte.XNNQInt8 {
		b.fail("conversion of %s to fp32", v.DType)
		return
	}
	b.node("tabtune::dequantize_i8.out", v.at, b.g.AddFloat(float64(v.Scale)), b.g.AddInt(int64(v.ZeroPoint)), to)
}

// quantised stores f32 tensor from as a value.
func (b *xnnBuilder) quantised(from int, out *xnnValue) {
	if out.DType != pte.XNNQInt8 {
		b.fail("conversion of fp32 to %s", out.DType)
		return
	}
	b.node("tabtune::quantize_i8.out", from, b.g.AddFloat(float64(1/out.Scale)), b.g.AddInt(int64(out.ZeroPoint)), out.at)
}

// real appends an operation on real numbers; int8 values are converted before and after it.
func (b *xnnBuilder) real(n *pte.XNNNode, x, out *xnnValue, apply func(from, to int)) {
	if xnnFloat(x.DType) && x.DType == out.DType {
		b.clamped(n, out, func(to int) { apply(x.at, to) })
		return
	}
	if n.Clamp {
		b.fail("bounds of %s from %s", out.DType, x.DType)
		return
	}
	from, to := b.dequantised(x), out.at
	if out.DType != pte.XNNF32 {
		to = b.like(out.at, F32)
	}
	if b.err != nil {
		return
	}
	apply(from, to)
	if out.DType != pte.XNNF32 {
		b.quantised(to, out)
	}
}

// convert appends a change of type.
func (b *xnnBuilder) convert(x, out *xnnValue) {
	b.resized(out, x)
	switch {
	case out.DType == pte.XNNQDInt8 && (x.DType == pte.XNNF32 || x.DType == pte.XNNF16):
		b.node("tabtune::quantize_rows_i8.out", b.cast32(x.at), b.g.AddInt(int64(out.NonBatch)), out.at, out.scale, out.zero)
	case x.DType == pte.XNNQInt8 && out.DType == pte.XNNQInt8:
		b.lookup(x, out, func(v float32) float32 { return v })
	case xnnFloat(x.DType) && xnnFloat(out.DType):
		b.node("aten::_to_copy.out", x.at, b.g.AddBool(false), b.g.AddNone(), out.at)
	case xnnFloat(x.DType):
		b.quantised(b.cast32(x.at), out)
	default:
		if out.DType == pte.XNNF32 {
			b.dequantise(x, out.at)
			return
		}
		b.node("aten::_to_copy.out", b.dequantised(x), b.g.AddBool(false), b.g.AddNone(), out.at)
	}
}

// resized gives a value the sizes of another one. The exporter writes those of the logical tensor even where images are
// channels-last, and XNNPACK computes its own.
func (b *xnnBuilder) resized(v, like *xnnValue) {
	t := b.g.Values[v.at]
	if v.Flags != 0 || len(v.Dims) != len(like.Dims) || numel64(t.Sizes) != b.g.Values[like.at].NumElements() || slices.Equal(v.Dims, like.Dims) {
		return
	}
	x := *v.XNNValue
	x.Dims, v.XNNValue = like.Dims, &x
	t.Sizes = slices.Clone(x.Dims)
	if v.scale >= 0 {
		rows := numel(x.Dims[:len(x.Dims)-v.NonBatch])
		b.g.Values[v.scale].Sizes, b.g.Values[v.zero].Sizes = []int{rows}, []int{rows}
	}
}

// cast32 returns v as f32, of any size the call may have.
func (b *xnnBuilder) cast32(v int) int {
	if b.g.Values[v].DType == F32 {
		return v
	}
	to := b.like(v, F32)
	b.node("aten::_to_copy.out", v, b.g.AddBool(false), b.g.AddNone(), to)
	return to
}

// lookup appends a function of one int8 value as a table.
func (b *xnnBuilder) lookup(x, out *xnnValue, f func(float32) float32) {
	table := make([]byte, 256)
	for i := range table {
		y := f(float32(int32(int8(i))-x.ZeroPoint) * x.Scale)
		q := math.RoundToEven(float64(float32(y*(1/out.Scale)) + float32(out.ZeroPoint))) // rounded after the zero point is added
		table[i] = byte(truncInt(min(max(q, math.MinInt8), math.MaxInt8)))
	}
	b.table(x.at, table, out)
}

// table appends a function of one int8 tensor, given by the result for each byte.
func (b *xnnBuilder) table(from int, results []byte, out *xnnValue) {
	t := b.constant(U8, []int{256}, &Data{key: fmt.Sprintf("%s %d table %d", b.key, b.index, out.ID), src: bytes.NewReader(results)})
	b.node("tabtune::lookup_i8.out", from, t, out.at)
}

// xnnReal returns the function of a node with one input on real numbers, or nil.
func xnnReal(n *pte.XNNNode) func(float32) float32 {
	wide := func(f func(float64) float64) func(float32) float32 {
		return func(x float32) float32 { return float32(f(float64(x))) }
	}
	switch n.Kind {
	case pte.XNNSigmoid:
		return wide(func(x float64) float64 { return 1 / (1 + math.Exp(-x)) })
	case pte.XNNTanh:
		return wide(math.Tanh)
	case pte.XNNFloor:
		return wide(math.Floor)
	case pte.XNNCeiling:
		return wide(math.Ceil)
	case pte.XNNSquareRoot:
		return wide(math.Sqrt)
	case pte.XNNReciprocalSquareRoot:
		return wide(func(x float64) float64 { return 1 / math.Sqrt(x) })
	case pte.XNNNegate:
		return func(x float32) float32 { return -x }
	case pte.XNNSquare:
		return func(x float32) float32 { return x * x }
	case pte.XNNAbs:
		return wide(math.Abs)
	case pte.XNNLog:
		return wide(math.Log)
	case pte.XNNExp:
		return wide(math.Exp)
	case pte.XNNSin:
		return wide(math.Sin)
	case pte.XNNCos:
		return wide(math.Cos)
	case pte.XNNGelu:
		return wide(func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x*math.Sqrt2/2)) })
	case pte.XNNHardswish:
		return func(x float32) float32 { return x * min(max(x+3, 0), 6) / 6 }
	case pte.XNNLeakyReLU:
		return func(x float32) float32 {
			if x < 0 {
				return x * n.Alpha
			}
			return x
		}
	case pte.XNNELU:
		return func(x float32) float32 {
			if x < 0 {
				return n.Alpha * float32(math.Expm1(float64(x)))
			}
			return x
		}
	case pte.XNNClamp:
		return func(x float32) float32 {
			if n.Clamp {
				x = min(max(x, n.Min), n.Max)
			}
			return x
		}
	}
	return nil
}

// binaryQuantised appends an operation of two int8 values. Sums and products are XNNPACK's integer ones, the others are done on
// real numbers.
func (b *xnnBuilder) binaryQuantised(n *pte.XNNNode, op string, x, y, out *xnnValue) {
	if x.DType != pte.XNNQInt8 || y.DType != pte.XNNQInt8 || out.DType != pte.XNNQInt8 {
		b.fail("values of types %s, %s and %s", x.DType, y.DType, out.DType)
		return
	}
	g, zero := b.g, b.g.AddInt(int64(out.ZeroPoint))
	to := out.at
	if n.Clamp {
		to = b.like(out.at, I8)
	}
	switch n.Kind {
	case pte.XNNAdd, pte.XNNSubtract:
		s := y.Scale
		if n.Kind == pte.XNNSubtract {
			s = -s
		}
		a, ok := qs8AddParams(x.Scale/out.Scale, s/out.Scale, x.ZeroPoint, y.ZeroPoint)
		if !ok {
			b.fail("scales %v and %v with %v are outside of what int8 sums take", x.Scale, y.Scale, out.Scale)
			return
		}
		b.node("tabtune::add_qs8.out", x.at, y.at, g.AddInts(a[:]...), zero, to)
	case pte.XNNMultiply:
		b.node("tabtune::mul_qs8.out", x.at, y.at, g.AddInt(int64(x.ZeroPoint)), g.AddInt(int64(y.ZeroPoint)),
			g.AddFloat(float64(x.Scale*y.Scale/out.Scale)), zero, to)
	default:
		r := b.like(out.at, F32)
		b.node(op, b.dequantised(x), b.dequantised(y), r)
		b.node("tabtune::quantize_i8.out", r, g.AddFloat(float64(1/out.Scale)), zero, to)
	}
	if n.Clamp {
		lo, hi := out.quantise(n.Min), out.quantise(n.Max)
		table := make([]byte, 256)
		for i := range table {
			table[i] = byte(min(max(int64(int8(i)), lo), hi))
		}
		b.table(to, table, out)
	}
}

// qs8AddParams returns bias, both multipliers and the shift of (bias + a*am + b*bm) >> shift for factors of 2^-10 to 2^8.
func qs8AddParams(a, b float32, aZero, bZero int32) (p [4]int64, ok bool) {
	abs := func(x float32) float32 { return max(x, -x) }
	top := max(abs(a), abs(b))
	if !(top < 256) || !(min(abs(a), abs(b)) >= 1.0/1024) {
		return p, false
	}
	shift := 20 - math.Ilogb(float64(top))
	am := int64(math.RoundToEven(math.Ldexp(float64(a), shift)))
	bm := int64(math.RoundToEven(math.Ldexp(float64(b), shift)))
	bias := int64(1)<<(shift-1) - am*int64(aZero) - bm*int64(bZero)
	return [4]int64{bias, am, bm, int64(shift)}, true
}

// nibbles reads packed 4-bit numbers with a zero point of 8 as int8, the low one first. Rows of odd length have a nibble to spare.
type nibbles struct {
	src io.ReaderAt
	off int64
	row int64 // numbers in a row
}

func (r nibbles) ReadAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		at := off + int64(done)
		row, col := at/r.row, at%r.row
		n := int(min(int64(len(p)-done), r.row-col))
		packed := make([]byte, (col+int64(n)+1)/2-col/2)
		if _, err := readAtFull(r.src, packed, r.off+row*((r.row+1)/2)+col/2); err != nil {
			return done, err
		}
		for i := range n {
			b := packed[(col+int64(i))/2-col/2]
			if (col+int64(i))%2 == 1 {
				b >>= 4
			}
			p[done+i] = byte(int8(b&15) - 8)
		}
		done += n
	}
	return len(p), nil
}

// weight8 returns a constant filter as int8 [out, ...]; 4-bit ones are unpacked.
func (b *xnnBuilder) weight8(w *xnnValue) int {
	v := b.g.Values[w.at]
	if v.Role != RoleConst {
		b.fail("the filter is not a constant")
		return w.at
	}
	if numel64(w.Dims) == 0 { // its other sizes are bounded by no data
		b.fail("empty filter of %v", w.Dims)
		return w.at
	}
	if w.DType != pte.XNNQCInt4 && w.DType != pte.XNNQBInt4 {
		return w.at
	}
	if v.Data.src == nil || w.Dims[1] == 0 {
		b.fail("4-bit filter of %v in device memory", w.Dims)
		return w.at
	}
	return b.constant(I8, w.Dims, &Data{key: v.Data.key + " as int8", src: nibbles{v.Data.src, v.Data.off, int64(w.Dims[1])}})
}

// channelScales returns a filter's scale for each of n outputs.
func (b *xnnBuilder) channelScales(w *xnnValue, n, dim int) []float32 {
	if w.DType == pte.XNNQInt8 {
		if w.ZeroPoint != 0 {
			b.fail("filter with a zero point of %d", w.ZeroPoint)
		}
		s := make([]float32, n)
		for i := range s {
			s[i] = w.Scale
		}
		return s
	}
	s := b.scales(w)
	if b.err == nil && (len(s) != n || w.Channel != dim) {
		b.fail("%d scales along dimension %d for %d outputs", len(s), w.Channel, n)
	}
	return s
}

// requantisation adds the factors from sums to the output's numbers.
func (b *xnnBuilder) requantisation(x, w, out *xnnValue, n, dim int) int {
	s := b.channelScales(w, n, dim)
	f := make([]float32, len(s))
	for i := range s {
		f[i] = x.Scale * s[i] / out.Scale
	}
	return b.floats(fmt.Sprintf("requantisation %d", out.ID), f)
}

func biasOrNone(b *xnnBuilder, bias *xnnValue, want DType) int {
	if bias == nil {
		return b.g.AddNone()
	}
	if dt := b.g.Values[bias.at].DType; dt != want {
		if want == F32 && isFloat(dt) {
			return b.cast(bias.at, F32)
		}
		b.fail("bias of %s, want %s", dtypeName(dt), dtypeName(want))
	}
	return bias.at
}

// linearQuantised appends a product of int8 rows with an int8 or 4-bit filter.
func (b *xnnBuilder) linearQuantised(n *pte.XNNNode, x, w, bias, out *xnnValue) {
	if len(w.Dims) != 2 || len(x.Dims) < 1 || n.Flags&pte.XNNTransposeWeights != 0 {
		b.fail("filter of %v with flags %#x", w.Dims, n.Flags)
		return
	}
	oc, k := w.Dims[0], w.Dims[1]
	g, weight := b.g, b.weight8(w)
	switch {
	case b.err != nil:
	case x.DType == pte.XNNQInt8 && out.DType == pte.XNNQInt8 && (w.DType == pte.XNNQCInt8 || w.DType == pte.XNNQInt8):
		lo, hi := b.range8(n, out)
		scale := b.requantisation(x, w, out, oc, 0)
		b.node("tabtune::linear_qs8.out", x.at, weight, biasOrNone(b, bias, I32), scale, g.AddInt(int64(x.ZeroPoint)), g.AddInt(int64(out.ZeroPoint)), lo, hi,
			b.rowColumns(k), out.at)
	case x.DType == pte.XNNQDInt8 && x.NonBatch == 1 && xnnFloat(out.DType):
		to, block := out.at, 0
		if out.DType != pte.XNNF32 {
			to = b.like(out.at, F32)
		}
		var scale int
		if w.DType == pte.XNNQBInt4 {
			block = w.Block
			scale = b.blockScales(w, oc, k)
		} else {
			scale = b.floats(fmt.Sprintf("scales %d", w.ID), b.channelScales(w, oc, 0))
		}
		y := to
		if n.Clamp {
			y = b.like(out.at, F32)
		}
		b.node("tabtune::linear_qd8.out", x.at, x.scale, x.zero, weight, scale, biasOrNone(b, bias, F32), g.AddInt(int64(block)), b.rowColumns(k), b.temp(F32, numel(x.Dims[:len(x.Dims)-1])), y)
		if n.Clamp {
			b.node("aten::clamp.out", y, g.AddFloat(float64(n.Min)), g.AddFloat(float64(n.Max)), to)
		}
		if to != out.at {
			b.node("aten::_to_copy.out", to, g.AddBool(false), g.AddNone(), out.at)
		}
	default:
		b.fail("values of types %s, %s and %s", x.DType, w.DType, out.DType)
	}
}

// rowColumns adds the scratch memory for rows of k int8 as int16.
func (b *xnnBuilder) rowColumns(k int) int {
	k8 := (k + 7) &^ 7
	return b.g.temp(I16, pte.Static, int(min(numel64([]int{k8, columnRows(k8, 2)}), math.MaxInt32)))
}

// blockScales returns the scales of a blockwise filter as [k/block, out].
func (b *xnnBuilder) blockScales(w *xnnValue, oc, k int) int {
	s := b.scales(w)
	if b.err != nil {
		return 0
	}
	if w.Block < 8 || w.Block%8 != 0 || k%w.Block != 0 || w.Channel != 0 || len(s) != k/w.Block*oc {
		b.fail("%d scales of blocks of %d for a filter of %v", len(s), w.Block, w.Dims)
		return 0
	}
	blocks := k / w.Block
	t := make([]float32, len(s))
	for o := range oc {
		for i := range blocks {
			t[i*oc+o] = s[o*blocks+i]
		}
	}
	return b.floats(fmt.Sprintf("block scales %d", w.ID), t)
}
