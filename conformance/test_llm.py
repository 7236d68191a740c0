"""SmolLM2-135M from ExecuTorch's Llama exporter (llm.py), with its key and value cache, generates in our engine what it does in the stock runtime.

With activations rounded to int8 in every product, a last bit that differs moves a rounding, and 30 layers make 10 to 16% of the largest logit of it: so
far do the stock runtime's own logits move when its embedding changes in the last bit (llm.py measures it), with 55 to 62 of 64 tokens left. Ours,
whose sums of floats are made in another order, can be held to no more than that; two layers are held to the same tokens. Exported programs are kept
in the cache, by what makes them.
"""

import pytest
import torch
from safetensors.torch import load_file

import cached
import llm
from harness import ALL, note, ours

CASES = [(flow, attention, layers) for flow in llm.FLOWS for attention in llm.ATTENTIONS for layers in ((2, 30) if flow == "8da4w" else (30,))]
pytestmark = pytest.mark.skipif(not ALL, reason="make conformance-all")


@pytest.mark.parametrize("flow, attention, layers", CASES)
def test_llm(flow, attention, layers, tmp_path):
    folder = cached.llm(flow, attention, layers)
    stock = load_file(folder / "stock.safetensors")
    prompt, want, logits = stock["prompt"], stock["tokens"], stock["logits"]
    # Every call gets the token that the stock runtime chose; ours chooses the same ones, so it would have got them too.
    calls, at = [[prompt, torch.tensor([0])]], prompt.shape[1]
    for token in want[:-1]:
        calls.append([token.view(1, 1), torch.tensor([at])])
        at += 1
    got = torch.cat([o[0] for o in ours(tmp_path, folder / "program.pte", None, "forward", calls)])
    far = ((got - logits).abs().amax(-1) / logits.abs().amax(-1)).max().item()
    same = (got.argmax(-1) == want).sum().item()
    what = f"SmolLM2-135M from the stock Llama exporter, {layers} layers, {flow}, {attention}"
    values = {"tokens": len(want), "same": same, "largest_difference_by_largest_logit": far}
    if "moved" in stock:
        note(what, **values, the_stock_runtime_from_itself=f"{stock['moved'].min():.2g} to {stock['moved'].max():.2g}, same {sorted(stock['kept'].tolist())}")
    else:
        note(what, **values)
    if flow == "8da4w" and layers > 2:
        assert far <= stock["moved"].max().item() * 1.25
        assert same >= stock["kept"].min().item()
        return
    assert far < (1e-4 if flow == "f32" else 0.02)
    assert same == len(want)
