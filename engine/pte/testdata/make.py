#!/usr/bin/env python3
"""Makes the .pte and .ptd files of this folder with the stock exporter.

Needs executorch==1.5.1 and torch==2.13.0. Run it in this folder; pass a folder
as the first argument to write elsewhere. The files are checked in: run it again
only to add a program or to move to another exporter.
"""

import copy
import sys
from pathlib import Path

import torch
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    to_edge,
    to_edge_transform_and_lower,
)
from executorch.exir._serialize._flatbuffer_program import _program_to_flatbuffer
from executorch.exir._serialize._program import deserialize_pte_binary
from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass
from torch.export import Dim, export

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else ".")


class Add(torch.nn.Module):
    def forward(self, x, y):
        return x + y


class Linear(torch.nn.Module):
    """Two constants, and an operator with integer-list arguments."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc = torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(x).permute(1, 0) * 2.0


class Counter(torch.nn.Module):
    """A mutable buffer with an initial value."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.tensor([10.0, 20.0, 30.0]))

    def forward(self, x):
        self.total.add_(x)
        return self.total * 1.0


class Branch(torch.nn.Module):
    def forward(self, x, flag):
        return torch.cond(flag, lambda a: a + 1.0, lambda a: a * 2.0, (x,))


class Dynamic(torch.nn.Module):
    """A bounded dynamic size that the program computes with."""

    def forward(self, x):
        return torch.cat([x.reshape(x.shape[0] * 2, 3), x.new_ones(1, 3)])


class Lists(torch.nn.Module):
    """Tensor lists, optional tensor lists, double lists and no values."""

    def forward(self, x, i):
        a, b = torch.split(x, [1, 3], dim=0)
        up = torch.nn.functional.interpolate(
            x[None, None], scale_factor=[2.0, 2.0], mode="nearest"
        )
        return torch.cat([b, a])[:, i], up, torch.stack([x, x])


class Two(torch.nn.Module):
    """Two methods in one program."""

    def forward(self, x):
        return torch.sin(x)

    def scaled(self, x):
        return torch.sin(x) * 3.0


def save(name, program):
    data = program.buffer
    (OUT / f"{name}.pte").write_bytes(data)
    print(name, len(data), flush=True)
    return data


def plain(module, inputs, dynamic=None):
    return to_edge(
        export(module, inputs, dynamic_shapes=dynamic),
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )


def main():
    save("add", plain(Add(), (torch.ones(2, 3), torch.ones(3))).to_executorch())
    linear = save("linear", plain(Linear(), (torch.ones(2, 5),)).to_executorch())
    # Without the pass the exporter leaves a buffer's initial value out.
    save(
        "mutable",
        plain(Counter(), (torch.ones(3),)).to_executorch(
            ExecutorchBackendConfig(passes=[InitializedMutableBufferPass(["total"])])
        ),
    )
    save("cond", plain(Branch(), (torch.ones(4), torch.tensor(True))).to_executorch())
    save(
        "dynamic",
        plain(Dynamic(), (torch.ones(4, 6),), {"x": {0: Dim("n", min=1, max=8)}}).to_executorch(),
    )
    save("lists", plain(Lists(), (torch.ones(4, 4), torch.tensor([0, 2]))).to_executorch())
    two = Two()
    programs = {"forward": export(two, (torch.ones(3),))}
    two.forward = two.scaled
    programs["scaled"] = export(two, (torch.ones(3),))
    save("methods", to_edge(programs, constant_methods={"rank": 16, "alpha": 0.5, "name": "two"}).to_executorch())

    external = plain(Linear(), (torch.ones(2, 5),)).to_executorch(
        ExecutorchBackendConfig(external_constants=True)
    )
    save("external", external)
    external.write_tensor_data_to_file(str(OUT))
    for path in OUT.glob("_default_external_constant*.ptd"):
        path.rename(OUT / "external.ptd")

    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    save(
        "xnnpack",
        to_edge_transform_and_lower(
            export(Linear(), (torch.ones(2, 5),)), partitioner=[XnnpackPartitioner()]
        ).to_executorch(),
    )

    # The form of files before segments: constants inside the flatbuffer, no
    # extended header.
    old = copy.deepcopy(deserialize_pte_binary(bytes(linear)).program)
    data = bytes(_program_to_flatbuffer(old, constant_tensor_alignment=16).data)
    (OUT / "inline.pte").write_bytes(data)
    print("inline", len(data))


if __name__ == "__main__":
    main()
