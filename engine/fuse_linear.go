package engine

import "tabtune/engine/pte"

// fuseLinear matches linear layers whose weight is dequantised in the graph: int8
// with a scale for each output channel, and 4-bit groups of 32 with scale and
// minimum. The activations are quantised to nearly 16 bits a row, once for all layers
// that read them, and multiplied with the weights as stored.
func fuseLinear(g *Graph) (int, error) {
	r := newRewriter(g)
	quantised := map[[2]int][3]int{} // x and whether with sums -> q, scale, sums
	for _, n := range g.Nodes {
		if n.Op != "aten::linear.out" || n.Args[2] >= 0 && g.Values[n.Args[2]].Kind != KindNone {
			continue
		}
		x, w, out := n.Args[0], n.Args[1], n.Args[3]
		if g.Values[x].DType != F32 || g.Values[out].DType != F32 || len(g.Values[w].Sizes) != 2 || !contiguousOrder(g.Values[x].DimOrder, g.Values[x].Sizes) {
			continue
		}
		k := g.Values[w].Sizes[1]
		i8, scale, okI8 := g.int8Weight(w)
		q4, okQ4 := g.q4Weight(w)
		if k > maxIntK || k == 0 || !okI8 && !okQ4 {
			continue
		}
		key := [2]int{x, 0}
		if okQ4 {
			key[1] = 1
		}
		q, have := quantised[key]
		if have && !g.unchanged(x) {
			have = false
		}
		var nodes []*Node
		if !have {
			rows := int(g.Values[x].NumElements()) / k
			dyn := pte.DynamicBound
			if g.Values[x].IsStatic() {
				dyn = pte.Static
			}
			q = [3]int{g.temp(I16, dyn, rows, (k+7)&^7), g.temp(F32, dyn, rows), -1}
			sums := g.AddNone()
			if okQ4 {
				sums = g.temp(I32, dyn, rows, (k+31)/32)
			}
			q[2] = sums
			nodes = append(nodes, r.node("tabtune::quantize_rows.out", x, q[0], q[1], sums))
			quantised[key] = q
		}
		if okI8 {
			nodes = append(nodes, r.node("tabtune::linear_i8.out", x, q[0], q[1], i8, scale, out))
		} else {
			nodes = append(nodes, r.node("tabtune::linear_q4.out", x, q[0], q[1], q[2], q4[0], q4[1], q4[2], out))
		}
		r.replace(n, nodes...)
	}
	return r.apply()
}

// maxIntK is the longest row that the integer kernels take.
const maxIntK = 32768

// unchanged: x is written by one node only, so a quantised copy stays right.
func (g *Graph) unchanged(x int) bool {
	return len(g.Defs(x)) == 1 && g.Values[x].Role == RoleTemp || g.Values[x].Role == RoleInput && len(g.Defs(x)) == 0
}

// int8Weight matches w = dequantize_per_channel(int8 constant, scale, zero points 0 or None, axis 0).
func (g *Graph) int8Weight(w int) (q, scale int, ok bool) {
	n := g.made(w, "quantized_decomposed::dequantize_per_channel.out")
	if n == nil {
		return 0, 0, false
	}
	axis, okAxis := g.ConstInt(n.Args[3])
	q, scale = n.Args[0], n.Args[1]
	zero := n.Args[2] < 0 || g.Values[n.Args[2]].Kind == KindNone
	if !zero {
		b, ok := g.ConstData(n.Args[2], 1<<20)
		zero = ok
		for _, x := range b {
			zero = zero && x == 0
		}
	}
	return q, scale, okAxis && axis == 0 && zero && g.Values[q].DType == I8 && g.Values[q].Role == RoleConst && g.Values[scale].DType == F32 &&
		contiguousOrder(g.Values[q].DimOrder, g.Values[q].Sizes)
}

// q4Weight matches the unpacking of package lora: packed u8[out,in/2], of which
// byte j of a group's 16 has element j in its low and element j+16 in its high
// nibble, and f16 scale and minimum a group.
func (g *Graph) q4Weight(w int) (parts [3]int, ok bool) {
	x, _, ok := g.view(w)
	if !ok {
		return parts, false
	}
	scaled, least, ok := g.sum(x)
	if !ok {
		return parts, false
	}
	mul := g.made(scaled, "aten::mul.out")
	if mul == nil {
		return parts, false
	}
	nibbles, ok := g.converted(mul.Args[0])
	if !ok {
		return parts, false
	}
	cat := g.made(nibbles, "aten::cat.out")
	if cat == nil {
		return parts, false
	}
	list := g.Values[cat.Args[0]].List
	if dim, ok := g.ConstInt(cat.Args[1]); !ok || dim != 1 || len(list) != 2 {
		return parts, false
	}
	low, ok1 := g.scalarOp(list[0], "aten::bitwise_and.Scalar_out", 15)
	high, ok2 := g.scalarOp(list[1], "aten::bitwise_right_shift.Tensor_Scalar_out", 4)
	if !ok1 || !ok2 || low != high || g.rank(low) != 2 || g.Values[low].Sizes[1] != 16 {
		return parts, false
	}
	packed := g.behindViews(low)
	scale, ok1 := g.converted(mul.Args[1])
	minimum, ok2 := g.converted(least)
	if !ok1 || !ok2 {
		return parts, false
	}
	scale, minimum = g.behindViews(scale), g.behindViews(minimum)
	p, d, m, dense := g.Values[packed], g.Values[scale], g.Values[minimum], g.Values[w]
	k := dense.Sizes[1]
	fits := len(p.Sizes) == 2 && p.Sizes[0] == dense.Sizes[0] && p.Sizes[1]*2 == k && k%32 == 0 && p.DType == U8 &&
		d.DType == F16 && m.DType == F16 && d.NumElements() == p.NumElements()/16 && m.NumElements() == d.NumElements()
	for _, v := range []*Value{p, d, m} {
		fits = fits && v.Role == RoleConst && contiguousOrder(v.DimOrder, v.Sizes)
	}
	return [3]int{packed, scale, minimum}, fits
}

// converted matches a conversion to f32.
func (g *Graph) converted(v int) (x int, ok bool) {
	for _, op := range []string{"dim_order_ops::_to_dim_order_copy.out", "aten::_to_copy.out"} {
		if n := g.made(v, op); n != nil {
			return n.Args[0], g.Values[v].DType == F32
		}
	}
	return 0, false
}
