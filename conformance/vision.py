"""Exports a torchvision model with random weights for one flow and records what the stock runtime computes.

    python vision.py MODEL FLOW FOLDER

FLOW is xnnpack_f32, xnnpack_int8 or portable. Writes program.pte, inputs.safetensors and stock.safetensors, the last when all is done.
"""

import os
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer
from safetensors.torch import save_file
from torch.export import export
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

MODELS = ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "vit_b_16"]
FLOWS = ["xnnpack_f32", "xnnpack_int8", "portable"]


def spread(model):
    """Gives batch normalisation the statistics of its inputs, without which random networks die out layer by layer, and weights to heads of zeros."""
    for m in model.modules():
        if isinstance(m, torch.nn.Linear) and not m.weight.any():
            torch.nn.init.normal_(m.weight, std=0.02)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = None
    model.train()
    with torch.no_grad():
        model(torch.randn(4, 3, 224, 224))
    return model.eval()


def main(name, flow, folder):
    import torchvision

    torch.manual_seed(0)
    model, x = spread(getattr(torchvision.models, name)(weights=None)), torch.randn(1, 3, 224, 224)
    if flow == "xnnpack_int8":
        prepared = prepare_pt2e(export(model, (x,), strict=False).module(), XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True)))
        prepared(x)
        model = convert_pt2e(prepared)
    partitioner = [] if flow == "portable" else [XnnpackPartitioner()]
    program = to_edge_transform_and_lower(export(model, (x,), strict=False), partitioner=partitioner).to_executorch()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.pte").write_bytes(program.buffer)
    save_file({"0": x}, folder / "inputs.safetensors")
    outputs = _load_for_executorch_from_buffer(program.buffer).run_method("forward", (x,))
    save_file({"0": outputs[0].contiguous()}, folder / "stock.new")
    os.replace(folder / "stock.new", folder / "stock.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
