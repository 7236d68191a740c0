package zo

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
)

// Subspace returns A f32[rank, d] whose rows span the leading directions of what a
// module reads, x f32[n, d] (AGZO, arXiv 2601.17261: the gradient of W is a sum of
// outer products with the rows of x, so a perturbation R A with A outside their span
// is lost on it):
//
//	x ~ U S Q^T,  A = c S_r^-1 Q_r^T,  c^2 such that mean |A x|^2 is that of the
//	random A, uniform in +-1/sqrt(d): (rank / (3 d)) mean |x|^2
//
// The paper's A is c Q_r^T. Here each direction is divided by its singular value:
// one direction, the mean, carries most of |x|^2 and would be all that moves.
// Directions without weight (n below rank, or x of a lower rank) are 0.
//
// Q comes from a subspace iteration in float64 that begins with rows of x, 20
// rounds, which is enough for a span: the adapter is trained, not exact.
func Subspace(x []float32, n, d, rank int) ([]float32, error) {
	if n < 1 || d < 1 || rank < 1 || len(x) != n*d {
		return nil, fmt.Errorf("subspace: %d values for %d rows of %d, rank %d", len(x), n, d, rank)
	}
	k := min(rank, n, d)
	in, err := widened(x, d)
	if err != nil {
		return nil, err
	}
	// From k of the rows, which lie in the span, spread evenly.
	q := make([]float64, d*k)
	for c := range k {
		for j := range d {
			q[j*k+c] = in[c*n/k*d+j]
		}
	}
	orthonormalise(q, d, k)
	for range 20 {
		u := product(in, q, n, d, k)
		q = gram(in, u, n, d, k)
		orthonormalise(q, d, k)
	}
	return balanced(in, transpose(q, d, k), n, d, k, rank), nil
}

// widened is x, rows of d values, in float64; all must be finite.
func widened(x []float32, d int) ([]float64, error) {
	out := make([]float64, len(x))
	for i, v := range x {
		if v-v != 0 {
			return nil, fmt.Errorf("subspace: value %d of row %d is %v", i%d, i/d, v)
		}
		out[i] = float64(v)
	}
	return out, nil
}

// balanced is A f32[rank, d] of the k directions dirs f64[k, d], scaled so that the
// coordinates of x f64[n, d] along them have equal mean squares, whose sum is what the
// random A's is. A direction in which x has no weight, and what is left of A, are 0.
func balanced(x, dirs []float64, n, d, k, rank int) []float32 {
	square := 0.0 // mean |x|^2
	for _, v := range x {
		square += float64(v*v) / float64(n)
	}
	c2 := square / (3 * float64(d))
	a := make([]float32, rank*d)
	for c := range k {
		dir := dirs[c*d : (c+1)*d]
		var s2 float64 // mean square of the coordinate
		for i := range n {
			u := inner(x[i*d:(i+1)*d], dir)
			s2 += float64(u*u) / float64(n)
		}
		if s2 <= 1e-12*square*inner(dir, dir) {
			continue
		}
		scale := math.Sqrt(c2 * float64(rank) / float64(k) / s2)
		for j, v := range dir {
			a[c*d+j] = float32(scale * v)
		}
	}
	return a
}

// LabelSubspace returns A f32[rank, d] whose rows tell labels apart in what a module
// reads, x f32[n, d]: the mean of x, over which B finds what the labels have in common
// and their bias, and for every class but the first the difference of its weights
// w f32[classes, d] (a logistic regression on x, package head) from the first's, made
// orthogonal to that mean. It is AGZO's idea with labels: the gradient of B lies mostly
// in few coordinates of A x, and every other coordinate of a random A is noise to the
// estimate.
//
// Coordinates have equal mean squares, and mean |A x|^2 is that of the random A, as in
// Subspace. Rows that are not needed, or have no weight, are 0.
func LabelSubspace(x []float32, n, d, rank int, w []float32, classes int) ([]float32, error) {
	if n < 1 || d < 1 || classes < 2 || rank < classes || len(x) != n*d || len(w) != classes*d {
		return nil, fmt.Errorf("label subspace: %d values for %d rows of %d, %d weights for %d classes, rank %d", len(x), n, d, len(w), classes, rank)
	}
	in, err := widened(x, d)
	if err != nil {
		return nil, err
	}
	dirs := make([]float64, classes*d)
	mean := dirs[:d]
	for i, v := range in {
		mean[i%d] += v / float64(n)
	}
	size := inner(mean, mean)
	for c := 1; c < classes; c++ {
		dir := dirs[c*d : (c+1)*d]
		for j := range dir {
			dir[j] = float64(w[c*d+j]) - float64(w[j])
		}
		if size == 0 {
			continue
		}
		along := inner(dir, mean) / size
		for j, m := range mean {
			dir[j] -= float64(along * m)
		}
	}
	return balanced(in, dirs, n, d, classes, rank), nil
}

// PackMatrix codes a [rank, d] as text for a log's header: for each row a scale, f32,
// and int8 multiples of it, base64. UnpackMatrix gives the matrix that training then
// uses, so nothing is lost by the rounding.
func PackMatrix(a []float32, rank, d int) string {
	out := make([]byte, 0, rank*(d+4))
	for r := range rank {
		row := a[r*d : (r+1)*d]
		var most float64
		for _, v := range row {
			most = max(most, math.Abs(float64(v)))
		}
		scale := float32(most / 127)
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(scale))
		for _, v := range row {
			n := 0.0
			if scale > 0 {
				n = max(-127, min(127, math.RoundToEven(float64(v)/float64(scale))))
			}
			out = append(out, byte(int8(n)))
		}
	}
	return base64.StdEncoding.EncodeToString(out)
}

// UnpackMatrix is PackMatrix's inverse, for text from anywhere.
func UnpackMatrix(text string, rank, d int) ([]float32, error) {
	if want := base64.StdEncoding.EncodedLen(rank * (d + 4)); len(text) != want {
		return nil, fmt.Errorf("%d characters, a matrix of %d x %d has %d", len(text), rank, d, want)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	out := make([]float32, 0, rank*d)
	for r := range rank {
		row := raw[r*(d+4) : (r+1)*(d+4)]
		scale := math.Float32frombits(binary.LittleEndian.Uint32(row))
		if !(scale >= 0 && scale <= math.MaxFloat32/128) {
			return nil, fmt.Errorf("the scale of row %d is %v", r, scale)
		}
		for _, b := range row[4:] {
			out = append(out, float32(float64(scale)*float64(int8(b))))
		}
	}
	return out, nil
}

// SubspaceSeed is the seed of A in the period-th subspace of a run that changes it
// lazily (LOZO, arXiv 2410.07698): the seed itself at first.
func SubspaceSeed(seed int64, period int) int64 {
	if period == 0 {
		return seed
	}
	var s [1]int64
	Seeds(s[:], seed^0x5bd1e995, period)
	return s[0]
}
