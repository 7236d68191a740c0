"""Exports small programs with the stock exporter and records what the stock runtime computes with them.

Run with executorch 1.5.1, torch 2.13.0 and transformers installed:  python engine/testdata/fixtures.py engine/testdata
Writes NAME.pte and NAME.json (see record.py). operators.py does the same operator by operator.
"""

import math

import torch
import torch.nn.functional as F
from executorch.exir import ExecutorchBackendConfig, to_edge
from executorch.exir.passes import MemoryPlanningPass
from record import ONLY, OUT, write
from torch import nn
from torch.export import Dim, export

torch.manual_seed(0)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 20), nn.Linear(20, 7, bias=False)

    def forward(self, x):
        return self.b(F.relu(self.a(x)) + 1.5), x.sum(-1)


write("linear", {"forward": (Linear(), (torch.randn(3, 12),), ({0: Dim("n", min=1, max=16)},))},
      [("forward", (torch.randn(n, 12),)) for n in (3, 1, 16)])

# --- MP-LoRA with directions made in the graph, as in DESIGN.md -------------------------------------------------------------
M32 = 0xFFFFFFFF


def shift(x, n):
    return torch.div(x, 1 << n, rounding_mode="floor")


def mix(x):
    x = ((x ^ shift(x, 16)) * 0x21F0AAAD) & M32
    x = ((x ^ shift(x, 15)) * 0x735A2D97) & M32
    return x ^ shift(x, 15)


def normal(seed, n, base):
    lo, hi = seed & M32, shift(seed, 32) & M32
    k1 = mix(lo ^ 0x9E3779B9)
    k2 = mix((k1 + 0x85EBCA6B + hi) & M32)
    e = torch.arange(n, dtype=torch.int64) + base
    h = [mix(mix((2 * e + i + k1) & M32) ^ k2).to(torch.float32) for i in (0, 1)]
    u1, u2 = (h[0] + 1) * 2.0**-32, h[1] * 2.0**-32
    return torch.sqrt(-2 * torch.log(u1)) * torch.cos(u2 * (2 * math.pi))


class MPLinear(nn.Module):
    def __init__(self, n_in, n_out, rank, q, base):
        super().__init__()
        self.w = nn.Linear(n_in, n_out, bias=False)
        self.register_buffer("A", torch.randn(rank, n_in) / math.sqrt(n_in))
        self.register_buffer("B", torch.zeros(n_out, rank))
        self.rank, self.q, self.base = rank, q, base

    def forward(self, x, seeds, eps, last_seeds, last_coefs):
        n = self.B.numel()
        update = torch.zeros_like(self.B)
        for j in range(self.q):
            update = update + last_coefs[j] * normal(last_seeds[j], n, self.base).view_as(self.B)
        self.B.sub_(update)
        z = torch.stack([normal(seeds[j], n, self.base).view_as(self.B) for j in range(self.q)]) * eps
        b = torch.cat([self.B + z, self.B - z])
        low = (x @ self.A.t()).reshape(2 * self.q, -1, self.rank)
        y = self.w(x)
        return y + 2.0 * torch.bmm(low, b.transpose(1, 2)).reshape(y.shape)


class MPLoRA(nn.Module):
    def __init__(self, vocab=48, d=32, q=2):
        super().__init__()
        self.e, self.n, self.o = nn.Embedding(vocab, d), nn.RMSNorm(d), nn.Linear(d, vocab, bias=False)
        self.l, self.v = MPLinear(d, d, 4, q, 0), MPLinear(d, d, 4, q, 4 * d)
        self.q = q

    def forward(self, ids, targets, seeds, eps, last_seeds, last_coefs):
        h = self.e(ids).repeat(2 * self.q, 1, 1)
        a = self.l(h, seeds, eps, last_seeds, last_coefs)
        v = self.v(h, seeds, eps, last_seeds, last_coefs)
        h = h + F.scaled_dot_product_attention(a.unsqueeze(1), a.unsqueeze(1), v.unsqueeze(1), is_causal=True).squeeze(1)
        logits = self.o(self.n(h[:, -1]))
        return F.cross_entropy(logits, targets.repeat(2 * self.q), reduction="none").view(2 * self.q, -1).mean(1)


