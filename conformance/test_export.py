"""What export writes, in llama.cpp: the GGUF adapter and the merged models, on the same prompts. (test_training.py has the folder in PEFT.)"""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from harness import CACHE, GEMMA, MODEL, ROOT, TRAIN, VAL, note, result, reviews, tabtune

DATA = ["--text-column", "text", "--label-column", "label", "--template", "{text} It was {label}", "--labels", "negative,positive",
        "--verbalizers", "terrible,great"]
ROWS = 8


@pytest.fixture(scope="module")
def llama_cpp(work):
    """llama_cpp(script, request) is what a script of the folder llama answers."""
    node = shutil.which("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout if node else ""
    if not node or int(version.lstrip("v").split(".")[0]) < 20 or os.uname().machine != "x86_64" or sys.platform != "linux":
        pytest.skip(f"the llama.cpp package needs Node 20 or newer on Linux x86-64, node is {version.strip() or 'missing'}")
    source = ROOT / "conformance" / "llama"
    place = CACHE / "llama" / hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
        subprocess.run(["npm", "install", "--no-save", "--prefix", str(place), "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], check=True)
        (place / "complete").touch()

    def ask(script, request):
        shutil.copy(source / script, place)
        (work / "request.json").write_text(json.dumps(request))
        p = subprocess.run([node, str(place / script), str(work / "request.json"), str(work / "answer.json")], capture_output=True, text=True)
        assert p.returncode == 0, p.stderr[-2000:]
        return json.loads((work / "answer.json").read_text())

    return ask


@pytest.fixture(scope="module")
def llama(llama_cpp):
    """llama(model, lora) is the log-odds of great against terrible that llama.cpp gives each prompt of ROWS validation rows."""
    prompts = [r["text"] + " It was" for r in list(csv.DictReader(VAL.open(encoding="utf-8", newline="")))[:ROWS]]

    def ask(model, lora=None):
        p = llama_cpp("probabilities.mjs", {"model": str(model), "lora": lora and str(lora), "prompts": prompts, "words": [" terrible", " great"]})
        probabilities = torch.tensor(p, dtype=torch.float64)
        return (probabilities[:, 1] / probabilities[:, 0]).log()

    return ask


BOTH = pytest.mark.parametrize("model", [MODEL, GEMMA], ids=["SmolLM2", "Gemma"])
EDGES = ["", " ", "   x", "a  b", " lead", "trail ", "\t tab", "h\u00e9llo", "\u65e5\u672c\u8a9e", "\U0001f600\U0001f468\u200d\U0001f469", "e\u0301", "\u00a0", "\u2581x", "<h1>a</h1>", "<0x41>", "<bos>",
         "1234.5", "a" * 300, " " * 70 + "x", "don't", "\u0643\u062a\u0627\u0628", "\u2014\u2026", "x\u0000y"]


@BOTH
def test_tokens(llama_cpp, model):
    """llama.cpp reads the same tokens out of a GGUF's vocabulary. (test_tokenizer.py has Hugging Face.)"""
    if not model.exists():
        pytest.skip("make fetch-gemma fetches it")
    texts = [x for _, x in reviews()] + EDGES
    want = llama_cpp("tokens.mjs", {"model": str(model), "texts": texts})
    got = [json.loads(x) for x in tabtune("tokenize", "--model", model, stdin="".join(f"{x}\n" for x in texts).encode()).splitlines()]
    differ = [(t[:40], g, w) for t, g, w in zip(texts, got, want, strict=True) if g != w]
    note(f"{model.stem}, token ids against llama.cpp", texts=len(texts), differ=len(differ))
    assert not differ, differ[:3]


@BOTH
def test_llama(llama, work, model):
    """The adapter beside the model, and merged into it, moves llama.cpp's answers as it moves ours."""
    if not model.exists():
        pytest.skip("make fetch-gemma fetches it")
    place = work / "export" / model.stem
    run = place / "run"
    r = result(tabtune("train", "--model", model, *DATA, "--data", TRAIN, "--train-rows", 64, "--val-rows", 16, "--modules", "q,k,v,down", "--rank", 8, "--alpha", 16, "--layers", 2,
                       "--queries", 4, "--batch", 4, "--eps", 1e-2, "--lr", 0.5, "--schedule", "constant", "--seed", 3, "--steps", 30, "--eval-every", 30,
                       "--window", 96, "--json", "--out", run))
    assert r["best"]["step"] == 30
    files = {}
    for form in ("gguf-adapter", "gguf-f16", "gguf-q8_0"):
        files[form] = place / f"{form}.gguf"
        tabtune("export", "--model", model, "--dtype", "q4", "--adapter", run, "--format", form, "--out", files[form])
    base, beside = llama(model), llama(model, files["gguf-adapter"])
    merged = {form: llama(files[form]) for form in ("gguf-f16", "gguf-q8_0")}

    rows = list(csv.DictReader(VAL.open(encoding="utf-8", newline="")))[:ROWS]
    data, predictions = place / "rows.csv", place / "predictions.jsonl"
    with data.open("w", encoding="utf-8", newline="") as f:
        w = csv.DictWriter(f, ["text", "label"])
        w.writeheader()
        w.writerows({k: x[k] for k in ("text", "label")} for x in rows)

    def log_odds(*adapter):
        tabtune("eval", "--model", model, *DATA, "--data", data, "--window", 128, "--dtype", "f32", *adapter, "--predictions", predictions)
        got = sorted((json.loads(x) for x in predictions.read_text().splitlines()), key=lambda p: p["row"])
        # A row's loss is -log p of its label among the two: its log-odds follow.
        return torch.tensor([(1 if x["label"] == "positive" else -1) * -torch.tensor(p["loss"], dtype=torch.float64).expm1().log().item() for x, p in zip(rows, got)])

    ours = log_odds("--adapter", run)
    moved = (beside - base).abs().mean().item()
    far = {"adapter in llama.cpp": beside, **merged}
    far = {k: (v - ours).abs().mean().item() for k, v in far.items()}
    rounding = (base - log_odds()).abs().mean().item()
    note(f"{model.stem}, log-odds of great against terrible on {ROWS} prompts, llama.cpp against ours (f32), mean difference", **far, without_an_adapter=rounding, the_adapter_moves_them_by=moved)
    assert moved > 0.5
    assert far["gguf-f16"] < 0.02
    # llama.cpp multiplies quantised weights with activations of 8 bits, in blocks of 32 or, for K-quants, 256; ours are floats here.
    allowed = 0.1 * moved + (rounding if model == GEMMA else 0)
    assert all(v < allowed for v in far.values()), far
    accuracy = [F.sigmoid(v).round().eq(torch.tensor([float(x["label"] == "positive") for x in rows])).double().mean().item() for v in (beside, ours)]
    assert abs(accuracy[0] - accuracy[1]) < 0.1
