"""Lowers small modules with the stock XNNPACK partitioner and records what the stock runtime computes with them.

Run with executorch 1.5.1, torch 2.13.0 and torchao installed:  python engine/testdata/xnnpack.py engine/testdata [NAME ...]
Writes xnnpack_NAME.pte, of which every method is one case, and xnnpack_NAME.json with its calls, as fixtures.py does.
"""

import base64
import json
import sys
import warnings

warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
import executorch.kernels.quantized  # noqa: F401
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from torch import nn
from torch.export import Dim, export
from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

NAMES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32", torch.int8: "i8", torch.bool: "bool"}
OUT = sys.argv[1] if len(sys.argv) > 1 else "."
ONLY = sys.argv[2:]


def pack(t):
    t = t.detach().contiguous()
    raw = t.view(torch.uint8) if t.dim() else t.reshape(1).view(torch.uint8)
    return {"dtype": NAMES[t.dtype], "sizes": list(t.shape), "data": base64.b64encode(bytes(raw.reshape(-1).tolist())).decode()}


class Fn(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *xs):
        return self.f(*xs)


class Cases:
    def __init__(self):
        self.methods, self.calls = {}, []

    def add(self, name, module, *args, dynamic=None, calls=None, quantize=None, partitioner=None):
        """One method; calls: further inputs; quantize: turns the module into a quantised one."""
        if not isinstance(module, nn.Module):
            module = Fn(module)
        module = module.eval()
        try:
            if quantize is not None:
                module = quantize(module, args)
            if dynamic is not None and isinstance(module, Fn):  # its arguments are one tuple
                dynamic = (dynamic,)
            ep = export(module, args, dynamic_shapes=dynamic, strict=False)
            lowered = to_edge_transform_and_lower(ep, partitioner=[partitioner or XnnpackPartitioner()])
            ops = {n.target.__name__ for n in lowered.exported_program().graph.nodes if n.op == "call_function"}
            ops -= {"executorch_call_delegate", "getitem"}
            if ops:
                print("  left outside the delegate in", name, sorted(ops))
        except Exception as e:
            print("skipped", name, type(e).__name__, str(e).splitlines()[0][:160])
            return
        self.methods[name] = (ep, partitioner or XnnpackPartitioner())
        self.calls += [(name, args)] + [(name, c) for c in calls or []]

    def write(self, name):
        eps = {m: ep for m, (ep, _) in self.methods.items()}
        program = to_edge_transform_and_lower(eps, partitioner={m: [p] for m, (_, p) in self.methods.items()}).to_executorch()
        path = f"{OUT}/xnnpack_{name}.pte"
        with open(path, "wb") as f:
            f.write(program.buffer)
        loaded, ready, records = Runtime.get().load_program(path), {}, []
        for m, args in self.calls:
            try:
                if m not in ready:
                    ready[m] = loaded.load_method(m)
                outs = ready[m].execute(list(args))
            except RuntimeError as e:  # the stock runtime rejects what its exporter accepts
                print("not run", name, m, e)
                continue
            records.append({"method": m, "inputs": [pack(a) for a in args], "outputs": [pack(o) for o in outs]})
        with open(f"{OUT}/xnnpack_{name}.json", "w") as f:
            json.dump(records, f, separators=(",", ":"))
            f.write("\n")
        print(name, len(program.buffer), len(records))


GROUPS = {}


def group(f):
    GROUPS[f.__name__] = f
    return f


