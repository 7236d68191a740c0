"""Exports a Hugging Face causal language model as a training program for Tabtune, with the stock ExecuTorch exporter.

    tabtune-export --model DIR --out P.pte [--modules q,v] [--layers 4] [--rank 16] ...

The program has the contract of package lora (lora/build.go), whose programs are made in Go without any of this:

    prefix(ids i64[n,T]) -> h f32[n,T,d]
    forward(h f32[n,T,d], rows i64[m], targets i64[m], seeds i64[q], eps f32[],
            last_seeds i64[q], last_coefs f32[q]) -> nll f32[m]

In order, forward takes the last step off every adapter matrix B, makes one
perturbed copy of B for each replica from the seeds, runs the adapted layers with
all replicas in one batch (MP-LoRA: MobiZO, arXiv 2409.15520) and scores the
positions in rows. B is a mutable buffer, A is frozen (LoRA-FA), and the facts of
a program are constant methods.

Known are models that are an embedding (perhaps with learned positions), decoder layers over a residual stream with a causal mask, a norm and an output
layer: Llama, Qwen2, Gemma, Phi, GPT-2 and their like. What a model computes beyond that is noticed: its own losses are compared with the program's
before anything is written.
"""

import argparse
import contextlib
import math
import os

import torch
import torch.nn.functional as F
from torch import nn

M32 = 0xFFFFFFFF
MODULES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}


# --- the seeded normal ---------------------------------------------------------------------------------------------------
# 32-bit arithmetic on int64 tensors. Shifts are floor divisions: a shift is not a core ATen operator. The
# multipliers are below 2^31, so that no product leaves int64.


def shift(x, n):
    return torch.div(x, 1 << n, rounding_mode="floor")


def mix(x):
    x = x ^ shift(x, 16)
    x = (x * 0x21F0AAAD) & M32
    x = x ^ shift(x, 15)
    x = (x * 0x735A2D97) & M32
    return x ^ shift(x, 15)


def keys(seeds):
    """k1 and k2 as [q,1] for seeds i64[q], 0 <= seed < 2^62."""
    k1 = mix((seeds & M32) ^ 0x9E3779B9)
    k2 = mix((k1 + 0x85EBCA6B + (shift(seeds, 32) & M32)) & M32)
    return k1.unsqueeze(1), k2.unsqueeze(1)


def normal(seeds, base, count):
    """z f32[q,count]: elements base to base+count of the streams of seeds i64[q]."""
    k1, k2 = keys(seeds)

    def uniform(odd):
        i = torch.arange(2 * base + odd, 2 * (base + count) + odd, 2, dtype=torch.int64).unsqueeze(0)
        return mix(mix((i + k1) & M32) ^ k2).to(torch.float32)

    u1, u2 = (uniform(0) + 1.0) * 2.0**-32, uniform(1) * 2.0**-32
    return torch.sqrt(torch.log(u1) * -2.0) * torch.cos(u2 * (2 * math.pi))


def matrix_a(seed, base, rank, n_in):
    """PEFT's default initialisation, uniform in +-1/sqrt(n_in), from the same hash; elements base and on of A's stream."""
    k1, k2 = keys(torch.tensor([seed]))
    i = torch.arange(base, base + rank * n_in, dtype=torch.int64).unsqueeze(0)
    u = shift(mix(mix((i + k1) & M32) ^ k2), 8).double() * 2.0**-24
    return ((2 * u - 1) * (1 / math.sqrt(n_in))).float().view(rank, n_in)


# --- MP-LoRA -------------------------------------------------------------------------------------------------------------


class Step:
    """What a call of forward was given, for the adapted layers to read."""

    inputs = None  # seeds, eps, last_seeds, last_coefs

    @contextlib.contextmanager
    def of(self, *inputs):
        self.inputs = inputs
        try:
            yield
        finally:
            self.inputs = None


def extent(linear):
    """(in, out) of a linear layer. GPT-2's Conv1D is one with its weight transposed."""
    return (linear.in_features, linear.out_features) if isinstance(linear, nn.Linear) else tuple(linear.weight.shape)


