"""Exports programs of one operator each, over element types and odd shapes, and records what the stock runtime computes.

Run with executorch 1.5.1 and torch 2.13.0 installed:  python engine/testdata/operators.py engine/testdata [op_FAMILY...]
Writes op_FAMILY.pte and op_FAMILY.json (see record.py).
"""

import math
import struct

import torch
import torch.nn.functional as F
from executorch.exir import EdgeCompileConfig, to_edge
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
from record import ONLY, write
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401
from torch.export import export

A, Q, L = torch.ops.aten, torch.ops.quantized_decomposed, torch.ops.llama
FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
INTS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
NAME = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64", torch.int64: "i64", torch.int32: "i32",
        torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool", torch.complex64: "c64", torch.complex128: "c128"}


class Fixed(list):
    """A list that stays: to_edge extends the list of operators to preserve by itself at every method."""

    def extend(self, _):
        pass

    def __iadd__(self, _):
        return self


KEEP = Fixed([A.glu.default, A.native_group_norm.default, A.pixel_shuffle.default, A.pixel_unshuffle.default, A.upsample_bilinear2d.vec,
        A.upsample_nearest2d.vec, A._upsample_bilinear2d_aa.default, A.grid_sampler_2d.default, A.reflection_pad1d.default,
        A.reflection_pad2d.default, A.reflection_pad3d.default, A.replication_pad1d.default, A.replication_pad2d.default,
        A.replication_pad3d.default, A.roll.default, A.topk.default, A.masked_scatter.default, A.native_dropout.default,
        A._cdist_forward.default, A._pdist_forward.default, A.convolution_backward.default, A.repeat_interleave.Tensor,
        A._fft_r2c.default, A._fft_c2r.default, A.linear.default, A.elu.default, A._native_batch_norm_legit.no_stats,
        A._native_batch_norm_legit_no_training.default, A.max_pool2d_with_indices_backward.default, A.var_mean.correction])
EDGE = EdgeCompileConfig(_check_ir_validity=False, preserve_ops=KEEP)


def make(t, dtype):
    if dtype == torch.bool:
        return t > 0
    if dtype in INTS:
        return (t * 5).abs().to(dtype) if dtype == torch.uint8 else (t * 5).to(dtype)
    return t.to(dtype)


class Family:
    """Collects the cases of one file; each becomes a method."""

    def __init__(self, name):
        self.name, self.methods, self.calls, self.exported = name, {}, [], {}
        self.wanted = not ONLY or "op_" + name in ONLY

    def case(self, name, fn, *args, dynamic=None, more=(), shapes=False, eager=False, skip=()):
        if not self.wanted:
            return

        class M(nn.Module):
            def forward(self, *xs):
                r = fn(*xs)
                return tuple(r) if isinstance(r, (tuple, list)) else r

        module = M()
        module.shapes, module.eager, module.skip = shapes, eager, skip
        try:
            program = export(module.eval(), args, dynamic_shapes=(dynamic,) if dynamic else None, strict=False)
            to_edge(program, compile_config=EDGE).to_executorch()
        except Exception as e:
            print("not exported", self.name, name, type(e).__name__, str(e).splitlines()[0][:160])
            return
        self.exported[name] = program
        self.methods[name] = (module, args, (dynamic,) if dynamic else None)
        self.calls += [(name, args)] + [(name, a) for a in more]

    def write(self):
        if self.wanted and self.methods:
            write("op_" + self.name, self.methods, self.calls, edge=EDGE, exported=self.exported)


