package engine

import (
	"context"
	"strings"
	"testing"

	"tabtune/engine/pte"
)

// TestHostileSizes runs small programs that describe huge results: each is refused before anything of that size is made.
func TestHostileSizes(t *testing.T) {
	ones := func(n int) Tensor {
		x := Tensor{DType: Bool, Sizes: []int{1, n}, Data: make([]byte, n)}
		for k := range x.Data {
			x.Data[k] = 1
		}
		return x
	}
	masked := newBuilder()
	picked := masked.dynamic(F32, pte.DynamicBound, 4)
	masked.call("aten::masked_select.out", masked.input(F32, 60000, 1), masked.input(Bool, 1, 60000), picked, picked)
	masked.output(picked)
	some := newBuilder()
	at := some.dynamic(I64, pte.DynamicBound, 4, 2)
	some.call("aten::nonzero.out", some.input(Bool, 1, 60000), at, at)
	some.output(at)
	upsample := newBuilder()
	up := upsample.tensor(F32, 1, 1, 100000, 1)
	upsample.call("aten::_upsample_bilinear2d_aa.out", upsample.input(F32, 1, 1, 100000, 1), upsample.ints(100000, 1), upsample.add(pte.BoolValue(false)),
		upsample.add(pte.DoubleValue(1e-30)), upsample.add(pte.DoubleValue(1)), up, up)
	upsample.output(up)
	for _, c := range []struct {
		b    *builder
		ins  []Tensor
		want string
	}{
		{masked, []Tensor{Float32s(make([]float32, 60000), 60000, 1), ones(60000)}, "masked_select"},
		{some, []Tensor{ones(60000)}, "nonzero"},
		{upsample, []Tensor{Float32s(make([]float32, 100000), 1, 1, 100000, 1)}, "filters of"},
	} {
		m := c.b.load(t, Options{})
		for k, x := range c.ins {
			if err := m.SetInput(k, x); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Execute(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
}
