package engine

import (
	"fmt"
	"math"
	"math/bits"
	"math/cmplx"
	"slices"
)

// Fourier transforms between real and complex tensors, and the complex conjugate.

// fft transforms x in place; sign is -1 forward and 1 backward, without scaling. A length that is no power of two goes
// through Bluestein's convolution.
func fft(x []complex128, sign float64) {
	n := len(x)
	if n < 2 {
		return
	}
	if n&(n-1) == 0 {
		fftPowerOfTwo(x, sign)
		return
	}
	chirp := make([]complex128, n)
	for k := range chirp {
		// k*k mod 2n keeps the angle exact.
		chirp[k] = cmplx.Rect(1, sign*math.Pi*float64(int64(k)*int64(k)%int64(2*n))/float64(n))
	}
	m := 1 << bits.Len(uint(2*n-2))
	a, b := make([]complex128, m), make([]complex128, m)
	b[0] = 1
	for k := range n {
		a[k] = x[k] * chirp[k]
		b[k] = cmplx.Conj(chirp[k])
		if k > 0 {
			b[m-k] = b[k]
		}
	}
	fftPowerOfTwo(a, -1)
	fftPowerOfTwo(b, -1)
	for k := range a {
		a[k] *= b[k]
	}
	fftPowerOfTwo(a, 1)
	for k := range x {
		x[k] = a[k] * chirp[k] / complex(float64(m), 0)
	}
}

func fftPowerOfTwo(x []complex128, sign float64) {
	n := len(x)
	shift := 64 - bits.Len(uint(n-1))
	for i := range x {
		if j := int(bits.Reverse64(uint64(i)) >> shift); j > i {
			x[i], x[j] = x[j], x[i]
		}
	}
	roots := make([]complex128, n/2)
	for k := range roots {
		roots[k] = cmplx.Rect(1, sign*2*math.Pi*float64(k)/float64(n))
	}
	for size := 2; size <= n; size *= 2 {
		half, step := size/2, n/size
		for i := 0; i < n; i += size {
			for k := range half {
				u, v := x[i+k], x[i+k+half]*roots[k*step]
				x[i+k], x[i+k+half] = u+v, u-v
			}
		}
	}
}

// alongDim replaces every line of a complex array along d by what f makes of it; f may change the length to n.
func alongDim(a *array, d, n int, f func(line []complex128) []complex128) *array {
	sizes := slices.Clone(a.sizes)
	sizes[d] = n
	res := newArray(C128, sizes)
	outer, m, inner := around(a.sizes, d)
	line := make([]complex128, m)
	for o := range outer {
		for i := range inner {
			for k := range line {
				line[k] = a.c[(o*m+k)*inner+i]
			}
			for k, v := range f(line) {
				res.c[(o*n+k)*inner+i] = v
			}
		}
	}
	return res
}

// fftScale is the factor of a normalisation mode: 0 none, 1 by the root of the size, 2 by the size.
func (c *Call) fftScale(arg int, sizes, dims []int) float64 {
	n := 1.0
	for _, d := range dims {
		n *= float64(sizes[d])
	}
	switch c.Int(arg) {
	case 0:
		return 1
	case 1:
		return 1 / math.Sqrt(n)
	case 2:
		return 1 / n
	}
	c.failArg(arg, "is %d, want 0 to 2", c.Int(arg))
	return 1
}

// fftDims reads the dimensions, of which there must be one.
func (c *Call) fftDims() []int {
	in := c.T(0)
	dims := c.Dims(1, in.dim())
	if len(dims) == 0 || in.dim() == 0 {
		c.Fail("transform of %v over dimensions %v", in.sizes, dims)
	}
	return dims
}

func checkFFT(real, complex int) func(g *Graph, n *Node) error {
	return func(g *Graph, n *Node) error {
		r, z := g.Values[n.Args[real]], g.Values[n.Args[complex]]
		if r.DType != F32 && r.DType != F64 || !isComplex(z.DType) || realOf(z.DType) != r.DType {
			return fmt.Errorf("transform between %s and %s", dtypeName(r.DType), dtypeName(z.DType))
		}
		return nil
	}
}

func init() {
	Register(Op{Name: "aten::_fft_r2c.out", Complex: true, Check: checkFFT(0, 4), Shape: func(c *Call) {
		dims := c.fftDims()
		if !c.Bool(3) {
			c.failArg(3, "is false: only one-sided transforms are supported")
		}
		if c.failed() {
			return
		}
		c.fftScale(2, c.T(0).sizes, dims)
		sizes := slices.Clone(c.T(0).sizes)
		last := dims[len(dims)-1]
		if slices.Contains(sizes, 0) {
			c.Fail("transform of %v", sizes)
		}
		sizes[last] = sizes[last]/2 + 1
		c.Resize(c.Out(), sizes...)
	}, Ref: func(c *Call) {
		dims := c.fftDims()
		a := c.In(c.T(0)).convert(C128)
		scale := complex(c.fftScale(2, a.sizes, dims), 0)
		last := dims[len(dims)-1]
		half := a.sizes[last]/2 + 1
		a = alongDim(a, last, half, func(l []complex128) []complex128 { fft(l, -1); return l[:half] })
		for _, d := range dims[:len(dims)-1] {
			a = alongDim(a, d, a.sizes[d], func(l []complex128) []complex128 { fft(l, -1); return l })
		}
		for k := range a.c {
			a.c[k] *= scale
		}
		c.Put(c.Out(), a)
	}})
	Register(Op{Name: "aten::_fft_c2r.out", Complex: true, Check: checkFFT(4, 0), Shape: func(c *Call) {
		dims, n := c.fftDims(), c.Int(3)
		if c.failed() {
			return
		}
		sizes := slices.Clone(c.T(0).sizes)
		last := dims[len(dims)-1]
		if slices.Contains(sizes, 0) || n < 1 || n/2+1 > int64(sizes[last]) {
			c.Fail("transform of %v to %d", sizes, n)
			return
		}
		sizes[last] = int(n)
		c.fftScale(2, sizes, dims)
		c.Resize(c.Out(), sizes...)
	}, Ref: func(c *Call) {
		dims, n := c.fftDims(), int(c.Int(3))
		a := c.In(c.T(0)).convert(C128)
		scale := c.fftScale(2, c.Out().sizes, dims)
		last := dims[len(dims)-1]
		for _, d := range dims[:len(dims)-1] {
			a = alongDim(a, d, a.sizes[d], func(l []complex128) []complex128 { fft(l, 1); return l })
		}
		full := make([]complex128, n)
		a = alongDim(a, last, n, func(l []complex128) []complex128 {
			full[0] = complex(real(l[0]), 0)
			for k := 1; k <= n/2; k++ {
				full[k], full[n-k] = l[k], cmplx.Conj(l[k])
			}
			if n%2 == 0 {
				full[n/2] = complex(real(l[n/2]), 0)
			}
			fft(full, 1)
			return full
		})
		res := newArray(F64, a.sizes)
		for k, v := range a.c {
			res.f[k] = real(v) * scale
		}
		c.Put(c.Out(), res)
	}})
	Register(Op{Name: "aten::_conj_physical.out", Complex: true, Check: checkSameType, Shape: shapeSame, Ref: func(c *Call) {
		a := c.In(c.T(0))
		for k := range a.c {
			a.c[k] = cmplx.Conj(a.c[k])
		}
		c.Put(c.Out(), a)
	}})
}
