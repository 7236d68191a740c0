package engine

import (
	"fmt"
	"math"
	"slices"
)

// Attention and key/value caches of the llama library. Tensors are [batch, tokens, heads, dim], or [batch, heads, tokens, dim] for a
// quantised one that says so.

// attention is one call: where its arguments are and what they say.
type attention struct {
	q, k, v            *tensor
	mask               *tensor // f32[tokens, keys], added to the scores, or nil
	start              int     // position of the first query; keys before start + tokens are seen unless there is a mask
	causal             bool
	scale              float64
	tokensAt           int // the dimension of tokens
	batch, heads, dim  int
	tokens, keys, over int // over: key/value heads
}

// attention reads and checks a call; mask and what follows it stand at the given positions.
func (c *Call) attention(q, k, v *tensor, start, mask, causal, scale, tokensAt int) *attention {
	a := &attention{q: q, k: k, v: v, mask: c.OptT(mask), causal: c.Bool(causal), tokensAt: tokensAt}
	if q.dim() != 4 || k.dim() != 4 || !slices.Equal(k.sizes, v.sizes) || q.sizes[0] != k.sizes[0] || q.sizes[3] != k.sizes[3] {
		c.Fail("attention of %v to %v and %v", q.sizes, k.sizes, v.sizes)
		return nil
	}
	headsAt := 3 - tokensAt
	a.batch, a.tokens, a.heads, a.dim = q.sizes[0], q.sizes[tokensAt], q.sizes[headsAt], q.sizes[3]
	a.keys, a.over = k.sizes[tokensAt], k.sizes[headsAt]
	if a.over == 0 || a.heads%a.over != 0 {
		c.Fail("%d query heads for %d key/value heads", a.heads, a.over)
		return nil
	}
	at := c.Int(start)
	if at < 0 || at > math.MaxInt32 {
		c.failArg(start, "is %d", at)
		return nil
	}
	a.start = int(at)
	if a.mask != nil && a.mask.n == 0 {
		a.mask = nil
	}
	switch {
	case a.mask != nil && a.causal:
		c.Fail("a mask and causal attention exclude each other")
	case a.mask != nil && (a.mask.dim() != 2 || a.mask.dtype != F32 || a.mask.sizes[0] != a.tokens || a.mask.sizes[1] != a.keys):
		c.failArg(mask, "is %s%v for %d tokens and %d keys", dtypeName(a.mask.dtype), a.mask.sizes, a.tokens, a.keys)
	case a.mask == nil && a.start+a.tokens > a.keys:
		c.Fail("tokens %d to %d of %d keys", a.start, a.start+a.tokens, a.keys)
	case a.mask == nil:
		a.keys = a.start + a.tokens
	}
	a.scale = 1 / math.Sqrt(float64(a.dim))
	if !c.None(scale) {
		a.scale = c.Float(scale)
	}
	if c.failed() {
		return nil
	}
	return a
}

// ref computes the output from arrays of q, k and v in their own layouts.
func (a *attention) ref(c *Call, q, k, v *array, out *tensor) {
	var mask *array
	if a.mask != nil {
		mask = c.In(a.mask)
	}
	at := func(sizes []int, b, t, h int) int {
		if a.tokensAt == 2 {
			t, h = h, t
		}
		return ((b*sizes[1]+t)*sizes[2] + h) * a.dim
	}
	res := newArray(out.dtype, out.sizes)
	score := make([]float64, a.keys)
	for b := range a.batch {
		for h := range a.heads {
			for t := range a.tokens {
				n := a.keys
				if a.causal {
					n = a.start + t + 1
				}
				x := at(q.sizes, b, t, h)
				top := math.Inf(-1)
				for j := range n {
					y, dot := at(k.sizes, b, j, h/(a.heads/a.over)), 0.0
					for d := range a.dim {
						dot += q.f[x+d] * k.f[y+d]
					}
					score[j] = dot * a.scale
					if mask != nil {
						score[j] += mask.f[t*a.keys+j]
					}
					top = maxNaN(top, score[j])
				}
				sum := 0.0
				for j := range n {
					score[j] = math.Exp(score[j] - top)
					sum += score[j]
				}
				for d := range a.dim {
					y := 0.0
					for j := range n {
						y += score[j] * v.f[at(v.sizes, b, j, h/(a.heads/a.over))+d]
					}
					res.set(x+d, y/sum)
				}
			}
		}
	}
	c.Put(out, res)
}

