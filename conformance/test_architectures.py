"""Small random models of every architecture but llama (test_programs.py has that): Hugging Face's own code gives our logits, and the stock
runtime our losses."""

import pytest
import torch
from gguf import GGUFReader
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Qwen2Config, Qwen2ForCausalLM

from harness import Stock, note, ours, relative, scaled

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
