package engine

import (
	"slices"

	"tabtune/engine/kernel/code"
)

// fuseNoise matches the seeded normal of package lora where it updates a mutable
// buffer and where it perturbs it:
//
//	b <- b - mm(coefs, z(lastSeeds))
//	cat(b + eps z(seeds), b - eps z(seeds)), cat(b, b + eps z) or b + eps z
//
// The hash that makes z is some forty operators on int64 tensors; the kernels
// compute it in registers and never store z.
func fuseNoise(g *Graph) (int, error) {
	r := newRewriter(g)
	fresh := map[int]int{} // b - step, and views of it -> buffer
	m := noiseMatcher{g: g, keys: map[int]keyMatch{}}
	for _, n := range g.Nodes {
		switch n.Op {
		case "aten::copy_":
			buf := n.Args[0]
			now := g.behindViews(n.Args[1])
			sub := g.made(now, "aten::sub.out")
			if sub == nil || g.behindViews(sub.Args[0]) != buf || g.Values[buf].DType != F32 {
				continue
			}
			if alpha, ok := g.ConstFloat(sub.Args[2]); !ok || alpha != 1 {
				continue
			}
			mm := g.made(sub.Args[1], "aten::mm.out")
			if mm == nil {
				continue
			}
			z, ok := m.noise(mm.Args[1])
			if !ok || z.count != g.Values[buf].NumElements() {
				continue
			}
			fresh[now] = buf
			r.replace(n, r.node("tabtune::zo_update_", buf, z.seeds, g.behindViews(mm.Args[0]), g.AddInt(z.base), g.AddInt(z.distribution)))
		case "aten::view_copy.out":
			out := n.Args[len(n.Args)-1]
			if p, ok := m.perturbed(n.Args[0], fresh); ok {
				r.replace(n, r.node("tabtune::perturb.out", p.buf, p.z.seeds, p.eps, g.AddInt(p.z.base), g.AddInt(p.sides), g.AddInt(p.z.distribution), out))
			}
		}
	}
	if _, err := r.apply(); err != nil {
		return 0, err
	}
	return len(r.with), nil
}

type noiseMatcher struct {
	g    *Graph
	keys map[int]keyMatch
}

// noiseMatch is z f32[q,count] of seeds i64[q], from element base of the stream,
// normal or Rademacher (code.ZoNormal, code.ZoRademacher).
type noiseMatch struct {
	seeds        int
	base, count  int64
	distribution int64
}

type perturbMatch struct {
	buf, eps int
	z        noiseMatch
	sides    int64
}

// perturbed matches the replicas of a fresh buffer. A perturbation whose update
// was not fused is not fused either: it reads the value before the copy.
func (m *noiseMatcher) perturbed(v int, fresh map[int]int) (p perturbMatch, ok bool) {
	g := m.g
	cat := g.made(v, "aten::cat.out")
	if cat == nil {
		p, _, ok = m.moved(v, fresh)
		return p, ok && len(g.Values[p.z.seeds].Sizes) == 1 && g.Values[p.z.seeds].Sizes[0] == 1
	}
	list := g.Values[cat.Args[0]].List
	if dim, ok := g.ConstInt(cat.Args[1]); !ok || dim != 0 || len(list) != 2 {
		return p, false
	}
	plus, sign, ok := m.moved(list[1], fresh)
	if !ok {
		return p, false
	}
	if buf, one := fresh[list[0]]; one && sign > 0 && buf == plus.buf {
		plus.sides = 1
		return plus, true
	}
	p, first, ok := m.moved(list[0], fresh)
	if !ok || first < 0 || sign > 0 || p != plus {
		return p, false
	}
	p.sides = 2
	return p, true
}

// moved matches b + eps z (sign 1) and b - eps z (sign -1), written -(eps z) + b.
func (m *noiseMatcher) moved(v int, fresh map[int]int) (p perturbMatch, sign int, ok bool) {
	g := m.g
	ez, b, ok := g.sum(v)
	if !ok {
		return p, 0, false
	}
	if p.buf, ok = fresh[b]; !ok {
		return p, 0, false
	}
	sign = 1
	if n := g.made(ez, "aten::neg.out"); n != nil {
		ez, sign = n.Args[0], -1
	}
	mul := g.made(ez, "aten::mul.out")
	if mul == nil || g.Values[mul.Args[1]].NumElements() != 1 {
		return p, 0, false
	}
	p.eps = mul.Args[1]
	p.z, ok = m.noise(mul.Args[0])
	return p, sign, ok && p.z.count == g.Values[p.buf].NumElements()
}

