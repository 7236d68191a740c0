package zo

// Curved is an optimizer that also looks at how losses bend along each direction.
// A record then lists every seed twice: with the estimate's coefficient, and with
// the bend.
type Curved interface {
	Optimizer
	// Bend takes matrix i of direction z and the direction's bend, before Step.
	Bend(i int, z []float32, bend float32)
}

// HiZOO scales each element of the estimate by the inverse of a running diagonal of
// the Hessian (arXiv 2402.15173, section 3.2):
//
//	H_k = sum_j bend_j z_jk^2,  bend_j = (D_j - mean D) / (2 eps^2 (q - 1)),
//	D_j = L(B + eps z_j) + L(B - eps z_j)
//	h <- b h + (1 - b) |H|,  d_k = 2 g_k / (1 + h_k / mean h)
//
// H has the diagonal as its mean for normal z, since E[(z^T H z) (z_k^2 - 1)] =
// 2 H_kk; its variance is that of D over 2 eps^4 q: over many dimensions it takes
// many steps to stand out. The paper takes L(B) off where the mean of D is taken
// here, which saves its forward; perturbs with the scaled directions too; and starts
// from h = 1 instead of dividing by the mean, which ties the rate to the loss's
// scale. A step never grows by more than two.
type HiZOO struct {
	Beta float64 // b
	h    moments
	now  moments // of the step in progress
}

// Bends fills bends from the losses at B + eps z_j and B - eps z_j, all on the same
// rows, of at least two directions.
func Bends(bends []float32, plus, minus []float64, eps float64) {
	n := float64(len(plus))
	var mean float64
	for j := range plus {
		mean += (plus[j] + minus[j]) / n
	}
	for j := range plus {
		bends[j] = float32((plus[j] + minus[j] - mean) / (2 * eps * eps * (n - 1)))
	}
}

// Bend implements Curved.
func (o *HiZOO) Bend(i int, z []float32, bend float32) {
	now := o.now.of(i, len(z))
	for k, x := range z {
		now[k] += float64(float64(bend) * float64(float64(x)*float64(x)))
	}
}

// Step implements Optimizer.
func (o *HiZOO) Step(i, _, _ int, g []float32) {
	h, now := o.h.of(i, len(g)), o.now.of(i, len(g))
	var mean float64
	for k, x := range now {
		h[k] = float64(o.Beta*h[k]) + float64((1-o.Beta)*max(x, -x))
		mean += h[k] / float64(len(h))
		now[k] = 0
	}
	if mean == 0 {
		return
	}
	for k, x := range g {
		g[k] = float32(2 * float64(x) / (1 + h[k]/mean))
	}
}
