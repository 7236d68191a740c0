package engine

import (
	"math"
	"slices"
)

// Reductions over dimensions.

// reduceShape gives the sizes after reducing the given dimensions.
func reduceShape(sizes, dims []int, keep bool) []int {
	out := []int{}
	for d, s := range sizes {
		switch {
		case !slices.Contains(dims, d):
			out = append(out, s)
		case keep:
			out = append(out, 1)
		}
	}
	return out
}

// reduceDims returns the dimensions of a reduction: argument i, an int or a list; none, or an empty list, means all.
func (c *Call) reduceDims(i int) []int {
	rank := c.T(0).dim()
	if i < 0 || c.None(i) {
		return identity(rank)
	}
	if c.slot(i).kind == KindInt {
		if d := c.Dim(i, rank); rank > 0 {
			return []int{d}
		}
		return nil
	}
	d := c.Dims(i, rank)
	if len(d) == 0 || rank == 0 {
		return identity(rank)
	}
	return d
}

// reduce folds the elements of each group; finish gets the result and the number of elements.
func (c *Call) reduce(a *array, dims []int, init float64, f func(acc, x float64) float64, finish func(acc float64, n int) float64) []float64 {
	keepSizes := reduceShape(a.sizes, dims, true)
	acc := slices.Repeat([]float64{init}, numel(keepSizes))
	k := 0
	walk(a.sizes, func(off []int) {
		acc[off[0]] = f(acc[off[0]], a.at(k))
		k++
	}, broadcastStrides(keepSizes, a.sizes))
	n := 1
	for _, d := range dims {
		n *= a.sizes[d]
	}
	if finish != nil {
		for i := range acc {
			acc[i] = finish(acc[i], n)
		}
	}
	return acc
}

func (c *Call) putFloats(t *tensor, x []float64) {
	a := newArray(t.dtype, t.sizes)
	for k := range a.len() {
		a.set(k, x[k])
	}
	c.PutBytes(t, a.encode())
}

// registerReduce adds a reduction. dimArg and keepArg are -1 where the operator has no such argument.
func registerReduce(name string, dimArg, keepArg int, ref func(c *Call, a *array, dims []int), kernel string, check func(c *Call, dims []int)) {
	op := Op{Name: name, Complex: name == "aten::sum.IntList_out", Shape: func(c *Call) {
		dims := c.reduceDims(dimArg)
		keep := keepArg >= 0 && c.Bool(keepArg)
		if c.failed() {
			return
		}
		if check != nil {
			check(c, dims)
		}
		c.Resize(c.Out(), reduceShape(c.T(0).sizes, dims, keep)...)
	}, Ref: func(c *Call) { ref(c, c.In(c.T(0)), c.reduceDims(dimArg)) }}
	if kernel != "" {
		op.By = "SIMD f32"
		if kernel == "any" {
			op.By = "SIMD bool"
		}
		op.Kernel = func(c *Call) bool { return reduceKernel(c, kernel, c.reduceDims(dimArg)) }
	}
	Register(op)
}

// sumInts folds integers exactly.
func sumInts(c *Call, a *array, dims []int, one int64, f func(x, y int64) int64) {
	keep := reduceShape(a.sizes, dims, true)
	acc := slices.Repeat([]int64{one}, numel(keep))
	k := 0
	walk(a.sizes, func(off []int) {
		acc[off[0]] = f(acc[off[0]], a.i[k])
		k++
	}, broadcastStrides(keep, a.sizes))
	out := c.Out()
	res := newArray(out.dtype, out.sizes)
	for i, x := range acc {
		res.setInt(i, x)
	}
	c.PutBytes(out, res.encode())
}

// sumComplex adds up complex numbers, or others into a complex result.
func (c *Call) sumComplex(a *array, dims []int) {
	keep := reduceShape(a.sizes, dims, true)
	res := newArray(C128, c.Out().sizes)
	k := 0
	walk(a.sizes, func(off []int) {
		res.c[off[0]] += a.complexAt(k)
		k++
	}, broadcastStrides(keep, a.sizes))
	c.Put(c.Out(), res)
}

