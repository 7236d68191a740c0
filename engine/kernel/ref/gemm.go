package ref

import "math"

// ActivationMax is the largest magnitude of a quantised activation.
const ActivationMax = math.MaxInt16

// QuantizeRows quantises x [m,k] with row stride ldx to int16, row-major [m,k], and returns the
// scale of every row and the sums of its groups of 32, [m, ceil(k/32)].
func QuantizeRows(x []float32, m, k, ldx int) (q []int16, scale []float32, sums []int32) {
	groups := (k + 31) / 32
	q, scale, sums = make([]int16, m*k), make([]float32, m), make([]int32, m*groups)
	for r := range m {
		row := x[r*ldx : r*ldx+k]
		var top float32
		for _, v := range row {
			if a := float32(math.Abs(float64(v))); a > top || a != a {
				top = a
			}
		}
		var inverse float32
		if top > 0 {
			inverse = ActivationMax / top
		}
		if inverse > 3e38 {
			inverse = 0
		}
		scale[r] = top / ActivationMax
		for i, v := range row {
			n := math.RoundToEven(float64(v * inverse))
			if n != n {
				n = 0
			}
			q[r*k+i] = int16(max(-32768, min(32767, n)))
			sums[r*groups+i/32] += int32(q[r*k+i])
		}
	}
	return q, scale, sums
}

// PackActivations puts q [m,k] in the layout of c/gemm_i16.h: pairs of rows interleaved by 8.
func PackActivations(q []int16, m, k int) []int16 {
	k8 := (k + 7) &^ 7
	out := make([]int16, m*k8)
	for r := range m {
		height := 2
		if r|1 >= m {
			height = 1
		}
		base := (r &^ 1) * k8
		for i := range k {
			out[base+(i/8*height+r&1)*8+i%8] = q[r*k+i]
		}
	}
	return out
}

// I8GEMM computes y[m,n] (+)= (q w^T) sx sw + bias over quantised activations q [m,k] and weights
// w [n,k] with row stride ldw, with the roundings of the kernel i8_gemm. bias may be nil.
func I8GEMM(y []float32, q []int16, sx []float32, w []int8, sw, bias []float32, m, n, k, ldw, ldy int, accumulate bool) {
	for i := range m {
		for j := range n {
			var sum int64
			for t := range k {
				sum += int64(q[i*k+t]) * int64(w[j*ldw+t])
			}
			store(y, i*ldy+j, float32(float32(sum)*sx[i]*sw[j]), bias, j, accumulate)
		}
	}
}

func store(y []float32, at int, v float32, bias []float32, j int, accumulate bool) {
	if bias != nil {
		v += bias[j]
	}
	if accumulate {
		v += y[at]
	}
	y[at] = v
}

// F32GEMM computes c[m,n] = alpha a[m,k] b + bias (+ c), each output one sum over k in order, as the
// kernels f32_gemm_nt (b [n,k]) and f32_gemm_nn (b [k,n]) do. bias may be nil.
func F32GEMM(c, a, b, bias []float32, m, n, k, lda, ldb, ldc int, alpha float32, accumulate, nn bool) {
	for i := range m {
		for j := range n {
			var sum float32
			if accumulate {
				sum = c[i*ldc+j]
			}
			if bias != nil {
				sum += bias[j]
			}
			for t := range k {
				at := j*ldb + t
				if nn {
					at = t*ldb + j
				}
				sum += float32(float32(a[i*lda+t]*alpha) * b[at])
			}
			c[i*ldc+j] = sum
		}
	}
}