@group
def f32(c):
    x, y = torch.randn(2, 3, 5), torch.randn(3, 5)
    c.add("add", lambda a, b: a + b, x, y)
    c.add("sub_relu", lambda a, b: F.relu(a - b), x, y)
    c.add("mul", lambda a, b: a * b, x, torch.randn(2, 1, 5))
    c.add("div", lambda a, b: a / b, x, y.abs() + 0.5)
    c.add("minimum", torch.minimum, x, y)
    c.add("maximum", torch.maximum, x, y)
    for name in ("abs", "ceil", "floor", "exp", "neg", "sigmoid", "tanh", "sin", "cos"):
        c.add(name, getattr(torch, name), x * 2)
    for name in ("sqrt", "rsqrt", "log"):
        c.add(name, getattr(torch, name), x.abs() + 0.01)
    c.add("square", lambda a: a**2, x)
    c.add("relu", F.relu, x)
    c.add("clamp", lambda a: torch.clamp(a, -0.5, 0.75), x)
    c.add("clamp_min", lambda a: torch.clamp(a, min=0.25), x)
    c.add("hardtanh", F.hardtanh, x * 2)
    c.add("relu6", F.relu6, x * 9)
    c.add("hardswish", F.hardswish, x * 4)
    c.add("leaky_relu", lambda a: F.leaky_relu(a, 0.2), x)
    c.add("elu", lambda a: F.elu(a, 0.7), x)
    c.add("gelu", F.gelu, x * 3)
    c.add("gelu_tanh", lambda a: F.gelu(a, approximate="tanh"), x * 3)
    c.add("silu", F.silu, x)
    c.add("prelu", nn.PReLU(3), torch.randn(2, 3, 4, 5))
    c.add("softmax", lambda a: F.softmax(a, -1), x * 3)
    c.add("linear", nn.Linear(5, 7), x)
    c.add("linear_no_bias_relu", nn.Sequential(nn.Linear(5, 18, bias=False), nn.ReLU()), x)
    c.add("mlp", nn.Sequential(nn.Linear(5, 33), nn.Hardtanh(-0.5, 0.5), nn.Linear(33, 4)), torch.randn(9, 5))
    c.add("addmm", lambda a, b, w: torch.addmm(b, a, w), torch.randn(4, 6), torch.randn(3), torch.randn(6, 3))
    c.add("mm", lambda a, b: a @ b, torch.randn(4, 6), torch.randn(6, 3))
    c.add("bmm", torch.bmm, torch.randn(3, 4, 6), torch.randn(3, 6, 5))
    c.add("linear_dynamic", nn.Linear(5, 7), torch.randn(4, 5), dynamic=({0: Dim("n", min=1, max=8)},), calls=[(torch.randn(1, 5),), (torch.randn(8, 5),)])


@group
def layout(c):
    x, i = torch.randn(2, 3, 4, 5), torch.randn(1, 4, 6, 6)
    c.add("permute", lambda a: a.permute(0, 2, 3, 1) * 1.5, x)
    c.add("permute2", lambda a: a.permute(3, 0, 2, 1), x)
    c.add("reshape", lambda a: a.reshape(6, -1) + 1, x)
    c.add("slice", lambda a: a[:, 1:3, :, 2:] * 1, x)
    c.add("cat2", lambda a, b: torch.cat([a, b], 1), x, torch.randn(2, 1, 4, 5))
    c.add("cat3", lambda a, b: torch.cat([a, b, a], -1), x, x + 1)
    c.add("cat4", lambda a, b: torch.cat([a, b, a, b], 2), x, x + 1)
    c.add("cat5", lambda a, b: torch.cat([a, b, a, b, a], 0), x, x + 1)
    c.add("cat7", lambda a, b: torch.cat([a, b, a, b, a, b, b], 0), x, x + 1)
    c.add("pad", lambda a: F.pad(a, (1, 2, 0, 3), value=0.5), x)
    c.add("unsqueeze", lambda a: (a * 2).unsqueeze(1), x)
    c.add("squeeze", lambda a: (a * 2).squeeze(-1), torch.randn(2, 3, 1))
    c.add("conv_permute", nn.Sequential(nn.Conv2d(4, 5, 1), Fn(lambda a: a.permute(0, 2, 3, 1))), i)
    c.add("conv_cat_slice", nn.Sequential(nn.Conv2d(4, 6, 1), Fn(lambda a: torch.cat([a[:, :2], a[:, 3:]], 1)), nn.Conv2d(5, 2, 1)), i)
    c.add("conv_flatten_linear", nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 3)), i)
    c.add("conv_pad_conv", nn.Sequential(nn.Conv2d(4, 3, 3), nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(3, 2, 3)), i)
    c.add("dynamic", lambda a: (a * 2 + 1).permute(1, 0, 2), torch.randn(3, 4, 5), dynamic=({0: Dim("n", min=1, max=6)},), calls=[(torch.randn(1, 4, 5),), (torch.randn(6, 4, 5),)])


