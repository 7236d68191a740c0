package engine

import (
	"math"
	"math/bits"
	"slices"
)

// hadamard28 is the Hadamard matrix of order 28 that the stock runtime uses: bit j of entry i tells whether element i adds to (1) or
// is taken from (0) result j.
var hadamard28 = [28]uint32{0xcd69e01, 0x9ad7c02, 0x37ab884, 0x6d57188, 0xd8ae390, 0xb3587a0, 0x66b4f40, 0xb4640c3, 0x6ac8107, 0xd59020e, 0xab2441c, 0x564c838,
	0xac99070, 0x5b32061, 0x8607325, 0xe0a6ca, 0x1c10d95, 0x3821b2a, 0x7043654, 0xe082ca9, 0xc3019d2, 0x2f1299, 0x5e2532, 0x9c4ae4, 0x118d549, 0x211ea13, 0x403d4a6, 0x807a94c}

// hadamard transforms x, of a length that is a power of two, and divides by the root of the length.
func hadamard(x []float64) {
	for half := 1; half < len(x); half *= 2 {
		for i := 0; i < len(x); i += 2 * half {
			for k := i; k < i+half; k++ {
				x[k], x[k+half] = x[k]+x[k+half], x[k]-x[k+half]
			}
		}
	}
	root := math.Sqrt(float64(len(x)))
	for k := range x {
		x[k] /= root
	}
}

func init() {
	Register(Op{Name: "llama::fast_hadamard_transform.out", Check: sameFloat(1), Shape: func(c *Call) {
		in := c.T(0)
		if in.dim() > 0 && in.n > 0 {
			n := in.sizes[in.dim()-1]
			if n%28 == 0 {
				n /= 28
			}
			if bits.OnesCount(uint(n)) != 1 {
				c.Fail("rows of %d, want a power of two or 28 times one", in.sizes[in.dim()-1])
			}
		}
		shapeSame(c)
	}, Ref: func(c *Call) {
		a := c.In(c.T(0))
		if len(a.sizes) > 0 && a.len() > 0 {
			for row := range slices.Chunk(a.f, a.sizes[len(a.sizes)-1]) {
				if len(row)%28 != 0 {
					hadamard(row)
					continue
				}
				n := len(row) / 28
				for part := range slices.Chunk(row, n) {
					hadamard(part)
				}
				var in [28]float64
				for k := range n {
					for i := range in {
						in[i] = row[i*n+k]
					}
					for j := range in {
						sum := 0.0
						for i, x := range in {
							if hadamard28[i]>>j&1 == 0 {
								x = -x
							}
							sum += x
						}
						row[j*n+k] = sum
					}
				}
			}
		}
		res := newArray(a.dtype, a.sizes)
		for k, x := range a.f {
			res.set(k, x)
		}
		c.Put(c.Out(), res)
	}})
	for _, name := range []string{"llama::gated_delta_rule.out", "llama::channelwise_gated_delta_rule.out"} {
		Register(Op{Name: name, Check: sameFloat(1, 2, 3, 4, 5, 6, 7), Shape: deltaShape, Ref: deltaRule})
	}
}

// deltaShape: query [B, H, T, K], key [B, G, T, K], value [B, G, T, V], decay [B, G, T] or [B, G, T, K], beta [B, G, T], state [B, G, K, V].
func deltaShape(c *Call) {
	q, k, v, decay, beta, state := c.T(0), c.T(1), c.T(2), c.T(3), c.T(4), c.T(5)
	ok := q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && beta.dim() == 3 && state.dim() == 4 && k.sizes[1] > 0 && q.sizes[1]%k.sizes[1] == 0 &&
		q.sizes[0] == k.sizes[0] && slices.Equal(q.sizes[2:], k.sizes[2:]) && slices.Equal(k.sizes[:3], v.sizes[:3]) && slices.Equal(k.sizes[:3], beta.sizes) &&
		(slices.Equal(decay.sizes, beta.sizes) || slices.Equal(decay.sizes, k.sizes)) &&
		slices.Equal(state.sizes, []int{k.sizes[0], k.sizes[1], k.sizes[3], v.sizes[3]})
	if !ok {
		c.Fail("query %v, key %v, value %v, decay %v, beta %v, state %v", q.sizes, k.sizes, v.sizes, decay.sizes, beta.sizes, state.sizes)
		return
	}
	c.Resize(c.T(6), q.sizes[0], q.sizes[1], q.sizes[2], v.sizes[3])
	c.ResizeAs(c.T(7), state)
}

// deltaRule runs the gated delta rule token by token (Yang, Kautz and Hatamizadeh, arXiv 2412.06464): the state S decays, then
// S += k (beta (v - S^T k))^T, and the output is S^T q for each query head of the group.
func deltaRule(c *Call) {
	q, k, v, decay, beta, state := c.In(c.T(0)), c.In(c.T(1)), c.In(c.T(2)), c.In(c.T(3)), c.In(c.T(4)), c.In(c.T(5))
	groups, tokens, kd, vd := k.sizes[1], k.sizes[2], k.sizes[3], v.sizes[3]
	heads := q.sizes[1] / groups
	out := newArray(F32, c.T(6).sizes)
	for bg := range k.sizes[0] * groups {
		s := state.f[bg*kd*vd : (bg+1)*kd*vd]
		delta := make([]float64, vd)
		for t := range tokens {
			row := bg*tokens + t
			for i := range kd {
				g := decay.f[row*decay.len()/max(beta.len(), 1)]
				if len(decay.sizes) == 4 {
					g = decay.f[row*kd+i]
				}
				for j := range vd {
					s[i*vd+j] *= g
				}
			}
			for j := range vd {
				sum := 0.0
				for i := range kd {
					sum += s[i*vd+j] * k.f[row*kd+i]
				}
				delta[j] = beta.f[row] * (v.f[row*vd+j] - sum)
			}
			for i := range kd {
				for j := range vd {
					s[i*vd+j] += k.f[row*kd+i] * delta[j]
				}
			}
			for h := range heads {
				at := (bg*heads+h)*tokens + t
				for j := range vd {
					sum := 0.0
					for i := range kd {
						sum += s[i*vd+j] * q.f[at*kd+i]
					}
					out.set(at*vd+j, sum)
				}
			}
		}
	}
	res := newArray(F32, state.sizes)
	for k, x := range state.f {
		res.set(k, x)
	}
	c.Put(c.T(6), out)
	c.Put(c.T(7), res)
}
