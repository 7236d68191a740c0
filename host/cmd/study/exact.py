"""Exact gradients beside the study's zeroth order: LoRA with Adam in PyTorch and PEFT, f32, on the movie reviews of the study.

    "$(conformance/env.sh)"/bin/python host/cmd/study/exact.py --layers 4 --lr 1e-3 --rows 6000 --seed 0

Prints a line of JSON for every evaluation: rows of training so far (forward and backward), accuracy and loss over the 500 validation
rows. The batch is 16, the rate decays linearly, the loss is the cross-entropy between the two label words, A and B are trained.
"""
import argparse
import csv
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "conformance"))

import peft  # noqa: E402
import tokenization  # noqa: E402
import torch  # noqa: E402
from harness import MODEL, TRAIN, VAL  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--layers", type=int, default=4, help="adapted, from the top")
parser.add_argument("--modules", default="q_proj,v_proj")
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--rows", type=int, default=6000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--evals", type=int, default=4)
a = parser.parse_args()
torch.manual_seed(a.seed)
order = random.Random(a.seed)

tokenizer = tokenization.load(MODEL)


def read(path):
    rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    return [(tokenizer.encode(r["text"] + " It was", add_special_tokens=False).ids[-96:], int(r["label"] == "positive")) for r in rows]


train, val = read(TRAIN), read(VAL)
words = [tokenizer.encode(w, add_special_tokens=False).ids[0] for w in (" terrible", " great")]
model = AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32)
layers = model.config.num_hidden_layers
model = peft.get_peft_model(model, peft.LoraConfig(r=a.rank, lora_alpha=2 * a.rank, target_modules=a.modules.split(","), layers_to_transform=list(range(layers - a.layers, layers)),
                                                   layers_pattern="layers"))
head = model.get_output_embeddings().weight.detach()[words]
core, first = model.base_model.model.model, layers - a.layers


def frozen(rows):
    """(hidden states below the first adapted layer [T, d], label) of every row, computed once."""
    out = []
    with torch.no_grad():
        for ids, label in rows:
            out.append((core(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[first][0], label))
    return out


train, val = frozen(train), frozen(val)


def scores(rows):
    """The two label words' logits behind each row, [n, 2]."""
    width = max(len(h) for h, _ in rows)
    x = torch.stack([torch.nn.functional.pad(h, (0, 0, 0, width - len(h))) for h, _ in rows])  # a causal model does not see what stands behind
    at = torch.arange(width)[None]
    turns = core.rotary_emb(x, at)
    for layer in core.layers[first:]:
        x = layer(x, attention_mask=None, position_ids=at, position_embeddings=turns)
    x = core.norm(x[torch.arange(len(rows)), torch.tensor([len(h) - 1 for h, _ in rows])])
    return x @ head.T


def evaluate():
    right = loss = 0.0
    rows = sorted(val, key=lambda r: len(r[0]))
    with torch.no_grad():
        for i in range(0, len(rows), 32):
            part = rows[i:i + 32]
            y = torch.tensor([label for _, label in part])
            s = scores(part)
            right += (s.argmax(1) == y).sum().item()
            loss += torch.nn.functional.cross_entropy(s, y, reduction="sum").item()
    return right / len(val), loss / len(val)


def report(rows):
    accuracy, loss = evaluate()
    print(json.dumps({"layers": a.layers, "lr": a.lr, "seed": a.seed, "rows": rows, "accuracy": accuracy, "loss": loss}), flush=True)


BATCH = 16
steps = a.rows // BATCH
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=a.lr)
report(0)
queue = []
for step in range(steps):
    if len(queue) < BATCH:
        queue = order.sample(range(len(train)), len(train))
    batch = [train[i] for i in queue[:BATCH]]
    queue = queue[BATCH:]
    for group in optimizer.param_groups:
        group["lr"] = a.lr * (1 - step / steps)
    loss = torch.nn.functional.cross_entropy(scores(batch), torch.tensor([label for _, label in batch]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % max(1, steps // a.evals) == 0 or step == steps - 1:
        report((step + 1) * BATCH)
