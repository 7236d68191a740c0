"""A program with its weights in one file, as runtimes want it that take no .ptd, in the stock runtime and in ours."""

import pytest
import torch

from harness import Stock, command, note, ours, relative, scaled, tabtune


@pytest.mark.parametrize("dtype", ["f32", "int8"])
def test_single_file(dtype, work):
    folder = work / f"single-{dtype}"
    folder.mkdir()
    model, pte = folder / "tiny.gguf", folder / "program.pte"
    command("go", "run", "./internal/tinymodel/write", model)
    tabtune("build", "--model", model, "--dtype", dtype, "--layers", 2, "--queries", 2, "--batch", 2, "--rank", 4, "--out", pte, "--single")
    assert not (folder / "program.ptd").exists()
    stock = Stock(pte)
    ids = torch.arange(12).reshape(2, 6) * 7
    h = stock("prefix", ids)[0]
    seeds, none = torch.tensor([5, 6]), torch.zeros(2)
    call = [h.repeat(4, 1, 1), torch.arange(8) * 6 + 5, torch.arange(8), seeds, torch.tensor(1e-2), torch.zeros(2, dtype=torch.int64), none]
    nll = stock("forward", *call)[0]
    got = ours(folder / "calls", pte, None, "forward", [call])[0][0]
    prefix = ours(folder / "prefix", pte, None, "prefix", [[ids]])[0][0]
    note(f"single file, {dtype}, largest relative difference of a loss", engine_to_stock=relative(got, nll), prefix=scaled(prefix, h))
    assert relative(got, nll) < (1e-4 if dtype == "f32" else 5e-3)
    assert scaled(prefix, h) < (1e-5 if dtype == "f32" else 5e-3)
