"""The programs that package lora builds: our engine, the stock ExecuTorch and the PyTorch reference agree, updates included."""

import pytest
import torch

from harness import MODEL, Stock, central, note, ours, relative, reviews, scaled
from reference import MODULES, Llama, Trainer, normal, rademacher

SHAPES = {  # as in mkprogram: modules, layers, queries, sides, labels
    "two": (["q", "v"], 1, 2, "two", None),
    "all": (MODULES, 2, 3, "one", None),
    "labels": (["q", "v", "down"], 2, 2, "two", [7, 50, 11]),
    "signs": (["q", "v"], 1, 2, "one", None),
    "single": (["q", "v"], 1, 1, "single", None),
}
REPLICAS = {"two": lambda q: 2 * q, "one": lambda q: q + 1, "single": lambda q: 1}
TOLERANCE = {"f32": 1e-4, "int8": 1e-3, "q4": 1e-3}
EPS = torch.tensor(1e-2)


def five_steps(stock, trainer, q, sides, batches, lr):
    """Trains for as many steps as batches on the stock runtime and in the reference; coefficients come from the stock losses.

    batches yields ids, rows and targets of one replica. Returns the inputs of forward, the losses of both, and how far prefix is
    from the reference.
    """
    r = REPLICAS[sides](q)
    last, coefs = torch.zeros(q, dtype=torch.int64), torch.zeros(q)
    calls, native, reference, prefix = [], [], [], 0.0
    for step, (ids, rows, targets) in enumerate(batches):
        h = stock("prefix", ids)[0]
        if step == 0:
            prefix = scaled(h, trainer.prefix(ids))
        per = ids.numel()
        seeds = torch.tensor([(step * q + j + 1) * 0x1F3D5B79A7 for j in range(q)])
        call = [h.repeat(r, 1, 1), torch.cat([rows + k * per for k in range(r)]), targets.repeat(r), seeds, EPS, last, coefs]
        calls.append(call)
        native.append(stock("forward", *call)[0])
        reference.append(trainer.forward(*call))
        loss = native[-1].view(r, -1).mean(1)
        slope = {"two": lambda: central(native[-1], q, lr, float(EPS)), "one": lambda: lr / q * (loss[1:] - loss[0]) / EPS, "single": lambda: lr * loss}[sides]()
        assert slope.abs().min() > 0
        last, coefs = seeds, slope
    return calls, native, reference, prefix


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
def test_tiny(tiny, work, shape, dtype):
    modules, top, q, sides, labels = SHAPES[shape]
    pte, ptd = tiny / f"{shape}-{dtype}.pte", tiny / f"{dtype}.ptd"
    trainer = Trainer(Llama(tiny / "tiny.gguf", dtype), modules, top, 4, 8, q, sides, 5, labels, rademacher if shape == "signs" else normal)
    g = torch.Generator().manual_seed(1)

    def batches():
        for step in range(5):
            t = 4 + 4 * step
            ids = torch.randint(0, 96, (2, t), generator=g)
            rows = torch.tensor([t - 1, t // 2, 2 * t - 2, t])  # two positions of each row
            yield ids, rows, torch.randint(0, 3 if labels else 96, (4,), generator=g)

    calls, native, reference, prefix = five_steps(Stock(pte, ptd), trainer, q, sides, batches(), lr=0.05)
    got = [o[0] for o in ours(work / "calls" / f"tiny-{shape}-{dtype}", pte, ptd, "forward", calls)]
    engine = max(map(relative, got, native))
    note(f"tiny Llama, {shape}, {dtype}, 5 steps, largest relative difference of a loss", engine_to_stock=engine,
         engine_to_reference=max(map(relative, got, reference)), stock_to_reference=max(map(relative, native, reference)))
    assert max(map(relative, native, reference)) < 1e-4 and prefix < 1e-4
    assert engine < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_decode(tiny, work, dtype):
    """Decoding over the cache, a prompt and then a token a call: the stock runtime, our engine, and the whole sequence each time."""
    pte, ptd = tiny / f"two-{dtype}.pte", tiny / f"{dtype}.ptd"
    ids = torch.randint(0, 96, (12,), generator=torch.Generator().manual_seed(2))
    pieces = [(0, 5)] + [(i, i + 1) for i in range(5, 12)]
    calls = [[ids[a:b], torch.arange(a, b), torch.tensor([b - a - 1])] for a, b in pieces]
    stock = Stock(pte, ptd)
    native = [stock("decode", *c)[0] for c in calls]
    whole = [stock("logits", stock("prefix", ids[None, :b])[0], torch.tensor([b - 1]))[0] for _, b in pieces]
    got = [o[0] for o in ours(work / "calls" / f"decode-{dtype}", pte, ptd, "decode", calls)]
    engine, cached = max(map(scaled, got, native)), max(map(scaled, native, whole))
    note(f"tiny Llama, decoding over a cache, {dtype}, largest difference of a logit", engine_to_stock=engine, cached_to_whole_on_stock=cached)
    assert cached < 1e-5
    assert engine < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["f32", "int8"])
def test_smollm2(smol, tokenizer, work, dtype):
    pte, ptd = smol(dtype)
    trainer = Trainer(Llama(MODEL, dtype), ["q", "v"], 4, 16, 32, 2, "two", 3)
    label = [tokenizer.encode(w, add_special_tokens=False).ids[0] for w in (" terrible", " great")]
    texts = [(s, x) for s, x in reviews() if abs(s) >= 0.5][:400:40]

    def batches():
        for step in range(5):
            pair = texts[2 * step:2 * step + 2]
            ids = [tokenizer.encode(x + " It was", add_special_tokens=False).ids[-64:] for _, x in pair]
            t = max(map(len, ids))
            rows = torch.tensor([i * t + len(x) - 1 for i, x in enumerate(ids)])
            yield torch.tensor([x + [0] * (t - len(x)) for x in ids]), rows, torch.tensor([label[s > 0] for s, _ in pair])

    calls, native, reference, prefix = five_steps(Stock(pte, ptd), trainer, 2, "two", batches(), lr=0.5)
    got = [o[0] for o in ours(work / "calls" / f"smol-{dtype}", pte, ptd, "forward", calls)]
    ids = batches().__next__()[0]
    h = ours(work / "calls" / f"prefix-{dtype}", pte, ptd, "prefix", [[ids]])[0][0]
    engine, first = max(map(relative, got, native)), scaled(h, trainer.prefix(ids))
    note(f"SmolLM2-135M, top 4 layers, q and v, rank 16, q 2, b 2, {dtype}, 5 steps, largest relative difference of a loss", engine_to_stock=engine,
         engine_to_reference=max(map(relative, got, reference)), stock_to_reference=max(map(relative, native, reference)),
         prefix_to_reference=first, losses=f"{native[0].mean():.3f} to {native[-1].mean():.3f}")
    assert max(map(relative, native, reference)) < 1e-4 and prefix < 1e-4
    assert engine < TOLERANCE[dtype]