class MPLoRALinear(nn.Module):
    """y = W x, plus in replica r (alpha/rank) B_r A x. base is the index of B's first element in the stream of normals."""

    def __init__(self, linear, a, alpha, base, sides, step):
        super().__init__()
        self.linear, self.sides, self.step, self.base = linear, sides, step, base
        self.rank, self.scale = a.shape[0], alpha / a.shape[0]
        self.register_buffer("lora_A", a)
        self.register_buffer("lora_B", torch.zeros(extent(linear)[1], self.rank))

    def forward(self, x):
        y = self.linear(x)
        seeds, eps, last_seeds, last_coefs = self.step.inputs
        count = self.lora_B.numel()
        update = last_coefs.unsqueeze(0) @ normal(last_seeds, self.base, count)
        now = self.lora_B.view(1, count) - update
        self.lora_B.copy_(now.view_as(self.lora_B))
        ez = normal(seeds, self.base, count) * eps
        copies = {"two": lambda: torch.cat([now + ez, now - ez]), "one": lambda: torch.cat([now, now + ez]), "single": lambda: now + ez}[self.sides]()
        copies = copies.view(-1, *self.lora_B.shape)
        low = (x @ self.lora_A.t() * self.scale).reshape(copies.shape[0], -1, self.rank)
        return y + torch.bmm(low, copies.transpose(1, 2)).reshape(y.shape)


# --- any causal model ----------------------------------------------------------------------------------------------------


