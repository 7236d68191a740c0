package ui

import (
	"math"
	"strings"
	"testing"
)

func TestCurves(t *testing.T) {
	var pts []Point
	for i := range 1000 {
		pts = append(pts, Point{i + 1, 2 - float64(i)/1000})
	}
	pts[5].Value = math.NaN()
	thin := Thin(pts, 100)
	if len(thin) != 100 || thin[99].Step != 1000 || math.IsNaN(thin[0].Value) {
		t.Errorf("%d points, last %+v", len(thin), thin[len(thin)-1])
	}
	c := NewCurves([]SavedRun{{Steps: 1000, Losses: thin, Evals: []Point{{0, 0.5}, {1000, 0.9}}}, {Steps: 500, Losses: thin[:50]}})
	if c.Chart.Steps != 1000 || len(strings.Fields(c.LossLine(1))) != 50 || len(strings.Fields(c.AccuracyLine(0))) != 2 {
		t.Errorf("lines %q %q", c.LossLine(1), c.AccuracyLine(0))
	}
}