func notEmpty(c *Call, dims []int) {
	for _, d := range dims {
		if c.T(0).sizes[d] == 0 {
			c.Fail("reduction over dimension %d of size 0 has no result", d)
		}
	}
}

func init() {
	sum := func(c *Call, a *array, dims []int) {
		if isComplex(c.Out().dtype) {
			c.sumComplex(a, dims)
			return
		}
		if a.i != nil && !isFloat(c.Out().dtype) {
			sumInts(c, a, dims, 0, func(x, y int64) int64 { return x + y })
			return
		}
		c.putFloats(c.Out(), c.reduce(a, dims, 0, add, nil))
	}
	mean := func(c *Call, a *array, dims []int) {
		c.putFloats(c.Out(), c.reduce(a, dims, 0, add, func(s float64, n int) float64 { return s / float64(n) }))
	}
	prod := func(c *Call, a *array, dims []int) {
		if a.i != nil && !isFloat(c.Out().dtype) {
			sumInts(c, a, dims, 1, func(x, y int64) int64 { return x * y })
			return
		}
		c.putFloats(c.Out(), c.reduce(a, dims, 1, mul, nil))
	}
	extreme := func(f func(a, b float64) float64, i func(a, b int64) int64, first float64, firstInt int64) func(c *Call, a *array, dims []int) {
		return func(c *Call, a *array, dims []int) {
			if a.i != nil {
				sumInts(c, a, dims, firstInt, i)
				return
			}
			c.putFloats(c.Out(), c.reduce(a, dims, first, f, nil))
		}
	}
	maxRef := extreme(maxNaN, func(a, b int64) int64 { return max(a, b) }, math.Inf(-1), math.MinInt64)
	minRef := extreme(minNaN, func(a, b int64) int64 { return min(a, b) }, math.Inf(1), math.MaxInt64)
	anyRef := func(c *Call, a *array, dims []int) {
		c.putFloats(c.Out(), c.reduce(a, dims, 0, func(acc, x float64) float64 { return float64(b2i(acc != 0 || x != 0)) }, nil))
	}
	registerReduce("aten::sum.IntList_out", 1, 2, sum, "sum", nil)
	registerReduce("aten::mean.out", 1, 2, mean, "mean", nil)
	registerReduce("aten::mean.dtype_out", -1, -1, mean, "mean", nil)
	registerReduce("aten::prod.int_out", 1, 2, prod, "", nil)
	registerReduce("aten::prod.out", -1, -1, prod, "", nil)
	registerReduce("aten::amax.out", 1, 2, maxRef, "max", notEmpty)
	registerReduce("aten::amin.out", 1, 2, minRef, "min", notEmpty)
	registerReduce("aten::max.unary_out", -1, -1, maxRef, "max", notEmpty)
	registerReduce("aten::min.unary_out", -1, -1, minRef, "min", notEmpty)
	registerReduce("aten::any.out", 1, 2, anyRef, "any", nil)
	registerReduce("aten::any.dims_out", 1, 2, anyRef, "any", nil)
	registerReduce("aten::any.all_out", -1, -1, anyRef, "any", nil)

	arg := func(name string, less func(a, b float64) bool, kernel string) {
		registerReduce(name, 1, 2, func(c *Call, a *array, dims []int) {
			idx, _ := c.argReduce(a, dims, less)
			c.putFloats(c.Out(), idx)
		}, kernel, notEmpty)
	}
	more := func(a, b float64) bool { return a > b || a != a && b == b }
	less := func(a, b float64) bool { return a < b || a != a && b == b }
	arg("aten::argmax.out", more, "argmax")
	arg("aten::argmin.out", less, "argmin")
	both := func(name string, before func(a, b float64) bool) {
		Register(Op{Name: name, Shape: func(c *Call) {
			dims := c.reduceDims(1)
			keep := c.Bool(2)
			if c.failed() {
				return
			}
			notEmpty(c, dims)
			sizes := reduceShape(c.T(0).sizes, dims, keep)
			c.Resize(c.T(3), sizes...)
			c.Resize(c.T(4), sizes...)
		}, Ref: func(c *Call) {
			idx, vals := c.argReduce(c.In(c.T(0)), c.reduceDims(1), before)
			c.putFloats(c.T(3), vals)
			c.putFloats(c.T(4), idx)
		}})
	}
	both("aten::max.dim_max", more)
	both("aten::min.dim_min", less)

	Register(Op{Name: "aten::cumsum.out", Shape: func(c *Call) { c.Dim(1, c.T(0).dim()); shapeSame(c) }, Ref: func(c *Call) {
		in, out := c.In(c.T(0)), c.Out()
		a := in.convert(out.dtype)
		d := c.Dim(1, len(a.sizes))
		if len(a.sizes) > 0 {
			_, n, inner := around(a.sizes, d)
			for k := range a.len() {
				if k/inner%n == 0 {
					continue
				}
				if a.f != nil {
					a.set(k, a.f[k]+a.f[k-inner])
				} else {
					a.setInt(k, a.i[k]+a.i[k-inner])
				}
			}
		}
		c.Put(out, a)
	}})
	variance := func(name string, dimArg, keepArg int, correction func(c *Call) float64) {
		registerReduce(name, dimArg, keepArg, func(c *Call, a *array, dims []int) {
			_, v := c.variance(a, dims, correction(c))
			c.putFloats(c.Out(), v)
		}, "", nil)
	}
	corr := func(i int) func(c *Call) float64 {
		return func(c *Call) float64 {
			if c.None(i) {
				return 1
			}
			return c.Float(i)
		}
	}
	variance("aten::var.correction_out", 1, 3, corr(2))
	variance("aten::var.out", 1, 3, func(c *Call) float64 { return float64(b2i(c.Bool(2))) })
	Register(Op{Name: "aten::var_mean.correction_out", Shape: func(c *Call) {
		sizes := reduceShape(c.T(0).sizes, c.reduceDims(1), c.Bool(3))
		c.Resize(c.T(4), sizes...)
		c.Resize(c.T(5), sizes...)
	}, Ref: func(c *Call) {
		m, v := c.variance(c.In(c.T(0)), c.reduceDims(1), corr(2)(c))
		c.putFloats(c.T(4), v)
		c.putFloats(c.T(5), m)
	}})
}