def conv():
    f = Family("conv")

    def one(name, x, w, b, stride, pad, dil, transposed, extra, groups):
        f.case(name, lambda *t: A.convolution.default(t[0], t[1], t[2] if len(t) > 2 else None, stride, pad, dil, transposed, extra, groups), *(x, w) + ((b,) if b is not None else ()))

    r = torch.randn
    for d in FLOATS:
        one("plain_" + NAME[d], r(2, 3, 7, 6).to(d), r(4, 3, 3, 2).to(d), r(4).to(d), [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    one("i64", make(r(1, 2, 5, 5), torch.int64), make(r(3, 2, 2, 2), torch.int64), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    one("stride", r(1, 5, 9, 8), r(6, 5, 3, 3), r(6), [2, 3], [1, 2], [1, 1], False, [0, 0], 1)
    one("dilated", r(1, 4, 11, 12), r(9, 4, 3, 3), None, [1, 2], [2, 3], [2, 3], False, [0, 0], 1)
    one("groups", r(2, 6, 8, 8), r(4, 3, 3, 3), r(4), [1, 1], [1, 1], [1, 1], False, [0, 0], 2)
    one("depthwise", r(1, 8, 9, 7), r(8, 1, 3, 3), r(8), [1, 1], [1, 1], [1, 1], False, [0, 0], 8)
    one("depthwise_s2", r(1, 5, 10, 11), r(5, 1, 5, 5), r(5), [2, 2], [2, 2], [1, 1], False, [0, 0], 5)
    one("depthwise_m2", r(1, 3, 6, 6), r(6, 1, 3, 3), None, [1, 1], [1, 1], [2, 2], False, [0, 0], 3)
    one("pointwise", r(1, 17, 5, 5), r(11, 17, 1, 1), r(11), [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    one("one_d", r(2, 4, 13), r(5, 4, 3), r(5), [2], [1], [2], False, [0], 1)
    one("one_d_groups", r(1, 6, 10), r(6, 2, 4), None, [1], [2], [1], False, [0], 3)
    one("transposed", r(2, 4, 5, 6), r(4, 3, 3, 3), r(3), [1, 1], [0, 0], [1, 1], True, [0, 0], 1)
    one("transposed_s", r(1, 4, 5, 4), r(4, 2, 3, 4), r(2), [2, 3], [1, 1], [1, 2], True, [1, 2], 1)
    one("transposed_g", r(1, 6, 5, 5), r(6, 2, 2, 2), None, [2, 2], [0, 1], [1, 1], True, [0, 0], 2)
    one("transposed_1d", r(1, 3, 7), r(3, 4, 5), r(4), [3], [2], [1], True, [1], 1)
    for n, (x, w, kw) in {"plain": (r(2, 3, 6, 5), r(4, 3, 3, 3), ([1, 2], [1, 0], [1, 1], False, [0, 0], 1)),
                          "groups": (r(1, 4, 6, 6), r(6, 2, 3, 2), ([2, 1], [0, 1], [1, 2], False, [0, 0], 2)),
                          "transposed": (r(1, 4, 4, 5), r(4, 3, 3, 3), ([2, 1], [1, 1], [1, 1], True, [1, 0], 1))}.items():
        y = A.convolution.default(x, w, None, *kw)
        bias = [y.shape[1]]
        f.case("backward_" + n, lambda g, x, w, kw=kw, bias=bias: A.convolution_backward.default(g, x, w, bias, *kw, [True, True, True]), r(y.shape), x, w)
    f.write()


def pool():
    f = Family("pool")
    x = torch.randn(2, 3, 9, 8)
    for d in FLOATS + INTS:
        f.case("max_" + NAME[d], lambda a: A.max_pool2d_with_indices.default(a, [3, 2], [2, 1], [1, 1], [1, 2], False), make(x, d))
    f.case("max_ceil", lambda a: A.max_pool2d_with_indices.default(a, [3, 3], [2, 2], [1, 1], [1, 1], True), x)
    f.case("max_3d", lambda a: A.max_pool2d_with_indices.default(a, [2, 2]), x[0])
    for d in FLOATS + [torch.int64]:
        f.case("avg_" + NAME[d], lambda a: A.avg_pool2d.default(a, [3, 2], [2, 2], [1, 1], False, True), make(x, d))
        f.case("adaptive_" + NAME[d], lambda a: A._adaptive_avg_pool2d.default(a, [4, 3]), make(x, d))
    for ceil in (False, True):
        for count in (False, True):
            f.case(f"avg_{ceil:d}{count:d}", lambda a: A.avg_pool2d.default(a, [3, 3], [2, 3], [1, 1], ceil, count), x)
    f.case("avg_divisor", lambda a: A.avg_pool2d.default(a, [3, 3], [], [0, 1], False, True, 5), x)
    f.case("adaptive_one", lambda a: A._adaptive_avg_pool2d.default(a, [1, 1]), x)
    y, i = A.max_pool2d_with_indices.default(x, [3, 3], [2, 2], [1, 1])
    # The stock kernel adds to what happens to be in memory: PyTorch's result is recorded.
    f.case("max_backward", lambda g, a, i: A.max_pool2d_with_indices_backward.default(g, a, [3, 3], [2, 2], [1, 1], [1, 1], False, i), torch.randn_like(y), x, i, eager=True)
    f.write()


def norm():
    f = Family("norm")
    x, c = torch.randn(2, 6, 3, 4), [torch.randn(6) for _ in range(3)] + [torch.rand(6) + 0.1]
    for d in FLOATS:
        a = [t.to(d) for t in [x] + c]
        f.case("batch_" + NAME[d], lambda x, w, b, m, v: A._native_batch_norm_legit_no_training.default(x, w, b, m, v, 0.1, 1e-3)[0], *a)
        f.case("group_" + NAME[d], lambda x, w, b: A.native_group_norm.default(x, w, b, 2, 6, 12, 3, 1e-5), *a[:3])
        f.case("stats_" + NAME[d], lambda x, w, b: A._native_batch_norm_legit.no_stats(x, w, b, True, 0.1, 1e-3), *a[:3])
    f.case("batch_2d", lambda x, m, v: A._native_batch_norm_legit_no_training.default(x, None, None, m, v, 0.1, 1e-3)[0], x[:, :, 0, 0].contiguous(), c[2], c[3])
    f.case("group_plain", lambda x: A.native_group_norm.default(x, None, None, 2, 6, 12, 2, 1e-5), x)
    f.write()


def pad():
    f = Family("pad")
    for d in FLOATS + INTS + [torch.bool]:
        f.case("reflect_" + NAME[d], lambda a: A.reflection_pad2d.default(a, [2, 1, 3, 0]), make(torch.randn(2, 3, 4, 5), d))
        f.case("replicate_" + NAME[d], lambda a: A.replication_pad2d.default(a, [2, 7, 0, 5]), make(torch.randn(2, 3, 4, 5), d))
    x = torch.randn(2, 3, 4, 3, 5)
    f.case("reflect", lambda a, b: (A.reflection_pad1d.default(a, [3, 4]), A.reflection_pad3d.default(b, [1, 2, 2, 0, 1, 3]), A.reflection_pad1d.default(a, [-1, 2])), x[0, 0], x)
    f.case("replicate", lambda a, b: (A.replication_pad1d.default(a, [3, 9]), A.replication_pad3d.default(b, [1, 2, 2, 0, 1, 3]), A.replication_pad2d.default(a, [-1, 2, 1, -1])), x[0, 0], x)
    f.write()


def pick():
    f = Family("pick")
    x = torch.randn(3, 5, 7)
    for d in FLOATS + INTS:
        v = (torch.randperm(105).reshape(3, 5, 7) - 20).to(d) if d != torch.bfloat16 else torch.randperm(105).reshape(3, 5, 7).to(d)
        f.case("topk_" + NAME[d], lambda a: (*A.topk.default(a, 3), *A.topk.default(a, 2, 1, False, True)), v)
    f.case("topk_zero_d", lambda a: A.topk.default(a, 1), torch.tensor(3.0))
    f.case("topk_nan", lambda a: A.topk.default(a, 4), torch.tensor([1.0, float("nan"), -3.0, float("inf"), 2.0]))
    for d in FLOATS[:3] + INTS + [torch.bool]:
        a = make(x[0], d)
        # The exporter plans the result column by column, the stock kernel writes row by row: PyTorch's is recorded.
        f.case("nonzero_" + NAME[d], lambda a: A.nonzero.default(a), a, eager=True)
        f.case("select_" + NAME[d], lambda a, m: A.masked_select.default(a, m), a, x[1] > 0)
        f.case("scatter_" + NAME[d], lambda a, m, s: A.masked_scatter.default(a, m, s), a, x[1] > 0, make(x[2], d))
    f.case("select_broadcast", lambda a, m: A.masked_select.default(a, m), x[0], (x[1, :, :1] > 0))
    f.case("scatter_broadcast", lambda a, m, s: A.masked_scatter.default(a, m, s), x[0], (x[1, 0] > 0), x[2])
    f.case("repeat", lambda a, b: (A.repeat_interleave.Tensor(a, output_size=9), A.repeat_interleave.Tensor(b, output_size=3)), torch.tensor([2, 0, 3, 4]), torch.tensor([1, 2], dtype=torch.int32))
    f.write()


def resample():
    f = Family("resample")
    x = torch.randn(2, 3, 5, 4)
    for d in FLOATS:
        f.case("nearest_" + NAME[d], lambda a: (A.upsample_nearest2d.vec(a, [7, 9], None), A.upsample_nearest2d.vec(a, None, [1.5, 2.0])), x.to(d))
        f.case("bilinear_" + NAME[d], lambda a: (A.upsample_bilinear2d.vec(a, [7, 9], True, None), A.upsample_bilinear2d.vec(a, None, False, [1.5, 2.0]), A.upsample_bilinear2d.vec(a, [3, 2], False, None)), x.to(d))
    f.case("nearest_u8", lambda a: A.upsample_nearest2d.vec(a, [3, 11], None), make(x, torch.uint8))
    f.case("antialias", lambda a: (A._upsample_bilinear2d_aa.default(a, [3, 2], False), A._upsample_bilinear2d_aa.default(a, [8, 9], False), A._upsample_bilinear2d_aa.default(a, [2, 3], True)), torch.randn(1, 2, 9, 7))
    g = torch.randn(2, 4, 3, 2)
    for d in FLOATS:
        f.case("grid_" + NAME[d], lambda a, g: A.grid_sampler_2d.default(a, g, 0, 0, False), x.to(d), g.to(d))
    for mode in range(3):
        for padding in range(3):
            f.case(f"grid_{mode}{padding}", lambda a, g: (A.grid_sampler_2d.default(a, g, mode, padding, False), A.grid_sampler_2d.default(a, g, mode, padding, True)), x, g * 1.5)
    f.write()


def move():
    f = Family("move")
    x = torch.randn(2, 8, 4, 6)
    for d in FLOATS + INTS + [torch.bool]:
        f.case("pixels_" + NAME[d], lambda a: (A.pixel_shuffle.default(a, 2), A.pixel_unshuffle.default(a, 2)), make(x, d))
        f.case("roll_" + NAME[d], lambda a: (A.roll.default(a, [3, -1], [1, 3]), A.roll.default(a, [1], [-1])), make(x, d))
        f.case("windows_" + NAME[d], lambda a: (A.unfold_copy.default(a, 1, 3, 2), A.unfold_copy.default(a, -1, 2, 4)), make(x, d))
    f.case("diagonal", lambda a: (A.diagonal_copy.default(a), A.diagonal_copy.default(a, 2, 1, 3), A.diagonal_copy.default(a, -3, -3, 0)), x)
    f.case("strided", lambda a: (A.as_strided_copy.default(a, [3, 4], [7, 2], 5), A.as_strided_copy.default(a, [2, 2, 2], [1, 0, 3])), x)
    f.case("tiles", lambda a: torch.ops.preprocess.tile_crop(a, 3), torch.randn(3, 6, 9))
    for d in FLOATS:
        f.case("glu_" + NAME[d], lambda a: (A.glu.default(a), A.glu.default(a, 1)), x.to(d))
        f.case("distance_" + NAME[d], lambda a, b: tuple(A._cdist_forward.default(a, b, p, None) for p in (0.0, 1.0, 2.0, 3.5, math.inf)) + tuple(A._pdist_forward.default(a[0], p) for p in (0.0, 1.0, 2.0, 1.5, math.inf)),
               torch.randn(1, 5, 4).to(d), torch.randn(2, 3, 4).to(d))
    f.write()


def fourier():
    f = Family("fft")
    for d in (torch.float32, torch.float64):
        f.case("r2c_" + NAME[d], lambda a: (A._fft_r2c.default(a, [1], 0, True), A._fft_r2c.default(a, [0, 2], 1, True), A._fft_r2c.default(a, [2, 0, 1], 2, True)), torch.randn(4, 6, 7).to(d))
        c = torch.complex64 if d == torch.float32 else torch.complex128
        z = torch.randn(4, 5, 4, dtype=c)
        f.case("c2r_" + NAME[d], lambda a: (A._fft_c2r.default(a, [1], 0, 8), A._fft_c2r.default(a, [0, 2], 2, 7)), z)
        f.case("complex_" + NAME[d], lambda a, b: (a + b, a * b, a - b, A.view_as_real_copy.default(a), A._conj_physical.default(a), A.abs.default(a), A.sum.dim_IntList(a, [1]), torch.bmm(a, b.transpose(1, 2)), torch.cat([a, b], 1)), z, torch.randn(4, 5, 4, dtype=c))
    f.write()


def rand():
    f = Family("random")
    f.case("rand", lambda a: A.rand.default([5, 7]) + a, torch.zeros(5, 7), shapes=True)
    f.case("randn", lambda a: A.randn.default([300]) + a, torch.zeros(300), shapes=True)
    f.case("dropout", lambda a: A.native_dropout.default(a, 0.5, True), torch.ones(64), shapes=True)
    f.case("no_dropout", lambda a: A.native_dropout.default(a, 0.5, False), torch.randn(6))
    f.write()


def quant():
    f = Family("quant")
    x = torch.randn(4, 6)
    f.case("choose", lambda a: Q.choose_qparams.tensor(a, -128, 127, 1e-6, torch.int8), x)
    f.case("choose_token", lambda a: Q.choose_qparams_per_token_asymmetric(a, torch.int8), torch.cat([x, x[:1].abs(), -x[:1].abs(), x[:1] * 1e-6, x[:1] * 0]))
    s, z = Q.choose_qparams_per_token_asymmetric(x, torch.int8)
    f.case("token", lambda a, s, z: Q.dequantize_per_token(Q.quantize_per_token(a, s, z, -128, 127, torch.int8), s, z, -128, 127, torch.int8, torch.float32), x, s, z)
    for d in INTS[1:]:
        lo, hi = (0, 200) if d == torch.uint8 else (-100, 90)
        f.case("tensor_" + NAME[d], lambda a: Q.dequantize_per_tensor(Q.quantize_per_tensor(a, 0.03, 7, lo, hi, d), 0.03, 7, lo, hi, d), x)
    f.case("channel", lambda a, s, z: Q.dequantize_per_channel(Q.quantize_per_channel(a, s, z, 1, -128, 127, torch.int8), s, z, 1, -128, 127, torch.int8), x, torch.rand(6, dtype=torch.float64) * 0.05 + 0.01, torch.randint(-9, 9, (6,)))
    f.case("add", lambda a, b: Q.add(a, 0.1, 3, 0, 255, b, 0.2, 100, 0, 255, 0.3, 90, 0, 255), torch.randint(0, 255, (3, 5), dtype=torch.uint8), torch.randint(0, 255, (3, 5), dtype=torch.uint8))
    w = torch.randint(-127, 127, (6, 5), dtype=torch.int8)
    f.case("mixed_mm", lambda a, w, s: Q.mixed_mm(a, w, s, None), x, w, torch.rand(6))
    f.case("mixed_linear", lambda a, w, s, g: (Q.mixed_linear(a, w, s, None), Q.mixed_linear(a, w, g, None)), x, w.t().contiguous(), torch.rand(5), torch.rand(5, 3))
    p, i = torch.randint(0, 255, (9, 8), dtype=torch.uint8), torch.tensor([[0, 8], [3, 3]])
    for n, e in {"2": Q.embedding_2bit, "4": Q.embedding_4bit}.items():
        f.case("embedding_" + n, lambda p, s, g, z, i: (e(p, s, None, -8, 7, i), e(p, g, z, -8, 7, i), e.dtype(p, s, None, -8, 7, i, dtype=torch.float16)), p, torch.rand(9), torch.rand(9, 4), torch.randn(9, 4), i)
    f.case("embedding_byte", lambda p, s, i: Q.embedding_byte(p, s, None, -128, 127, i), torch.randint(-127, 127, (9, 8), dtype=torch.int8), torch.rand(9), i)
    f.write()


def llm():
    f = Family("llm")
    for d in FLOATS[:3]:
        q, k, v = (torch.randn(2, 3, h, 8).to(d) for h in (4, 2, 2))
        kc, vc = torch.randn(2, 10, 2, 8).to(d), torch.randn(2, 10, 2, 8).to(d)
        f.case("sdpa_" + NAME[d], lambda q, k, v: (L.custom_sdpa(q, k, v, 5, None, 0.0, True), L.custom_sdpa(q, k, v, 4, None, 0.0, False, 0.3)), q, kc, vc)
        f.case("cache_" + NAME[d], lambda q, k, v, a, b: (L.sdpa_with_kv_cache(q, k, v, a, b, 2, 3, None, 0.0, True), a * 1, b * 1), q, k, v, kc, vc)
    f.case("sdpa_mask", lambda q, k, v, m: L.custom_sdpa(q, k, v, 5, m, 0.0, False), torch.randn(1, 3, 4, 16), torch.randn(1, 7, 2, 16), torch.randn(1, 7, 2, 16), torch.randn(3, 7))
    f.case("sdpa_decode", lambda q, k, v: L.custom_sdpa(q, k, v, 300, None, 0.0, True), torch.randn(1, 1, 6, 20), torch.randn(1, 301, 3, 20), torch.randn(1, 301, 3, 20))
    f.case("update", lambda v, c: (L.update_cache(v, c, 3), c * 1), torch.randn(1, 2, 3, 4), torch.zeros(1, 8, 3, 4), skip=(1,))
    f.case("update_at", lambda v, c, i: (L.update_cache_with_indices(v, c, 0, i), c * 1), torch.randn(2, 2, 3, 4), torch.zeros(2, 5, 3, 4), torch.tensor([[4, 0], [2, 1]]), skip=(1,))
    for n in (1, 8, 28, 56):
        f.case(f"hadamard_{n}", lambda a: L.fast_hadamard_transform(a), torch.randn(3, n))
    f.case("hadamard_f16", lambda a: L.fast_hadamard_transform(a), torch.randn(2, 16).to(torch.float16))
    for t in (1, 5, 40):
        q, k, v = torch.randn(1, 4, t, 8), torch.randn(1, 2, t, 8) / 3, torch.randn(1, 2, t, 6)
        s, b = torch.randn(1, 2, 8, 6), torch.rand(1, 2, t)
        f.case(f"delta_{t}", lambda q, k, v, d, b, s: L.gated_delta_rule(q, k, v, d, b, s), q, k, v, torch.rand(1, 2, t) * 0.5 + 0.5, b, s)
        f.case(f"delta_channel_{t}", lambda q, k, v, d, b, s: L.channelwise_gated_delta_rule(q, k, v, d, b, s), q, k, v, torch.rand(1, 2, t, 8) * 0.5 + 0.5, b, s)
    for at in (1, 2):
        def quantised(*shape):
            if at == 2:
                shape = (shape[0], shape[2], shape[1], shape[3])
            return torch.randint(-100, 100, shape, dtype=torch.int8), torch.randint(-5, 5, shape[:3] + (1,), dtype=torch.int8), torch.rand(shape[:3] + (1,)) * 0.02 + 0.01
        q, k, v = quantised(1, 3, 4, 8), quantised(1, 8, 2, 8), quantised(1, 8, 2, 8)
        f.case(f"quantised_sdpa_{at}", lambda q, qz, qs, k, kz, ks, v, vz, vs, at=at: L.custom_quantized_sdpa(q, k, v, 4, None, 0.0, True, None, qz, qs, kz, ks, vz, vs, at == 2), *q, *k, *v)
    f.write()


def packed(w, group, bits):
    """A filter [n, k] quantised in groups and packed as torchao's portable kernels take it: a header of 64 bytes, then blocks of 8 outputs and 16 inputs."""
    n, k = w.shape
    top = 2 ** (bits - 1)
    scales = w.view(n, k // group, group).abs().amax(-1) / (top - 0.5)
    q = (w.view(n, k // group, group) / scales[..., None]).round().clamp(-top, top - 1).to(torch.int32)
    parts = [struct.pack("<16i", 6712, 1, bits, 0, 0, 8, 16, 2, *[0] * 8)]
    for row in range(0, n, 8):
        rows, s = torch.zeros(8, k // group, group, dtype=torch.int32), torch.zeros(8, k // group)
        rows[: min(8, n - row)], s[: min(8, n - row)] = q[row : row + 8], scales[row : row + 8]
        for g in range(k // group):
            blocks = rows[:, g].view(8, group // 16, 2, 8).permute(1, 2, 0, 3).reshape(-1, 32)  # [block][half][output][8 weights]
            if bits == 4:
                u = blocks + 8
                parts.append(bytes((u[:, :16] | u[:, 16:] << 4).flatten().tolist()))
            else:
                parts.append(bytes((blocks & 255).flatten().tolist()))
            parts.append(struct.pack("<8f8i", *s[:, g].tolist(), *rows[:, g].sum(-1).tolist()))
    return torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)


def moe():
    f = Family("moe")
    for name, tokens, dim, hidden, experts, active, group, bits, score, bias in [
        ("sigmoid_bias", 5, 32, 48, 4, 2, 16, 4, "sigmoid", True), ("sigmoid", 1, 32, 32, 3, 3, 32, 4, "sigmoid", False),
        ("softmax", 7, 48, 32, 5, 2, 16, 4, "softmax", False), ("bits8", 3, 32, 32, 3, 1, 32, 8, "softmax", False),
    ]:
        w13 = torch.stack([packed(torch.randn(2 * hidden, dim), group, bits) for _ in range(experts)])
        w2 = torch.stack([packed(torch.randn(dim, hidden) / 3, group, bits) for _ in range(experts)])
        args = torch.randn(tokens, dim), torch.randn(experts, dim) / 2, torch.randn(experts) if bias else torch.empty(0), w13, w2
        f.case(name, lambda x, g, b, u, d, k=(active, experts, hidden, dim, group, bits, score, 2.5): L.quantized_moe_ffn(x, g, b, u, d, *k), *args)
    f.write()


def mask():
    """Masks as indices."""
    f = Family("mask")

    def some(y, most):
        torch._check(y.shape[0] <= most)
        return y

    x, m = torch.randn(4, 3, 5), torch.rand(4, 3) > 0.5
    for d in (torch.float32, torch.int64, torch.bool):
        a = make(x, d)
        f.case("rows_" + NAME[d], lambda a, m: some(A.index.Tensor(a, [m]), 4), a, m[:, 0].contiguous(), more=[(a, torch.zeros(4, dtype=torch.bool)), (a, torch.ones(4, dtype=torch.bool))])
        f.case("put_" + NAME[d], lambda a, m, v: A.index_put.default(a, [m], v), a, m, make(torch.randn(5), d))
    f.case("two", lambda a, m: some(A.index.Tensor(a, [m]), 12), x, m)
    f.case("last", lambda a, m: A.index_put.default(a, [None, m], torch.tensor(2.0)), x, torch.rand(3, 5) > 0.5)
    f.case("byte", lambda a, m: A.index_put.default(a, [None, None, m], torch.tensor(2.0)), x, (torch.rand(5) > 0.5).to(torch.uint8))
    f.case("more", lambda a, m, i: A.index_put.default(a, [m, i], torch.tensor(2.0)), x, m[:, 0].contiguous(), torch.tensor([1]))
    f.case("add", lambda a, m, v: A.index_put.default(a, [m], v, True), x, m, torch.randn(5))
    f.write()


def order():
    f = Family("order")
    x = torch.randn(2, 4, 6, 5).to(memory_format=torch.channels_last)
    w = torch.randn(3, 4, 3, 3)
    f.case("conv", lambda x, w: torch.relu(A.convolution.default(x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)), x, w.to(memory_format=torch.channels_last))
    f.case("pool", lambda x: (A.max_pool2d_with_indices.default(x, [2, 2]), A.avg_pool2d.default(x, [2, 2])), x)
    f.case("same", lambda x: x * x + x, x)
    f.case("to", lambda x: (x.to(memory_format=torch.contiguous_format) + 1).to(memory_format=torch.channels_last), x)
    f.case("from", lambda x: x.to(memory_format=torch.channels_last) * 2, x.contiguous())
    f.write()


for family in (conv, pool, norm, pad, pick, resample, move, fourier, rand, quant, llm, moe, mask, order):
    torch.manual_seed(1)
    family()
