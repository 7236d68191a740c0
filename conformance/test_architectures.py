"""Small random models of every architecture but llama (test_programs.py has that): Hugging Face's own code gives our logits, and the stock
runtime our losses."""

import json

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, Qwen2Config, Qwen2ForCausalLM

from harness import GEMMA, Stock, note, ours, relative, reviews, scaled, tabtune

SHAPE = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True, attn_implementation="eager")


def rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


MODELS = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, rope_parameters=rope(1e4))),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(
        **SHAPE, head_dim=32, query_pre_attn_scalar=32, sliding_window=64, layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={"full_attention": rope(1e6), "sliding_attention": rope(1e4)})),
}
NAMES = {"token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
NORMS = {"qwen2": {"ffn_norm": "post_attention_layernorm"},
         "gemma3": {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}}


def reference(arch, path):
    """The model of the file in Hugging Face transformers, f32."""
    weights = {}
    for t in GGUFReader(path).tensors:
        *at, name, kind = t.name.split(".")
        value = torch.tensor(t.data)
        if arch == "gemma3" and "norm" in name:
            value = value - 1  # which Hugging Face adds back
        weights[".".join(["model", *at, (NAMES | NORMS[arch])[name], kind]).replace("blk", "layers")] = value
    model = MODELS[arch]().eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
    return model


def inputs(seed, n, width):
    return torch.randint(0, 96, (n, width), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("arch", MODELS)
def test_logits(tiny, work, arch):
    model = reference(arch, tiny / f"{arch}.gguf")
    pte, ptd = tiny / f"{arch}-f32.pte", tiny / f"{arch}-f32.ptd"
    ids = inputs(1, 1, 23)
    want = model(ids).logits[0]
    h = ours(work / "calls" / f"{arch}-prefix", pte, ptd, "prefix", [[ids]])[0][0]
    got = torch.cat([o[0] for o in ours(work / "calls" / f"{arch}-logits", pte, ptd, "logits", [[h, torch.tensor([i])] for i in range(23)])])
    decoded = torch.cat([o[0] for o in ours(work / "calls" / f"{arch}-decode", pte, ptd, "decode",
                                            [[ids[0, :9], torch.arange(9), torch.tensor([8])]])])
    far, cached = scaled(got, want), scaled(decoded, want[8:9])
    note(f"tiny {arch}, f32, logits against Hugging Face at 23 positions, largest difference by largest logit", whole=far, over_a_cache=cached)
    assert far < 1e-5 and cached < 1e-5


@pytest.mark.parametrize("arch", MODELS)
def test_losses(tiny, work, arch):
    """Three steps of P-RGE, engine against the stock runtime; the first also against Hugging Face, whose adapter is none."""
    pte, ptd = tiny / f"{arch}-f32.pte", tiny / f"{arch}-f32.ptd"
    stock, q, b, width = Stock(pte, ptd), 2, 2, 17
    calls, want = [], []
    seeds, coefs = torch.zeros(q, dtype=torch.int64), torch.zeros(q)
    for step in range(3):
        ids = inputs(10 + step, b, width)
        h = stock("prefix", ids)[0].repeat(2 * q, 1, 1)
        rows = torch.arange(2 * q * b) * width + width - 2
        targets = ids[:, -1].repeat(2 * q)
        now = torch.arange(q) + 100 * step
        call = [h, rows, targets, now, torch.tensor(1e-2), seeds, coefs]
        calls.append(call)
        want.append(stock("forward", *call)[0])
        seeds, coefs = now, torch.tensor([0.02, -0.03])
    got = [o[0] for o in ours(work / "calls" / f"{arch}-forward", pte, ptd, "forward", calls)]
    ids = inputs(10, b, width)
    plain = torch.nn.functional.cross_entropy(reference(arch, tiny / f"{arch}.gguf")(ids).logits[:, -2], ids[:, -1], reduction="none")
    near = ((got[0].view(2 * q, b).mean(0) - plain).abs() / plain).max().item()  # the perturbations cancel but for their squares
    engine = max(relative(g, w) for g, w in zip(got, want))
    note(f"tiny {arch}, f32, 3 steps, largest relative difference of a loss", engine_to_stock=engine, unperturbed_in_Hugging_Face=near)
    assert engine < 1e-5
    assert near < 1e-3


TEXTS = [x for _, x in reviews()[100:9000:2900]] + ["The capital of France is"]


@pytest.fixture(scope="module")
def gemma():
    """(ids, logits behind the last) of every text, from Gemma-3-270M in Hugging Face transformers, f32, from the same GGUF."""
    if not GEMMA.exists():
        pytest.skip("make fetch-gemma fetches it")
    model = AutoModelForCausalLM.from_pretrained(GEMMA.parent, gguf_file=GEMMA.name, dtype=torch.float32).eval()
    lines = tabtune("tokenize", "--model", GEMMA, stdin="".join(f"{x}\n" for x in TEXTS).encode()).splitlines()
    rows = [torch.tensor([[2, *json.loads(line)][:48]]) for line in lines]  # 2 is <bos>
    return [(ids, model(ids).logits[0, -1:]) for ids in rows]


@pytest.mark.parametrize("dtype", ["f32", "int8", "q4"])
def test_gemma(gemma, work, dtype):
    """A real model whose GGUF is in K-quants."""
    pte = work / f"gemma-{dtype}.pte"
    ptd = pte.with_suffix(".ptd")
    tabtune("build", "--model", GEMMA, "--layers", 4, "--modules", "q,v", "--rank", 4, "--alpha", 8, "--queries", 1, "--batch", 1, "--window", 64, "--dtype", dtype,
            "--out", pte)
    hs = ours(work / "calls" / f"gemma-{dtype}", pte, ptd, "prefix", [[ids] for ids, _ in gemma])
    got = [o[0] for o in ours(work / "calls" / f"gemma-logits-{dtype}", pte, ptd, "logits", [[h[0], torch.tensor([ids.shape[1] - 1])] for h, (ids, _) in zip(hs, gemma)])]
    got, want = torch.cat(got), torch.cat([w for _, w in gemma])
    far = max(scaled(g, w) for g, w in zip(got, want))
    note(f"Gemma-3-270M logits against Hugging Face f32, {dtype}, {len(TEXTS)} texts", largest_difference_by_largest_logit=far,
         same_first_token=f"{(got.argmax(1) == want.argmax(1)).sum().item()} of {len(TEXTS)}")
    assert far < {"f32": 1e-4, "int8": 0.15, "q4": 0.4}[dtype]  # the file's weights have 4 to 8 bits; int8 and q4 round them once more
