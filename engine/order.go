package engine

import (
	"slices"

	"tabtune/engine/kernel"
)

// Dim orders other than row-major. References see row-major elements always (Call.Bytes, Call.PutBytes). Kernels see tensors as they lie
// in memory; one that cannot is given row-major copies.

func readTensor(dev *kernel.Device, t *tensor) []byte {
	b := make([]byte, t.bytes())
	if len(b) == 0 {
		return b
	}
	dev.Read(b, t.addr)
	if contiguousOrder(t.order, t.sizes) {
		return b
	}
	return reorder(b, t.sizes, t.elem, orderStrides(t.sizes, t.order), stridesOf(t.sizes))
}

func writeTensor(dev *kernel.Device, t *tensor, b []byte) {
	if len(b) == 0 {
		return
	}
	if !contiguousOrder(t.order, t.sizes) {
		b = reorder(b, t.sizes, t.elem, stridesOf(t.sizes), orderStrides(t.sizes, t.order))
	}
	dev.Write(t.addr, b)
}

// reorder copies elements of a dense tensor from one layout to another; strides are in elements.
func reorder(b []byte, sizes []int, elem int, from, to []int) []byte {
	out := make([]byte, len(b))
	walk(sizes, func(off []int) {
		copy(out[off[1]*elem:(off[1]+1)*elem], b[off[0]*elem:])
	}, from, to)
	return out
}

// otherOrder reports whether a tensor of the node may lie in memory in another order than row-major.
func (g *Graph) otherOrder(n *Node) bool {
	found := false
	g.visit(n, func(v int, _, _ bool) {
		x := g.Values[v]
		found = found || x.Kind == KindTensor && !slices.IsSorted(x.DimOrder)
	})
	return found
}

// runKernel calls the operator's kernel, if it has one; with row-major copies where a tensor lies otherwise, unless the kernel handles any
// order, or the operator is elementwise and all tensors lie alike.
func (c *Call) runKernel() bool {
	op := c.n.op
	if op.Kernel == nil || c.m.p.opt.Reference {
		return false
	}
	if op.AnyOrder || !c.n.permuted && !c.m.moved { // a move can bring a tensor of another order
		return op.Kernel(c)
	}
	type use struct{ reads, writes bool }
	uses := map[*tensor]use{}
	var first *tensor
	alike, row := op.Elementwise, true
	c.m.g.visit(c.n, func(v int, write, only bool) {
		t := c.m.slots[v].t
		if c.m.slots[v].kind != KindTensor || t == nil {
			return
		}
		if first == nil {
			first = t
		}
		alike = alike && slices.Equal(t.sizes, first.sizes) && slices.Equal(t.order, first.order)
		if !contiguousOrder(t.order, t.sizes) {
			row = false
			u := uses[t]
			uses[t] = use{u.reads || !only, u.writes || write}
		}
	})
	if alike || row {
		return op.Kernel(c)
	}
	type saved struct {
		addr  kernel.Addr
		order []uint8
	}
	old := map[*tensor]saved{}
	defer func() {
		for t, s := range old {
			if t.addr != s.addr {
				c.dev().Free(t.addr)
			}
			t.addr, t.order = s.addr, s.order
		}
	}()
	for t, u := range uses {
		addr, err := c.dev().Alloc(max(t.bytes(), 1), align)
		if err != nil {
			return false // the reference needs no more device memory
		}
		old[t] = saved{t.addr, t.order}
		t.addr, t.order = addr, nil
		if u.reads && t.n > 0 && !stridedKernel(c, addr, old[t].addr, t.sizes, stridesOf(t.sizes), orderStrides(t.sizes, old[t].order), t.elem) {
			return false
		}
	}
	if !op.Kernel(c) || c.failed() {
		return c.failed()
	}
	for t, u := range uses {
		if u.writes && t.n > 0 && !stridedKernel(c, old[t].addr, t.addr, t.sizes, orderStrides(t.sizes, old[t].order), stridesOf(t.sizes), t.elem) {
			return false
		}
	}
	return true
}
