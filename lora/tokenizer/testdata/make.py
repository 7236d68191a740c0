#!/usr/bin/env python3
"""Writes golden.json and tiny-*.json: what Hugging Face tokenizers answers.

    python3 lora/tokenizer/testdata/make.py ASSETS

ASSETS holds SmolLM2-135M-Instruct.Q4_1.gguf and movieReviewSnippets_GroundTruth.txt.
Needs tokenizers 0.23.3, transformers 5.23.0 and gguf 0.19.0.
"""
import hashlib
import json
import pathlib
import sys

import gguf
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers import pre_tokenizers as pre

HERE = pathlib.Path(__file__).parent
assets = pathlib.Path(sys.argv[1])
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def split(pattern):
    return pre.Sequence([
        pre.Split(Regex(pattern), behavior="isolated", invert=False),
        pre.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE = {
    "smollm": pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "gpt-2": pre.ByteLevel(add_prefix_space=False, use_regex=True),
    "llama-bpe": split(LLAMA3),
    "qwen2": split(QWEN2),
}

CASES = [
    "", " ", "a", "Hello world", "Hello  world", "   leading", "trailing   ", "tab\tand\t\ttabs",
    "a\nb", "a\n\nb", "a \n b", "a\r\nb\r\n\r\nc", "\r", "\n", "\n\n\n", " \n", "\n ", " \n \n  x", "x \r \r\n  \n y", "\t\n\t x",
    "!\n\n!", "?!\r\n\r\nfoo", "end.\n\n  next", "a\x0b\x0cb", "\x85x\x85 \x85",
    "It's we'll they've I'm he'd you're don't", "IT'S WE'LL THEY'VE I'M HE'D YOU'RE DON'T", "it'S 'Tis 'LL 'lL 'vE 'Re",
    "'s", "''s", "' s", "a'b'c'd'sx", "x\u2019s y\u2019ll", "'\u017f a'\u017fb", "'\u212a", "rock'n'roll's",
    "1", "12", "123", "1234", "12345678901", "3.14159", "1,234,567.89", " 1 2  3", "a1b2c3", "  42", "\n42", "v2.0-rc1",
    "\u0661\u0662\u0663\u0664 \u096a\u096b\u096c\u096d", "\u2167\u2160 \u00bd\u00b2\u2460\u2461\u2462\u2463", "\u4e00\u4e8c\u4e09 \u3007\u3021", "\U0001d7d8\U0001d7d9\U0001d7da\U0001d7db", "5\u20e3",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family", "\U0001f44d\U0001f3fd\U0001f44d", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "\u2764\ufe0f!", "\U0001f600\U0001f600 \U0001f600",
    "e\u0301 \u00e9", "a\u0301\u0302\u0303b", "\u0301", " \u0301x", "n\u0303o\u0308", "\u1100\u1161\u11a8 \uac01", "\u0958 \u0915\u093c", "\u212b \u00c5 A\u030a", "q\u0323\u0307 q\u0307\u0323",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\uff01 \u30ab\u30bf\u30ab\u30ca", "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\U00020000\U0002a6df",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c 123", "\u200fRTL\u200e \u202bx\u202c", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442", "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac", "\u01c5 \u02b0 \u00aa \u2071",
    "\x00", "a\x00b", "\x01\x02 \x1f", "\x1c\x1d\x1e\x1f", "\x7f\x80\x9f", "\ufeffBOM", "\u200b \u200bzero", "\ufffd", "\ufffe\uffff", "\U0010ffff", "\ue000x", "\u00adsoft",
    "a\u00a0b", "\u00a0\u00a0x", " \u00a0 y", "\u2003em\u2003\u2003space", "\u3000\u5168\u89d2\u3000", "\u1680\u2028\u2029\u202f\u205f\u180e", "x\u2028y\u2028\u2028z",
    "a" + " " * 50 + "b", "\n" * 40 + "x", " \n" * 20, " " * 200, "\t" * 33 + "z", "-" * 100, "=" * 64 + "\n", "ab" * 60, "." * 17 + " " + "." * 17,
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|><|im_end|>", "x<|im_start|", "<<|im_start|>>", "<|im_start|<|im_start|>", "<|endoftext|>a <|endoftext|> b", "<repo_name>x<file_sep><jupyter_code>1", "<|IM_START|>", "<|im_\u0073tart|>",
    "<|e", "<|end|>", "<|end|>x<|end|>xy", "<|end|<|end|>", "a zebra zebras<|end|>", "ze\u0301bra", "zebrA",
    "def f(x):\n    return x**2  # square\n\n\nclass A:\n\tpass\n", "https://example.org/a?b=c&d=%20#e", "{\"a\": [1, 2.5e-3, null]}", "foo_bar-baz@qux.com", "C++ && C# || `x` ~= $5.00 (50%)",
    "na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d\u2026 \u00a9\u00ae\u2122", "\u00bfQu\u00e9?\u00a1S\u00ed!", "Stra\u00dfe \u0130stanbul \ufb01n", "\U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8", "Z\u0351\u036b\u0343a\u0329l\u0360g\u0322o\u0321", "x" * 300, "supercalifragilisticexpialidocious antidisestablishmentarianism",
]
# (unit, times): long inputs, kept as a recipe.
LONG = [("a", 100_000), ("abcdefgh", 12_500), (" ", 100_000), ("\n", 50_000), (" \n\t", 20_000), ("1", 30_000), ("\u00e9", 30_000), ("'", 50_000), ("'s", 30_000), ("<|im_start|", 5_000), ("\U0001f600\u200d", 9_000), ("the quick brown", 5_000), (" a", 30_000), ("\r\n x", 20_000)]


def digest(rows):
    h = hashlib.sha256()
    for row in rows:
        h.update((" ".join(map(str, row)) + "\n").encode())
    return h.hexdigest()


def lengths(pieces):
    """Byte length of each piece: pieces are in the byte-level alphabet, a character a byte."""
    return [len(text) for text, _ in pieces]


def finish(tok):
    tok.decoder = decoders.ByteLevel()
    return tok


def smollm():
    """SmolLM2's tokenizer in three ways: as transformers reads the GGUF but with the pre-tokenizer that the
    file names (transformers knows only ByteLevel for it), and built from the bare vocabulary and merges."""
    auto = transformers.AutoTokenizer.from_pretrained(assets, gguf_file=MODEL).backend_tokenizer
    plain = Tokenizer.from_str(auto.to_str())
    auto.pre_tokenizer = PRE["smollm"]
    fields = gguf.GGUFReader(assets / MODEL).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    vocab = {t: i for i, t in enumerate(get("tokens"))}
    own = finish(Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in get("merges")])))
    own.pre_tokenizer = PRE["smollm"]
    own.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(get("tokens"), get("token_type")) if k == 3])
    return plain, auto, own


