package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// llama::quantized_moe_ffn: a layer of experts of which each token takes a few, with weights packed by torchao. As the stock runtime does
// on x86, weights are dequantised and products are of real numbers; on 64-bit ARM it quantises the activations too.

// moe holds the arguments.
type moe struct {
	tokens, dim, hidden, experts, active, group, bits int
	sigmoid                                           bool
	scale                                             float64
}

const (
	packedHeader = 64 // bytes before packed weights: their kind, and the parameters below
	packedRows   = 8  // outputs that lie together
	packedRun    = 8  // weights of one output that lie together
)

// packedBytes is the size of a packed filter of n outputs and k inputs: 4 or 8 bits a weight, an f32 scale and an i32 sum for each group.
func (m *moe) packedBytes(n, k int) int64 {
	rows := int64(n+packedRows-1) / packedRows * packedRows
	return packedHeader + rows*(int64(k)*int64(m.bits)/8+8*int64(k/m.group))
}

// unpack returns a packed filter's rows as real numbers. Blocks of 8 outputs and 16 inputs hold the first 8 weights of each output, then the
// other 8; 4-bit numbers i and i+16 of 32 share a byte, the lower one first.
func (m *moe) unpack(packed []byte, n, k int) []float64 {
	w := make([]float64, n*k)
	b := packed[packedHeader:]
	const block = 2 * packedRun * packedRows
	for row := 0; row < n; row += packedRows {
		for group := 0; group < k; group += m.group {
			q := b[:m.group*packedRows*m.bits/8]
			b = b[len(q):]
			scales := b[:4*packedRows]
			b = b[8*packedRows:]
			for r := range min(packedRows, n-row) {
				scale := float64(math.Float32frombits(binary.LittleEndian.Uint32(scales[4*r:])))
				for c := range m.group {
					at := c%(2*packedRun)/packedRun*packedRun*packedRows + r*packedRun + c%packedRun // in the block
					first := c / (2 * packedRun) * block * m.bits / 8
					var x int8
					if m.bits == 8 {
						x = int8(q[first+at])
					} else {
						x = int8(q[first+at/32*16+at%16]>>(at%32/16*4)&15) - 8
					}
					w[(row+r)*k+group+c] = roundFloat(F32, float64(x)*scale)
				}
			}
		}
	}
	return w
}

