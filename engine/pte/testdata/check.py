#!/usr/bin/env python3
"""Checks copies of this folder's programs on the stock ExecuTorch runtime.

usage: check.py FIXTURES COPIES

COPIES holds what Encode and EncodeData made of every file of FIXTURES. Each
pair must give the same bits for the same inputs, over two calls (buffers keep
their value), with the runtime's full verification of the flatbuffer. Programs
with external data are run with both data files. TestStockRuntime runs this.
"""

import math
import sys
from pathlib import Path

import torch
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.extension.flat_tensor.serialize.serialize import FlatTensorSerializer
from executorch.exir._serialize._cord import Cord
from executorch.extension.pybindings.portable_lib import Verification
from executorch.runtime import Runtime

DTYPES = {4: torch.int64, 6: torch.float32, 11: torch.bool}
TENSOR_TAG = 1


def inputs(meta, call):
    out = []
    for i in range(meta.num_inputs()):
        info = meta.input_tensor_meta(i)
        sizes, dtype = tuple(info.sizes()), DTYPES[info.dtype()]
        values = torch.arange(math.prod(sizes)).reshape(sizes)
        if dtype == torch.float32:
            values = (values + 1) * 0.25 - call
        elif dtype == torch.bool:
            values = values % 2 == call
        out.append(values.to(dtype))
    return out


def run(pte, ptd=None):
    program = Runtime.get().load_program(
        pte, verification=Verification.InternalConsistency, data_path=ptd
    )
    out = {}
    for name in sorted(program.method_names):
        method = program.load_method(name)
        out[name] = [
            [x.clone() if isinstance(x, torch.Tensor) else x for x in method.execute(inputs(method.metadata, call))]
            for call in (0, 1)
        ]
    return out


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def main():
    fixtures, copies = Path(sys.argv[1]), Path(sys.argv[2])
    checked = 0
    for original in sorted(fixtures.glob("*.pte")):
        copy = copies / original.name
        ours = deserialize_pte_binary(copy.read_bytes())
        stock = deserialize_pte_binary(original.read_bytes())
        for file in (ours, stock):
            # What Encode leaves out: stack traces, requires_grad, empty lists for none.
            file.program.named_data = file.program.named_data or None
            file.program.mutable_data_segments = file.program.mutable_data_segments or None
            if file.program.constant_segment and not file.program.constant_segment.offsets:
                file.program.constant_segment = None
            for plan in file.program.execution_plan:
                for chain in plan.chains:
                    chain.stacktrace = None
                for value in plan.values:
                    if hasattr(value.val, "requires_grad"):
                        value.val.requires_grad = False
        if ours != stock:
            sys.exit(f"{original.name}: the exporter's reader sees another program:\n{ours}\nnot\n{stock}")
        if original.name == "inline.pte":
            print("inline.pte: only read, this runtime is built without constant_buffer")
            continue
        data = original.with_suffix(".ptd")
        if data.exists():
            ser = FlatTensorSerializer()
            a = ser.deserialize(Cord(data.read_bytes()))
            b = ser.deserialize(Cord((copies / data.name).read_bytes()))
            if a != b:
                sys.exit(f"{data.name}: the exporter's reader sees other data:\n{a}\n{b}")
            want = run(original, data)
            runs = [(copy, data), (original, copies / data.name), (copy, copies / data.name)]
        else:
            want = run(original)
            runs = [(copy, None)]
        for pte, ptd in runs:
            got = run(pte, ptd)
            if not same(want, got):
                sys.exit(f"{pte} {ptd}: outputs differ:\n{got}\n{want}")
            checked += 1
        print(original.name, {k: v[1] for k, v in want.items()})
    print(f"{checked} runs equal")


if __name__ == "__main__":
    main()
