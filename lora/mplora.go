package lora

import (
	"math"

	"tabtune/engine/pte"
	"tabtune/internal/collect"
	"tabtune/lora/graph"
)

// linear is product, plus the layer's bias if it has one.
func (b *builder) linear(x *graph.Tensor, name, m string) *graph.Tensor {
	y := b.product(x, name, m)
	if c := &b.spec.Model; c.biased(m) {
		_, out := c.moduleSize(m)
		y = b.g.Add(y, b.g.External(name+".bias", pte.Float, out))
	}
	return y
}

// product is y = W x, plus (alpha/rank) B_j A x in replica j where module m has an
// adapter (MP-LoRA: W is read once for all replicas).
func (b *builder) product(x *graph.Tensor, name, m string) *graph.Tensor {
	g, s := b.g, b.spec
	in, out := s.Model.moduleSize(m)
	y := g.Linear(x, b.weight(name+".weight", out, in))
	at, ok := b.place[name]
	if !ok {
		return y
	}
	if b.tap != nil {
		b.tap(at, x)
	}
	scale := s.Alpha / float64(s.Rank)
	if p := s.Past; p != nil {
		xp := g.MulScalar(g.Linear(x, b.floats(p.A[at], p.Rank, in)), scale)
		y = g.Add(y, g.Linear(xp, b.floats(p.B[at], out, p.Rank)))
	}
	xa := g.MulScalar(g.Linear(x, b.matrixA(at)), scale)
	rank, o := graph.D(s.Rank), graph.D(out)
	if b.rep == nil { // inference: the one B
		return g.Add(y, g.Linear(xa, b.bufferB(name, out)))
	}
	r := s.Replicas()
	per := x.Shape[0].Over(r)
	delta := g.BMM(g.View(xa, graph.D(r), per, rank), b.rep[name])
	return g.Add(y, g.View(delta, x.Shape[0], o))
}

// weight returns W f32[out,in], dequantised in the graph.
func (b *builder) weight(name string, out, in int) *graph.Tensor {
	g := b.g
	switch b.spec.DType {
	case F32:
		return g.External(name, pte.Float, out, in)
	case Int8:
		return g.DequantizePerChannel(g.External(name, pte.Char, out, in), g.External(name+".scale", pte.Float, out))
	}
	// Q4_1: byte j of a group of 32 holds element j low and element j+16 high.
	groups := graph.D(out * in / 32)
	packed := g.View(g.External(name, pte.Byte, out, in/2), groups, graph.D(16))
	nib := g.Cat(1, g.AndScalar(packed, 15), g.ShiftRight(packed, 4))
	scale := g.Convert(g.View(g.External(name+".scale", pte.Half, out, in/32), groups, graph.D(1)), pte.Float)
	least := g.Convert(g.View(g.External(name+".min", pte.Half, out, in/32), groups, graph.D(1)), pte.Float)
	w := g.Add(g.Mul(g.Convert(nib, pte.Float), scale), least)
	return g.View(w, graph.D(out), graph.D(in))
}

func (b *builder) bufferB(name string, out int) *graph.Tensor {
	return b.g.Buffer(BufferName(name), pte.Float, nil, out, b.spec.Rank)
}

// BufferName is the fully qualified name of a module's mutable buffer B.
func BufferName(module string) string { return module + ".lora_B.weight" }

// MatrixA returns A f32[rank,in] of adapter i: uniform in +-1/sqrt(in), which is
// PEFT's default (kaiming_uniform_ with a = sqrt(5)), from the hash of the
// seeded normal.
func (s *Spec) MatrixA(i int) []float32 {
	if s.A != nil {
		return s.A[i]
	}
	a := s.Adapters()
	base := int64(0)
	for _, m := range a[:i] {
		base += int64(m.In) * int64(s.Rank)
	}
	key := newHash(s.Seed)
	bound := 1 / math.Sqrt(float64(a[i].In))
	out := make([]float32, s.Rank*a[i].In)
	for j := range out {
		u := float64(key.at(uint32(base+int64(j)))>>8) * (1.0 / (1 << 24))
		out[j] = float32((2*u - 1) * bound)
	}
	return out
}

func (b *builder) matrixA(i int) *graph.Tensor {
	if b.matrices[i] == nil {
		b.matrices[i] = floatBytes(b.spec.MatrixA(i))
	}
	return b.g.Const(pte.Float, b.matrices[i], b.spec.Rank, b.adapted[i].In)
}

const mask32 = 0xFFFFFFFF

// hash is the counter-based generator of the seeded normal: H(i) = mix(mix(i+k1)^k2).
type hash struct{ k1, k2 uint32 }

