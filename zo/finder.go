package zo

import "math"

// Finder is a learning-rate range test (L. Smith, arXiv 1506.01186): short
// training at a rate that doubles until the loss on a fixed probe bends upwards.
//
// The rate to train with is a quarter of the one at which the probe loss was
// lowest (Choose): behind the minimum the steps' noise, which grows with the
// square of the rate, already outweighs what they gain, and a run has many more
// steps to lose by it than the test had.
type Finder struct {
	lr, factor   float64
	best, bestLR float64
	start        float64
	worse        int
	tried        []Try
}

// Try is one rate of the test and the probe loss after training with it.
type Try struct{ LR, Loss float64 }

// NewFinder starts at rate lr with the probe loss before any training.
func NewFinder(lr, probe float64) *Finder {
	return &Finder{lr: lr, factor: 2, best: probe, start: probe, bestLR: lr}
}

// LR is the rate to train the next steps with.
func (f *Finder) LR() float64 { return f.lr }

// Tried lists the rates so far.
func (f *Finder) Tried() []Try { return f.tried }

// Observe takes the probe loss after training at LR and reports whether the test
// is over: the loss stayed above its minimum for three rates, or rose well above
// where it began, or is not finite, or the rate has grown a millionfold.
func (f *Finder) Observe(loss float64) (done bool) {
	f.tried = append(f.tried, Try{f.lr, loss})
	if math.IsNaN(loss) || math.IsInf(loss, 0) || loss > f.start+1 || loss > 2*f.start {
		return true
	}
	if loss < f.best {
		f.best, f.bestLR, f.worse = loss, f.lr, 0
	} else if f.worse++; f.worse >= 3 && f.best < f.start {
		return true
	}
	f.lr *= f.factor
	return len(f.tried) >= 20
}

// Choose returns the rate to train with.
func (f *Finder) Choose() float64 { return f.bestLR / 4 }