// putCache copies tokens into a cache [batch, positions, heads, dim] from position at on.
func (c *Call) putCache(value, cache *tensor, at int) {
	row := int64(value.sizes[2]*value.sizes[3]) * int64(value.elem)
	size := int64(value.sizes[1]) * row
	if size == 0 {
		return
	}
	for b := range int64(value.sizes[0]) {
		to := (b*int64(cache.sizes[1]) + int64(at)) * row
		c.dev().MemCopy(cache.addr+addrOf(to), value.addr+addrOf(b*size), size)
	}
}

// cacheShape checks that the tokens of arg value fit a cache from position at on.
func (c *Call) cacheShape(value, cache int, at int64) {
	v, k := c.T(value), c.T(cache)
	if v.dim() != 4 || k.dim() != 4 || v.sizes[0] != k.sizes[0] || v.sizes[2] != k.sizes[2] || v.sizes[3] != k.sizes[3] || v.elem != k.elem {
		c.failArg(value, "is %s%v for a cache %s%v", dtypeName(v.dtype), v.sizes, dtypeName(k.dtype), k.sizes)
		return
	}
	if at < 0 || at+int64(v.sizes[1]) > int64(k.sizes[1]) {
		c.Fail("positions %d to %d of a cache of %d", at, at+int64(v.sizes[1]), k.sizes[1])
	}
}

// onlyRowMajor rejects other dim orders: caches are updated in place.
func onlyRowMajor(args ...int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		for _, i := range args {
			if v := g.Values[n.Args[i]]; v.Kind == KindTensor && !contiguousOrder(v.DimOrder, v.Sizes) {
				return fmt.Errorf("argument %d has dim order %v, only row-major is supported here", i, v.DimOrder)
			}
		}
		return nil
	}
}

func checkAttention(args ...int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		if err := sameFloat(args...)(g, n); err != nil {
			return err
		}
		return onlyRowMajor(append(args, 0)...)(g, n)
	}
}

