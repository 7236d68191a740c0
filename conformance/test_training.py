"""P-RGE is P-RGE, and a run is its log: parallel against sequential, replay, and the adapter in PEFT."""

import csv
import hashlib
import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import reference
import replaylog
from harness import MODEL, TRAIN, VAL, central, command, note, ours, relative, result, tabtune

EPS = torch.tensor(1e-2)
DATA = ["--model", MODEL, "--text-column", "text", "--label-column", "label", "--template", "{text} It was {label}", "--labels", "negative,positive",
        "--verbalizers", "terrible,great"]


def train(out, *flags):
    """Trains, and returns the result and the metrics."""
    r = result(tabtune("train", *DATA, "--data", TRAIN, "--train-rows", 16, "--val-rows", 8, "--modules", "q,v", "--rank", 16, "--alpha", 32, "--eps", 1e-2,
                       "--schedule", "constant", "--window", 64, *flags, "--json", "--out", out))
    return r, [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(work):
    """A short run on the subspace of the program smol."""
    return work / "run", *train(work / "run", "--layers", 4, "--queries", 2, "--batch", 2, "--seed", 3, "--steps", 20, "--lr", 0.1, "--eval-every", 5)


def test_parallel_is_sequential(tiny, work):
    """The 2q losses of one call equal those of 2q calls with one replica, on the same adapter, over five steps."""
    q, vocab = 2, 96
    trainer = reference.Trainer(reference.Llama(tiny / "tiny.gguf"), ["q", "v"], 1, 4, 8, q, "two", 5)
    g = torch.Generator().manual_seed(4)
    parallel, sequential = [], []
    last, coefs = torch.zeros(q, dtype=torch.int64), torch.zeros(q)
    for step in range(5):
        t = 6 + 3 * step
        h = trainer.prefix(torch.randint(0, vocab, (2, t), generator=g))
        rows, targets = torch.tensor([t - 1, 2 * t - 1]), torch.randint(0, vocab, (2,), generator=g)
        seeds = torch.tensor([(step * q + j + 1) * 0x1F3D5B79A7 for j in range(q)])
        parallel.append([h.repeat(2 * q, 1, 1), torch.cat([rows + r * 2 * t for r in range(2 * q)]), targets.repeat(2 * q), seeds, EPS, last, coefs])
        for j in range(q):  # the update of the last step, a direction a call
            sequential.append([h, rows, targets, seeds[:1], 0 * EPS, last[j:j + 1], coefs[j:j + 1]])
        for sign in (1, -1):
            for j in range(q):
                sequential.append([h, rows, targets, seeds[j:j + 1], sign * EPS, last[:1], 0 * coefs[:1]])
        last, coefs = seeds, central(trainer.forward(*parallel[-1]), q, 0.05, float(EPS))
    one = [o[0] for o in ours(work / "calls" / "parallel", tiny / "two-f32.pte", tiny / "f32.ptd", "forward", parallel)]
    many = [o[0] for o in ours(work / "calls" / "sequential", tiny / "single-f32.pte", tiny / "f32.ptd", "forward", sequential)]
    per = 3 * q
    many = [torch.cat(many[i * per + q:(i + 1) * per]) for i in range(5)]
    note("2q parallel losses against 2q sequential ones, q 2, 5 steps", first_step_same_bits=torch.equal(one[0], many[0]),
         largest_relative_difference=max(map(relative, one, many)))
    assert torch.equal(one[0], many[0])
    assert max(map(relative, one, many)) < 1e-6


def test_one_query_is_mezo(work):
    flags = ["--layers", 2, "--batch", 4, "--seed", 8, "--steps", 6, "--lr", 0.1, "--eval-every", 6, "--queries", 1]
    losses, logs = [], []
    for estimator in ("prge", "mezo"):
        _, metrics = train(work / f"estimator-{estimator}", "--estimator", estimator, *flags)
        losses.append(torch.tensor([m["loss"] for m in metrics if m["type"] == "step"], dtype=torch.float64))
        logs.append(replaylog.read(work / f"estimator-{estimator}" / "replay.log")[1])
    a, b = (torch.tensor([c for _, _, cs in log for c in cs]) for log in logs)
    assert len(losses[0]) == 6 and [r[:2] for r in logs[0]] == [r[:2] for r in logs[1]]
    note("P-RGE with q 1 against MeZO on the same subspace, 6 steps", largest_relative_difference_of_a_loss=relative(*losses),
         largest_difference_of_a_coefficient_by_largest=((a - b).abs().max() / b.abs().max()).item(), same_bits=torch.equal(*losses) and torch.equal(a, b))
    assert relative(*losses) < 1e-6
    assert (a - b).abs().max() < 1e-3 * b.abs().max()


def test_log_rebuilds_adapter(run, work):
    out, summary, _ = run
    config, records = replaylog.read(out / "replay.log")
    assert config["modelSha256"] == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    assert [r[0] for r in records] == list(range(20)) and config["rank"] == 16 and config["aSeed"] == 3
    best = summary["best"]["step"]
    assert best > 0, "no step was better than the start"
    got = load_file(out / "adapter" / "adapter_model.safetensors")
    worst, base, a_base = 0.0, 0, 0
    for name in config["modules"]:
        a, b = (got[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        u = (reference.stream(3, torch.arange(a_base, a_base + a.numel())) >> 8).double() / 2**24
        assert torch.equal(a, ((2 * u - 1) / math.sqrt(a.shape[1])).float().view(a.shape)), f"A of {name}"
        want = torch.zeros_like(b)
        for _, seeds, coefs in records[:best]:
            want -= sum(c * reference.normal(s, base, b.numel()).view(b.shape) for s, c in zip(seeds, coefs))
        worst = max(worst, ((b - want).abs().max() / want.abs().max()).item())
        base, a_base = base + b.numel(), a_base + a.numel()
    assert len(got) == 2 * len(config["modules"])
    command("go", "run", "./conformance/replay", "-model", MODEL, "-log", out / "replay.log", "-steps", best, "-out", work / "replayed")
    rebuilt = load_file(work / "replayed" / "adapter" / "adapter_model.safetensors")
    same = got.keys() == rebuilt.keys() and all(torch.equal(got[k].view(torch.int32), rebuilt[k].view(torch.int32)) for k in got)
    note(f"replay of {best} steps", python_to_adapter_largest_difference_by_largest=worst, module_same_bits=same)
    assert worst < 1e-5
    assert same


@pytest.fixture
def peft(hf, run):
    """The adapter in PEFT, which puts itself into the shared model: for one test, and then out again."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(hf, run[0] / "adapter").eval()
    yield model
    model.unload()


def test_logits_in_peft(run, peft, smol, tokenizer, work):
    """Log-probabilities over the whole vocabulary: the program with the log's updates against PEFT with the adapter's folder."""
    out, summary, _ = run
    pte, ptd = smol("f32")
    _, records = replaylog.read(out / "replay.log")
    ids = [torch.tensor([tokenizer.encode(t, add_special_tokens=False).ids]) for t in ("A deep and moving film. It was", "Tedious from start to finish. It was")]
    hs = [o[0] for o in ours(work / "calls" / "peft-h", pte, ptd, "prefix", [[i] for i in ids])]
    none = torch.zeros(2, dtype=torch.int64), torch.zeros(2)
    calls = []
    for _, seeds, coefs in records[:summary["best"]["step"]]:
        calls.append([hs[0].repeat(4, 1, 1), torch.arange(4) * hs[0].shape[1], torch.zeros(4, dtype=torch.int64), none[0], 0 * EPS, torch.tensor(seeds), torch.tensor(coefs)])
    updates, want, start = len(calls), [], []
    g = torch.Generator().manual_seed(6)
    for i, h in zip(ids, hs):
        t = h.shape[1]
        logp, raw = F.log_softmax(peft(i).logits[0], -1), None
        with peft.disable_adapter():
            raw = F.log_softmax(peft(i).logits[0], -1)
        for _ in range(4):
            at = torch.tensor([1, t // 2, t - 2, t - 1])
            target = torch.cat([logp[at].topk(2).indices.T.flatten(), torch.randint(0, logp.shape[1], (8,), generator=g)])
            calls.append([h.repeat(4, 1, 1), torch.cat([at + r * t for r in range(4)]), target, none[0], 0 * EPS, *none])
            want.append(-logp[at.repeat(4), target])
            start.append(-raw[at.repeat(4), target])
    got = torch.cat([o[0] for o in ours(work / "calls" / "peft", pte, ptd, "forward", calls)[updates:]])
    want, start = torch.cat(want), torch.cat(start)
    far = ((got - want).abs().max() / want.abs().max()).item()
    note("SmolLM2-135M with the adapter in PEFT against ours, f32, log-probabilities", largest_difference_by_largest=far,
         the_adapter_moves_them_by=((want - start).abs().max() / want.abs().max()).item())
    assert far < 1e-3 < ((want - start).abs().max() / want.abs().max()).item()


def test_head_in_peft(hf, tokenizer, work):
    """A label head on the final norm is a LoRA on the output head: tabtune's losses against PEFT's with the folder."""
    from peft import PeftModel

    out, predictions = work / "head", work / "head.jsonl"
    tabtune("train", *DATA, "--data", TRAIN, "--train-rows", 48, "--val-rows", 12, "--estimator", "head", "--head", "output", "--window", 64, "--dtype", "f32",
            "--out", out)
    rows = list(csv.DictReader(VAL.open(encoding="utf-8", newline="")))[:6]
    data = work / "head.csv"
    with data.open("w", encoding="utf-8", newline="") as f:
        w = csv.DictWriter(f, ["text", "label"])
        w.writeheader()
        w.writerows({k: r[k] for k in ("text", "label")} for r in rows)
    tabtune("eval", *DATA, "--data", data, "--window", 128, "--dtype", "f32", "--adapter", out, "--predictions", predictions)
    got = sorted((json.loads(x) for x in predictions.read_text().splitlines()), key=lambda p: p["row"])
    labels = [tokenizer.encode(w, add_special_tokens=False).ids[0] for w in (" terrible", " great")]
    model = PeftModel.from_pretrained(hf, out / "adapter").eval()
    want, plain = [], []
    for r in rows:
        ids = torch.tensor([tokenizer.encode(r["text"] + " It was", add_special_tokens=False).ids])
        y = int(r["label"] == "positive")
        want.append(-F.log_softmax(model(ids).logits[0, -1, labels], 0)[y])
        with model.disable_adapter():
            plain.append(-F.log_softmax(model(ids).logits[0, -1, labels], 0)[y])
    model.unload()
    want, plain = torch.stack(want), torch.stack(plain)
    far = ((torch.tensor([p["loss"] for p in got]) - want).abs().max() / want.abs().max()).item()
    note("label head against PEFT with its folder, f32, loss of each of 6 rows", largest_difference_by_largest=far, the_head_moves_them_by=(want - plain).abs().max().item())
    assert far < 1e-3
    assert (want - plain).abs().max() > 0.05


def rows_in_peft(out, model, tokenizer, work, n):
    """The loss of each of n rows by tabtune eval with the adapter of a run, by PEFT, and by PEFT without it."""
    rows = list(csv.DictReader(VAL.open(encoding="utf-8", newline="")))[:n]
    data = work / "rows.csv"
    with data.open("w", encoding="utf-8", newline="") as f:
        w = csv.DictWriter(f, ["text", "label"])
        w.writeheader()
        w.writerows({k: r[k] for k in ("text", "label")} for r in rows)
    predictions = work / f"{out.name}-predictions.jsonl"
    tabtune("eval", *DATA, "--data", data, "--window", 128, "--dtype", "f32", "--adapter", out, "--predictions", predictions)
    got = sorted((json.loads(x) for x in predictions.read_text().splitlines()), key=lambda p: p["row"])
    labels = [tokenizer.encode(w, add_special_tokens=False).ids[0] for w in (" terrible", " great")]
    want, plain = [], []
    for r in rows:
        ids, y = torch.tensor([tokenizer.encode(r["text"] + " It was", add_special_tokens=False).ids]), int(r["label"] == "positive")
        want.append(-F.log_softmax(model(ids).logits[0, -1, labels], 0)[y])
        with model.disable_adapter():
            plain.append(-F.log_softmax(model(ids).logits[0, -1, labels], 0)[y])
    assert len(got) == len(want)
    return torch.tensor([p["loss"] for p in got]), torch.stack(want), torch.stack(plain)


def test_eval_in_peft(run, peft, tokenizer, work):
    """tabtune eval with the adapter's folder against PEFT with the same folder, row by row."""
    got, want, _ = rows_in_peft(run[0], peft, tokenizer, work, 12)
    far = relative(got, want)
    note("tabtune eval with the adapter against PEFT, f32, loss of each of 12 rows", largest_relative_difference=far)
    assert far < 1e-3


@pytest.mark.parametrize("kind, flags, rank", [
    ("stacked", ["--resample-every", 4], 12),  # three subspaces
    ("activations", ["--subspace", "activations"], 4), ("labels", ["--subspace", "labels"], 4)])
def test_subspaces_in_peft(hf, tokenizer, work, kind, flags, rank):
    """An adapter stacked of the subspaces that a run went through, and those whose A is made of activations or by labels, load in PEFT as any other."""
    from peft import PeftModel

    out = work / kind
    _, metrics = train(out, "--layers", 4, "--rank", 4, "--alpha", 8, "--queries", 8, "--batch", 2, "--seed", 3, "--steps", 12, "--lr", 0.5, "--eval-every", 12,
                       *flags)
    assert len([m for m in metrics if m["type"] == "step"]) == 12
    a = load_file(out / "adapter" / "adapter_model.safetensors")["base_model.model.model.layers.29.self_attn.q_proj.lora_A.weight"]
    model = PeftModel.from_pretrained(hf, out / "adapter").eval()
    got, want, plain = rows_in_peft(out, model, tokenizer, work, 4)
    model.unload()
    far = relative(got, want)
    note(f"tabtune eval with an adapter ({kind}) against PEFT, f32, loss of each of 4 rows", rank=a.shape[0], largest_relative_difference=far,
         the_adapter_moves_them_by=(want - plain).abs().max().item())
    assert a.shape[0] == rank
    assert far < 1e-3 < (want - plain).abs().max().item()
