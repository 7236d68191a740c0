#!/usr/bin/env python3
"""Writes spm.json: two small SentencePiece BPE vocabularies, what SentencePiece makes of texts, and what Hugging Face tokenizers makes of
them with the same vocabulary in a tokenizer.json.

    python3 lora/tokenizer/testdata/spm.py

Needs sentencepiece 0.2.3 and tokenizers 0.23.3. The text to train on is this project's own documents.
"""
import json
import pathlib
import tempfile

import sentencepiece as spm
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "RATIONALE.md", "zo/README.md"]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

TEXTS = [
    "", "a", " ", "  ", "   x", "Hello world", "Hello  world", " leading", "trailing ", "tab\tand\t\ttabs", "a\nb", "a\n\nb", "a \n b", "a\r\nb",
    "the runtime runs the program", "The weights are read once for all of them.", "forward forward  forward   forward", "12 345 6.78e9", "x=1;y=2",
    "h\u00e9llo", "e\u0301", "\u65e5\u672c\u8a9e", "\u4e2d\u6587 \u5b57", "\U0001f600\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439", "\u0645\u0631\u062d\u0628\u0627", "\u00a0nbsp\u200b",
    "\u2581", "a\u2581b", "\u2581\u2581x", "<0x41>", "<s>", "</s>x", "<unk>", "<h1>Title</h1>", "x\n\n\ny", "a" * 100, "the " * 60, "ab" * 70, "\x00", "\ufeffbom",
    "don't can't I'm", "https://example.org/a?b=c&d=e", "def f(x):\n    return x + 1\n", "\u2014\u2026\u201c\u201d", "\ue000\uffff\U0010ffff", "UPPER lower MiXeD", "....", "----", "!?!?",
]


def train(folder, **options):
    text = folder / "text.txt"
    text.write_text("\n".join((ROOT / d).read_text(encoding="utf-8") for d in DOCUMENTS), encoding="utf-8")
    spm.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "m"), model_type="bpe", vocab_size=620, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, character_coverage=0.995, minloglevel=2, **options)
    return spm.SentencePieceProcessor(model_file=str(folder / "m.model"))


def kind(p, i):
    for test, name in ((p.IsUnknown, UNKNOWN), (p.IsControl, CONTROL), (p.IsByte, BYTE), (p.IsUnused, UNUSED)):
        if test(i):
            return name
    return NORMAL


def hugging_face(tokens, scores, types, prefix):
    """The same vocabulary as converters write it: merges are all pairs of tokens that make a token, the best score first."""
    vocab = {t: i for i, t in enumerate(tokens)}
    plain = {t for t, k in zip(tokens, types) if k in (NORMAL, UNUSED)}
    merges = []
    for t in plain:
        for cut in range(1, len(t)):
            if t[:cut] in plain and t[cut:] in plain:
                merges.append((-scores[vocab[t]], vocab[t[:cut]], vocab[t[cut:]], t[:cut], t[cut:]))
    tok = Tokenizer(models.BPE(vocab, [(m[3], m[4]) for m in sorted(merges)], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = ([normalizers.Prepend("\u2581")] if prefix else []) + [normalizers.Replace(" ", "\u2581")]
    tok.normalizer = normalizers.Sequence(steps)
    tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()] + ([decoders.Strip(" ", 1, 0)] if prefix else []))
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ("<unk>", "<s>", "</s>")])
    tok.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == USER])
    return tok


out = []
for name, prefix, user in (("prefix", True, []), ("plain", False, ["<h1>", "</h1>", "\n\n", "\n\n\n"])):
    with tempfile.TemporaryDirectory() as folder:
        p = train(pathlib.Path(folder), add_dummy_prefix=prefix, user_defined_symbols=user)
    tokens = [p.IdToPiece(i) for i in range(p.GetPieceSize())]
    types = [USER if t in user else kind(p, i) for i, t in enumerate(tokens)]
    scores = [round(p.GetScore(i), 4) for i in range(len(tokens))]
    tok = hugging_face(tokens, scores, types, prefix)
    cases = [{"text": t, "ids": p.EncodeAsIds(t), "hf": tok.encode(t, add_special_tokens=False).ids} for t in TEXTS]
    out.append({"name": name, "prefix": prefix, "tokens": tokens, "types": types, "scores": scores, "json": tok.to_str(), "cases": cases})
(HERE / "spm.json").write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")).replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")