func init() {
	Register(Op{Name: "llama::custom_sdpa.out", By: "SIMD f32", Check: checkAttention(1, 2, 8), Shape: func(c *Call) {
		c.attention(c.T(0), c.T(1), c.T(2), 3, 4, 6, 7, 1)
		shapeSame(c)
	}, Ref: func(c *Call) {
		a := c.attention(c.T(0), c.T(1), c.T(2), 3, 4, 6, 7, 1)
		a.ref(c, c.In(a.q), c.In(a.k), c.In(a.v), c.Out())
	}, Kernel: func(c *Call) bool { return c.attention(c.T(0), c.T(1), c.T(2), 3, 4, 6, 7, 1).kernel(c) }})

	// Arguments: query, key, value, key_cache, value_cache, start_pos, seq_len, attn_mask, dropout_p, is_causal, scale, out.
	Register(Op{Name: "llama::sdpa_with_kv_cache.out", By: "SIMD f32", Check: checkAttention(1, 2, 3, 4, 11), Shape: func(c *Call) {
		start, n := c.Int(5), c.Int(6)
		c.cacheShape(1, 3, start)
		c.cacheShape(2, 4, start)
		if k := c.T(3); !c.failed() && (n < 0 || start+n > int64(k.sizes[1]) || start >= int64(k.sizes[1])) {
			c.Fail("positions %d to %d of a cache of %d", start, start+n, k.sizes[1])
		}
		c.attention(c.T(0), c.T(3), c.T(4), 5, 7, 9, 10, 1)
		shapeSame(c)
	}, Ref: func(c *Call) {
		a := c.attention(c.T(0), c.T(3), c.T(4), 5, 7, 9, 10, 1)
		c.putCache(c.T(1), c.T(3), a.start)
		c.putCache(c.T(2), c.T(4), a.start)
		a.ref(c, c.In(a.q), c.In(a.k), c.In(a.v), c.Out())
	}, Kernel: func(c *Call) bool {
		a := c.attention(c.T(0), c.T(3), c.T(4), 5, 7, 9, 10, 1)
		if !a.hasKernel(c) {
			return false
		}
		c.putCache(c.T(1), c.T(3), a.start)
		c.putCache(c.T(2), c.T(4), a.start)
		return a.kernel(c)
	}})

	// Arguments: query, key, value, start_pos, attn_mask, dropout_p, is_causal, scale, zero points and scales of the three, tokens at
	// dimension 2, out.
	quantized := func(c *Call) *attention {
		at := 1
		if c.Bool(14) {
			at = 2
		}
		return c.attention(c.T(0), c.T(1), c.T(2), 3, 4, 6, 7, at)
	}
	Register(Op{Name: "llama::custom_quantized_sdpa.out", Check: func(g *Graph, n *Node) error {
		out := g.Values[n.Args[15]]
		if !isFloat(out.DType) {
			return errDType("out", out)
		}
		q := g.Values[n.Args[0]]
		for i := 1; i <= 2; i++ {
			if v := g.Values[n.Args[i]]; v.DType != q.DType {
				return fmt.Errorf("argument %d is %s, the query %s", i, dtypeName(v.DType), dtypeName(q.DType))
			}
		}
		if q.DType != I8 && q.DType != out.DType {
			return errDType("query", q)
		}
		return onlyRowMajor(0, 1, 2, 15)(g, n)
	}, Shape: func(c *Call) {
		a := quantized(c)
		if a == nil {
			return
		}
		for i, t := range []*tensor{a.q, a.k, a.v} {
			z, s := c.OptT(8+2*i), c.OptT(9+2*i)
			if t.dtype == I8 && (z == nil || s == nil || z.n != s.n || z.n != numel(t.sizes[:3]) || s.dtype != F32 || z.dtype != I8) {
				c.Fail("scales and zero points of %v", t.sizes)
				return
			}
		}
		shapeSame(c)
	}, Ref: func(c *Call) {
		a := quantized(c)
		real := func(i int, t *tensor) *array {
			x := c.In(t)
			if t.dtype != I8 {
				return x
			}
			z, s := c.In(c.T(8+2*i)), c.In(c.T(9+2*i))
			res := newArray(F32, x.sizes)
			for k := range x.len() {
				r := k / a.dim
				res.set(k, float64(x.i[k]-z.i[r])*s.f[r])
			}
			return res
		}
		a.ref(c, real(0, a.q), real(1, a.k), real(2, a.v), c.Out())
	}})
	// The output of the cache updates is a placeholder: what is used is the cache.
	put := func(c *Call) { c.putCache(c.T(0), c.T(1), int(c.Int(2))) }
	Register(Op{Name: "llama::update_cache.out", By: "scalar C, all types", Check: onlyRowMajor(0, 1), Shape: func(c *Call) { c.cacheShape(0, 1, c.Int(2)) }, Ref: put,
		Kernel: func(c *Call) bool { put(c); return true }})
	Register(Op{Name: "llama::update_cache_with_indices.out", Check: func(g *Graph, n *Node) error {
		if v := g.Values[n.Args[3]]; v.DType != I64 {
			return errDType("indices", v)
		}
		return onlyRowMajor(0, 1)(g, n)
	}, Shape: func(c *Call) {
		v, idx := c.T(0), c.T(3)
		if v.dim() != 4 || c.T(1).dim() != 4 || v.sizes[1] > c.T(1).sizes[1] {
			c.Fail("tokens %v for a cache %v", v.sizes, c.T(1).sizes)
			return
		}
		c.cacheShape(0, 1, 0)
		if !c.failed() && !slices.Equal(idx.sizes, v.sizes[:2]) {
			c.failArg(3, "has sizes %v, want %v", idx.sizes, v.sizes[:2])
		}
	}, Ref: func(c *Call) {
		v, cache, idx := c.T(0), c.T(1), c.In(c.T(3))
		row := int64(v.sizes[2]*v.sizes[3]) * int64(v.elem)
		for k, x := range idx.i {
			if x < 0 || x >= int64(cache.sizes[1]) {
				c.failArg(3, "element %d is %d, outside [0, %d)", k, x, cache.sizes[1])
				return
			}
		}
		for k, x := range idx.i {
			to := (int64(k/v.sizes[1]*cache.sizes[1]) + x) * row
			if row > 0 {
				c.dev().MemCopy(cache.addr+addrOf(to), v.addr+addrOf(int64(k)*row), row)
			}
		}
	}})
}