def tiny(kind, lines):
    """A small vocabulary, trained here, as a tokenizer.json file."""
    tok = finish(Tokenizer(models.BPE(ignore_merges=kind == "llama-bpe")))
    tok.pre_tokenizer = PRE[kind]
    if kind == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=520, show_progress=False, initial_alphabet=[] if kind == "smollm" else pre.ByteLevel.alphabet()))
    tok.add_special_tokens([AddedToken(t, normalized=False) for t in ("<|end|>", "<|e", "<|im_start|>")])
    tok.add_tokens([AddedToken("<|end|>x", normalized=False), AddedToken("zebra", normalized=kind != "smollm"), AddedToken("z\u00e9bra", normalized=True)])
    text = tok.to_str()
    (HERE / f"tiny-{kind}.json").write_text(text + "\n", encoding="utf-8")
    return Tokenizer.from_str(text)


def main():
    lines = (assets / "movieReviewSnippets_GroundTruth.txt").read_bytes().decode("latin-1").split("\n")
    if lines[-1] == "":
        lines.pop()
    texts = CASES + [u * n for u, n in LONG]
    plain, auto, own = smollm()
    plainly = 0
    ids = []
    for line in lines:
        a, b = auto.encode(line, add_special_tokens=False).ids, own.encode(line, add_special_tokens=False).ids
        assert a == b, line
        plainly += a != plain.encode(line, add_special_tokens=False).ids
        ids.append(a)
    print(len(lines), "lines;", plainly, "differ when the pre-tokenizer is ByteLevel alone")

    golden = {"lines": len(lines), "ids": [digest(ids[i:i + 500]) for i in range(0, len(ids), 500)], "splits": {}, "cases": []}
    for kind, p in PRE.items():
        rows = [lengths(p.pre_tokenize_str(line)) for line in lines]
        golden["splits"][kind] = [digest(rows[i:i + 500]) for i in range(0, len(rows), 500)]
    small = {kind: tiny(kind, [line.split("\t")[-1] for line in lines[:1500]]) for kind in PRE}

    def short(row):
        return row if len(row) <= 120 else {"n": len(row), "sha256": digest([row])}

    def encode(tok, text, special):
        tok.encode_special_tokens = not special
        return short(tok.encode(text, add_special_tokens=False).ids)

    for i, text in enumerate(texts):
        a = auto.encode(text, add_special_tokens=False).ids
        assert a == own.encode(text, add_special_tokens=False).ids
        case = {"text": text} if i < len(CASES) else {"unit": LONG[i - len(CASES)][0], "times": LONG[i - len(CASES)][1]}
        case["ids"] = short(a)
        case["plain"] = encode(auto, text, False)
        auto.encode_special_tokens = False
        decoded = auto.decode(a, skip_special_tokens=False)
        if decoded != text:
            case["decoded"] = decoded
        case["splits"] = {k: short(lengths(p.pre_tokenize_str(text))) for k, p in PRE.items()}
        case["tiny"] = {k: [encode(t, text, True), encode(t, text, False)] for k, t in small.items()}
        golden["cases"].append(case)
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")).replace('{"text"', '\n{"text"').replace('{"unit"', '\n{"unit"') + "\n")


main()
