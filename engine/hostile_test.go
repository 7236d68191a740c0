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
	index := newBuilder()
	rows := index.dynamic(F32, pte.DynamicBound, 4, 2)
	index.call("aten::index.Tensor_out", index.input(F32, 3, 2), index.add(pte.OptionalTensorList{index.input(Bool, 1, 4)}), rows, rows)
	index.output(rows)
	experts := newBuilder()
	mixed := experts.tensor(F32, 1, 1<<16)
	experts.call("llama::quantized_moe_ffn.out", experts.input(F32, 1, 1<<16), experts.input(F32, 1, 1<<16), experts.input(F32, 0), experts.input(U8, 1, 64),
		experts.input(U8, 1, 64), experts.add(pte.IntValue(1)), experts.add(pte.IntValue(1)), experts.add(pte.IntValue(1<<30)), experts.add(pte.IntValue(1<<16)), experts.add(pte.IntValue(32)), experts.add(pte.IntValue(4)),
		experts.add(pte.StringValue("softmax")), experts.add(pte.DoubleValue(1)), mixed, mixed)
	experts.output(mixed)
	bytes := func(sizes ...int) Tensor { return Tensor{DType: U8, Sizes: sizes, Data: make([]byte, numel(sizes))} }
	for _, c := range []struct {
		b    *builder
		ins  []Tensor
		want string
	}{
		{masked, []Tensor{Float32s(make([]float32, 60000), 60000, 1), ones(60000)}, "masked_select"},
		{some, []Tensor{ones(60000)}, "nonzero"},
		{upsample, []Tensor{Float32s(make([]float32, 100000), 1, 1, 100000, 1)}, "filters of"},
		{index, []Tensor{Float32s(make([]float32, 6), 3, 2), ones(4)}, "mask of [1 4] at dimension 0 of [3 2]"},
		{experts, []Tensor{Float32s(make([]float32, 1<<16), 1, 1<<16), Float32s(make([]float32, 1<<16), 1, 1<<16), Float32s(nil, 0), bytes(1, 64), bytes(1, 64)},
			"1073741824 hidden numbers of 65536 inputs"},
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