func newHash(seed int64) hash {
	k1 := mix32(uint32(seed) ^ 0x9E3779B9)
	return hash{k1, mix32(k1 + 0x85EBCA6B + uint32(seed>>32))}
}

func (h hash) at(i uint32) uint32 { return mix32(mix32(i+h.k1) ^ h.k2) }

func mix32(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x21f0aaad
	x ^= x >> 15
	x *= 0x735a2d97
	return x ^ x>>15
}

// mix is mix32 on i64 tensors that hold values below 2^32. The multipliers are
// below 2^31, so no product overflows i64.
func (b *builder) mix(x *graph.Tensor) *graph.Tensor {
	g := b.g
	x = g.Xor(x, g.ShiftRight(x, 16))
	x = g.AndScalar(g.MulScalar(x, int64(0x21f0aaad)), mask32)
	x = g.Xor(x, g.ShiftRight(x, 15))
	x = g.AndScalar(g.MulScalar(x, int64(0x735a2d97)), mask32)
	return g.Xor(x, g.ShiftRight(x, 15))
}

// keys returns k1 and k2 as [q,1] for seeds i64[q].
func (b *builder) keys(seeds *graph.Tensor) (k1, k2 *graph.Tensor) {
	g := b.g
	lo := g.AndScalar(seeds, mask32)
	hi := g.AndScalar(g.ShiftRight(seeds, 32), mask32)
	k1 = b.mix(g.XorScalar(lo, 0x9E3779B9))
	k2 = b.mix(g.AndScalar(g.Add(g.AddScalar(k1, int64(0x85EBCA6B)), hi), mask32))
	q := seeds.Shape[0]
	return g.View(k1, q, graph.D(1)), g.View(k2, q, graph.D(1))
}

// noise returns z f32[q,count]: element e of the stream starts at base.
// h1 = H(2e), h2 = H(2e+1); z = sqrt(-2 log((h1+1)/2^32)) cos(2 pi h2/2^32).
// Rademacher: z = 1 - 2 (h1 >> 31).
func (b *builder) noise(k1, k2 *graph.Tensor, base, count int64) *graph.Tensor {
	g := b.g
	stream := func(odd int64) *graph.Tensor {
		i := g.View(g.Arange(2*base+odd, 2*(base+count)+odd, 2), graph.D(1), graph.D(int(count)))
		return b.mix(g.Xor(b.mix(g.AndScalar(g.Add(i, k1), mask32)), k2))
	}
	if b.spec.Noise == Rademacher {
		return g.AddScalar(g.MulScalar(g.Convert(g.ShiftRight(stream(0), 31), pte.Float), -2.0), 1.0)
	}
	uniform := func(odd int64) *graph.Tensor { return g.Convert(stream(odd), pte.Float) }
	const unit = 1.0 / (1 << 32)
	u1 := g.MulScalar(g.AddScalar(uniform(0), 1.0), unit)
	u2 := g.MulScalar(uniform(1), unit)
	radius := g.Sqrt(g.MulScalar(g.Log(u1), -2.0))
	return g.Mul(radius, g.Cos(g.MulScalar(u2, float64(float32(2*math.Pi)))))
}

// adapters writes, for every module, B <- B - sum_j last_coefs[j] z(last_seeds[j]),
// and keeps the perturbed copies of the new B for linear.
func (b *builder) adapters(seeds, eps, lastSeeds, lastCoefs *graph.Tensor) {
	g, s := b.g, b.spec
	b.rep = map[string]*graph.Tensor{}
	q := graph.D(s.Queries)
	k1, k2 := b.keys(seeds)
	l1, l2 := b.keys(lastSeeds)
	coefs := g.View(lastCoefs, graph.D(1), q)
	for _, a := range b.adapted {
		collect.Now()
		count := int64(a.Out) * int64(s.Rank)
		flat := graph.D(int(count))
		buf := b.bufferB(a.Name, a.Out)
		step := g.MM(coefs, b.noise(l1, l2, a.Base, count)) // [1,count]
		now := g.Sub(g.View(buf, graph.D(1), flat), step)
		g.CopyInto(buf, g.View(now, graph.D(a.Out), graph.D(s.Rank)))
		ez := g.Mul(b.noise(k1, k2, a.Base, count), eps)
		var copies *graph.Tensor
		switch s.Sides {
		case TwoSided:
			copies = g.Cat(0, g.Add(ez, now), g.Add(g.Neg(ez), now))
		case OneSided:
			copies = g.Cat(0, now, g.Add(ez, now))
		case Single:
			copies = g.Add(ez, now)
		}
		shaped := g.View(copies, graph.D(s.Replicas()), graph.D(a.Out), graph.D(s.Rank))
		b.rep[a.Name] = g.Permute(shaped, 0, 2, 1)
	}
}
