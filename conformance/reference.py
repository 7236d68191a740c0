"""MP-LoRA training losses of a small llama in eager PyTorch.

Written from the equations (README of lora/, MobiZO arXiv 2409.15520), not from
the Go code, so that agreement means something.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from gguf import GGUFReader
from gguf.quants import dequantize

M32 = 0xFFFFFFFF
MODULES = ["q", "k", "v", "o", "gate", "up", "down"]
GGUF_NAMES = dict(q="attn_q", k="attn_k", v="attn_v", o="attn_output", gate="ffn_gate", up="ffn_up", down="ffn_down")


def mix(x):
    x = x ^ (x >> 16)
    x = (x * 0x21F0AAAD) & M32
    x = x ^ (x >> 15)
    x = (x * 0x735A2D97) & M32
    return x ^ (x >> 15)


def keys(seed):
    k1 = mix((seed & M32) ^ 0x9E3779B9)
    return k1, mix((k1 + 0x85EBCA6B + (seed >> 32)) & M32)


def stream(seed, i):
    k1, k2 = keys(seed)
    return mix(mix((i + k1) & M32) ^ k2)


def normal(seed, base, count):
    e = torch.arange(base, base + count, dtype=torch.int64)
    u1 = (stream(seed, 2 * e).to(torch.float32) + 1) * 2.0**-32
    u2 = stream(seed, 2 * e + 1).to(torch.float32) * 2.0**-32
    return torch.sqrt(-2 * torch.log(u1)) * torch.cos(np.float32(2 * math.pi) * u2)


def rademacher(seed, base, count):
    e = torch.arange(base, base + count, dtype=torch.int64)
    return torch.where(stream(seed, 2 * e) >= 2**31, -1.0, 1.0)


@functools.lru_cache(maxsize=1)
def read(path):
    """(metadata, tensors as f32) of a GGUF."""
    reader = GGUFReader(path)
    keys = ["block_count", "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon", "rope.freq_base"]
    fields = {k: reader.get_field("llama." + k).contents() for k in keys}
    return fields, {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}


class Llama:
    """Weights of a llama-architecture GGUF under the names of the checkpoint."""

    def __init__(self, path, dtype="f32"):
        fields, raw = read(path)
        self.layers = fields["block_count"]
        self.heads = fields["attention.head_count"]
        self.kv = fields["attention.head_count_kv"]
        self.eps = fields["attention.layer_norm_rms_epsilon"]
        self.base = fields["rope.freq_base"]
        self.embed = self.quantise(raw["token_embd.weight"], "int8" if dtype != "f32" else "f32")
        self.dim = self.embed.shape[1]
        self.norm = raw["output_norm.weight"]
        self.w = {}
        for l in range(self.layers):
            self.w[l, "attn_norm"] = raw[f"blk.{l}.attn_norm.weight"]
            self.w[l, "ffn_norm"] = raw[f"blk.{l}.ffn_norm.weight"]
            for m in MODULES:
                w = raw[f"blk.{l}.{GGUF_NAMES[m]}.weight"]
                if m in "qk":  # back to the rotate-half order of rows
                    h = self.heads if m == "q" else self.kv
                    w = w.view(h, w.shape[0] // h // 2, 2, -1).transpose(1, 2).reshape(w.shape)
                self.w[l, m] = self.quantise(w, dtype)

    @staticmethod
    def quantise(w, dtype):
        if dtype == "f32":
            return w
        if dtype == "int8":
            top = w.abs().amax(1, keepdim=True)
            q = torch.where(top > 0, w * (torch.tensor(127.0) / top), torch.zeros(()))  # halves are common in weights rounded before: the same operations as ours
            return torch.sign(q) * torch.floor(q.abs() + 0.5) * (top / 127)
        g = w.reshape(w.shape[0], -1, 32)
        lo = g.amin(2, keepdim=True).half().float()
        d = ((g.amax(2, keepdim=True) - g.amin(2, keepdim=True)) / 15).half().float()
        q = torch.floor(torch.where(d > 0, (g - lo) / d, torch.zeros(())) + 0.5).clamp(0, 15)
        return (d * q + lo).reshape(w.shape)

    def rms(self, x, w):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * w

    def layer(self, x, l, linear):
        n, t, _ = x.shape
        hd = self.w[l, "q"].shape[0] // self.heads
        y = self.rms(x, self.w[l, "attn_norm"])
        split = lambda v, h: v.view(n, t, h, hd).transpose(1, 2)
        q, k, v = split(linear(y, l, "q"), self.heads), split(linear(y, l, "k"), self.kv), split(linear(y, l, "v"), self.kv)
        freq = self.base ** (-torch.arange(0, hd, 2, dtype=torch.float64) / hd)
        ang = torch.outer(torch.arange(t, dtype=torch.float64), freq)
        cos, sin = (torch.cat([f, f], 1).float() for f in (ang.cos(), ang.sin()))
        rot = lambda v: v * cos + torch.cat([-v[..., hd // 2:], v[..., : hd // 2]], -1) * sin
        k, v = (a.repeat_interleave(self.heads // self.kv, 1) for a in (rot(k), v))
        a = F.scaled_dot_product_attention(rot(q), k, v, is_causal=True)
        x = x + linear(a.transpose(1, 2).reshape(n, t, -1), l, "o")
        y = self.rms(x, self.w[l, "ffn_norm"])
        return x + linear(F.silu(linear(y, l, "gate")) * linear(y, l, "up"), l, "down")


class Trainer:
    """forward() of the program contract, replicas computed together."""

    def __init__(self, model, modules, top, rank, alpha, queries, sides, seed, labels=None, noise=normal):
        self.m, self.q, self.sides, self.scale, self.labels = model, queries, sides, alpha / rank, labels
        self.noise = noise
        self.low = model.layers - top
        self.a, self.b, self.base = {}, {}, {}
        base = abase = 0
        for l in range(self.low, model.layers):
            for name in MODULES:
                if name not in modules:
                    continue
                out, cols = model.w[l, name].shape
                u = (stream(seed, torch.arange(abase, abase + rank * cols)) >> 8).double() / 2**24
                self.a[l, name] = ((2 * u - 1) / math.sqrt(cols)).float().view(rank, cols)
                self.b[l, name] = torch.zeros(out, rank)
                self.base[l, name] = base
                base += out * rank
                abase += rank * cols

    def prefix(self, ids):
        x = self.m.embed[ids]
        for l in range(self.low):
            x = self.m.layer(x, l, lambda y, l, n: y @ self.m.w[l, n].T)
        return x

    def forward(self, h, rows, targets, seeds, eps, last_seeds, last_coefs):
        copies = {}
        for k, b in self.b.items():
            z = lambda s: self.noise(int(s), self.base[k], b.numel()).view(b.shape)
            upd = sum(float(c) * z(s) for s, c in zip(last_seeds, last_coefs))
            b.sub_(upd)
            plus = [b + eps * z(s) for s in seeds]
            copies[k] = torch.stack({"two": plus + [b - eps * z(s) for s in seeds], "one": [b] + plus, "single": plus[:1]}[self.sides])

        def linear(y, l, n):
            out = y @ self.m.w[l, n].T
            if (l, n) in copies:
                c = copies[l, n]
                ya = (y @ self.a[l, n].T * self.scale).reshape(c.shape[0], -1, c.shape[2])
                out = out + torch.bmm(ya, c.transpose(1, 2)).reshape(out.shape)
            return out

        x = h
        for l in range(self.low, self.m.layers):
            x = self.m.layer(x, l, linear)
        f = self.m.rms(x.reshape(-1, self.m.dim)[rows], self.m.norm)
        table = self.m.embed if self.labels is None else self.m.embed[self.labels]
        return F.cross_entropy(f @ table.T, targets, reduction="none")
