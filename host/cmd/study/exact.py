"""Exact gradients beside the study's zeroth order: LoRA with Adam in PyTorch and PEFT, f32, on the tasks of the study.

    "$(conformance/env.sh)"/bin/python host/cmd/study/exact.py --task reviews --layers 4 --lr 1e-3 --rows 6000 --seed 0

Prints a line of JSON for every evaluation: rows of training so far (forward and backward), the loss over the validation rows and what
the task is judged by: accuracy, or F1 and exact match of the answers generated for the first 32 rows. The batch is 16 examples, the rate
decays linearly; A and B are trained, with --freeze B alone. Data but the reviews are what `go run ./host/cmd/study` leaves under
-work in data/.
"""
import argparse
import collections
import csv
import json
import pathlib
import random
import re
import string
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "conformance"))

import peft  # noqa: E402
import tokenization  # noqa: E402
import torch  # noqa: E402
from harness import MODEL, TRAIN, VAL  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--task", default="reviews", choices=["reviews", "tickets", "agreement", "passages", "records"])
parser.add_argument("--data", type=pathlib.Path, default=ROOT / "build/study/data")
parser.add_argument("--layers", type=int, default=4, help="adapted, from the top")
parser.add_argument("--modules", default="q_proj,v_proj")
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--freeze", action="store_true", help="train B over a random A, as zeroth order does")
parser.add_argument("--rows", type=int, default=6000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--evals", type=int, default=4)
a = parser.parse_args()
torch.manual_seed(a.seed)
order = random.Random(a.seed)

tokenizer = tokenization.load(MODEL)
WORDS = {"reviews": {"negative": " terrible", "positive": " great"},
         "tickets": {"delivery": " delivery", "refund": " money", "account": " password", "product": " product"}}
WINDOW, ANSWERED, BATCH, END = 256, 32, 16, "<|im_end|>"


def ids(text):
    return tokenizer.encode(text, add_special_tokens=False).ids


# An example is sequences of token ids, of a choice one for each option and else one; which label or option is right; how many tokens
# of each belong to the prompt, unless labels are scored behind it; a completion's text; and the hidden states below the first adapted
# layer, [T, d] of every sequence.
Example = collections.namedtuple("Example", "sequences right prompt answer below", defaults=[None])


def read(path):
    if a.task == "reviews":
        rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
    else:
        rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    out = []
    for r in rows:
        if a.task in WORDS:
            prompt = ids(r["text"] + (" It was" if a.task == "reviews" else "\nThis message is about"))[-WINDOW:]
            out.append(Example([prompt], list(WORDS[a.task]).index(r["label"]), None, None))
            continue
        prompt = ids(r["prompt"])
        if a.task == "agreement":
            out.append(Example([prompt + ids(" " + o) for o in r["options"]], r["options"].index(r["answer"]), len(prompt), None))
        else:
            out.append(Example([prompt + ids(" " + r["completion"]) + ids(END)], 0, len(prompt), r["completion"]))
    return out


if a.task == "reviews":
    train, val = read(TRAIN), read(VAL)
else:
    train, val = read(a.data / f"{a.task}-train.jsonl"), read(a.data / f"{a.task}-val.jsonl")
model = AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32)
layers = model.config.num_hidden_layers
model = peft.get_peft_model(model, peft.LoraConfig(r=a.rank, lora_alpha=2 * a.rank, target_modules=a.modules.split(","), layers_to_transform=list(range(layers - a.layers, layers)),
                                                   layers_pattern="layers"))
if a.freeze:
    for name, p in model.named_parameters():
        p.requires_grad &= "lora_A" not in name
table = model.get_output_embeddings().weight.detach()
head = table[[ids(w)[0] for w in WORDS[a.task].values()]] if a.task in WORDS else table
core, first = model.base_model.model.model, layers - a.layers


def frozen(examples):
    """The examples with what is below the adapted layers, computed once."""
    with torch.no_grad():
        return [e._replace(below=[core(input_ids=torch.tensor([s]), output_hidden_states=True).hidden_states[first][0] for s in e.sequences]) for e in examples]


train, val = frozen(train), frozen(val)


def losses(examples):
    """Each example's loss, and whether its right sequence scores best."""
    states = [h for e in examples for h in e.below]
    width = max(len(h) for h in states)
    x = torch.stack([torch.nn.functional.pad(h, (0, 0, 0, width - len(h))) for h in states])  # a causal model does not see what stands behind
    at = torch.arange(width)[None]
    turns = core.rotary_emb(x, at)
    for layer in core.layers[first:]:
        x = layer(x, attention_mask=None, position_ids=at, position_embeddings=turns)
    x = core.norm(x)
    out, hits, k = [], [], 0
    for e in examples:
        if a.task in WORDS:
            logp = torch.log_softmax(x[k, len(e.sequences[0]) - 1] @ head.T, 0)
        else:
            means = []
            for i, s in enumerate(e.sequences):
                scores = torch.log_softmax(x[k + i, e.prompt - 1:len(s) - 1] @ head.T, 1)
                means.append(scores.gather(1, torch.tensor(s[e.prompt:])[:, None]).mean())
            logp = torch.stack(means)
            if len(means) > 1:
                logp = torch.log_softmax(logp, 0)
        k += len(e.sequences)
        out.append(-logp[e.right])
        hits.append(float(logp.argmax() == e.right))
    return torch.stack(out), hits


def plain(text):
    """SQuAD's normal form."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def answers():
    """Mean F1 and exact match of what is generated greedily."""
    f1 = exact = 0.0
    asked = val[:ANSWERED]
    for e in asked:
        prompt = e.sequences[0][:e.prompt]
        out = model.generate(input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=24,
                             do_sample=False, eos_token_id=ids(END)[0], pad_token_id=0)[0, len(prompt):].tolist()
        got, want = plain(tokenizer.decode(out).split("\n")[0]), plain(e.answer)
        same = sum((collections.Counter(got) & collections.Counter(want)).values())
        f1 += 2 * same / (len(got) + len(want)) if same else 0.0
        exact += got == want
    return {"f1": f1 / len(asked), "em": exact / len(asked)}


def report(rows):
    loss, hits = 0.0, []
    with torch.no_grad():
        in_order = sorted(val, key=lambda e: len(e.sequences[0]))
        for i in range(0, len(in_order), BATCH):
            part, h = losses(in_order[i:i + BATCH])
            loss, hits = loss + part.sum().item(), hits + h
        judged = answers() if val[0].answer else {"accuracy": sum(hits) / len(hits)}
    print(json.dumps({"task": a.task, "layers": a.layers, "lr": a.lr, "frozen A": a.freeze, "seed": a.seed, "rows": rows, "loss": loss / len(val), **judged}), flush=True)


each = BATCH * len(train[0].sequences)
steps = a.rows // each
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=a.lr)
report(0)
queue = []
for step in range(steps):
    if len(queue) < BATCH:
        queue = order.sample(range(len(train)), len(train))
    batch, queue = [train[i] for i in queue[:BATCH]], queue[BATCH:]
    for group in optimizer.param_groups:
        group["lr"] = a.lr * (1 - step / steps)
    loss = losses(batch)[0].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % max(1, steps // a.evals) == 0 or step == steps - 1:
        report((step + 1) * each)
