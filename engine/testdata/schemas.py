"""Prints engine/schemas.txt: the schema of every operator that the installed ExecuTorch runtime registers.

Run with executorch 1.5.1 and torch 2.13.0 installed:  python engine/testdata/schemas.py > engine/schemas.txt
"""

import torch
import executorch.exir  # noqa: F401  registers the dialects' operators
import executorch.exir.dialects._ops  # noqa: F401
import executorch.exir.passes.executorch_prim_ops_registry  # noqa: F401
import executorch.kernels.quantized  # noqa: F401
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
from executorch.runtime import Runtime

HEADER = """\
# Operator schemas, one a line, as PyTorch prints them. Written by testdata/schemas.py from the operators that
# the stock ExecuTorch 1.5.1 runtime registers (portable, optimized, quantized, llm). Do not edit.
"""

# Registered by the runtime itself; PyTorch has no schema for them. Argument order as documented in prim_ops/.
RUNTIME_ONLY = """\
executorch_prim::et_copy_index.tensor(Tensor(a!) copy_to, Tensor copy_from, int index) -> ()
executorch_prim::et_view.default(Tensor self, int[] size, *, Tensor(a!) out) -> ()
executorch_prim::floordiv.int(int a, int b) -> int
executorch_prim::mod.int(int a, int b) -> int
"""

print(HEADER, end="")
for name in sorted(Runtime.get().operator_registry.operator_names):
    namespace, rest = name.split("::")
    packet, _, overload = rest.partition(".")
    try:
        op = getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")
    except AttributeError:
        continue
    print(op._schema)
print(RUNTIME_ONLY, end="")