// argReduce returns index and value of the first extreme along one dimension, or over the flattened tensor.
func (c *Call) argReduce(a *array, dims []int, before func(a, b float64) bool) (idx, vals []float64) {
	outer, n, inner := 1, a.len(), 1
	if len(dims) == 1 && len(a.sizes) > 0 {
		outer, n, inner = around(a.sizes, dims[0])
	}
	for o := range outer {
		for i := range inner {
			best := 0
			for k := 1; k < n; k++ {
				if before(a.at((o*n+k)*inner+i), a.at((o*n+best)*inner+i)) {
					best = k
				}
			}
			if n > 0 {
				idx, vals = append(idx, float64(best)), append(vals, a.at((o*n+best)*inner+i))
			}
		}
	}
	return idx, vals
}

// variance returns mean and variance of each group.
func (c *Call) variance(a *array, dims []int, correction float64) (mean, v []float64) {
	mean = c.reduce(a, dims, 0, add, func(s float64, n int) float64 { return s / float64(n) })
	keep := reduceShape(a.sizes, dims, true)
	v = make([]float64, len(mean))
	k := 0
	walk(a.sizes, func(off []int) {
		d := a.at(k) - mean[off[0]]
		v[off[0]] += d * d
		k++
	}, broadcastStrides(keep, a.sizes))
	n := 1
	for _, d := range dims {
		n *= a.sizes[d]
	}
	for i := range v {
		v[i] /= max(float64(n)-correction, 0)
	}
	return mean, v
}

// around splits sizes at a dimension: elements before, size, elements after.
func around(sizes []int, d int) (outer, n, inner int) {
	return numel(sizes[:d]), sizes[d], numel(sizes[d+1:])
}