@group
def conv(c):
    x = torch.randn(1, 6, 9, 8)
    c.add("conv1x1", nn.Conv2d(6, 11, 1), x)
    c.add("conv1x1_s2", nn.Conv2d(6, 3, 1, stride=2), x)
    c.add("conv3x3", nn.Conv2d(6, 5, 3, padding=1), x)
    c.add("conv3x3_relu6", nn.Sequential(nn.Conv2d(6, 5, 3, padding=1, stride=2), nn.ReLU6()), x)
    c.add("conv5x3_dilated", nn.Conv2d(6, 4, (5, 3), padding=(2, 1), dilation=(1, 2), bias=False), x)
    c.add("conv_bn", nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), x)
    c.add("conv_groups", nn.Conv2d(6, 4, 3, padding=1, groups=2), x)
    c.add("depthwise3x3", nn.Conv2d(6, 6, 3, padding=1, groups=6), x)
    c.add("depthwise5x5_s2", nn.Sequential(nn.Conv2d(6, 6, 5, padding=2, stride=2, groups=6, bias=False), nn.ReLU()), x)
    c.add("depthwise_multiplier", nn.Conv2d(6, 12, 3, padding=1, groups=6), x)
    c.add("depthwise_dilated", nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6), x)
    c.add("conv1d", nn.Conv1d(6, 4, 3, padding=1), torch.randn(2, 6, 10))
    c.add("transposed", nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1), x)
    c.add("transposed_groups", nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2, bias=False), x)
    c.add("avg_pool", nn.AvgPool2d(2), x)
    c.add("avg_pool_pad_exclude", nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), x)
    c.add("max_pool", nn.MaxPool2d(2), x)
    c.add("max_pool_pad", nn.MaxPool2d(3, stride=2, padding=1), x)
    c.add("max_pool_dilated", nn.MaxPool2d(2, stride=1, dilation=2), x)
    c.add("max_pool_ceil", nn.MaxPool2d(2, stride=2, ceil_mode=True), x)
    c.add("mean", lambda a: a.mean((-1, -2), keepdim=True), x)
    c.add("adaptive_avg", nn.AdaptiveAvgPool2d(1), x)
    c.add("amax", lambda a: torch.amax(a, 2, keepdim=True), x)
    c.add("max_dim", lambda a: tuple(torch.max(a, 3, keepdim=True)), x)
    c.add("bilinear", lambda a: F.interpolate(a, scale_factor=2, mode="bilinear", align_corners=False), x)
    c.add("bilinear_corners", lambda a: F.interpolate(a, size=(13, 5), mode="bilinear", align_corners=True), x)
    c.add("batch_norm", nn.BatchNorm2d(6), x)
    c.add("residual", type("R", (nn.Module,), {"__init__": lambda s: (nn.Module.__init__(s), setattr(s, "c", nn.Conv2d(6, 6, 3, padding=1)), None)[-1],
                                                "forward": lambda s, a: F.relu(s.c(a) + a)})(), x)


def static(per_channel=True):
    """A quantizer of weights and activations to int8, calibrated on the arguments and some noise."""
    return lambda module, args: quantized(module, args, get_symmetric_quantization_config(is_per_channel=per_channel))


def dynamic(module, args):
    return quantized(module, args, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))


def quantized(module, args, config):
    prepared = prepare_pt2e(export(module, args, strict=False).module(), XNNPACKQuantizer().set_global(config))
    prepared(*args)
    prepared(*(a + 0.3 * torch.randn_like(a) for a in args))
    return convert_pt2e(prepared)


def weight_only(bits, block):
    """int8 activations quantised at run time, weights of 4 or 8 bits with a scale a row or a block of it."""

    def apply(module, args):
        config = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4 if bits == 4 else torch.int8,
                                                       weight_granularity=PerGroup(block) if block else PerAxis(0))
        quantize_(module, config)
        return module

    return apply


