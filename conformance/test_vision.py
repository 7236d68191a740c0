"""Networks of torchvision, lowered to XNNPACK by the stock exporter, in our engine and in the stock runtime.

Weights are random. Exported programs are kept in the cache, by the versions of what makes them. make conformance takes the small models,
lowered to XNNPACK; make conformance-all every model, also with the portable operators alone.
"""

import pytest
from safetensors.torch import load_file

import cached
import vision
from harness import ALL, note, ours

MODELS, FLOWS = (vision.MODELS, vision.FLOWS) if ALL else (vision.MODELS[:2], vision.FLOWS[:2])

# Twelve layers of rounding between f32 attention: the stock runtime's own outputs move by 0.13 of the largest when the input does by a millionth.
TOLERANCE = {("vit_b_16", "xnnpack_int8"): 0.15}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("model", MODELS)
def test_vision(model, flow, tmp_path):
    folder = cached.vision(model, flow)
    want = load_file(folder / "stock.safetensors")["0"]
    got = ours(tmp_path, folder / "program.pte", None, "forward", [[load_file(folder / "inputs.safetensors")["0"]]])[0][0]
    assert got.shape == want.shape
    top, worst = want.abs().max().item(), (got - want).abs().max().item()
    note(f"{model}, {flow}", largest_output=top, largest_difference=worst, equal=f"{(got == want).float().mean().item():.1%}")
    assert top > 1e-3, "the network's outputs are all zero"
    assert worst <= TOLERANCE.get((model, flow), 0.02 if flow == "xnnpack_int8" else 1e-4) * top
    assert got.argmax() == want.argmax()
