package zo

import "math"

// Sensitivity says how much one zeroth-order step can gain on some of the model's
// weights, from losses at B +- eps z along directions z and the loss l0 at B, all on
// the same rows:
//
//	slope_j = (L(B + eps z_j) - L(B - eps z_j)) / (2 eps)
//	bend_j  = (L(B + eps z_j) - 2 L(B) + L(B - eps z_j)) / eps^2
//
// Their means estimate |g|^2 (of squared slopes) and tr H. On the quadratic g, H the
// best step along an average of q estimates gains
//
//	|g|^4 q / (2 ((q + 1) g^T H g + |g|^2 tr H)), about (q/2) |g|^2 / tr H
//
// since over many dimensions tr H is far above the curvature along g. The returned
// gain is |g|^2 / tr H: q is the same for all choices. A trace that does not stand
// out from its own noise counts as that noise.
func Sensitivity(plus, minus []float64, l0, eps float64) float64 {
	n := float64(len(plus))
	if n == 0 || len(plus) != len(minus) {
		return 0
	}
	var slope2, bend, bend2 float64
	for j := range plus {
		s := (plus[j] - minus[j]) / (2 * eps)
		h := (plus[j] - 2*l0 + minus[j]) / (eps * eps)
		slope2 += s * s / n
		bend += h / n
		bend2 += h * h / n
	}
	noise := math.Sqrt(max(0, bend2-float64(bend*bend)) / n)
	trace := max(math.Abs(bend), noise)
	if !(trace > 0) || math.IsInf(trace, 0) || math.IsNaN(slope2) {
		return 0
	}
	return slope2 / trace
}
