package engine

import "tabtune/engine/kernel"

// moveJob copies a strided block of elements between tensors; strides and offsets are in elements. Broadcasting is a source
// stride of 0, reversal a negative one.
type moveJob struct {
	src, dst       *tensor
	sizes          []int
	srcSt, dstSt   []int
	srcOff, dstOff int
}

// dense is a job that fills dst in row-major order from src, read with the given strides.
func dense(src, dst *tensor, srcOff int, srcSt []int) []moveJob {
	return []moveJob{{src: src, dst: dst, sizes: dst.sizes, srcSt: srcSt, dstSt: stridesOf(dst.sizes), srcOff: srcOff}}
}

// registerMove adds an operator that only moves elements: jobs lists the copies, which kernel and reference then carry out.
// It runs after Shape and may fail the call.
func registerMove(op Op, jobs func(c *Call) []moveJob) {
	op.Ref = func(c *Call) {
		for _, j := range jobs(c) {
			if c.failed() {
				return
			}
			j.run(c)
		}
	}
	op.Kernel = func(c *Call) bool {
		for _, j := range jobs(c) {
			if c.failed() {
				return true
			}
			if !j.runKernel(c) {
				j.run(c)
			}
		}
		return true
	}
	if op.Check == nil {
		op.Check = checkSameType
	}
	op.Complex, op.By = true, "scalar C, all types"
	Register(op)
}

// checkSameType requires the output's element type to be that of the first argument, or of the first tensor in it.
func checkSameType(g *Graph, n *Node) error {
	out, in := n.Args[len(n.Args)-1], n.Args[0]
	for _, v := range []*int{&in, &out} {
		if g.Values[*v].Kind == KindTensorList {
			if len(g.Values[*v].List) == 0 || g.Values[*v].List[0] < 0 {
				return nil
			}
			*v = g.Values[*v].List[0]
		}
	}
	if g.Values[in].DType != g.Values[out].DType {
		return errDType("out", g.Values[out])
	}
	return nil
}

// run copies in Go. A destination that is not covered keeps its other elements.
func (j *moveJob) run(c *Call) {
	n := numel(j.sizes)
	if n == 0 {
		return
	}
	src := c.Bytes(j.src)
	dst := src
	switch {
	case j.src == j.dst:
	case n == j.dst.n:
		dst = make([]byte, j.dst.bytes())
	default:
		dst = c.Bytes(j.dst)
	}
	e := j.dst.elem
	walk(j.sizes, func(off []int) {
		s, d := (j.srcOff+off[0])*e, (j.dstOff+off[1])*e
		copy(dst[d:d+e], src[s:s+e])
	}, j.srcSt, j.dstSt)
	c.PutBytes(j.dst, dst)
}

// coalesce drops dimensions of size 1 and merges those that are one run in both tensors.
func (j *moveJob) coalesce() (sizes, ss, ds []int) {
	for d, n := range j.sizes {
		if n == 1 {
			continue
		}
		k := len(sizes) - 1
		if k >= 0 && ss[k] == j.srcSt[d]*n && ds[k] == j.dstSt[d]*n {
			sizes[k] *= n
			ss[k], ds[k] = j.srcSt[d], j.dstSt[d]
			continue
		}
		sizes, ss, ds = append(sizes, n), append(ss, j.srcSt[d]), append(ds, j.dstSt[d])
	}
	return sizes, ss, ds
}

// runKernel copies on the device; it reports false where no kernel covers the strides.
func (j *moveJob) runKernel(c *Call) bool {
	if numel(j.sizes) == 0 {
		return true
	}
	sizes, ss, ds := j.coalesce()
	e := j.dst.elem
	src, dst := j.src.addr+kernel.Addr(j.srcOff*e), j.dst.addr+kernel.Addr(j.dstOff*e)
	switch {
	case len(sizes) == 0:
		c.dev().MemCopy(dst, src, int64(e))
		return true
	case len(sizes) == 1 && ss[0] == 1 && ds[0] == 1:
		c.dev().MemCopy(dst, src, int64(sizes[0])*int64(e))
		return true
	}
	return stridedKernel(c, dst, src, sizes, ds, ss, e)
}