@group
def qs8(c):
    x, i = torch.randn(3, 10), torch.randn(2, 8, 7, 6)
    q = static()
    c.add("linear", nn.Linear(10, 9), x, quantize=q)
    c.add("linear_relu", nn.Sequential(nn.Linear(10, 19, bias=False), nn.ReLU(), nn.Linear(19, 4)), x, quantize=q)
    c.add("linear_per_tensor", nn.Linear(10, 9), x, quantize=static(False))
    c.add("conv", nn.Conv2d(8, 5, 3, padding=1), i, quantize=q)
    c.add("conv_per_tensor_relu", nn.Sequential(nn.Conv2d(8, 5, 3, stride=2), nn.ReLU()), i, quantize=static(False))
    c.add("conv_pointwise_relu6", nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU6()), i, quantize=q)
    c.add("conv_three_channels", nn.Conv2d(3, 6, 3, stride=2, padding=1), torch.randn(1, 3, 9, 9), quantize=q)
    c.add("conv_groups", nn.Conv2d(8, 6, 3, padding=1, groups=2), i, quantize=q)
    c.add("depthwise", nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU()), i, quantize=q)
    c.add("depthwise_s2", nn.Conv2d(11, 11, 5, padding=2, stride=2, groups=11), torch.randn(1, 11, 8, 8), quantize=q)
    c.add("transposed", nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1), i, quantize=q)
    c.add("add", lambda a, b: a + b, x, torch.randn(3, 10), quantize=q)
    c.add("add_relu", lambda a, b: F.relu(a + b), x, torch.randn(10), quantize=q)
    c.add("mul", lambda a, b: a * b, x, torch.randn(3, 10), quantize=q)
    c.add("mul_relu", lambda a, b: F.relu(a * b), x, torch.randn(3, 10), quantize=q)
    c.add("sub_mean", nn.Sequential(nn.Conv2d(8, 6, 1), nn.AdaptiveAvgPool2d(1)), i, quantize=q)
    c.add("conv_bn_residual", type("R", (nn.Module,), {"__init__": lambda s: (nn.Module.__init__(s), setattr(s, "c", nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))), None)[-1],
                                                        "forward": lambda s, a: F.relu(s.c(a) + a)})(), i, quantize=q)
    c.add("conv_max_pool_cat", type("C", (nn.Module,), {"__init__": lambda s: (nn.Module.__init__(s), setattr(s, "c", nn.Conv2d(8, 4, 1)), setattr(s, "d", nn.Conv2d(8, 4, 1)), None)[-1],
                                                         "forward": lambda s, a: F.max_pool2d(torch.cat([s.c(a), s.d(a)], 1), 2)})(), i, quantize=q)
    c.add("conv_hardtanh_linear", nn.Sequential(nn.Conv2d(8, 3, 3), nn.Hardtanh(), nn.Flatten(), nn.Linear(60, 5)), i, quantize=q)
    c.add("hardswish", nn.Sequential(nn.Conv2d(8, 6, 1), nn.Hardswish(), nn.Conv2d(6, 4, 1)), i, quantize=q)
    c.add("leaky_relu", nn.Sequential(nn.Conv2d(8, 6, 1), nn.LeakyReLU(0.1), nn.Conv2d(6, 4, 1)), i, quantize=q)
    c.add("sigmoid", nn.Sequential(nn.Linear(10, 6), nn.Sigmoid(), nn.Linear(6, 4)), x, quantize=q)
    c.add("pad", nn.Sequential(nn.Conv2d(8, 4, 1), nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3)), i, quantize=q)


@group
def qd8(c):
    x = torch.randn(3, 64)
    c.add("linear_qc8w", nn.Linear(64, 9), x, quantize=dynamic)
    c.add("mlp_qc8w", nn.Sequential(nn.Linear(64, 33, bias=False), nn.ReLU(), nn.Linear(33, 5)), torch.randn(2, 3, 64), quantize=dynamic)
    c.add("conv_qc8w", nn.Conv2d(8, 5, 3, padding=1), torch.randn(2, 8, 6, 5), quantize=dynamic)
    c.add("linear_8da8w", nn.Linear(64, 9, bias=False), x, quantize=weight_only(8, 0))
    c.add("linear_qc4w", nn.Linear(64, 9, bias=False), x, quantize=weight_only(4, 0))
    c.add("linear_qb4w", nn.Linear(64, 9, bias=False), x, quantize=weight_only(4, 32))
    c.add("linear_qb4w_bias", nn.Linear(128, 17), torch.randn(2, 5, 128), quantize=weight_only(4, 64))
    c.add("rows", nn.Linear(64, 9, bias=False), x, dynamic=({0: Dim("n", min=1, max=9)},), quantize=weight_only(4, 32), calls=[(torch.randn(1, 64),), (torch.randn(9, 64),)])


