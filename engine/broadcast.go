package engine

// broadcastSizes returns the common sizes of two shapes by the rules of NumPy, or false.
func broadcastSizes(a, b []int) ([]int, bool) {
	out := make([]int, max(len(a), len(b)))
	for k := range out {
		x, y := 1, 1
		if i := len(a) - len(out) + k; i >= 0 {
			x = a[i]
		}
		if i := len(b) - len(out) + k; i >= 0 {
			y = b[i]
		}
		switch {
		case x == y || y == 1:
			out[k] = x
		case x == 1:
			out[k] = y
		default:
			return nil, false
		}
	}
	return out, true
}

// broadcast returns the common sizes of the tensors and fails the call if there are none.
func (c *Call) broadcast(ts ...*tensor) []int {
	sizes := ts[0].sizes
	for _, t := range ts[1:] {
		s, ok := broadcastSizes(sizes, t.sizes)
		if !ok {
			c.Fail("sizes %v and %v do not broadcast", sizes, t.sizes)
			return sizes
		}
		sizes = s
	}
	return sizes
}

// stridesOf returns row-major strides in elements.
func stridesOf(sizes []int) []int {
	st := make([]int, len(sizes))
	n := 1
	for k := len(sizes) - 1; k >= 0; k-- {
		st[k] = n
		n *= sizes[k]
	}
	return st
}

// orderStrides returns the strides of a dense tensor whose dimensions lie in memory in the given order, outermost first.
func orderStrides(sizes []int, order []uint8) []int {
	if len(order) != len(sizes) {
		return stridesOf(sizes)
	}
	st := make([]int, len(sizes))
	n := 1
	for k := len(order) - 1; k >= 0; k-- {
		st[order[k]] = n
		n *= max(sizes[order[k]], 1)
	}
	return st
}

// broadcastStrides returns the strides that read a row-major tensor of sizes from as if it had sizes to.
func broadcastStrides(from, to []int) []int {
	st := stridesOf(from)
	out := make([]int, len(to))
	for k := range to {
		if i := len(from) - len(to) + k; i >= 0 && from[i] != 1 {
			out[k] = st[i]
		}
	}
	return out
}

// walk calls f with the offsets that each stride list gives, for every index of sizes in row-major order.
func walk(sizes []int, f func(off []int), strides ...[]int) {
	off := make([]int, len(strides))
	n := numel(sizes)
	idx := make([]int, len(sizes))
	for range n {
		f(off)
		for d := len(sizes) - 1; d >= 0; d-- {
			idx[d]++
			for s := range strides {
				off[s] += strides[s][d]
			}
			if idx[d] < sizes[d] {
				break
			}
			for s := range strides {
				off[s] -= strides[s][d] * sizes[d]
			}
			idx[d] = 0
		}
	}
}