const (
	unit32 = 1.0 / (1 << 32)
	twoPi  = 6.2831854820251464844 // 2 pi as an f32
	low32  = 0xFFFFFFFF
)

// noise matches sqrt(-2 log((h1+1)/2^32)) * cos(2 pi h2/2^32), h1 = H(2e), h2 = H(2e+1),
// or 1 - 2 (h1 >> 31).
func (m *noiseMatcher) noise(v int) (z noiseMatch, ok bool) {
	g := m.g
	mul := g.made(v, "aten::mul.out")
	if mul == nil {
		return m.signs(v)
	}
	root, wave := g.made(mul.Args[0], "aten::sqrt.out"), g.made(mul.Args[1], "aten::cos.out")
	if root == nil || wave == nil {
		return z, false
	}
	l, ok := g.scalarOp(root.Args[0], "aten::mul.Scalar_out", -2)
	if !ok {
		return z, false
	}
	log := g.made(l, "aten::log.out")
	if log == nil {
		return z, false
	}
	u1, ok1 := g.scalarOp(log.Args[0], "aten::mul.Scalar_out", unit32)
	u2, ok2 := g.scalarOp(wave.Args[0], "aten::mul.Scalar_out", twoPi)
	if !ok1 || !ok2 {
		return z, false
	}
	if u1, ok1 = g.scalarOp(u1, "aten::add.Scalar_out", 1); !ok1 {
		return z, false
	}
	if u2, ok2 = g.scalarOp(u2, "aten::mul.Scalar_out", unit32); !ok2 {
		return z, false
	}
	a, from, end, ok1 := m.uniform(u1)
	b, from2, end2, ok2 := m.uniform(u2)
	ok = ok1 && ok2 && a == b && from%2 == 0 && from2 == from+1 && end2 == end+1 && (end-from)%2 == 0
	return noiseMatch{a, from / 2, (end - from) / 2, int64(code.ZoNormal)}, ok
}

// signs matches 1 - 2 (h1 >> 31).
func (m *noiseMatcher) signs(v int) (z noiseMatch, ok bool) {
	g := m.g
	twice, ok := g.scalarOp(v, "aten::add.Scalar_out", 1)
	if !ok {
		return z, false
	}
	f, ok := g.scalarOp(twice, "aten::mul.Scalar_out", -2)
	if !ok {
		return z, false
	}
	bit, ok := g.converted(f)
	if !ok {
		return z, false
	}
	h, ok := g.scalarOp(bit, "aten::bitwise_right_shift.Tensor_Scalar_out", 31)
	if !ok {
		return z, false
	}
	seeds, from, end, ok := m.stream(h)
	return noiseMatch{seeds, from / 2, (end - from) / 2, int64(code.ZoRademacher)}, ok && from%2 == 0 && (end-from)%2 == 0
}

// uniform matches f32(H(arange(from, end, 2))).
func (m *noiseMatcher) uniform(v int) (seeds int, from, end int64, ok bool) {
	g := m.g
	h, ok := g.converted(v)
	if !ok {
		return 0, 0, 0, false
	}
	return m.stream(h)
}

// stream matches H(arange(from, end, 2)).
func (m *noiseMatcher) stream(h int) (seeds int, from, end int64, ok bool) {
	g := m.g
	x, ok := m.mix(h)
	if !ok {
		return 0, 0, 0, false
	}
	xor := g.made(x, "aten::bitwise_xor.Tensor_out")
	if xor == nil {
		return 0, 0, 0, false
	}
	k2, ok := m.key(xor.Args[1])
	if !ok || !k2.second {
		return 0, 0, 0, false
	}
	inner, ok := m.mix(xor.Args[0])
	if !ok {
		return 0, 0, 0, false
	}
	sum, ok := g.scalarOp(inner, "aten::bitwise_and.Scalar_out", low32)
	if !ok {
		return 0, 0, 0, false
	}
	i, k, ok := g.sum(sum)
	if !ok {
		return 0, 0, 0, false
	}
	k1, ok := m.key(k)
	if !ok || k1.second || k1.seeds != k2.seeds {
		return 0, 0, 0, false
	}
	n := g.made(g.behindViews(i), "aten::arange.start_out")
	if n == nil {
		return 0, 0, 0, false
	}
	from, ok1 := g.ConstInt(n.Args[0])
	end, ok2 := g.ConstInt(n.Args[1])
	step, ok3 := g.ConstInt(n.Args[2])
	shape := g.Values[i].Sizes
	return k1.seeds, from, end, ok1 && ok2 && ok3 && step == 2 && len(shape) == 2 && shape[0] == 1
}