ids, targets = torch.randint(0, 48, (4, 12)), torch.randint(0, 48, (4,))
example = (ids, targets, torch.tensor([7, 8]), torch.tensor(1e-2), torch.tensor([3, 4]), torch.zeros(2))
batch, tokens = Dim("b", min=1, max=8), Dim("t", min=2, max=32)
calls = []
for step in range(4):
    i, t = (ids, targets) if step != 2 else (torch.randint(0, 48, (2, 7)), torch.randint(0, 48, (2,)))
    seeds = torch.tensor([10 + step, (5 << 40) + step])
    calls.append(("forward", (i, t, seeds, torch.tensor(1e-2), seeds - 1, torch.tensor([0.1 * step, -0.2 * step]))))
write("mplora", {"forward": (MPLoRA(), example, ({0: batch, 1: tokens}, {0: batch}, None, None, None, None))}, calls)


# --- a small Llama from Hugging Face -----------------------------------------------------------------------------------------
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    cfg = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
                      num_key_value_heads=2, max_position_embeddings=64, attn_implementation="eager", use_cache=False)
    model = LlamaForCausalLM(cfg)

    class Wrap(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = model

        def forward(self, ids):
            return self.m(input_ids=ids, use_cache=False).logits

    write("llama", {"forward": (Wrap(), (torch.randint(0, 96, (2, 9)),), None)}, [("forward", (torch.randint(0, 96, (2, 9)),)) for _ in range(2)])


if not ONLY or "llama" in ONLY:
    llama()


# --- control flow ----------------------------------------------------------------------------------------------------------
class Cond(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 3, (x,))


class Map(nn.Module):
    def forward(self, xs, y):
        from functorch.experimental.control_flow import map as fmap

        return fmap(lambda x, y: x * y + 1, xs, y)


write("control", {"cond": (Cond(), (torch.ones(3, 2),), None), "map": (Map(), (torch.randn(5, 4), torch.randn(4)), None)},
      [("cond", (torch.ones(3, 2),)), ("cond", (-torch.ones(3, 2),)), ("cond", (torch.randn(3, 2),)),
       ("map", (torch.randn(5, 4), torch.randn(4))), ("map", (torch.randn(5, 4), torch.randn(4)))])


# --- mutable buffers shared by two methods --------------------------------------------------------------------------------
class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))
        self.register_buffer("log", torch.zeros(4, 3))


class Add(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, x):
        self.c.total.add_(x)
        return self.c.total * 1


class Scale(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, f):
        self.c.total.mul_(f)
        return self.c.total + 0.5


counter = Counter()
write("shared", {"add": (Add(counter), (torch.ones(3),), None), "scale": (Scale(counter), (torch.tensor(2.0),), None)},
      [("add", (torch.tensor([1.0, 2.0, 3.0]),)), ("scale", (torch.tensor(3.0),)), ("add", (torch.tensor([1.0, 1.0, 1.0]),))],
      ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(share_mutable_buffers=True), emit_mutable_buffer_names=True))


