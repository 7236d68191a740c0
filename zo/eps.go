package zo

// EpsCandidates are the perturbation sizes that ChooseEps is given, each about
// three times the one before.
func EpsCandidates() []float64 { return []float64{1e-3, 3e-3, 1e-2, 3e-2, 1e-1} }

// ChooseEps picks the size of the perturbation from slopes g[k][j], the central
// differences at eps[k] along the same directions j on the same rows. At a small
// eps rounding in the losses is divided by it and drowns the slope; at a large one
// the loss is no longer a line. In between neighbouring sizes agree: the choice is
// the larger of the two sizes whose slopes differ least,
//
//	argmin_k  sum_j (g_k,j - g_k+1,j)^2 / sum_j (g_k,j^2 + g_k+1,j^2)
//
// since of two that are equally true the larger has the less noise.
func ChooseEps(eps []float64, g [][]float64) float64 {
	best, at := 2.0, len(eps)/2
	for k := range len(eps) - 1 {
		var apart, size float64
		for j, x := range g[k] {
			y := g[k+1][j]
			apart += (x - y) * (x - y)
			size += x*x + y*y
		}
		if size > 0 && apart/size < best {
			best, at = apart/size, k+1
		}
	}
	return eps[at]
}
