"""Networks of torchvision, lowered to XNNPACK by the stock exporter, in our engine and in the stock runtime.

Weights are random. Exported programs are kept in the cache, by the versions of what makes them. make conformance takes the small models,
lowered to XNNPACK; make conformance-all every model, also with the portable operators alone.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

import vision
from harness import ALL, CACHE, command, note, ours

HERE = Path(__file__).parent
MODELS, FLOWS = (vision.MODELS, vision.FLOWS) if ALL else (vision.MODELS[:2], vision.FLOWS[:2])

# Twelve layers of rounding between f32 attention: the stock runtime's own outputs move by 0.13 of the largest when the input does by a millionth.
TOLERANCE = {("vit_b_16", "xnnpack_int8"): 0.15}


@pytest.fixture(scope="session")
def cache():
    """Where programs are kept, with torchvision beside them."""
    sources = [HERE / n for n in ("vision.py", "requirements.txt", "requirements-vision.txt")]
    folder = CACHE / "vision" / hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:16]
    packages = folder / "packages"
    if not (folder / "complete").exists():
        command(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--target", packages, "-r", sources[2])
        (folder / "complete").touch()
    return folder


def exported(cache, model, flow):
    """The folder of a program and what the stock runtime computes with it."""
    folder = cache / f"{model}.{flow}"
    if not (folder / "stock.safetensors").exists():
        p = subprocess.run([sys.executable, HERE / "vision.py", model, flow, folder], capture_output=True, env={**os.environ, "PYTHONPATH": str(cache / "packages")})
        assert p.returncode == 0, p.stderr.decode(errors="replace")[-2000:]
    return folder


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("model", MODELS)
def test_vision(model, flow, cache, tmp_path):
    folder = exported(cache, model, flow)
    want = load_file(folder / "stock.safetensors")["0"]
    got = ours(tmp_path, folder / "program.pte", None, "forward", [[load_file(folder / "inputs.safetensors")["0"]]])[0][0]
    assert got.shape == want.shape
    top, worst = want.abs().max().item(), (got - want).abs().max().item()
    note(f"{model}, {flow}", largest_output=top, largest_difference=worst, equal=f"{(got == want).float().mean().item():.1%}")
    assert top > 1e-3, "the network's outputs are all zero"
    assert worst <= TOLERANCE.get((model, flow), 0.02 if flow == "xnnpack_int8" else 1e-4) * top
    assert got.argmax() == want.argmax()