func (c *Call) moe() (m moe, ok bool) {
	x, gate, bias, w13, w2 := c.T(0), c.T(1), c.T(2), c.T(3), c.T(4)
	var size [6]int
	for i, name := range []string{"num_activated_experts", "num_experts", "hidden_dim", "dim", "group_size", "weight_nbit"} {
		v := c.Int(5 + i)
		if v < 1 || v > math.MaxInt32 {
			c.Fail("%s %d", name, v)
		}
		size[i] = int(v)
	}
	if c.failed() {
		return m, false
	}
	m = moe{active: size[0], experts: size[1], hidden: size[2], dim: size[3], group: size[4], bits: size[5], sigmoid: c.Str(11) == "sigmoid", scale: c.Float(12)}
	switch {
	case !m.sigmoid && c.Str(11) != "softmax":
		c.failArg(11, "is %q, want sigmoid or softmax", c.Str(11))
	case m.bits != 4 && m.bits != 8:
		c.failArg(10, "weights of %d bits, want 4 or 8", m.bits)
	case m.group%(2*packedRun) != 0 || m.dim%m.group != 0 || m.hidden%m.group != 0:
		c.failArg(9, "groups of %d for %d and %d inputs; want a multiple of 16 that divides both", m.group, m.dim, m.hidden)
	case int64(m.hidden)*int64(m.dim) > math.MaxInt32:
		c.failArg(7, "%d hidden numbers of %d inputs", m.hidden, m.dim)
	case m.active > m.experts:
		c.failArg(5, "%d of %d experts", m.active, m.experts)
	case x.dim() != 2 || x.sizes[1] != m.dim:
		c.failArg(0, "has sizes %v, want [tokens, %d]", x.sizes, m.dim)
	case !slices.Equal(gate.sizes, []int{m.experts, m.dim}):
		c.failArg(1, "has sizes %v, want [%d, %d]", gate.sizes, m.experts, m.dim)
	case bias.n > 0 && (!m.sigmoid || !slices.Equal(bias.sizes, []int{m.experts})):
		c.failArg(2, "has sizes %v, want [%d], or none with softmax", bias.sizes, m.experts)
	case w13.dim() != 2 || w13.sizes[0] != m.experts || int64(w13.sizes[1]) < m.packedBytes(2*m.hidden, m.dim):
		c.failArg(3, "has sizes %v, want [%d, %d]", w13.sizes, m.experts, m.packedBytes(2*m.hidden, m.dim))
	case w2.dim() != 2 || w2.sizes[0] != m.experts || int64(w2.sizes[1]) < m.packedBytes(m.dim, m.hidden):
		c.failArg(4, "has sizes %v, want [%d, %d]", w2.sizes, m.experts, m.packedBytes(m.dim, m.hidden))
	}
	m.tokens = x.sizes[0]
	return m, !c.failed()
}

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// route returns the experts of a token with the given scores, and the weights of their results.
func (m *moe) route(scores, bias []float64) (chosen []int, weights []float64) {
	order := make([]int, m.experts)
	rank := slices.Clone(scores)
	for e := range order {
		order[e] = e
		if m.sigmoid {
			scores[e] = roundFloat(F32, logistic(scores[e]))
			rank[e] = scores[e]
		}
		if len(bias) > 0 {
			rank[e] = roundFloat(F32, rank[e]+bias[e])
		}
		if rank[e] != rank[e] {
			rank[e] = math.Inf(-1)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { // the greatest first, of equal ones the first
		switch {
		case rank[a] > rank[b]:
			return -1
		case rank[a] < rank[b]:
			return 1
		}
		return 0
	})
	chosen = order[:m.active]
	weights = make([]float64, m.active)
	sum := 0.0
	for k, e := range chosen {
		weights[k] = scores[e]
		if !m.sigmoid {
			weights[k] = math.Exp(scores[e] - scores[chosen[0]])
		}
		sum += weights[k]
	}
	factor := 1 / sum
	if m.sigmoid {
		factor = m.scale / max(sum, 0x1p-126)
	}
	for k := range weights {
		weights[k] *= factor
	}
	return chosen, weights
}

func init() {
	Register(Op{Name: "llama::quantized_moe_ffn.out", Check: func(g *Graph, n *Node) error {
		for i, want := range []DType{F32, F32, F32, U8, U8} {
			if v := g.Values[n.Args[i]]; v.DType != want {
				return fmt.Errorf("argument %d is %s, want %s", i, dtypeName(v.DType), dtypeName(want))
			}
		}
		return checkSameType(g, n)
	}, Shape: func(c *Call) {
		if m, ok := c.moe(); ok {
			c.Resize(c.Out(), m.tokens, m.dim)
		}
	}, Ref: func(c *Call) {
		m, ok := c.moe()
		if !ok {
			return
		}
		x, gate, bias, w13, w2 := c.In(c.T(0)), c.In(c.T(1)), c.In(c.T(2)), c.Bytes(c.T(3)), c.Bytes(c.T(4))
		type row struct {
			token  int
			weight float64
		}
		rows := make([][]row, m.experts)
		scores := make([]float64, m.experts)
		for t := range m.tokens {
			for e := range scores {
				scores[e] = roundFloat(F32, dot(x.f[t*m.dim:(t+1)*m.dim], gate.f[e*m.dim:]))
			}
			chosen, weights := m.route(scores, bias.f)
			for k, e := range chosen {
				rows[e] = append(rows[e], row{t, weights[k]})
			}
		}
		sums := make([]float64, m.tokens*m.dim)
		mid := make([]float64, m.hidden)
		for e, list := range rows {
			if len(list) == 0 {
				continue
			}
			up := m.unpack(w13[e*len(w13)/m.experts:], 2*m.hidden, m.dim) // of both products, one after the other
			down := m.unpack(w2[e*len(w2)/m.experts:], m.dim, m.hidden)
			for _, r := range list {
				in := x.f[r.token*m.dim : (r.token+1)*m.dim]
				for j := range mid {
					v := dot(in, up[j*m.dim:])
					mid[j] = v * logistic(v) * dot(in, up[(m.hidden+j)*m.dim:])
				}
				for d := range m.dim {
					sums[r.token*m.dim+d] += r.weight * dot(mid, down[d*m.hidden:])
				}
			}
		}
		res := newArray(F32, c.Out().sizes)
		for k, s := range sums {
			res.set(k, s)
		}
		c.Put(c.Out(), res)
	}})
}

// dot is the product of a with as many elements of b.
func dot(a, b []float64) (sum float64) {
	for k, x := range a {
		sum += x * b[k]
	}
	return sum
}
