package engine

import (
	"encoding/binary"

	"tabtune/engine/kernel"
)

// hasKernel reports whether the attention kernel covers the call: f32 without a mask.
func (a *attention) hasKernel(c *Call) bool {
	return f32All(a.q, a.k, a.v, c.Out()) && a.mask == nil && a.tokensAt == 1 && a.dim > 0
}

// kernel runs every query as a row that sees its sequence's first keys.
func (a *attention) kernel(c *Call) bool {
	if !a.hasKernel(c) {
		return false
	}
	out := c.Out()
	if out.n == 0 {
		return true
	}
	rows, keyRows := a.batch*a.tokens, a.batch*a.k.sizes[1]
	b := make([]byte, 16*rows)
	for r := range rows {
		n := a.keys
		if a.causal {
			n = a.start + r%a.tokens + 1
		}
		binary.LittleEndian.PutUint64(b[8*r:], uint64(r/a.tokens*a.k.sizes[1]))
		binary.LittleEndian.PutUint64(b[8*(rows+r):], uint64(n))
	}
	at := c.scratch(int64(len(b)))
	if c.failed() {
		return true
	}
	c.dev().Write(at, b)
	q, kv := int32(a.heads*a.dim), int32(a.over*a.dim)
	c.dev().F32AttentionRows(out.addr, q, a.q.addr, q, a.k.addr, kv, a.v.addr, kv, at, at+kernel.Addr(8*rows), int32(rows), int32(keyRows),
		int32(a.heads), int32(a.over), int32(a.dim), float32(a.scale))
	return true
}

// scratch returns device memory of at least n bytes, good until the next call of it.
func (c *Call) scratch(n int64) kernel.Addr {
	p := c.m.p
	if p.work.size < n {
		p.free(p.work)
		p.work = block{}
		addr, err := p.dev.Alloc(n, align)
		if err != nil {
			c.Fail("work space: %w", err)
			return 0
		}
		p.work = block{addr: addr, size: n, owned: true}
	}
	return p.work.addr
}
