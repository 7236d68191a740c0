package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"tabtune/engine/pte"
)

// both runs a one-operator program with kernels and with the reference and compares all outputs.
func both(t *testing.T, tol float64, build func() *builder, ins ...Tensor) {
	t.Helper()
	want := run(t, build().load(t, Options{Reference: true}), ins...)
	got := run(t, build().load(t, Options{}), ins...)
	for i := range want {
		if err := closeTo(got[i], want[i].Data, tol); err != nil {
			t.Errorf("output %d: kernel and reference: %v", i, err)
		}
	}
}

// edges are sizes below, at and above the kernels' tiles and blocks.
var edges = []int{1, 3, 4, 5, 17, 64, 251, 257, 1031}

func TestUnaryKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, u := range unaryOps {
		for _, n := range edges {
			for _, d := range []DType{F32, I64, Bool} {
				if u.f == nil && d == F32 {
					continue
				}
				out := d
				switch {
				case u.bool:
					out = Bool
				case u.i == nil && d != F32:
					out = F32
				}
				in := random(r, d, n)
				both(t, 1e-5, func() *builder {
					b := newBuilder()
					y := b.tensor(out, n)
					b.call(name, b.input(d, n), y, y)
					b.output(y)
					return b
				}, in)
				if t.Failed() {
					t.Fatalf("%s of %s[%d]", name, dtypeName(d), n)
				}
			}
		}
	}
}

func TestBinaryKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	shapes := [][2][]int{{{7}, {7}}, {{5, 33}, {33}}, {{5, 33}, {5, 1}}, {{4, 1, 6}, {3, 1}}, {{2, 3, 4, 5}, {3, 1, 5}}, {{257}, {1}}, {{3, 4}, {}}, {{2, 1, 3, 1, 5}, {1, 4, 1, 2, 5}}}
	types := [][2]DType{{F32, F32}, {I64, I64}, {I32, I32}, {F32, I64}, {Bool, Bool}, {I64, I32}, {U8, I8}, {F64, F32}}
	for _, name := range tensorOverloads {
		op := binaryOps[baseName(name)]
		for _, sh := range shapes {
			for _, ty := range types {
				if op.f == nil && !op.logic && (isFloat(ty[0]) || isFloat(ty[1])) {
					continue
				}
				d := promoteOperands(operand{ty[0], min(1, len(sh[0])) + 1}, operand{ty[1], min(1, len(sh[1])) + 1})
				if op.float && !isFloat(d) {
					d = F32
				}
				if op.bool {
					d = Bool
				}
				size, _ := broadcastSizes(sh[0], sh[1])
				x, y := random(r, ty[0], sh[0]...), random(r, ty[1], sh[1]...)
				both(t, 1e-5, func() *builder {
					b := newBuilder()
					args := []int{b.input(ty[0], sh[0]...), b.input(ty[1], sh[1]...)}
					if op.alpha {
						args = append(args, b.add(pte.IntValue(2)))
					}
					o := b.tensor(d, size...)
					b.call(name, append(args, o, o)...)
					b.output(o)
					return b
				}, x, y)
				if t.Failed() {
					t.Fatalf("%s of %s%v and %s%v", name, dtypeName(ty[0]), sh[0], dtypeName(ty[1]), sh[1])
				}
			}
		}
	}
	for _, name := range scalarOverloads {
		op := binaryOps[baseName(name)]
		for _, x := range []pte.Value{pte.IntValue(3), pte.IntValue(2), pte.DoubleValue(1.5), pte.IntValue(-7)} {
			for _, d := range []DType{F32, I64, I32} {
				_, fl := x.(pte.DoubleValue)
				if op.f == nil && (fl || d == F32) {
					continue
				}
				out := d
				if fl || op.float {
					out = F32
				}
				if op.bool {
					out = Bool
				}
				both(t, 1e-5, func() *builder {
					b := newBuilder()
					args := []int{b.input(d, 70), b.add(x)}
					if op.alpha {
						args = append(args, b.add(pte.IntValue(2)))
					}
					o := b.tensor(out, 70)
					b.call(name, append(args, o, o)...)
					b.output(o)
					return b
				}, random(r, d, 70))
				if t.Failed() {
					t.Fatalf("%s of %s and %v", name, dtypeName(d), x)
				}
			}
		}
	}
}

func TestMatmulKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, m := range []int{1, 3, 4, 5, 9} {
		for _, k := range []int{1, 4, 7, 33} {
			for _, n := range []int{1, 7, 8, 9, 35} {
				both(t, 1e-4, func() *builder {
					b := newBuilder()
					x, w, bias := b.input(F32, m, k), b.input(F32, k, n), b.input(F32, n)
					wt := b.tensor(F32, n, k)
					b.call("aten::t_copy.out", w, wt, wt)
					one := b.add(pte.IntValue(1))
					y1, y2, y3, y4 := b.tensor(F32, m, n), b.tensor(F32, m, n), b.tensor(F32, m, n), b.tensor(F32, 1, m, n)
					b.call("aten::mm.out", x, w, y1, y1)
					b.call("aten::addmm.out", bias, x, w, one, one, y2, y2)
					b.call("aten::linear.out", x, wt, bias, y3, y3)
					x3, w3 := b.tensor(F32, 1, m, k), b.tensor(F32, 1, k, n)
					zero := b.add(pte.IntValue(0))
					b.call("aten::unsqueeze_copy.out", x, zero, x3, x3)
					b.call("aten::unsqueeze_copy.out", w, zero, w3, w3)
					b.call("aten::bmm.out", x3, w3, y4, y4)
					for _, y := range []int{y1, y2, y3, y4} {
						b.output(y)
					}
					return b
				}, random(r, F32, m, k), random(r, F32, k, n), random(r, F32, n))
			}
		}
	}
}

func TestReduceKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, sizes := range [][]int{{5}, {3, 7}, {2, 65, 3}, {4, 1, 129}, {2, 3, 4, 5}} {
		for mask := range 1 << len(sizes) {
			var dims []int
			var list []int64
			for d := range sizes {
				if mask>>d&1 != 0 {
					dims, list = append(dims, d), append(list, int64(d))
				}
			}
			if len(dims) == 0 {
				continue
			}
			for _, name := range []string{"aten::sum.IntList_out", "aten::mean.out", "aten::amax.out", "aten::amin.out"} {
				both(t, 1e-5, func() *builder {
					b := newBuilder()
					args := []int{b.input(F32, sizes...), b.ints(list...), b.add(pte.BoolValue(false))}
					if name != "aten::amax.out" && name != "aten::amin.out" {
						args = append(args, b.add(pte.Null{}))
					}
					o := b.tensor(F32, reduceShape(sizes, dims, false)...)
					b.call(name, append(args, o, o)...)
					b.output(o)
					return b
				}, random(r, F32, sizes...))
			}
			few := Tensor{Bool, sizes, make([]byte, numel(sizes))}
			for k := range few.Data {
				few.Data[k] = byte(b2i(r.IntN(max(2, len(few.Data)/3)) == 0))
			}
			both(t, 0, func() *builder {
				b := newBuilder()
				o := b.tensor(Bool, reduceShape(sizes, dims, false)...)
				b.call("aten::any.dims_out", b.input(Bool, sizes...), b.ints(list...), b.add(pte.BoolValue(false)), o, o)
				b.output(o)
				return b
			}, few)
		}
		for d := range sizes {
			for _, name := range []string{"aten::_softmax.out", "aten::_log_softmax.out"} {
				both(t, 1e-5, func() *builder {
					b := newBuilder()
					o := b.tensor(F32, sizes...)
					b.call(name, b.input(F32, sizes...), b.add(pte.IntValue(d)), b.add(pte.BoolValue(false)), o, o)
					b.output(o)
					return b
				}, random(r, F32, sizes...))
			}
			for _, name := range []string{"aten::argmax.out", "aten::argmin.out"} {
				both(t, 0, func() *builder {
					b := newBuilder()
					o := b.tensor(I64, reduceShape(sizes, []int{d}, false)...)
					b.call(name, b.input(F32, sizes...), b.add(pte.IntValue(d)), b.add(pte.BoolValue(false)), o, o)
					b.output(o)
					return b
				}, random(r, F32, sizes...))
			}
		}
	}
}

func TestLayoutKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, d := range []DType{F32, I64, U8, F16} {
		in := random(r, F32, 5, 6, 7)
		a := decodeArray(F32, in.Sizes, in.Data).convert(d)
		x := Tensor{d, in.Sizes, a.encode()}
		cases := map[string]func(b *builder, x int) int{
			"permute": func(b *builder, x int) int {
				y := b.tensor(d, 7, 5, 6)
				b.call("aten::permute_copy.out", x, b.ints(2, 0, 1), y, y)
				return y
			},
			"transpose": func(b *builder, x int) int {
				y := b.tensor(d, 5, 7, 6)
				b.call("aten::transpose_copy.int_out", x, b.add(pte.IntValue(-1)), b.add(pte.IntValue(1)), y, y)
				return y
			},
			"repeat": func(b *builder, x int) int {
				y := b.tensor(d, 2, 5, 18, 7)
				b.call("aten::repeat.out", x, b.ints(2, 1, 3, 1), y, y)
				return y
			},
			"slice": func(b *builder, x int) int {
				y := b.tensor(d, 5, 2, 7)
				b.call("aten::slice_copy.Tensor_out", x, b.add(pte.IntValue(1)), b.add(pte.IntValue(-5)), b.add(pte.IntValue(5)), b.add(pte.IntValue(2)), y, y)
				return y
			},
			"select": func(b *builder, x int) int {
				y := b.tensor(d, 5, 6)
				b.call("aten::select_copy.int_out", x, b.add(pte.IntValue(2)), b.add(pte.IntValue(-1)), y, y)
				return y
			},
			"leading select": func(b *builder, x int) int {
				y := b.tensor(d, 6, 7)
				b.call("aten::select_copy.int_out", x, b.add(pte.IntValue(0)), b.add(pte.IntValue(3)), y, y)
				return y
			},
			"flip": func(b *builder, x int) int {
				y := b.tensor(d, 5, 6, 7)
				b.call("aten::flip.out", x, b.ints(0, 2), y, y)
				return y
			},
			"cat": func(b *builder, x int) int {
				y := b.tensor(d, 5, 12, 7)
				b.call("aten::cat.out", b.add(pte.TensorList{x, x}), b.add(pte.IntValue(1)), y, y)
				return y
			},
			"stack": func(b *builder, x int) int {
				y := b.tensor(d, 5, 6, 7, 2)
				b.call("aten::stack.out", b.add(pte.TensorList{x, x}), b.add(pte.IntValue(-1)), y, y)
				return y
			},
			"pad": func(b *builder, x int) int {
				y := b.tensor(d, 5, 9, 5)
				b.call("aten::constant_pad_nd.out", x, b.ints(-1, -1, 1, 2), b.add(pte.IntValue(3)), y, y)
				return y
			},
		}
		for name, f := range cases {
			t.Run(fmt.Sprintf("%s %s", dtypeName(d), name), func(t *testing.T) {
				both(t, 0, func() *builder {
					b := newBuilder()
					b.output(f(b, b.input(d, 5, 6, 7)))
					return b
				}, x)
			})
		}
	}
}

func TestConvertKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	all := []DType{U8, I8, I16, I32, I64, F16, BF16, F32, F64, Bool}
	for _, from := range all {
		for _, to := range all {
			both(t, 0, func() *builder {
				b := newBuilder()
				y := b.tensor(to, 67)
				b.call("aten::_to_copy.out", b.input(from, 67), b.add(pte.BoolValue(false)), b.add(pte.Null{}), y, y)
				b.output(y)
				return b
			}, random(r, from, 67))
			if t.Failed() {
				t.Fatalf("%s to %s", dtypeName(from), dtypeName(to))
			}
		}
	}
}

func TestRowKernels(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	idx := Int64s([]int64{3, 0, 8, 3, 1}, 5)
	for _, n := range []int{1, 5, 33} {
		w := random(r, F32, 9, n)
		both(t, 0, func() *builder {
			b := newBuilder()
			x, i := b.input(F32, 9, n), b.input(I64, 5)
			y1, y2, y3 := b.tensor(F32, 5, n), b.tensor(F32, 5, n), b.tensor(F32, 5, n)
			no, zero := b.add(pte.BoolValue(false)), b.add(pte.IntValue(0))
			b.call("aten::embedding.out", x, i, b.add(pte.IntValue(-1)), no, no, y1, y1)
			b.call("aten::index_select.out", x, zero, i, y2, y2)
			b.call("aten::index.Tensor_out", x, b.add(pte.OptionalTensorList{i}), y3, y3)
			for _, y := range []int{y1, y2, y3} {
				b.output(y)
			}
			return b
		}, w, idx)
		q := random(r, I8, 9, n)
		both(t, 1e-6, func() *builder {
			b := newBuilder()
			x, s := b.input(I8, 9, n), b.input(F32, 9)
			z := b.constant(Int64s(make([]int64, 9), 9))
			y := b.tensor(F32, 9, n)
			b.call("quantized_decomposed::dequantize_per_channel.out", x, s, z, b.add(pte.IntValue(0)), b.add(pte.IntValue(-127)), b.add(pte.IntValue(127)),
				b.add(pte.IntValue(1)), b.add(pte.Null{}), y, y)
			b.output(y)
			return b
		}, q, random(r, F32, 9))
		both(t, 1e-4, func() *builder {
			b := newBuilder()
			x, g := b.input(F32, 9, n), b.input(F32, n)
			y, mean, dev := b.tensor(F32, 9, n), b.tensor(F32, 9, 1), b.tensor(F32, 9, 1)
			b.call("aten::native_layer_norm.out", x, b.ints(int64(n)), g, b.add(pte.Null{}), b.add(pte.DoubleValue(1e-3)), y, mean, dev, b.add(pte.TensorList{y, mean, dev}))
			b.output(y)
			return b
		}, random(r, F32, 9, n), random(r, F32, n))
	}
}
