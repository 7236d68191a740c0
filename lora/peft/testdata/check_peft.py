"""Loads an adapter folder with peft.PeftModel onto a tiny random Llama, and
compares its logits with those of the same model whose weights had
(alpha/r) B A added by hand. Exit status 1 when they differ or the adapter
changes nothing. Then saves the adapter again with PEFT, in DIR/again, so that
what PEFT writes can be read here.

    python check_peft.py DIR         # needs torch, transformers, peft, safetensors
"""

import copy
import json
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM


def main():
    d = sys.argv[1]
    torch.manual_seed(0)
    cfg = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=12,
                      num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False)
    base = LlamaForCausalLM(cfg).eval()
    merged = copy.deepcopy(base)
    ids = torch.randint(0, 64, (2, 11))
    before = base(ids).logits
    conf = json.load(open(f"{d}/adapter_config.json"))
    ts = load_file(f"{d}/adapter_model.safetensors")
    names = sorted({k[len("base_model.model."):].split(".lora_")[0] for k in ts})
    for n in names:
        a, b = (ts[f"base_model.model.{n}.lora_{x}.weight"] for x in "AB")
        r = conf["rank_pattern"].get(n, conf["r"])
        alpha = conf["alpha_pattern"].get(n, conf["lora_alpha"])
        assert a.shape[0] == r
        merged.get_submodule(n).weight.data += alpha / r * (b @ a)
    model = PeftModel.from_pretrained(base, d).eval()
    with torch.no_grad():
        got, want = model(ids).logits, merged(ids).logits
    diff, moved = (got - want).abs().max().item(), (want - before).abs().max().item()
    wrapped = sum(1 for n, _ in model.named_modules() if n.endswith("lora_A.default"))
    print(f"modules {len(names)} wrapped {wrapped} max difference {diff:.2e}, the adapter moves logits by {moved:.2e}")
    model.save_pretrained(d + "/again")
    if diff > 1e-5 or moved < 1e-3 or wrapped != len(names):
        sys.exit(1)


if __name__ == "__main__":
    main()