class Anatomy:
    """The parts of a Hugging Face causal language model."""

    def __init__(self, model):
        cfg, base = model.config, model.base_model
        lists = [(name, m) for name, m in base.named_children() if isinstance(m, nn.ModuleList) and len(m) == cfg.num_hidden_layers]
        norms = [m for name, m in base.named_children() if name in ("norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm")]
        self.embed, self.head = model.get_input_embeddings(), model.get_output_embeddings()
        others = {name: m for name, m in base.named_children() if isinstance(m, nn.Embedding) and m is not self.embed}
        self.positions = others.pop("wpe", None)
        if len(lists) != 1 or len(norms) != 1 or self.embed is None or self.head is None or others:
            raise ValueError(f"{type(model).__name__}: its parts are not where this exporter looks for them: {len(lists)} lists of layers, {len(norms)} final norms, "
                             f"embeddings {[*others] or 'one'}, {'an' if self.head is not None else 'no'} output layer")
        (name, self.layers), (self.norm,) = lists[0], norms
        self.path = f"{model.base_model_prefix}.{name}"
        self.rotary = getattr(base, "rotary_emb", None)

    def linears(self, layer, modules):
        """Paths of the named linear layers of a decoder layer. A name is one of MODULES, a path, or the last part of one."""
        found = {path: m for path, m in layer.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"}
        out = []
        for name in modules:
            paths = [p for p in found if p == MODULES.get(name, name)] or [p for p in found if p.rsplit(".", 1)[-1] == name]
            if not paths:
                raise ValueError(f"modules: no {name} among the linear layers {','.join(found)}")
            out += [p for p in paths if p not in out]
        return out


class Trunk(nn.Module):
    """Runs layers low to high over x [n,T,d] with a causal mask."""

    def __init__(self, parts, low, high):
        super().__init__()
        # Named by their place in the model: tensors of a .ptd go by name, and two methods must not share one.
        self.layers = nn.ModuleDict({str(l): parts.layers[l] for l in range(low, high)})
        self.rotary = parts.rotary

    def forward(self, x):
        at = torch.arange(x.shape[1])
        future = at.unsqueeze(0) > at.unsqueeze(1)
        given = dict(attention_mask=torch.where(future, -1e30, 0.0)[None, None], use_cache=False)
        if self.rotary is not None:
            given["position_embeddings"] = self.rotary(x, at.unsqueeze(0))
        for layer in self.layers.values():
            x = layer(x, **given)
            x = x[0] if isinstance(x, tuple) else x
        return x


class Prefix(nn.Module):
    def __init__(self, parts, low):
        super().__init__()
        self.embed, self.positions, self.trunk = parts.embed, parts.positions, Trunk(parts, 0, low)

    def forward(self, ids):
        x = self.embed(ids)
        if self.positions is not None:
            x = x + self.positions(torch.arange(ids.shape[1]).unsqueeze(0))
        return self.trunk(x)


class Forward(nn.Module):
    def __init__(self, parts, low, step, labels):
        super().__init__()
        self.trunk, self.norm, self.step = Trunk(parts, low, len(parts.layers)), parts.norm, step
        self.head = parts.head
        self.register_buffer("labels", None if labels is None else torch.tensor(labels))

    def forward(self, h, rows, targets, seeds, eps, last_seeds, last_coefs):
        with self.step.of(seeds, eps, last_seeds, last_coefs):
            x = self.trunk(h)
        f = self.norm(x.reshape(-1, x.shape[2]).index_select(0, rows))
        if self.labels is None:
            logits = self.head(f)
        else:
            logits = f @ F.embedding(self.labels, self.head.weight).t()
            if self.head.bias is not None:
                logits = logits + self.head.bias.index_select(0, self.labels)
        return F.log_softmax(logits, -1).gather(1, targets.unsqueeze(1)).squeeze(1).neg()


# --- export --------------------------------------------------------------------------------------------------------------


class Program:
    """A Hugging Face causal model turned into prefix and forward, to run eagerly or to export. The model is changed in place."""

    def __init__(self, model, modules=("q", "v"), layers=None, rank=16, alpha=32.0, queries=4, sides="two", seed=0, window=128, labels=None):
        cfg = model.config
        total = cfg.num_hidden_layers
        top = total if layers is None else layers
        if not modules:
            raise ValueError("modules: none are named")
        if not 1 <= top <= total:
            raise ValueError(f"layers: {top}, the model has {total}")
        if sides == "single" and queries != 1:
            raise ValueError(f"queries: {queries}, but a program with a single replica has one")
        if window > getattr(cfg, "max_position_embeddings", window):
            raise ValueError(f"window: {window}, the model has {cfg.max_position_embeddings} positions")
        sliding = getattr(cfg, "sliding_window", None) if getattr(cfg, "use_sliding_window", True) else None
        if sliding is not None and sliding < window:
            raise ValueError(f"window: {window}, the model attends to {sliding} tokens only; choose a window within that")
        model = model.eval().float().requires_grad_(False)
        model.set_attn_implementation("eager")
        parts = Anatomy(model)
        probe = torch.arange(min(window, 8)).unsqueeze(0) * 7 % cfg.vocab_size
        own = model(probe, use_cache=False).logits[0]
        self.replicas = {"two": 2 * queries, "one": queries + 1, "single": 1}[sides]
        self.queries, self.window, self.dim = queries, window, cfg.hidden_size
        ordered = [m for m in MODULES if m in modules] + [m for m in modules if m not in MODULES]
        step, base, a_base = Step(), 0, 0
        self.adapters = {}  # name in the checkpoint -> MPLoRALinear, in the order that numbers z's elements
        for l in range(total - top, total):
            for path in parts.linears(parts.layers[l], ordered):
                above, _, leaf = path.rpartition(".")
                parent = parts.layers[l].get_submodule(above)
                linear = getattr(parent, leaf)
                n_in, n_out = extent(linear)
                adapted = MPLoRALinear(linear, matrix_a(seed, a_base, rank, n_in), alpha, base, sides, step)
                setattr(parent, leaf, adapted)
                self.adapters[f"{parts.path}.{l}.{path}"] = adapted
                base += n_out * rank
                a_base += rank * n_in
        if base >= 1 << 31:
            raise ValueError(f"adapter of {base} elements, want under 2^31")
        self.prefix, self.forward = Prefix(parts, total - top).eval(), Forward(parts, total - top, step, labels).eval()
        self.facts = dict(
            get_queries=queries, get_replicas=self.replicas, get_sides=sides, get_modules=",".join(ordered),
            get_layers=top, get_rank=rank, get_alpha=float(alpha), get_adapter_seed=seed, get_dtype="f32", get_window=window,
            get_dim=cfg.hidden_size, get_vocab_size=cfg.vocab_size)
        self.check(probe, own, labels)

    def check(self, ids, own, labels):
        """Compares the program without an adapter with what the model computed itself."""
        r, last = self.replicas, ids.shape[1] - 1
        scores = F.log_softmax(own[last] if labels is None else own[last, torch.tensor(labels)], -1)
        target, zeros = int(scores.argmax()), torch.zeros(self.queries)
        at = torch.arange(r) * ids.shape[1] + last
        with torch.no_grad():
            nll = self.forward(self.prefix(ids).repeat(r, 1, 1), at, torch.full((r,), target), zeros.long(), torch.tensor(0.0), zeros.long(), zeros)
        want = -scores[target]
        if not torch.allclose(nll, want.expand(r), rtol=1e-4, atol=1e-5):
            raise ValueError(f"the model computes something that this exporter does not know: its loss is {want:.6f}, the program's {nll[0]:.6f}")

    def to_executorch(self, batch, scored=None, prefix_rows=8, external=False):
        """The ExecutorchProgramManager for up to batch rows a replica and scored positions (default: one a row).

        external puts the weights in a .ptd file of their own (write_tensor_data_to_file).
        """
        from executorch.exir import ExecutorchBackendConfig, to_edge
        from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass
        from torch.export import Dim, export

        r, q, d = self.replicas, self.queries, self.dim
        tokens = Dim("T", min=2, max=self.window)
        per, marks = Dim("b", min=1, max=max(batch, 2)), Dim("k", min=1, max=max(scored or batch, 2))
        n, m = (per, marks) if r == 1 else (r * per, r * marks)
        seeds = torch.arange(q)
        prefix = export(self.prefix, (torch.zeros(2, 3, dtype=torch.int64),), dynamic_shapes=({0: Dim("n", min=1, max=max(prefix_rows, 2)), 1: tokens},))
        at = torch.arange(2 * r)
        forward = export(
            self.forward, (torch.randn(2 * r, 3, d), at * 3, at * 0, seeds, torch.tensor(1e-2), seeds + q, torch.zeros(q)),
            dynamic_shapes=({0: n, 1: tokens}, {0: m}, {0: m}, None, None, None, None))
        edge = to_edge({"prefix": prefix.run_decompositions(), "forward": forward.run_decompositions()}, constant_methods=self.facts)
        # Without the pass a mutable buffer's first value is whatever the runtime's memory holds.
        return edge.to_executorch(ExecutorchBackendConfig(
            passes=[InitializedMutableBufferPass(["lora_B"])], emit_mutable_buffer_names=True, external_constants=external))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", required=True, help="folder of a Hugging Face checkpoint of a causal language model")
    p.add_argument("--out", required=True, help="the program, a .pte file")
    p.add_argument("--modules", default="q,v", help="of " + ",".join(MODULES) + ", or names of the model's own linear layers (GPT-2: c_attn, c_proj, c_fc)")
    p.add_argument("--layers", default="4", help="how many of the top layers, or all")
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--alpha", type=float, default=32)
    p.add_argument("--queries", type=int, default=4)
    p.add_argument("--sides", choices=["two", "one", "single"], default="two")
    p.add_argument("--batch", type=int, default=4, help="rows a replica")
    p.add_argument("--window", type=int, default=128, help="tokens a row")
    p.add_argument("--seed", type=int, default=0, help="of A")
    p.add_argument("--labels", help="token ids to score among, separated by commas; default: the vocabulary")
    a = p.parse_args()
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    try:
        program = Program(model, a.modules.split(","), None if a.layers == "all" else int(a.layers), a.rank, a.alpha, a.queries, a.sides, a.seed,
                          a.window, a.labels and [int(t) for t in a.labels.split(",")])
    except ValueError as e:
        p.error(str(e))
    done = program.to_executorch(a.batch)
    part = a.out + ".part"  # so that a file under its own name is whole
    with open(part, "wb") as f:
        done.write_to_file(f)
    os.replace(part, a.out)


if __name__ == "__main__":
    main()
