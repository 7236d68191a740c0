"""Writes api_*.pte, small programs for the tests of the JavaScript API, with the stock exporter (executorch 1.5.1).

    python engine/testdata/api.py
"""

import pathlib

import torch
from executorch.exir import ExecutorchBackendConfig, to_edge
from torch import nn
from torch.export import Dim, export

HERE = pathlib.Path(__file__).parent


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class AddMul(nn.Module):
    def forward(self, a, x, b):
        return torch.mm(a, x) + b


class Pick(nn.Module):
    def forward(self, x, n):
        return x[n]


class AddNumber(nn.Module):
    def forward(self, x, n):
        return x, n, x + n


class Numbers(nn.Module):
    def forward(self, x, a, b, c):
        return x * a, a, b, c, None


class Count(nn.Module):
    """A mutable buffer: how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x + self.calls


class Copy(nn.Module):
    def forward(self, x):
        return x.clone()


def write(name, methods):
    with open(HERE / f"api_{name}.pte", "wb") as f:
        to_edge(methods).to_executorch(ExecutorchBackendConfig(emit_mutable_buffer_names=True)).write_to_file(f)


def main():
    torch.manual_seed(0)
    square = torch.ones(2, 2)
    write("add", {"forward": export(Add(), (torch.ones(1), torch.ones(1)))})
    write("add_mul", {"forward": export(AddMul(), tuple(torch.ones(2, 2) for _ in range(3)))})  # one tensor thrice would be one input
    write("values", {
        "forward": export(Pick(), (torch.randn(3), 1)),
        "add_all": export(AddNumber(), (square, 2)),
        "numbers": export(Numbers(), (square, 0.5, 3, True)),
        "count": export(Count(), (torch.zeros(1),)),
    })
    types = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64, torch.bool, torch.bfloat16]
    copies = {str(t).split(".")[1]: export(Copy(), (torch.zeros(2, 3).to(t),)) for t in types}
    copies["dynamic"] = export(Copy(), (torch.zeros(2, 3),), dynamic_shapes=({0: Dim("n", min=0, max=8)},))
    copies["scalar"] = export(Copy(), (torch.zeros(()),))
    image = torch.zeros(1, 2, 2, 3).to(memory_format=torch.channels_last)
    copies["channels_last"] = export(Copy(), (image,))
    write("types", copies)


if __name__ == "__main__":
    main()
