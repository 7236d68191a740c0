package zo

import (
	"fmt"
	"strconv"
)

// Average is a running mean of a run's iterates B_1, B_2, ..., whose steps' noise
// it averages out where the iterates themselves stay about as noisy as their last
// step:
//
//	m_1 = B_1,  m_t = m_(t-1) + w_t (B_t - m_(t-1))
//
// "tail" weighs iterate t by about t^3, so that the last third of the run, however
// long it gets, has four fifths of the weight: w_t = 4 / (t + 3), the
// polynomial-decay average with eta = 3 of O. Shamir and T. Zhang (arXiv
// 1212.1824, section 4). A number d is the decay of an exponential mean,
// bias-corrected: w_t = (1 - d) / (1 - d^t).
//
// It is a function of the iterates alone, in float64, and so of the run's log.
type Average struct {
	decay float64 // 0: tail
	power float64 // decay^t
	t     int
	m     [][]float64
}

const tailAverage = "tail"

// NewAverage returns the average of that name: "tail", or a decay above 0 and
// below 1 such as "0.95". "" gives nil: none.
func NewAverage(name string) (*Average, error) {
	switch name {
	case "":
		return nil, nil
	case tailAverage:
		return &Average{}, nil
	}
	d, err := strconv.ParseFloat(name, 64)
	if err != nil || !(d > 0 && d < 1) {
		return nil, fmt.Errorf("average: %q, want tail or a decay above 0 and below 1", name)
	}
	return &Average{decay: d, power: 1}, nil
}

// Add takes the next iterate, all matrices of it.
func (a *Average) Add(b [][]float32) {
	a.t++
	w := 4 / (float64(a.t) + 3)
	if a.decay > 0 {
		a.power *= a.decay
		w = (1 - a.decay) / (1 - a.power)
	}
	if a.m == nil {
		a.m = make([][]float64, len(b))
		for i := range b {
			a.m[i] = make([]float64, len(b[i]))
		}
	}
	for i, m := range a.m {
		for k, x := range b[i] {
			m[k] += float64(w * (float64(x) - m[k]))
		}
	}
}

// Count is the number of iterates so far; with one, or none, there is nothing to average.
func (a *Average) Count() int { return a.t }

// Reset forgets the iterates: those to come live in another space.
func (a *Average) Reset() { a.t, a.m, a.power = 0, nil, 1 }

// Value is the mean in float32, as a program takes it.
func (a *Average) Value() [][]float32 {
	out := make([][]float32, len(a.m))
	for i, m := range a.m {
		out[i] = make([]float32, len(m))
		for k, x := range m {
			out[i][k] = float32(x)
		}
	}
	return out
}
