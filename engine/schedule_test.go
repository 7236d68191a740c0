package engine

import "testing"

// TestForget keeps what nodes, inputs, outputs, lists and aliases refer to.
func TestForget(t *testing.T) {
	g := &Graph{}
	tensor := func() int { return g.AddValue(&Value{Kind: KindTensor, DType: F32, Sizes: []int{2}}) }
	in, out, root, view, dead := tensor(), tensor(), tensor(), tensor(), tensor()
	entry, lonely := g.AddInt(7), g.AddInt(8)
	list := g.AddValue(&Value{Kind: KindIntList, List: []int{entry}})
	g.Values[view].Alias = root
	g.Inputs, g.Outputs = []int{in}, []int{out}
	g.Nodes = []*Node{{Op: "x", Args: []int{view, list, -1, out}}}
	g.forget()
	for v, want := range map[int]Kind{in: KindTensor, out: KindTensor, root: KindTensor, view: KindTensor, entry: KindInt, list: KindIntList, dead: KindNone, lonely: KindNone} {
		if g.Values[v].Kind != want {
			t.Errorf("value %d is %v, want %v", v, g.Values[v].Kind, want)
		}
	}
}