// keyMatch is k1 or k2 of seeds, viewed as [q,1].
type keyMatch struct {
	seeds  int
	second bool
	ok     bool
}

func (m *noiseMatcher) key(v int) (keyMatch, bool) {
	if k, ok := m.keys[v]; ok {
		return k, k.ok
	}
	k := m.matchKey(v)
	m.keys[v] = k
	return k, k.ok
}

func (m *noiseMatcher) matchKey(v int) keyMatch {
	g := m.g
	shape := g.Values[v].Sizes
	raw := g.behindViews(v)
	if len(shape) != 2 || shape[1] != 1 {
		return keyMatch{}
	}
	if seeds, ok := m.firstKey(raw); ok {
		return keyMatch{seeds: seeds, ok: true}
	}
	x, ok := m.mix(raw)
	if !ok {
		return keyMatch{}
	}
	sum, ok := g.scalarOp(x, "aten::bitwise_and.Scalar_out", low32)
	if !ok {
		return keyMatch{}
	}
	a, hi, ok := g.sum(sum)
	if !ok {
		return keyMatch{}
	}
	k1, ok := g.scalarOp(a, "aten::add.Scalar_out", 0x85EBCA6B)
	if !ok {
		return keyMatch{}
	}
	seeds, ok := m.firstKey(k1)
	if !ok {
		return keyMatch{}
	}
	shifted, ok := g.scalarOp(hi, "aten::bitwise_and.Scalar_out", low32)
	if !ok {
		return keyMatch{}
	}
	s, ok := g.scalarOp(shifted, "aten::bitwise_right_shift.Tensor_Scalar_out", 32)
	return keyMatch{seeds: seeds, second: true, ok: ok && s == seeds}
}

// firstKey matches mix((seeds & low32) ^ 0x9E3779B9).
func (m *noiseMatcher) firstKey(v int) (seeds int, ok bool) {
	g := m.g
	x, ok := m.mix(v)
	if !ok {
		return 0, false
	}
	low, ok := g.scalarOp(x, "aten::bitwise_xor.Scalar_out", 0x9E3779B9)
	if !ok {
		return 0, false
	}
	seeds, ok = g.scalarOp(low, "aten::bitwise_and.Scalar_out", low32)
	return seeds, ok && g.Values[seeds].DType == I64 && g.rank(seeds) == 1
}

// mix matches the 32-bit finaliser and returns what went in.
func (m *noiseMatcher) mix(v int) (x int, ok bool) {
	v, ok = m.xorShift(v, 15)
	for _, step := range []struct {
		factor float64
		shift  float64
	}{{0x735a2d97, 15}, {0x21f0aaad, 16}} {
		if !ok {
			return 0, false
		}
		if v, ok = m.g.scalarOp(v, "aten::bitwise_and.Scalar_out", low32); !ok {
			return 0, false
		}
		if v, ok = m.g.scalarOp(v, "aten::mul.Scalar_out", step.factor); !ok {
			return 0, false
		}
		v, ok = m.xorShift(v, step.shift)
	}
	return v, ok
}

// xorShift matches x ^ (x >> by).
func (m *noiseMatcher) xorShift(v int, by float64) (x int, ok bool) {
	n := m.g.made(v, "aten::bitwise_xor.Tensor_out")
	if n == nil {
		return 0, false
	}
	for _, s := range [][2]int{{n.Args[0], n.Args[1]}, {n.Args[1], n.Args[0]}} {
		if y, ok := m.g.scalarOp(s[1], "aten::bitwise_right_shift.Tensor_Scalar_out", by); ok && y == s[0] {
			return s[0], slices.Contains([]DType{I64}, m.g.Values[v].DType)
		}
	}
	return 0, false
}
