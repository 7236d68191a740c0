import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "engine" / "export")]

import harness  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(2)
torch.set_grad_enabled(False)


@pytest.fixture(scope="session")
def work():
    """A folder for the whole run; programs with f32 weights are large, so it goes away at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tabtune-conformance-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny(work):
    """The small programs of mkprogram."""
    harness.command("go", "run", "./conformance/mkprogram", "-out", work / "tiny")
    return work / "tiny"


@pytest.fixture(scope="session")
def smol(work):
    """smol(dtype) is (pte, ptd) of SmolLM2-135M: q and v of the top 4 layers, rank 16, q 2, b 2."""
    built = {}

    def build(dtype):
        if dtype not in built:
            pte = work / f"smol-{dtype}.pte"
            harness.tabtune("build", "--model", harness.MODEL, "--layers", 4, "--modules", "q,v", "--rank", 16, "--alpha", 32, "--queries", 2,
                            "--batch", 2, "--seed", 3, "--window", 64, "--dtype", dtype, "--out", pte)
            built[dtype] = pte, pte.with_suffix(".ptd")
        return built[dtype]

    return build


@pytest.fixture(scope="session")
def hf():
    """SmolLM2 in Hugging Face transformers, f32, from the same GGUF."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(harness.MODEL.parent, gguf_file=harness.MODEL.name, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def tokenizer():
    """SmolLM2's tokenizer in Hugging Face tokenizers, from the GGUF's vocabulary and merges and the model's published pre-tokenizer."""
    import tokenization

    return tokenization.load(harness.MODEL)


started = time.time()


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_sep("-", "measured")
    for line in harness.measured:
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"{time.time() - started:.0f} s")
