package ui

import (
	"cmp"
	"math"
	"slices"
)

// Pair is a validation row's outcome before and after training.
type Pair struct {
	Row           int
	Text          string
	Want          string
	Before, After string  // predicted labels, or generated answers
	PBefore       float64 // probability of the right label; of a completion: of its mean token
	PAfter        float64
	Right         bool   // after
	Change        string // in words
}

// Orders of pairs.
const (
	OrderWrong   = "wrong"   // wrong ones first, the surest of them first
	OrderChanged = "changed" // those whose answer changed first
	OrderRow     = "row"     // as in the file
)

// Pairs joins two evaluations of the same rows.
func Pairs(info *DataInfo, before, after *EvalResult, order string) []Pair {
	if before == nil || after == nil {
		return nil
	}
	old := map[int]Prediction{}
	for _, p := range before.Predictions {
		old[p.Row] = p
	}
	var out []Pair
	for _, a := range after.Predictions {
		b, ok := old[a.Row]
		if !ok {
			continue
		}
		p := Pair{Row: a.Row, Text: a.Text, PBefore: math.Exp(-b.Loss), PAfter: math.Exp(-a.Loss)}
		var was bool
		if a.Label >= 0 {
			p.Want, p.Before, p.After = info.Label(a.Label), info.Label(b.Predicted), info.Label(a.Predicted)
			was, p.Right = b.Predicted == b.Label, a.Predicted == a.Label
		} else {
			p.Want, p.Before, p.After = a.Answer, b.answer(), a.answer()
			was, p.Right = b.right(), a.right()
		}
		switch {
		case !was && p.Right:
			p.Change = "now right"
		case was && !p.Right:
			p.Change = "now wrong"
		case p.Before != p.After:
			p.Change = "changed"
		case a.Loss < b.Loss:
			p.Change = "surer"
		default:
			p.Change = "less sure"
		}
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(x, y Pair) int {
		switch order {
		case OrderWrong:
			if c := cmp.Compare(truth(x.Right), truth(y.Right)); c != 0 {
				return c
			}
			return cmp.Compare(x.PAfter, y.PAfter)
		case OrderChanged:
			return cmp.Compare(truth(x.Before == x.After), truth(y.Before == y.After))
		}
		return cmp.Compare(x.Row, y.Row)
	})
	return out
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (p *Prediction) answer() string {
	if p.Output == nil {
		return "" // not generated: only a number of rows is
	}
	return *p.Output
}

func (p *Prediction) right() bool { return p.ExactMatch != nil && *p.ExactMatch == 1 }

// Confusion counts an evaluation's rows by label (first index) and prediction.
func Confusion(info *DataInfo, r *EvalResult) [][]int {
	n := len(info.Labels)
	m := make([][]int, n)
	for i := range m {
		m[i] = make([]int, n)
	}
	for _, p := range r.Predictions {
		if p.Label >= 0 && p.Label < n && p.Predicted >= 0 && p.Predicted < n {
			m[p.Label][p.Predicted]++
		}
	}
	return m
}
