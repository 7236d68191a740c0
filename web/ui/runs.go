package ui

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// SavedRun is the page's own record beside a run's files (page.json): enough to open the same model and data again, and to draw its curves.
type SavedRun struct {
	ID     string          `json:"id"`
	Name   string          `json:"name,omitempty"` // given by the visitor
	Model  json.RawMessage `json:"model"`          // parameters of model.open.start
	Data   json.RawMessage `json:"data"`           // parameters of data.open.start
	Train  json.RawMessage `json:"train"`          // Settings
	Step   int             `json:"step"`
	Steps  int             `json:"steps"`
	Done   bool            `json:"done"`
	Zero   *Score          `json:"zero,omitempty"`
	Best   *Score          `json:"best,omitempty"`
	Losses []Point         `json:"losses,omitempty"` // thinned
	Evals  []Point         `json:"evals,omitempty"`
	// Adapter is what adapter.load or, with Replay, adapter.replay takes for a run that was not made here; empty: the run's folder.
	Adapter string `json:"adapter,omitempty"`
	Replay  bool   `json:"replay,omitempty"`
}

// Title is the run's name, or its time.
func (r *SavedRun) Title() string {
	if r.Name != "" {
		return r.Name
	}
	return "Run of " + r.when()
}

// when is the time that an id is made of, as a person writes it.
func (r *SavedRun) when() string {
	const form = "2006-01-02-150405"
	at, rest := r.ID[:min(len(form), len(r.ID))], r.ID[min(len(form), len(r.ID)):]
	t, err := time.Parse(form, at)
	if err != nil {
		return r.ID
	}
	return t.Local().Format("2 Jan 2006, 15:04:05") + strings.Replace(rest, "-", ", no. ", 1)
}

// Text says how the run stands.
func (r *SavedRun) Text() string {
	s := fmt.Sprintf("step %d of %d", r.Step, r.Steps)
	if r.Adapter != "" {
		s = "imported"
	}
	if r.Zero != nil && r.Best != nil {
		s += fmt.Sprintf(", accuracy %s before, %s at best", Percent(r.Zero.Accuracy), Percent(r.Best.Accuracy))
	}
	return s
}

// Thin reduces a curve to at most n points by means over equal stretches, leaving out what is not finite.
func Thin(pts []Point, n int) []Point {
	stride := max(1, (len(pts)+n-1)/n)
	var out []Point
	for i := 0; i < len(pts); i += stride {
		sum, k, step := 0.0, 0, 0
		for _, p := range pts[i:min(i+stride, len(pts))] {
			if !math.IsNaN(p.Value) && !math.IsInf(p.Value, 0) {
				sum, k, step = sum+p.Value, k+1, p.Step
			}
		}
		if k > 0 {
			out = append(out, Point{step, sum / float64(k)})
		}
	}
	return out
}

// Curves draws several runs' losses, and accuracies dashed, over the same axes.
type Curves struct {
	Chart Chart // the union of all, for axes and labels
	Runs  []SavedRun
}

// NewCurves puts runs into one picture.
func NewCurves(runs []SavedRun) *Curves {
	c := &Curves{Runs: runs}
	for _, r := range runs {
		c.Chart.Steps = max(c.Chart.Steps, r.Steps)
		c.Chart.Loss = append(c.Chart.Loss, r.Losses...)
	}
	return c
}

// LossLine is the points attribute of run i's smoothed losses, AccuracyLine that of its validation accuracies.
func (c *Curves) LossLine(i int) string { return c.Chart.line(smoothed(c.Runs[i].Losses)) }

// AccuracyLine is the points attribute of run i's validation accuracies.
func (c *Curves) AccuracyLine(i int) string {
	one := Chart{Evals: c.Runs[i].Evals, Steps: c.Chart.Steps}
	return one.AccuracyLine()
}
