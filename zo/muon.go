package zo

import "math"

// Muon orthogonalises the momentum of each matrix (ZO-Muon, arXiv 2602.17155):
// all directions that the estimates agree on get steps of one size.
//
//	X = m/|m|,  five times  X <- a X + X (b S + c S^2), S = X^T X,  d = X
//
// with (a, b, c) = (3.4445, -4.7750, 2.0315), a Newton-Schulz iteration that
// brings singular values to about 1 without quite converging.
type Muon struct{ Momentum }

// Step implements Optimizer.
func (o *Muon) Step(i, rows, cols int, g []float32) {
	x := append([]float64(nil), o.mean(i, g)...)
	n := math.Sqrt(inner(x, x))
	for k := range x {
		x[k] /= n + 1e-12
	}
	r, c := rows, cols
	if c > r { // the smaller Gram matrix
		x, r, c = transpose(x, r, c), c, r
	}
	for range 5 {
		s := gram(x, x, r, c, c)
		s2 := product(s, s, c, c, c)
		for k := range s {
			s[k] = -4.7750*s[k] + 2.0315*s2[k]
		}
		y := product(x, s, r, c, c)
		for k := range x {
			x[k] = 3.4445*x[k] + y[k]
		}
	}
	if r != rows {
		x = transpose(x, r, c)
	}
	for k := range g {
		g[k] = float32(x[k])
	}
}

// MOPI orthogonalises the leading directions of the momentum alone, by a power
// iteration that goes on from step to step (ZO-MOPI, arXiv 2605.09034):
//
//	U = orth(m V),  V <- orth(m^T U),  d = U V^T
//
// V [cols, 4] holds the leading right directions. What the estimates do not agree
// on, which is most of a zeroth-order estimate, gets no step at all.
type MOPI struct {
	Momentum
	v map[int][]float64
}

const mopiRank = 4

// Step implements Optimizer.
func (o *MOPI) Step(i, rows, cols int, g []float32) {
	k := min(mopiRank, rows, cols)
	m := o.mean(i, g)
	if o.v == nil {
		o.v = map[int][]float64{}
	}
	v := o.v[i]
	if v == nil { // the first k unit vectors
		v = make([]float64, cols*k)
		for c := range k {
			v[c*k+c] = 1
		}
	}
	u := product(m, v, rows, cols, k)
	orthonormalise(u, rows, k)
	v = gram(m, u, rows, cols, k)
	orthonormalise(v, cols, k)
	o.v[i] = v
	for r := range rows {
		for c := range cols {
			g[r*cols+c] = float32(inner(u[r*k:(r+1)*k], v[c*k:(c+1)*k]))
		}
	}
}

// orthonormalise makes the columns of x [rows, cols] orthonormal, twice through
// Gram-Schmidt; a column that depends on those before it becomes 0.
func orthonormalise(x []float64, rows, cols int) {
	for c := range cols {
		column := func(k int) (sum float64) {
			for r := range rows {
				sum += float64(x[r*cols+c] * x[r*cols+k])
			}
			return sum
		}
		before := column(c)
		for range 2 {
			for k := range c {
				p := column(k)
				for r := range rows {
					x[r*cols+c] -= float64(p * x[r*cols+k])
				}
			}
		}
		n := column(c)
		scale := 0.0
		if n > 1e-20*before {
			scale = 1 / math.Sqrt(n)
		}
		for r := range rows {
			x[r*cols+c] *= scale
		}
	}
}

func inner(a, b []float64) (sum float64) {
	for k, x := range a {
		sum += float64(x * b[k])
	}
	return sum
}

// product is a [n,k] times b [k,m].
func product(a, b []float64, n, k, m int) []float64 {
	out := make([]float64, n*m)
	for i := range n {
		row := out[i*m : (i+1)*m]
		for l := range k {
			x := a[i*k+l]
			for j, y := range b[l*m : (l+1)*m] {
				row[j] += float64(x * y)
			}
		}
	}
	return out
}

// gram is a^T b for a [n,k] and b [n,m].
func gram(a, b []float64, n, k, m int) []float64 {
	out := make([]float64, k*m)
	for i := range n {
		for l := range k {
			x := a[i*k+l]
			row := out[l*m : (l+1)*m]
			for j, y := range b[i*m : (i+1)*m] {
				row[j] += float64(x * y)
			}
		}
	}
	return out
}

func transpose(x []float64, rows, cols int) []float64 {
	out := make([]float64, len(x))
	for r := range rows {
		for c := range cols {
			out[c*rows+r] = x[r*cols+c]
		}
	}
	return out
}
