package zo

import "fmt"

// Schedule gives the learning rate for a peak rate at a point of the run:
// progress is 0 at the first step and below 1 at the last.
type Schedule func(peak, progress float64) float64

// NewSchedule returns the schedule of that name: "constant", or "linear", which
// falls from the peak to 0.
func NewSchedule(name string) (Schedule, error) {
	switch name {
	case "constant":
		return func(peak, _ float64) float64 { return peak }, nil
	case "linear":
		return func(peak, progress float64) float64 { return peak * (1 - progress) }, nil
	}
	return nil, fmt.Errorf("schedule %q: want constant or linear", name)
}
