"""What the checks share: our command, the stock ExecuTorch runtime, the files, and the table of what was measured."""

import json
import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("TABTUNE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tabtune")
ASSETS = Path(os.environ.get("TABTUNE_ASSETS") or CACHE / "assets")
MODEL = ASSETS / "SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA = ASSETS / "gemma-3-270m-q4_k_m.gguf"  # where "make fetch-gemma" was run
REVIEWS = ASSETS / "movieReviewSnippets_GroundTruth.txt"
TRAIN, VAL = ASSETS / "movie-reviews-train.csv", ASSETS / "movie-reviews-val.csv"

ALL = os.environ.get("TABTUNE_CONFORMANCE") == "all"  # else what is quick

measured = []  # lines for the end of the run


def note(what, **values):
    """Adds a line to the table printed at the end."""
    parts = [f"{k.replace('_', ' ')} {v:.2g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}" for k, v in values.items()]
    measured.append(f"{what}: " + ", ".join(parts))


def command(*args, stdin=None):
    """Runs a program and returns its standard output; a failure shows what it said."""
    p = subprocess.run([str(a) for a in args], cwd=ROOT, input=stdin, capture_output=True)
    if p.returncode:
        raise AssertionError(f"{' '.join(str(a) for a in args)[:400]}\nended with {p.returncode}:\n{p.stderr.decode(errors='replace')[-3000:]}")
    return p.stdout


def tabtune(*args, stdin=None):
    return command(os.environ.get("TABTUNE_BIN") or ROOT / "bin" / "tabtune", *args, stdin=stdin)


def result(out):
    """The object that --json prints last."""
    return json.loads(out.splitlines()[-1])


def ours(folder, pte, ptd, method, calls):
    """Calls a method of a program once for each list of inputs, in our engine; returns the lists of outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    args = []
    for i, call in enumerate(calls):
        name = folder / f"in{i}.safetensors"
        save_file({str(k): t.clone(memory_format=torch.contiguous_format) for k, t in enumerate(call)}, name)
        args += ["--inputs", name]
    tabtune("run", pte, *(["--data", ptd] if ptd else []), "--method", method, *args, "--outputs", folder / "out")
    outs = []
    for i in range(len(calls)):
        t = load_file(folder / "out" / f"{i}.safetensors")
        outs.append([t[str(k)] for k in range(len(t))])
    return outs


class Stock:
    """A program in the stock ExecuTorch runtime."""

    def __init__(self, pte, ptd=None):
        import executorch.kernels.quantized  # noqa: F401 registers the operators of quantised programs
        from executorch.runtime import Runtime

        self.program = Runtime.get().load_program(str(pte), **({"data_path": str(ptd)} if ptd else {}))
        self.methods = {}

    def __call__(self, method, *inputs):
        if method not in self.methods:
            self.methods[method] = self.program.load_method(method)
        return [t.clone() for t in self.methods[method].execute(list(inputs))]


def relative(got, want):
    """The largest difference, each relative to its own value."""
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, want {tuple(want.shape)}"
    assert torch.isfinite(got).all()
    return ((got - want).abs() / want.abs().clamp_min(1e-6)).max().item()


def scaled(got, want):
    """The largest difference relative to the largest value."""
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, want {tuple(want.shape)}"
    assert torch.isfinite(got).all()
    return ((got - want).abs().max() / want.abs().max()).item()


def central(losses, q, lr, eps):
    """P-RGE's coefficients from the nll of 2q replicas: lr/q (L+ - L-) / (2 eps)."""
    mean = losses.view(2 * q, -1).mean(1)
    return lr / q * (mean[:q] - mean[q:]) / (2 * eps)


def reviews():
    """(score, text) of the movie-review sentences, in the file's order."""
    out = []
    for line in REVIEWS.read_bytes().decode("latin-1").split("\n"):
        parts = line.rstrip("\r").split("\t", 2)
        if len(parts) == 3:
            out.append((float(parts[1]), parts[2]))
    return out
