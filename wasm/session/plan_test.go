package session

import (
	"slices"
	"testing"

	"tabtune/lora"
)

// TestPlan checks into which calls examples are cut.
func TestPlan(t *testing.T) {
	lengths := func(group ...int) (out [][]row) {
		for _, n := range group {
			out = append(out, []row{{ids: make([]int32, n), at: []int32{0}, targets: []int32{0}}})
		}
		return out
	}
	many := make([]int, 100)
	for i := range many {
		many[i] = 10 + i/99*90 // the last is long
	}
	for _, c := range []struct {
		name   string
		rows   int // of a call, a replica
		groups [][][]row
		want   []int
	}{
		{"alike", 100, [][][]row{lengths(20, 20, 21, 21)}, []int{4}},
		{"one long among short ones", 100, [][][]row{lengths(many...)}, []int{99, 100}},
		{"too short to matter", 100, [][][]row{lengths(1, 1, 1, 9)}, []int{4}},
		{"bounded by the program", 2, [][][]row{lengths(20, 20, 20, 20, 20)}, []int{2, 4, 5}},
		{"the longest of all groups counts", 100, [][][]row{lengths(10, 10), lengths(10, 10), lengths(10, 90), lengths(10, 10)}, []int{1, 2}},
	} {
		r := &runner{spec: lora.Spec{Modules: []string{"q"}, Queries: 2, Sides: lora.TwoSided, Rows: 4 * c.rows, Scored: 4 * c.rows}}
		if got := r.plan(c.groups); !slices.Equal(got, c.want) {
			t.Errorf("%s: calls end at %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSpreadQueries(t *testing.T) {
	for _, c := range [][3]int{{64, 1, 8}, {16, 1, 8}, {4, 1, 4}, {4, 8, 1}, {7, 1, 7}, {12, 2, 4}} {
		if got := spreadQueries(c[0], c[1]); got != c[2] {
			t.Errorf("%d queries of %d rows: %d at once, want %d", c[0], c[1], got, c[2])
		}
	}
}
