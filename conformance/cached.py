"""Programs of vision.py and llm.py, kept in the cache by what makes them.

    python cached.py vision MODEL FLOW
    python cached.py llm FLOW ATTENTION LAYERS

prints the folder of a program, which is exported first where it is not there.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from harness import CACHE, MODEL

HERE = Path(__file__).parent


def place(name, sources):
    """The folder of all programs that these sources make."""
    return CACHE / name / hashlib.sha256(b"".join((HERE / s).read_bytes() for s in sources)).hexdigest()[:16]


def run(env, *args):
    p = subprocess.run([sys.executable, *map(str, args)], cwd=HERE, env={**os.environ, **env}, capture_output=True)
    assert p.returncode == 0, p.stderr.decode(errors="replace")[-2000:]


def vision(model, flow):
    """The folder of a network of torchvision, which is installed beside the programs."""
    requirements = "requirements-vision.txt"
    root = place("vision", ["vision.py", "requirements.txt", requirements])
    packages, folder = root / "packages", root / f"{model}.{flow}"
    if not (root / "complete").exists():
        run({}, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--target", packages, "-r", requirements)
        (root / "complete").touch()
    if not (folder / "stock.safetensors").exists():
        run({"PYTHONPATH": str(packages)}, "vision.py", model, flow, folder)
    return folder


def llm(flow, attention, layers):
    """The folder of layers of SmolLM2-135M."""
    folder = place("llm", ["llm.py", "requirements.txt"]) / f"{flow}.{attention}.{layers}"
    if not (folder / "stock.safetensors").exists():
        run({}, "llm.py", MODEL, flow, attention, layers, folder)
    return folder


if __name__ == "__main__":
    print({"vision": vision, "llm": llm}[sys.argv[1]](*sys.argv[2:]))
