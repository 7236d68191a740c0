"""Causal models exported from PyTorch by the stock exporter, with the contract of package lora, train in our engine as they do eagerly."""

import copy

import pytest
import torch

import reference
import tabtune_export
from harness import Stock, central, note, ours, relative, result, scaled, tabtune

SIZE = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, initializer_range=0.2)
STEPS, Q, BATCH, EPS = 5, 2, 3, torch.tensor(1e-2)


def llama(size):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**size, num_key_value_heads=2, tie_word_embeddings=True)), ["q", "v", "down"]


def gpt2(size):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=size["vocab_size"], n_embd=size["hidden_size"], n_layer=size["num_hidden_layers"], n_head=size["num_attention_heads"],
                        n_positions=size["max_position_embeddings"], initializer_range=size["initializer_range"], bos_token_id=None, eos_token_id=None)
    return GPT2LMHeadModel(config), ["c_attn", "c_fc"]


def qwen2(size):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**size, num_key_value_heads=2)), ["q", "v", "down"]


def gemma(size):
    from transformers import GemmaConfig, GemmaForCausalLM

    return GemmaForCausalLM(GemmaConfig(**size, num_key_value_heads=1, head_dim=24)), ["q", "v", "gate"]


def phi(size):
    from transformers import PhiConfig, PhiForCausalLM

    return PhiForCausalLM(PhiConfig(**size)), ["q", "v", "dense", "fc1"]


@pytest.fixture(scope="module", params=[llama, gpt2, qwen2, gemma, phi], ids=lambda f: f.__name__)
def exported(request, work):
    """(eager program, pte, ptd) of a small random model."""
    torch.manual_seed(0)
    model, modules = request.param(SIZE)
    options = dict(modules=modules, layers=1, rank=4, alpha=8.0, queries=Q, sides="two", seed=5, window=24)
    with torch.enable_grad():
        manager = tabtune_export.Program(copy.deepcopy(model), **options).to_executorch(BATCH, external=True)
    folder = work / "exported" / request.param.__name__
    folder.mkdir(parents=True)
    with open(folder / "program.pte", "wb") as f:
        manager.write_to_file(f)
    manager.write_tensor_data_to_file(str(folder))
    data, = folder.glob("*.ptd")
    return tabtune_export.Program(model, **options), folder / "program.pte", data


def test_trains(exported, work):
    eager, pte, ptd = exported
    stock = Stock(pte, ptd)
    g = torch.Generator().manual_seed(2)
    last, coefs = torch.zeros(Q, dtype=torch.int64), torch.zeros(Q)
    ids_of, hs, calls, want, native = [], [], [], [], []
    for step in range(STEPS):
        n, t = 1 + step % BATCH, 4 + 5 * step
        ids = torch.randint(0, 96, (n, t), generator=g)
        rows = torch.arange(n) * t + torch.randint(0, t, (n,), generator=g)
        h = eager.prefix(ids)
        r = eager.replicas
        seeds = torch.tensor([(step * Q + j + 1) * 0x1F3D5B79A7 for j in range(Q)])
        call = [h.repeat(r, 1, 1), torch.cat([rows + k * n * t for k in range(r)]), torch.randint(0, 96, (n,), generator=g).repeat(r), seeds, EPS, last, coefs]
        ids_of.append([ids])
        hs.append(h)
        calls.append(call)
        want.append(eager.forward(*call))
        native.append(stock("forward", *call)[0])
        last, coefs = seeds, central(want[-1], Q, 0.05, float(EPS))
        assert coefs.abs().min() > 0
    name = pte.parent.name
    got = [o[0] for o in ours(work / "calls" / "exported" / name, pte, ptd, "forward", calls)]
    prefix = [o[0] for o in ours(work / "calls" / "exported-prefix" / name, pte, ptd, "prefix", ids_of)]
    engine, other = max(map(relative, got, want)), max(map(relative, got, native))
    note(f"{name} from the stock exporter, 5 steps, largest relative difference of a loss", engine_to_eager=engine,
         engine_to_stock=other, stock_to_eager=max(map(relative, native, want)), prefix_to_eager=max(map(scaled, prefix, hs)))
    assert engine < 1e-4 and other < 1e-4
    assert max(map(scaled, prefix, hs)) < 1e-5


def test_facts(exported):
    eager, pte, ptd = exported
    names = [m["name"] for m in result(tabtune("inspect", pte, "--json"))["methods"]]
    assert set(eager.facts) | {"prefix", "forward"} == set(names)
    stock = Stock(pte, ptd)
    assert {k: stock_value(stock, k) for k in eager.facts} == eager.facts


def stock_value(stock, method):
    return stock.program.load_method(method).execute([])[0]


def test_refuses():
    """What the exporter does not know is said, not exported."""
    model, _ = llama(SIZE)
    for change, words in [(dict(modules=["qq"]), "no qq among the linear layers"), (dict(layers=3), "the model has 2"), (dict(window=65), "64 positions"), (dict(modules=[]), "none are named")]:
        with pytest.raises(ValueError, match=words):
            tabtune_export.Program(copy.deepcopy(model), **{**dict(modules=["q"], layers=1, rank=4, queries=Q, window=24), **change})
    model.lm_head.register_forward_hook(lambda m, i, o: 30 * torch.tanh(o / 30) if o.dim() == 3 else o)  # Gemma 2's soft cap, which it applies outside of its layers
    with pytest.raises(ValueError, match="does not know"):
        tabtune_export.Program(model, modules=["q"], layers=1, rank=4, queries=Q, window=24)


def test_seeded_normal():
    """The exporter's seeded normal is the reference's, bit for bit."""
    for seed, base, count in [(0, 0, 999), (12345, 77, 1000), ((1 << 62) - 1, (1 << 30) + 1, 501)]:
        assert torch.equal(tabtune_export.normal(torch.tensor([seed]), base, count)[0], reference.normal(seed, base, count))
