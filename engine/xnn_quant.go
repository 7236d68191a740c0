package engine

import (
	"math"

	"tabtune/engine/pte"
)

// bounds returns the least and the greatest number of a quantised type.
func (v *xnnValue) bounds() (lo, hi int64) {
	if v.DType == pte.XNNQUint8 {
		return 0, math.MaxUint8
	}
	return math.MinInt8, math.MaxInt8
}

// quantise rounds a real number as the value's numbers are, half to even.
func (v *xnnValue) quantise(x float32) int64 {
	lo, hi := v.bounds()
	q := math.RoundToEven(float64(x/v.Scale)) + float64(v.ZeroPoint)
	return truncInt(min(max(q, float64(lo)), float64(hi)))
}
