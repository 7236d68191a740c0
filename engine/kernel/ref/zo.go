package ref

import (
	"math"

	"tabtune/engine/kernel/code"
)

// Key is a seed prepared for the counter-based hash of c/zo.c.
type Key struct{ k1, k2 uint32 }

func mix(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x21f0aaad
	x ^= x >> 15
	x *= 0x735a2d97
	return x ^ x>>15
}

// NewKey prepares a seed.
func NewKey(seed int64) Key {
	k1 := mix(uint32(seed) ^ 0x9e3779b9)
	return Key{k1, mix(k1 + 0x85ebca6b + uint32(uint64(seed)>>32))}
}

// Hash is H(i) of the seed.
func (k Key) Hash(i uint32) uint32 { return mix(mix(i+k.k1) ^ k.k2) }

// Uniforms are u1 in (0, 1] and u2 in [0, 1] of element e.
func (k Key) Uniforms(e uint32) (u1, u2 float32) {
	return (float32(k.Hash(2*e)) + 1) * 0x1p-32, float32(k.Hash(2*e+1)) * 0x1p-32
}

// Noise is element e of the seed's noise; bit for bit what c/zo.c makes.
func (k Key) Noise(distribution int32, e uint32) float32 {
	if distribution == code.ZoRademacher {
		if k.Hash(2*e)>>31 == 1 {
			return -1
		}
		return 1
	}
	u1, u2 := k.Uniforms(e)
	radius := float32(math.Sqrt(float64(float32(-2 * Log(u1)))))
	return radius * Cos(6.28318531*u2)
}

// Noise is elements base to base+n-1 of the seed's noise.
func Noise(distribution int32, seed, base int64, n int) []float32 {
	k, z := NewKey(seed), make([]float32, n)
	for i := range z {
		z[i] = k.Noise(distribution, uint32(base)+uint32(i))
	}
	return z
}

// Perturb is the kernel mplora_perturb: the replicas of b, one after the other.
func Perturb(distribution int32, b []float32, seeds []int64, eps float32, base int64, sides int32) []float32 {
	var dst []float32
	if sides == 1 {
		dst = append(dst, b...)
	}
	add := func(eps float32) {
		for _, seed := range seeds {
			for i, z := range Noise(distribution, seed, base, len(b)) {
				dst = append(dst, b[i]+float32(eps*z))
			}
		}
	}
	add(eps)
	if sides == 2 {
		add(-eps)
	}
	return dst
}

// Update is the kernel zo_update: b -= sum of coefs[j] times the noise of seeds[j].
func Update(distribution int32, b []float32, seeds []int64, coefs []float32, base int64) {
	sum := make([]float32, len(b))
	for j, seed := range seeds {
		for i, z := range Noise(distribution, seed, base, len(b)) {
			sum[i] += float32(coefs[j] * z)
		}
	}
	for i := range b {
		b[i] -= sum[i]
	}
}

// AXPY is the kernel zo_axpy: w += scale times the noise of the seed.
func AXPY(distribution int32, w []float32, seed int64, scale float32, base int64) {
	for i, z := range Noise(distribution, seed, base, len(w)) {
		w[i] += float32(scale * z)
	}
}
