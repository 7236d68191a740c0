package zo

import (
	"fmt"
	"math"
)

// Schedule gives the learning rate for a peak rate at a point of the run:
// progress is 0 at the first step and below 1 at the last.
type Schedule func(peak, progress float64) float64

// NewSchedule returns the schedule of that name: "constant"; "linear", which
// falls from the peak to 0; or "cosine", which does so along half a cosine. Over
// the share warmup of the run, 0 to below 1, the rate rises to the peak first.
func NewSchedule(name string, warmup float64) (Schedule, error) {
	if !(warmup >= 0 && warmup < 1) {
		return nil, fmt.Errorf("warmup: %g, want a share of the run, 0 to below 1", warmup)
	}
	var fall func(x float64) float64
	switch name {
	case "constant":
		fall = func(float64) float64 { return 1 }
	case "linear":
		fall = func(x float64) float64 { return 1 - x }
	case "cosine":
		fall = func(x float64) float64 { return (1 + math.Cos(math.Pi*x)) / 2 }
	default:
		return nil, fmt.Errorf("schedule %q: want constant, linear or cosine", name)
	}
	return func(peak, progress float64) float64 {
		if progress < warmup {
			// From a small part of the peak on: the first step is not lost.
			return peak * max(0.05, progress/warmup)
		}
		return peak * fall((progress-warmup)/(1-warmup))
	}, nil
}
