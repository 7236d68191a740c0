package engine

import (
	"slices"
	"testing"
)

// TestFuseMatmul wants the linear layers of a stock program to read their weights as they are stored. TestStockPrograms compares results.
func TestFuseMatmul(t *testing.T) {
	count := func(opt Options, op string) int {
		m, err := loadFixture(t, "linear", opt).Method("forward")
		if err != nil {
			t.Fatal(err)
		}
		return len(slices.DeleteFunc(slices.Clone(m.Graph().Nodes), func(n *Node) bool { return n.Op != op }))
	}
	for _, op := range []string{"aten::permute_copy.out", "aten::addmm.out", "aten::mm.out"} {
		if n := count(Options{}, op); n != 0 {
			t.Errorf("%d of %s are left", n, op)
		}
		if n := count(Options{NoPasses: true}, op); n == 0 {
			t.Errorf("the program has no %s", op)
		}
	}
	if n := count(Options{}, "aten::linear.out"); n != 2 {
		t.Errorf("%d linear layers, want 2", n)
	}
}
