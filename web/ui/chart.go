package ui

import (
	"fmt"
	"math"
	"strings"
)

// Chart turns a run's losses and validation scores into SVG geometry. Loss is drawn against the left axis, accuracy (0 to 1) against the
// right one. The zero value is an empty chart.
type Chart struct {
	Loss  []Point // training loss of each step
	Evals []Point // validation accuracy, or of completions the probability of a right token
	Steps int     // steps of the whole run: the width of the x axis
}

// Point is a value at a step.
type Point struct {
	Step  int     `json:"s"`
	Value float64 `json:"v"`
}

// The drawing area in SVG user units.
const (
	ChartWidth, ChartHeight                   = 640, 260
	chartLeft, chartRight, chartTop, chartLow = 56, 580, 12, 226
	// maxVertices bounds what the browser has to draw and vugu has to send, however long the run.
	maxVertices = 200
)

// Tick is a label beside an axis at a coordinate.
type Tick struct {
	At    float64
	Label string
}

func (c *Chart) lossRange() (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, p := range c.Loss {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			lo, hi = min(lo, p.Value), max(hi, p.Value)
		}
	}
	if lo > hi {
		return 0, 1
	}
	pad := max(0.05, (hi-lo)*0.1)
	return max(0, lo-pad), hi + pad
}

func (c *Chart) x(step int) float64 {
	return chartLeft + (chartRight-chartLeft)*float64(step)/float64(max(c.Steps, 1))
}

func yIn(v, lo, hi float64) float64 {
	return chartLow - (chartLow-chartTop)*min(1, max(0, (v-lo)/(hi-lo)))
}

// LossLine is the points attribute of the raw losses, thinned by means over equal stretches.
func (c *Chart) LossLine() string { return c.line(c.Loss) }

// SmoothLine is the points attribute of an exponential mean with a horizon of about 10 steps.
func (c *Chart) SmoothLine() string { return c.line(smoothed(c.Loss)) }

func smoothed(pts []Point) []Point {
	smooth := make([]Point, len(pts))
	m, w := 0.0, 0.0
	for i, p := range pts {
		if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
			m, w = 0.9*m+0.1*p.Value, 0.9*w+0.1
		}
		smooth[i] = Point{p.Step, m / max(w, 1e-9)}
	}
	return smooth
}

func (c *Chart) line(pts []Point) string {
	lo, hi := c.lossRange()
	stride := (len(pts) + maxVertices - 1) / maxVertices
	var b strings.Builder
	for i := 0; i < len(pts); i += stride {
		sum, n, step := 0.0, 0, 0
		for _, p := range pts[i:min(i+stride, len(pts))] {
			if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
				sum, n, step = sum+p.Value, n+1, p.Step
			}
		}
		if n > 0 {
			fmt.Fprintf(&b, "%.1f,%.1f ", c.x(step), yIn(sum/float64(n), lo, hi))
		}
	}
	return strings.TrimSpace(b.String())
}

// AccuracyLine is the points attribute of the validation accuracies.
func (c *Chart) AccuracyLine() string {
	var b strings.Builder
	for _, p := range c.Evals {
		fmt.Fprintf(&b, "%.1f,%.1f ", c.x(p.Step), c.AccuracyY(p.Value))
	}
	return strings.TrimSpace(b.String())
}

// X is the coordinate of a step, AccuracyY that of an accuracy.
func (c *Chart) X(step int) float64 { return c.x(step) }

// AccuracyY is the coordinate of an accuracy.
func (c *Chart) AccuracyY(a float64) float64 { return yIn(a, 0, 1) }

// LossTicks, AccuracyTicks and StepTicks label the axes.
func (c *Chart) LossTicks() []Tick {
	lo, hi := c.lossRange()
	var t []Tick
	for i := 0; i <= 4; i++ {
		v := lo + (hi-lo)*float64(i)/4
		t = append(t, Tick{yIn(v, lo, hi), fmt.Sprintf("%.2f", v)})
	}
	return t
}

// AccuracyTicks labels the right axis.
func (c *Chart) AccuracyTicks() []Tick {
	var t []Tick
	for i := 0; i <= 4; i++ {
		t = append(t, Tick{c.AccuracyY(float64(i) / 4), fmt.Sprintf("%d %%", 25*i)})
	}
	return t
}

// StepTicks labels the x axis.
func (c *Chart) StepTicks() []Tick {
	var t []Tick
	for i := 0; i <= 4; i++ {
		s := c.Steps * i / 4
		t = append(t, Tick{c.x(s), fmt.Sprint(s)})
	}
	return t
}

// Summary says in words what the chart shows, for screen readers. what names the evaluations' numbers.
func (c *Chart) Summary(what string) string {
	if len(c.Loss) == 0 {
		return "No steps yet."
	}
	first, last := c.Loss[0], c.Loss[len(c.Loss)-1]
	s := fmt.Sprintf("Training loss %s at step %d, %s at step %d.", Fixed(first.Value), first.Step, Fixed(last.Value), last.Step)
	if n := len(c.Evals); n > 0 {
		s += fmt.Sprintf(" %s %s before, %s at step %d.", what, Percent(c.Evals[0].Value), Percent(c.Evals[n-1].Value), c.Evals[n-1].Step)
	}
	return s
}
