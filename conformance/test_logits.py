"""The exact Hugging Face model gives our logits from the same GGUF."""

import pytest
import torch

from harness import note, ours, reviews, scaled

TEXTS = [x for _, x in reviews()[100:9000:2900]] + ["The capital of France is", "def add(a, b):\n    return"]
TOLERANCE = {"f32": 1e-3, "int8": 0.1, "q4": 0.1}  # relative to the largest logit; int8 and q4 round the weights once more


@pytest.fixture(scope="module")
def wanted(hf, tokenizer):
    """(ids, positions, logits at them) of every text."""
    out = []
    for text in TEXTS:
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids[:48]])
        at = sorted({0, ids.shape[1] // 2, ids.shape[1] - 1})
        out.append((ids, at, hf(ids).logits[0, at]))
    return out


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_logits(smol, work, wanted, dtype):
    pte, ptd = smol(dtype)
    hs = ours(work / "calls" / f"logits-h-{dtype}", pte, ptd, "prefix", [[ids] for ids, _, _ in wanted])
    calls = [[h[0], torch.tensor([p])] for h, (_, at, _) in zip(hs, wanted) for p in at]
    got = torch.cat([o[0] for o in ours(work / "calls" / f"logits-{dtype}", pte, ptd, "logits", calls)])
    want = torch.cat([w for _, _, w in wanted])
    far = max(scaled(g, w) for g, w in zip(got, want))
    same = (got.argmax(1) == want.argmax(1)).sum().item()
    note(f"SmolLM2-135M logits against Hugging Face f32, {dtype}, {len(TEXTS)} texts", largest_difference_by_largest_logit=far,
         rms_difference_by_rms=((got - want).norm() / want.norm()).item(), same_first_token=f"{same} of {len(want)}")
    assert far < TOLERANCE[dtype]
    if dtype == "f32":
        assert same == len(want)
