"""Writes golden.safetensors with the `safetensors` Python package: one small
tensor of every dtype that torch can make, and metadata.

    python make_golden.py            # needs torch and safetensors
    python make_golden.py FILE       # prints the tensors of a file, to check what we write
"""

import os
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def main():
    x = torch.tensor([[0.0, -1.5, 3.25], [1e-3, 65504.0, -0.1]])
    i = torch.tensor([[0, 1, 2], [3, 100, 127]])
    ts = {
        "f64": x.double(), "f32": x, "f16": x.half(), "bf16": x.bfloat16(),
        "i64": -i, "i32": (-i).int(), "i16": (-i).short(), "i8": (-i).to(torch.int8),
        "u8": i.to(torch.uint8), "bool": i > 1, "scalar": torch.tensor(7.0), "empty": torch.zeros(0, 3),
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.safetensors")
    save_file(ts, path, metadata={"format": "pt"})


def show(path):
    with safe_open(path, "pt") as f:
        print(f.metadata())
        for k in f.keys():
            t = f.get_tensor(k)
            print(k, t.dtype, tuple(t.shape), t.flatten().tolist()[:6])


if __name__ == "__main__":
    show(sys.argv[1]) if len(sys.argv) > 1 else main()
