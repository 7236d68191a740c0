"""What the scripts that make fixtures share: a program is exported by the stock exporter, run by the stock runtime, and both are written.

NAME.json lists calls: method, inputs, outputs (dtype, sizes, base64 of the bytes).
"""

import base64
import json
import sys
import warnings

warnings.filterwarnings("ignore")

import executorch.kernels.quantized  # noqa: F401
import torch
from executorch.exir import ExecutorchBackendConfig, to_edge
from executorch.exir.program import _program
from executorch.runtime import Runtime
from torch.export import export

NAMES = {
    torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16", torch.int64: "i64",
    torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "bool",
    torch.uint16: "u16", torch.uint32: "u32", torch.complex64: "c64", torch.complex128: "c128",
}
# to_edge makes its table of decompositions anew for every method, which takes most of the time.
_table = dict(_program._default_decomposition_table().materialize())
_program._default_decomposition_table = lambda: dict(_table)

# Where the stock runtime differs from PyTorch, PyTorch's results are recorded: integer remainder there is C's %.
EAGER = {("ops", "rem")}
OUT = sys.argv[1] if len(sys.argv) > 1 else "."
ONLY = sys.argv[2:]


def pack(t):
    if not isinstance(t, torch.Tensor):
        return {"scalar": t}
    t = t.detach().contiguous()
    raw = t.view(torch.uint8) if t.dim() else t.reshape(1).view(torch.uint8)
    return {"dtype": NAMES[t.dtype], "sizes": list(t.shape), "data": base64.b64encode(bytes(raw.reshape(-1).tolist())).decode()}


def write(name, methods, calls, config=None, edge=None, exported=None):
    """methods: name -> (module, example inputs, dynamic shapes or None); calls: (method, inputs); edge: an EdgeCompileConfig;
    exported: the methods' exported programs where they are there already.

    A module with the attribute `shapes` is random: only the shapes and types of what it returns are compared. For one with the attribute
    `eager` PyTorch's results are recorded. The outputs in `skip` hold nothing in particular.
    """
    if ONLY and name not in ONLY:
        return
    eps = {}
    for m, (module, args, dyn) in methods.items():
        eps[m] = exported[m] if exported else export(module.eval(), args, dynamic_shapes=dyn, strict=False)
        if edge is None:
            eps[m] = eps[m].run_decompositions()
    program = to_edge(eps, compile_config=edge).to_executorch(config or ExecutorchBackendConfig())
    path = f"{OUT}/{name}.pte"
    with open(path, "wb") as f:
        f.write(program.buffer)
    loaded = Runtime.get().load_program(path)
    ready = {}
    records = []
    for m, args in calls:
        if m not in ready:
            ready[m] = loaded.load_method(m)
        try:
            outs = ready[m].execute(list(args))
        except RuntimeError as e:  # the stock runtime rejects what its exporter accepts
            print("not run", name, m, e)
            continue
        if (name, m) in EAGER or getattr(methods[m][0], "eager", False):
            outs = methods[m][0](*args)
            outs = outs if isinstance(outs, (tuple, list)) else [outs]
        record = {"method": m, "inputs": [pack(a) for a in args], "outputs": [pack(o) for o in outs]}
        if getattr(methods[m][0], "shapes", False):
            record["shapes"] = True
        if getattr(methods[m][0], "skip", ()):
            record["skip"] = list(methods[m][0].skip)
        records.append(record)
    with open(f"{OUT}/{name}.json", "w") as f:
        json.dump(records, f, separators=(",", ":"))
        f.write("\n")
    print(name, len(program.buffer), len(records))
