package ui

import (
	"reflect"
	"testing"
)

func TestPairs(t *testing.T) {
	var info DataInfo
	for _, n := range []string{"no", "yes"} {
		info.Labels = append(info.Labels, Label{Name: n})
	}
	before := &EvalResult{Predictions: []Prediction{{Row: 1, Label: 1, Predicted: 0, Loss: 1}, {Row: 2, Label: 0, Predicted: 0, Loss: 0.2}, {Row: 3, Label: 1, Predicted: 0, Loss: 2}}}
	after := &EvalResult{Predictions: []Prediction{{Row: 1, Label: 1, Predicted: 1, Loss: 0.1}, {Row: 2, Label: 0, Predicted: 1, Loss: 0.9}, {Row: 3, Label: 1, Predicted: 0, Loss: 1.5}, {Row: 9, Label: 1}}}
	rows := func(order string) (out []int) {
		for _, p := range Pairs(&info, before, after, order) {
			out = append(out, p.Row)
		}
		return out
	}
	for order, want := range map[string][]int{OrderWrong: {3, 2, 1}, OrderChanged: {1, 2, 3}, OrderRow: {1, 2, 3}} {
		if got := rows(order); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", order, got, want)
		}
	}
	p := Pairs(&info, before, after, OrderRow)
	if p[0].Change != "now right" || p[1].Change != "now wrong" || p[2].Change != "surer" || p[0].Want != "yes" || p[1].After != "yes" {
		t.Errorf("%+v", p)
	}
	if got := Confusion(&info, after); !reflect.DeepEqual(got, [][]int{{0, 1}, {2, 1}}) {
		t.Errorf("confusion %v", got)
	}
	text, one := "said", 1.0
	c := Pairs(&info, &EvalResult{Predictions: []Prediction{{Row: 1, Label: -1, Answer: "a", Loss: 1}}}, &EvalResult{Predictions: []Prediction{{Row: 1, Label: -1, Answer: "a", Output: &text, ExactMatch: &one}}}, OrderWrong)
	if c[0].Want != "a" || c[0].After != "said" || !c[0].Right {
		t.Errorf("completion: %+v", c)
	}
}
