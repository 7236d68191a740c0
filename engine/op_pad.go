package engine

import (
	"math"
	"slices"
)

// Padding by reflection and replication. Each padded dimension falls into up to three segments, which are copied block by block.

// segment is a run of one dimension: n positions from dst on, read from src in steps.
type segment struct{ dst, src, step, n int }

// padSegments splits a dimension of size n padded by before and after; negative pads cut off.
func padSegments(n, before, after int, reflect bool) []segment {
	var s []segment
	if before > 0 {
		if reflect {
			s = append(s, segment{0, before, -1, before})
		} else {
			s = append(s, segment{0, 0, 0, before})
		}
	}
	if m := n - max(-before, 0) - max(-after, 0); m > 0 {
		s = append(s, segment{max(before, 0), max(-before, 0), 1, m})
	}
	if after > 0 {
		if reflect {
			s = append(s, segment{before + n, n - 2, -1, after})
		} else {
			s = append(s, segment{before + n, n - 1, 0, after})
		}
	}
	return s
}

func init() {
	for d, suffix := range []string{"1d.out", "2d.out", "3d.out"} {
		n := d + 1
		for _, reflect := range []bool{true, false} {
			name := "aten::replication_pad" + suffix
			if reflect {
				name = "aten::reflection_pad" + suffix
			}
			registerMove(Op{Name: name, Shape: func(c *Call) { padShape(c, n, reflect) }}, func(c *Call) []moveJob { return padBlocks(c, n, reflect) })
		}
	}
}

func padShape(c *Call, n int, reflect bool) {
	in, pad := c.T(0), c.Ints(1)
	if len(pad) != 2*n || in.dim() != n+1 && in.dim() != n+2 {
		c.Fail("padding %v of %v", pad, in.sizes)
		return
	}
	sizes := slices.Clone(in.sizes)
	for k := range n {
		d := in.dim() - 1 - k
		size, before, after := int64(in.sizes[d]), pad[2*k], pad[2*k+1]
		most := size - 1
		if !reflect && size > 0 {
			most = math.MaxInt32
		}
		if before < -size || after < -size || before > max(most, 0) || after > max(most, 0) || size+before+after < 0 {
			c.Fail("padding %v of %v", pad, in.sizes)
			return
		}
		sizes[d] += int(before + after)
	}
	c.Resize(c.Out(), sizes...)
}

func padBlocks(c *Call, n int, reflect bool) []moveJob {
	in, out, pad := c.T(0), c.Out(), c.Ints(1)
	jobs := []moveJob{{src: in, dst: out, sizes: slices.Clone(in.sizes), srcSt: stridesOf(in.sizes), dstSt: stridesOf(out.sizes)}}
	for k := range n {
		d := in.dim() - 1 - k
		var next []moveJob
		for _, s := range padSegments(in.sizes[d], int(pad[2*k]), int(pad[2*k+1]), reflect) {
			for _, j := range jobs {
				j.sizes, j.srcSt = slices.Clone(j.sizes), slices.Clone(j.srcSt)
				j.sizes[d] = s.n
				j.srcOff += s.src * j.srcSt[d]
				j.dstOff += s.dst * j.dstSt[d]
				j.srcSt[d] *= s.step
				next = append(next, j)
			}
		}
		jobs = next
	}
	return jobs
}
