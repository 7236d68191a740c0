"""Exports SmolLM2-135M as ExecuTorch's own Llama exporter does, with a key and value cache in the program, and records what the stock runtime generates.

    python llm.py MODEL.gguf FLOW ATTENTION LAYERS FOLDER

The first LAYERS of 30 layers are taken. FLOW is f32 or 8da4w (4-bit weights in groups of 32, activations quantised to int8 at run time, a 4-bit
embedding). ATTENTION is custom_sdpa, for which the exporter's own transformation writes llama::update_cache and llama::custom_sdpa, or
sdpa_with_kv_cache, which is both in one operator. The layers and the order of passes are those of executorch/examples/models/llama. Writes
program.pte and stock.safetensors:

    prompt, tokens, logits   TOKENS greedy tokens, and the logits that each is the largest of
    moved                    8da4w only: for each of SEEDS, how far the stock runtime's own logits move, by the largest logit, when the scales of
                             the embedding are changed in their last bit
    kept                     how many of the tokens it chooses all the same
"""

import os
import sys
import types
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
sys.modules["pytorch_tokenizers"] = types.SimpleNamespace(get_tokenizer=None)  # imported on the way to what follows, never called

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackDynamicallyQuantizedPartitioner, XnnpackPartitioner
from executorch.examples.models.llama.llama_transformer import construct_transformer
from executorch.examples.models.llama.model_args import ModelArgs
from executorch.examples.models.llama.source_transformation.custom_kv_cache import replace_kv_cache_with_custom_kv_cache
from executorch.examples.models.llama.source_transformation.quantize import get_quant_embedding_transform, get_quant_weight_transform
from executorch.examples.models.llama.source_transformation.sdpa import replace_sdpa_with_custom_op
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from safetensors.torch import save_file
from torch.export import Dim, export

FLOWS = ["f32", "8da4w"]
ATTENTIONS = ["custom_sdpa", "sdpa_with_kv_cache"]
CONTEXT, TOKENS, SEEDS = 128, 64, 5
PROMPT = "The best thing about the sea is"
NAMES = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj",
         "attention.wv": "self_attn.v_proj", "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
         "feed_forward.w3": "mlp.up_proj"}


def transformer(gguf, layers):
    """ExecuTorch's Llama with the weights of a GGUF file, of the first layers."""
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    c, w = hf.config, hf.state_dict()
    model = construct_transformer(ModelArgs(
        dim=c.hidden_size, hidden_dim=c.intermediate_size, n_layers=layers, n_heads=c.num_attention_heads, n_kv_heads=c.num_key_value_heads,
        vocab_size=c.vocab_size, norm_eps=c.rms_norm_eps, rope_theta=c.rope_parameters["rope_theta"], use_hf_rope=True, max_seq_len=CONTEXT, max_context_len=CONTEXT,
        use_kv_cache=True, use_sdpa_with_kv_cache_op=True, enable_dynamic_shape=True))
    state = {"tok_embeddings.weight": w["model.embed_tokens.weight"], "output.weight": w["model.embed_tokens.weight"].clone(), "norm.weight": w["model.norm.weight"]}
    for i in range(layers):
        state |= {f"layers.{i}.{ours}.weight": w[f"model.layers.{i}.{theirs}.weight"] for ours, theirs in NAMES.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and not [m for m in missing if m.endswith("weight")], (missing, unexpected)
    return model.eval()


class Rows(torch.nn.Module):
    """Stands in for a layer's cache and gives the new rows on; Attention puts them into the cache."""

    def update(self, input_pos, k, v):
        return k, v


class Attention(torch.nn.Module):
    """A layer's attention as one operator, which updates the cache too."""

    def __init__(self, cache, dim):
        super().__init__()
        self.cache, self.dim = cache, dim

    def forward(self, input_pos, q, k, v, bsz, seqlen, mask):
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = torch.ops.llama.sdpa_with_kv_cache(q, k, v, self.cache.k_cache, self.cache.v_cache, input_pos[0].item(), seqlen, None, 0, True)
        return out.view(bsz, seqlen, self.dim)


def fuse(model):
    """Gives layers with the custom cache sdpa_with_kv_cache."""
    for layer in model.layers:
        a = layer.attention
        a.kv_cache, a.SDPA = Rows(), Attention(a.kv_cache, a.SDPA.dim)
    return model


def lower(model, flow, attention):
    """The .pte's bytes, and those of the scales of a 4-bit embedding in them."""
    scales = None
    if flow == "8da4w":
        model = get_quant_weight_transform("8da4w", group_size=32, quantize_with_hqq=False)(model)
        model = get_quant_embedding_transform("4,32", quantize_with_hqq=False)(model)
        scales = model.tok_embeddings.scales.detach().contiguous().numpy()
    model = replace_kv_cache_with_custom_kv_cache(replace_sdpa_with_custom_op(model))
    if attention == "sdpa_with_kv_cache":
        model = fuse(model)
    inputs = torch.tensor([[2, 3, 4]]), {"input_pos": torch.tensor([0])}
    shapes = {1: Dim("tokens", max=CONTEXT - 1)}, {"input_pos": {0: 1}}
    with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]), torch.no_grad():
        exported = export(model, inputs, dynamic_shapes=shapes, strict=False).run_decompositions({})
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackDynamicallyQuantizedPartitioner(), XnnpackPartitioner()],
                                           compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
        program = edge.to_executorch(ExecutorchBackendConfig(do_quant_fusion_and_const_prop=True, memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
                                                          sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass()))
    return program.buffer, scales


def generate(path, prompt, follow=None):
    """Greedy tokens and the logits they are taken from, in the stock runtime; with follow, the program is given those tokens instead of its own."""
    import executorch.kernels.quantized  # noqa: F401
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(str(path)).load_method("forward")
    tokens, logits, at = prompt, [], 0
    for i in range(TOKENS):
        out = method.execute([tokens, torch.tensor([at])])[0].clone()
        at += tokens.shape[1]
        tokens = out.argmax(-1, keepdim=True) if follow is None else follow[i].view(1, 1)
        logits.append(out[0])
    return torch.stack(logits).argmax(-1), torch.stack(logits)


def perturbed(folder, buffer, scales, prompt, tokens, logits):
    """moved and kept."""
    at = buffer.find(scales.tobytes())
    assert at >= 0, "the program does not hold the embedding's scales"
    moved, kept = [], []
    for seed in range(SEEDS):
        up = np.random.default_rng(seed).random(scales.shape) < 0.5
        other = np.nextafter(scales, np.where(up, np.float32(np.inf), np.float32(-np.inf)))
        path = folder / "moved.pte"
        path.write_bytes(buffer[:at] + other.tobytes() + buffer[at + other.nbytes:])
        choice, got = generate(path, prompt, tokens)
        path.unlink()
        moved.append(((got - logits).abs().amax(-1) / logits.abs().amax(-1)).max())
        kept.append((choice == tokens).sum())
    return {"moved": torch.stack(moved), "kept": torch.stack(kept)}


def main(gguf, flow, attention, layers, folder):
    import tokenization

    gguf, folder = Path(gguf), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prompt = torch.tensor([tokenization.load(gguf).encode(PROMPT).ids])
    buffer, scales = lower(transformer(gguf, int(layers)), flow, attention)
    (folder / "program.pte").write_bytes(buffer)
    tokens, logits = generate(folder / "program.pte", prompt)
    more = {} if scales is None else perturbed(folder, bytes(buffer), scales, prompt, tokens, logits)
    save_file({"prompt": prompt, "tokens": tokens, "logits": logits, **more}, folder / "stock.new")
    os.replace(folder / "stock.new", folder / "stock.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
