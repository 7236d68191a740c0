"""Exports the cases of ExecuTorch's backend test suite (executorch/backends/test/suite/operators) for one lowering flow.

    python suite.py FLOW FOLDER SHARD SHARDS [PART PARTS]

Writes TEST.json, the names of a test's cases, and a folder a case: program.pte, inputs.safetensors, want.safetensors (the suite's reference: the exported program in PyTorch) and
case.json. That says how the stock runtime fared with the program: its largest difference from the reference, or its error.
A test that is there already is left alone. With PART and PARTS only every PARTS-th test is exported.
"""

import hashlib
import importlib
import json
import os
import pkgutil
import sys
import unittest
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import torch
from torch.utils._pytree import tree_flatten

ATOL, RTOL = 1e-1, 4e-2  # what the suite's runner compares with


class Runner:
    """Stands in for the suite's test runner and keeps what it is given: a model and its inputs for each case of a test."""

    def __init__(self, flow):
        self._flow, self.cases = flow, []

    def lower_and_run_model(self, model, inputs, **_):
        self.cases.append((model, inputs))


def tests():
    """(name, function of a runner) of every test, in a fixed order."""
    import executorch.backends.test.suite.operators as suite

    for info in sorted(pkgutil.iter_modules(suite.__path__), key=lambda i: i.name):
        if not info.name.startswith("test_"):
            continue
        module = importlib.import_module(f"{suite.__name__}.{info.name}")
        for name in sorted(vars(module)):
            test = getattr(module, name)
            if not name.startswith("test_") or not callable(test):
                continue
            marks = [m for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
            if not marks:
                yield f"{info.name[5:]}.{name[5:]}", test
            for mark in marks:
                for value in mark.args[1]:
                    yield f"{info.name[5:]}.{name[5:]}", lambda runner, test=test, value=value: test(runner, value)


def flows():
    """Lowering flows by name."""
    from executorch.backends.test.suite.flows.portable import PORTABLE_TEST_FLOW

    return {f.name: f for f in [PORTABLE_TEST_FLOW]}


def tensors(values):
    """Tensors by position, as the command line takes and gives them; numbers become tensors of one element."""
    flat, _ = tree_flatten(values)
    return {str(k): torch.as_tensor(v).detach().clone(memory_format=torch.contiguous_format) for k, v in enumerate(flat)}


def difference(got, want):
    """The largest excess of |got - want| over the suite's tolerance, relative to it; more than 1 fails. A string says what does not fit."""
    if len(got) != len(want):
        return f"{len(got)} outputs, want {len(want)}"
    worst = 0.0
    for k in range(len(want)):
        a, b = got[str(k)], want[str(k)]
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"output {k} is {a.dtype}{list(a.shape)}, want {b.dtype}{list(b.shape)}"
        if a.dtype == torch.bool:
            worst = max(worst, 0.0 if torch.equal(a, b) else 9.0)
            continue
        a, b = a.double(), b.double()
        same = (a == b) | (a.isnan() & b.isnan())
        excess = torch.where(same, 0.0, (a - b).abs() / (ATOL + RTOL * b.abs()))
        excess[excess.isnan()] = 9.0
        worst = max([worst] + ([excess.max().item()] if excess.numel() else []))
    return worst


def stock(buffer, inputs):
    """The stock runtime's outputs, or its error as a string."""
    from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

    try:
        flat, _ = tree_flatten(inputs)
        return tensors(_load_for_executorch_from_buffer(buffer).run_method("forward", tuple(flat)))
    except Exception as e:
        return str(e).splitlines()[0]


def lower(flow, model, inputs):
    """(exported program, buffer of the .pte)."""
    from executorch.backends.test.harness.stages import Export

    class Plain(Export):
        """The suite's stage traces with dynamo first, which takes most of the time and gives the same graph here."""

        def run(self, artifact, inputs):
            self.exported_program = torch.export.export(artifact, inputs, strict=False)

    tester = flow.tester_factory(model, inputs)
    if flow.quantize:
        tester.quantize(flow.quantize_stage_factory() if flow.quantize_stage_factory else None)
    tester.export(Plain())
    exported = tester.get_artifact()
    tester.to_edge_transform_and_lower()
    tester.to_executorch()
    tester.serialize()
    return exported, tester.get_artifact()


def collect(flow, name, test):
    """The cases of a test, (model, inputs) each. Their numbers depend on the test's name alone."""
    torch.manual_seed(int.from_bytes(hashlib.md5(name.encode()).digest()[:4], "little"))
    runner = Runner(flow)
    try:
        test(runner)
    except unittest.SkipTest:
        return []
    return runner.cases


def export(flow, name, model, inputs, folder):
    """Writes one case."""
    from safetensors.torch import save_file

    case = {"name": name}
    model = model.eval()
    with torch.no_grad():
        try:
            exported, buffer = lower(flow, model, inputs)
        except Exception as e:
            case["export"] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300]
            return case
        want = tensors(exported.module()(*inputs))
    (folder / "program.pte").write_bytes(buffer)
    save_file(tensors(inputs), folder / "inputs.safetensors")
    save_file(want, folder / "want.safetensors")
    got = stock(buffer, inputs)
    if isinstance(got, str):
        case["stock_error"] = got
    else:
        case["stock"] = difference(got, want)
        save_file(got, folder / "stock.safetensors")
    return case


def main(flow, folder, shard, shards, part=0, parts=1):
    from executorch.exir.program import _program

    # Made anew for every program otherwise.
    table = dict(_program._default_decomposition_table().materialize())
    _program._default_decomposition_table = lambda: dict(table)
    torch.set_num_threads(1)
    flow = flows()[flow]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for k, (name, test) in enumerate(tests()):
        if k % parts != part or k // parts % shards != shard:
            continue
        index = Path(folder) / f"{name}.json"
        if index.exists():
            continue
        names = []
        for i, (model, inputs) in enumerate(collect(flow, name, test)):
            to = Path(folder) / f"{name}.{i}"
            to.mkdir(parents=True, exist_ok=True)
            (to / "case.json").write_text(json.dumps(export(flow, to.name, model, inputs, to)))
            names.append(to.name)
        partial = Path(folder) / f"{name}.new"
        partial.write_text(json.dumps(names))
        os.replace(partial, index)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