# --- operators whose semantics are easy to get wrong ------------------------------------------------------------------------
def ops():
    methods, calls = {}, []

    def case(name, fn, *args):
        class M(nn.Module):
            def forward(self, *xs):
                r = fn(*xs)
                return tuple(r) if isinstance(r, (tuple, list)) else r

        try:
            ep = export(M().eval(), args, strict=False).run_decompositions()
            to_edge(ep).to_executorch()
        except Exception as e:  # not expressible in core ATen
            print("skipped", name, type(e).__name__, str(e).splitlines()[0][:100])
            return
        methods[name] = (M(), args, None)
        calls.append((name, args))

    f = torch.randn(3, 4)
    g = torch.randn(4)
    i = torch.randint(-9, 9, (3, 4))
    j = torch.tensor([3, -2, 1, 5])
    special = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1.5, -2.5, 0.5])
    case("div_modes", lambda a, b: (torch.div(a, b, rounding_mode="floor"), torch.div(a, b, rounding_mode="trunc"), a / b), f * 5, g)
    case("div_int", lambda a, b: (torch.div(a, b, rounding_mode="floor"), torch.div(a, b, rounding_mode="trunc"), a / b), i, j)
    case("rem", lambda a, b: (torch.remainder(a, b), torch.fmod(a, b)), i, j)
    case("rem_f", lambda a, b: (torch.remainder(a, b), torch.fmod(a, b)), f * 7, g)
    case("promote", lambda a, b, c: (a + b, a * c, b * 1.5, torch.where(b > 0, a, b), b + c), f, i, torch.tensor([True, False, True, True]))
    case("small", lambda a, b: (a + b, a * b, a - 100), torch.randint(0, 255, (5,), dtype=torch.uint8), torch.randint(0, 255, (5,), dtype=torch.uint8))
    case("alpha", lambda a, b: (torch.add(a, b, alpha=2.5), torch.sub(a, b, alpha=3)), f, g)
    case("round", lambda a: (torch.round(a), torch.floor(a), torch.ceil(a), torch.trunc(a), torch.sign(a)), special)
    case("unary", lambda a: (torch.exp(a), torch.tanh(a), torch.sigmoid(a), torch.rsqrt(a), torch.log(a), torch.abs(a), -a, F.relu(a)), special)
    case("trig", lambda a: (torch.sin(a), torch.cos(a), torch.erf(a), F.gelu(a), F.gelu(a, approximate="tanh"), torch.log1p(a.abs())), f * 3)
    case("pow", lambda a, b: (torch.pow(a.abs(), b), torch.pow(a, 3), torch.pow(2.0, a), a**2), f, g)
    case("pow_int", lambda a: (torch.pow(a, 3), torch.pow(a, 2)), i)
    case("minmax", lambda a, b: (torch.maximum(a, b), torch.minimum(a, b), torch.clamp(a, -1, 0.5), torch.clamp(a, min=0)), special, special.flip(0))
    case("bits", lambda a, b: (a & b, a | b, a ^ b, ~a, a & 7), i, j)
    case("compare", lambda a, b: (a == b, a != b, a < b, a <= 0, a > 1, a >= b), i, j)
    case("logic", lambda a, b: (torch.logical_and(a, b), torch.logical_or(a, b), torch.logical_not(a), torch.logical_xor(a, b)), i, j)
    case("reduce", lambda a: (a.sum((0, 1)), a.sum(-1, keepdim=True), a.mean(0), a.amax(1), a.amin((0, 1), keepdim=True), a.var(1), a.var(0, correction=0)), f)
    case("reduce_int", lambda a: (a.sum(0), a.sum(), a.prod(1), a.amax(0), a.max(), a.min()), i)
    case("args", lambda a: (a.argmax(1), a.argmin(0, keepdim=True), a.argmax(), *torch.max(a, 1), *torch.min(a, 0)), f)
    case("any", lambda a: (a.any(), a.any(1), a.any(0, keepdim=True)), i > 4)
    case("cumsum", lambda a, b: (a.cumsum(1), b.cumsum(0)), f, i)
    case("softmax", lambda a: (F.softmax(a, 1), F.softmax(a, 0), F.log_softmax(a, -1)), f * 4)
    case("norm", lambda a, w: (F.layer_norm(a, (4,), w, w), F.layer_norm(a, (3, 4)), F.rms_norm(a, (4,), w)), f, g)
    case("layout", lambda a: (a.t(), a.unsqueeze(1).expand(3, 2, 4), a.repeat(2, 1, 3), a.flip(0), a.permute(1, 0), a[:, 1:4:2], a[-1], a[:, -2]), f)
    case("join", lambda a, b: (torch.cat([a, b, a], 0), torch.stack([a, b], 1), torch.cat([a, b], -1)), f, f + 1)
    case("split", lambda a: (*a.split(3, 1), *a.split([1, 2], 0), *a.unbind(0), *torch.chunk(a, 2, 1)), f)
    case("pad", lambda a: (F.pad(a, (1, 2)), F.pad(a, (-1, 1, 2, -1), value=3.0)), f)
    case("index", lambda a, k, m: (a[k], a[k, m], a[:, m], torch.index_select(a, 1, m), torch.gather(a, 1, m.view(1, 3).expand(3, 3))), f, torch.tensor([2, 0, -1]), torch.tensor([1, 3, 0]))
    case("put", lambda a, k, v: (a.index_put((k,), v), a.index_put((k,), v, accumulate=True), a.scatter(1, k.view(1, 3), v[:1, :3]), a.scatter(0, k.view(1, 3), 2.0),
                                 a.scatter_add(1, k.view(1, 3), v[:1, :3])), f, torch.tensor([2, 0, 2]), torch.randn(3, 4))
    case("scatter2", lambda a, s: (torch.slice_scatter(a, s, 1, 1, 3), torch.select_scatter(a, s[:, 0], 1, -1)), f, torch.randn(3, 2))
    case("tril", lambda a: (torch.tril(a), torch.tril(a, -1), torch.triu(a, 1), torch.tril(a, 2)), f)
    case("fill", lambda a: (torch.full_like(a, 2), torch.zeros_like(a), torch.arange(5, dtype=torch.float32), torch.arange(1, 8, 3), torch.full((2, 2), True), torch.ones(3, dtype=torch.int32)), f)
    case("cast", lambda a: (a.to(torch.int64), a.to(torch.int32), a.to(torch.bool), a.to(torch.float64), a.to(torch.int8), a.to(torch.float16).to(torch.float32)), f * 3)
    case("half", lambda a: (a + 1, a * a, F.softmax(a, -1)), f.to(torch.float16))
    case("embedding", lambda w, k: F.embedding(k, w), f, torch.tensor([[0, 2], [1, 1]]))
    case("matmul", lambda a, b, c: (a @ b, torch.addmm(c, a, b), torch.addmm(c, a, b, beta=0.5, alpha=2), torch.bmm(a.view(1, 3, 4), b.view(1, 4, 5)), F.linear(a, b.t(), c)), f, torch.randn(4, 5), torch.randn(5))
    case("masked", lambda a, m: (a.masked_fill(m, 5.0), torch.where(m, a, torch.tensor(0.0)), torch.where(m, 1.0, 2.0)), f, f > 0)
    case("zero_d", lambda a, s, k: (a * s, a + k, s + k, s * 2, k * 2.5, i.new_tensor(3) + a), f, torch.tensor(1.5), torch.tensor(4))
    case("empty", lambda a: (a + 1, a.sum(), a.sum(0), torch.cat([a, a], 0)), torch.zeros(0, 3))
    case("bmm_big", lambda a, b: torch.bmm(a, b), torch.randn(2, 17, 9), torch.randn(2, 9, 33))

    def dq(w, s, x):
        wq = torch.ops.quantized_decomposed.dequantize_per_channel(w, s, torch.zeros(6, dtype=torch.int64), 0, -127, 127, torch.int8)
        return x @ wq.t(), torch.ops.quantized_decomposed.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)

    from torch.ao.quantization.fx import _decomposed  # noqa: F401
    case("dequant", dq, torch.randint(-127, 127, (6, 4), dtype=torch.int8), torch.rand(6), f)
    write("ops", methods, calls)


if not ONLY or "ops" in ONLY:
    ops()


# --- a bundled program: test cases in the file ------------------------------------------------------------------------------
def bundle():
    import sys
    from unittest.mock import MagicMock

    sys.modules.setdefault("pandas", MagicMock())  # the package imports its inspector, which is not used here
    from executorch.devtools import BundledProgram
    from executorch.devtools.bundled_program.config import MethodTestCase, MethodTestSuite
    from executorch.devtools.bundled_program.serialize import serialize_from_bundled_program_to_flatbuffer

    model, shape = Linear().eval(), torch.randn(3, 12)
    program = to_edge(export(model, (shape,), dynamic_shapes=({0: Dim("n", min=1, max=16)},), strict=False)).to_executorch()
    cases = []
    for n in (3, 1, 16):
        x = torch.randn(n, 12)
        cases.append(MethodTestCase(inputs=(x,), expected_outputs=model(x)))
    bundled = BundledProgram(program, [MethodTestSuite(method_name="forward", test_cases=cases)])
    with open(f"{OUT}/linear.bpte", "wb") as f:
        f.write(serialize_from_bundled_program_to_flatbuffer(bundled))


if not ONLY or "bundle" in ONLY:
    bundle()