@group
def images(c):
    """Images quantised at run time, each by itself or, before pointwise convolutions, pixel by pixel; int8 broadcast over images."""
    i = torch.randn(3, 6, 5, 4) * torch.tensor([1.0, 4.0, 0.1]).view(3, 1, 1, 1)
    c.add("conv", nn.Conv2d(6, 4, 3, padding=1), i, quantize=dynamic)
    c.add("pointwise", nn.Conv2d(6, 9, 1), i, quantize=dynamic)
    c.add("pointwise_relu", nn.Sequential(nn.Conv2d(6, 9, 1, bias=False), nn.ReLU()), i, quantize=dynamic)
    c.add("pointwise_s2", nn.Conv2d(6, 4, 1, stride=2), i, quantize=dynamic)
    c.add("pointwise_1d", nn.Conv1d(6, 4, 1), torch.randn(2, 6, 7), quantize=dynamic)
    c.add("transposed", nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1), i, quantize=dynamic)
    c.add("transposed_plain", nn.ConvTranspose2d(6, 5, 2, bias=False, dilation=2), i, quantize=dynamic)
    c.add("mul_channels", lambda a, b: a * b, torch.randn(2, 20, 3, 4), torch.randn(2, 20, 1, 1), quantize=static())
    c.add("add_image", lambda a, b: a + b, torch.randn(2, 3, 5, 6), torch.randn(3, 5, 6), quantize=static())
    c.add("add_column", lambda a, b: a + b, torch.randn(2, 17, 6), torch.randn(17, 1), quantize=static())


@group
def half(c):
    x = torch.randn(3, 10).to(torch.float16)
    c.add("add", lambda a, b: F.relu(a + b), x, x + 1)
    c.add("linear", nn.Linear(10, 6).to(torch.float16), x)
    c.add("conv", nn.Conv2d(4, 3, 3, padding=1).to(torch.float16), torch.randn(1, 4, 5, 5).to(torch.float16))
    c.add("softmax", lambda a: F.softmax(a * 2, -1), x)


class Inverted(nn.Module):
    """A block of MobileNetV3: expansion, depthwise convolution, squeeze and excitation, projection, residual."""

    def __init__(self, c, e):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(c, e, 1, bias=False), nn.BatchNorm2d(e), nn.Hardswish(),
                               nn.Conv2d(e, e, 3, padding=1, groups=e, bias=False), nn.BatchNorm2d(e), nn.Hardswish())
        self.s = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(e, 4, 1), nn.ReLU(), nn.Conv2d(4, e, 1), nn.Hardsigmoid())
        self.p = nn.Sequential(nn.Conv2d(e, c, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):
        y = self.a(x)
        return x + self.p(y * self.s(y))


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU6(), Inverted(8, 16), nn.MaxPool2d(2), Inverted(8, 24),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


class Attention(nn.Module):
    """A block of a transformer, written out."""

    def __init__(self, d, heads):
        super().__init__()
        self.n, self.q, self.k, self.v, self.o = nn.LayerNorm(d), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.m, self.heads = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d)), heads

    def forward(self, x):
        b, t, d = x.shape
        h = self.n(x)
        q, k, v = (f(h).view(b, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d)
        x = x + self.o(y)
        return x + self.m(x)


@group
def blocks(c):
    i, x = torch.randn(1, 3, 16, 16), torch.randn(2, 5, 32)
    c.add("network", network(), i)
    c.add("network_qs8", network(), i, quantize=static())
    c.add("attention", Attention(32, 4), x)
    c.add("attention_qc8w", Attention(32, 4), x, quantize=dynamic)
    c.add("attention_qb4w", Attention(32, 4), x, quantize=weight_only(4, 32))


if __name__ == "__main__":
    for name, f in GROUPS.items():
        if ONLY and name not in ONLY:
            continue
        torch.manual_seed(0)
        cases = Cases()
        f(cases)
        cases.write(name)
