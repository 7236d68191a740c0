"""Exports the cases of ExecuTorch's backend test suite (executorch/backends/test/suite/operators) for some lowering flows.

    python suite.py FOLDER SHARD SHARDS PART PARTS FLOW...

Writes to FOLDER/FLOW: TEST.json, the names of a test's cases, and a folder a case: program.pte, inputs.safetensors, want.safetensors (the suite's reference: the exported program in PyTorch) and
case.json. That says how the stock runtime fared with the program: its largest difference from the reference, or its error.
A test that is there already is left alone. Only every PARTS-th test is exported, beginning with PART.
"""

import gc
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
    from executorch.backends.test.suite.flows import portable, xnnpack

    return {f.name: f for f in [portable.PORTABLE_TEST_FLOW, xnnpack.XNNPACK_TEST_FLOW, xnnpack.XNNPACK_DYNAMIC_INT8_PER_CHANNEL_TEST_FLOW,
                                xnnpack.XNNPACK_STATIC_INT8_PER_CHANNEL_TEST_FLOW, xnnpack.XNNPACK_STATIC_INT8_PER_TENSOR_TEST_FLOW]}


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


def plain(model, inputs, **_):
    """The suite's stages trace with dynamo first, which takes most of the time and gives the same graph here."""
    return torch.export.export(model, inputs, strict=False)


def lower(flow, model, inputs):
    """(exported program, buffer of the .pte)."""
    from executorch.backends.test.harness.stages import Export

    class Plain(Export):
        def run(self, artifact, inputs):
            self.exported_program = plain(artifact, inputs)

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
            model(*inputs)
        except Exception as e:  # the suite skips it
            case["export"] = f"the model itself fails: {type(e).__name__}: {str(e).splitlines()[0]}"[:300]
            return case
        try:
            exported, buffer = lower(flow, model, inputs)
        except Exception as e:
            case["export"] = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300]
            return case
        want = tensors(exported.module()(*inputs))
    case["delegated"] = b"XnnpackBackend" in buffer
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


def hasten():
    """Exporting a small program is mostly making tables anew that are always the same; this makes them once."""
    import executorch.backends.test.harness.stages.quantize as quantize
    import executorch.kernels.quantized  # noqa: F401 registers the operators of quantised programs
    import torch.export.decomp_utils
    import torch.export.exported_program
    from executorch.exir.program import _program

    table = dict(_program._default_decomposition_table().materialize())
    _program._default_decomposition_table = lambda: dict(table)
    operators = torch._export.utils._collect_all_valid_cia_ops()
    for module in torch._export.utils, torch.export.decomp_utils, torch.export.exported_program:
        module._collect_all_valid_cia_ops = lambda: operators
    slow = torch._ops.OpOverload.py_impl

    def py_impl(self, key):
        """What the original does with a dispatch key, without the annotations that it evaluates for each of some 12000 calls a program."""
        if not isinstance(key, torch._C.DispatchKey):
            return slow(self, key)

        def register(kernel):
            self.py_kernels[key] = kernel
            self._dispatch_cache.clear()
            return kernel

        return register

    torch._ops.OpOverload.py_impl = py_impl
    quantize.export = plain
    torch.set_num_threads(1)
    gc.disable()


def main(folder, shard, shards, part, parts, names):
    hasten()
    for k, (test, function) in enumerate(tests()):
        if k % parts == part and k // parts % shards == shard:
            for flow in names:
                write(flows()[flow], test, function, Path(folder) / flow)
            if k // parts // shards % 10 == 0:
                gc.collect()
                gc.freeze()


def write(flow, name, test, folder):
    """Writes the cases of a test, then the list of them."""
    index = folder / f"{name}.json"
    if index.exists():
        return
    names = []
    for i, (model, inputs) in enumerate(collect(flow, name, test)):
        to = folder / f"{name}.{i}"
        to.mkdir(parents=True, exist_ok=True)
        (to / "case.json").write_text(json.dumps(export(flow, to.name, model, inputs, to)))
        names.append(to.name)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.new"
    partial.write_text(json.dumps(names))
    os.replace(partial, index)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]), sys.argv[6:])
