package task

import (
	"math/bits"
	"math/rand/v2"
)

// Streams of the generator, one for each use, so that no two share numbers.
const (
	streamSplit   = 1 << 32
	streamVal     = 2 << 32
	streamReviews = 3 << 32
	streamEpoch   = 4 << 32 // plus the epoch
)

// rng is PCG-DXSM 128/64 as math/rand/v2's PCG has it (its output for a seed is
// fixed by Go's documentation), seeded with (seed, stream). Everything drawn
// from it is defined here and not by math/rand/v2, so an order never changes.
type rng struct{ pcg *rand.PCG }

func newRNG(seed int64, stream uint64) rng { return rng{rand.NewPCG(uint64(seed), stream)} }

// below returns a uniform number in [0, n): the high word of x*n for the first
// 64-bit x whose low word is at least 2^64 mod n (Lemire, arXiv 1805.10941).
func (r rng) below(n int) int {
	un := uint64(n)
	hi, lo := bits.Mul64(r.pcg.Uint64(), un)
	for limit := -un % un; lo < limit; {
		hi, lo = bits.Mul64(r.pcg.Uint64(), un)
	}
	return int(hi)
}

// perm is a permutation of 0..n-1: Fisher-Yates from the end, for i = n-1 to 1
// swap i with below(i+1).
func (r rng) perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := r.below(i + 1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}
