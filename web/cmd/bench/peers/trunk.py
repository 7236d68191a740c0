"""The layers of a Llama, without head, as the peers take it: trunk.py GGUF FOLDER writes:

trunk-f32.onnx, trunk-int8.onnx  for onnxruntime-web; int8 is onnxruntime's own dynamic quantisation, one scale an output channel
trunk-xnnpack.pte, trunk-portable.pte  for ExecuTorch, f32
All take ids i64[8, 64] and give the last layer's output, normed, f32[8, 64, dim].
"""

import sys
import tempfile
from pathlib import Path

import torch

ROWS, TOKENS = 8, 64


def trunk(gguf):
    """The model of a GGUF file in eager PyTorch, f32."""
    from transformers import AutoModelForCausalLM

    gguf = Path(gguf)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).model.eval()
    model.config.use_cache = False
    model.config._attn_implementation = "sdpa"
    return Trunk(model)


class Trunk(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        hidden = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)
        self.register_buffer("mask", hidden.expand(ROWS, 1, TOKENS, TOKENS).contiguous())
        self.register_buffer("positions", torch.arange(TOKENS)[None])

    def forward(self, ids):
        return self.model(input_ids=ids, attention_mask=self.mask, position_ids=self.positions, use_cache=False).last_hidden_state


def ids():
    i = torch.arange(ROWS * TOKENS)
    return (i * 7919 % 49152).view(ROWS, TOKENS)


def write_onnx(model, folder):
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    full, int8 = folder / "trunk-f32.onnx", folder / "trunk-int8.onnx"
    program = torch.onnx.export(model, (ids(),), dynamo=True, input_names=["ids"], output_names=["h"], opset_version=18)
    program.save(str(full), external_data=False)
    with tempfile.TemporaryDirectory() as tmp:
        inferred = Path(tmp) / "inferred.onnx"
        onnx.shape_inference.infer_shapes_path(str(full), str(inferred))
        quantize_dynamic(inferred, int8, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"], extra_options={"MatMulConstBOnly": True})


def write_pte(model, folder):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(model, (ids(),))
    for name, partitioner in [("portable", []), ("xnnpack", [XnnpackPartitioner()])]:
        program = to_edge_transform_and_lower(exported, partitioner=partitioner).to_executorch()
        with open(folder / f"trunk-{name}.pte", "wb") as f:
            program.write_to_file(f)


if __name__ == "__main__":
    gguf, folder = sys.argv[1], Path(sys.argv[2])
    with torch.no_grad():
        model = trunk(gguf)
        write_onnx(model, folder)
        write_pte(model, folder)
