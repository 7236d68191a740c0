"""Token ids equal those of Hugging Face tokenizers."""

import json
import random

from harness import MODEL, REVIEWS, note, reviews, tabtune

EDGE = [
    "", " ", "  ", "\t", " \t  x", "a", " a", "Hello, world!", "don't can't I'll we've you're he'd I'm it's", "DON'T CAN'T I'LL", "it’s",
    "0", "1234567890", "3.14159", "1,000,000.00", "x1y22z333", "٣٤٥", "½ ² Ⅷ 四", "e=mc²",
    "naïve café Ångström", "cafe\u0301", "e\u0301\u0327\u0323", "ﬁ ﬂ ﬃ", "İstanbul ıI", "ẞß", "Ǆ ǅ ǆ",
    "你好，世界。", "日本語のテキスト", "한국어 텍스트", "ไทยไม่เว้นวรรค", "العربية ١٢٣", "עברית", "हिन्दी क्षत्रिय", "Ελληνικά", "русский текст",
    "🙂", "👨‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "👍🏽", "✌️", "a\u200bb", "a\u200db", "\ufeffbom", "a\u00a0b", "a\u2003b\u3000c", "a\u2028b\u2029c", "a\x85b",
    "\x00", "a\x00b", "\x01\x02\x1f\x7f", "\u0080\u009f", "\ufffd", "\U0010ffff", "\ue000", "\U000e0041",
    "a\rb", "a\r", "\r\r", "trailing   ", "   leading", "a  b   c    d", "a \t b", "\x0b\x0c",
    "<|im_start|>user", "<|im_start|>user<|im_end|>", "<|endoftext|>", "<|im_start", "x<|im_end|>y", " <|im_end|> ", "<|im_start|><|im_start|>", "<|IM_START|>",
    "<repo_name>a<file_sep>b", "<jupyter_start>", "<unk>", "<s>", "</s>", "<empty_output>",
    "https://example.org/a?b=c&d=%20#e", "user@example.org", "C:\\path\\file.txt", "/usr/lib/x.so.1", "for (int i = 0; i < n; ++i) { a[i] += b[i]; }",
    "    def f(x):", "\t\tif x:", "{\"a\": [1, 2, null]}", "<div class=\"x\">", "#!/bin/sh", "____init____", "camelCaseHTTPServer", "--flag=value",
    "!!!???...", "—–-", "“quotes” ‘single’", "$100 €5 £3 ¥7", "a'b'c", "'''", "'s", " 's", "'S 'T 'RE 'VE", "''s", "x'", "'llama", "…", "¿qué?", "№", "™®©",
    "a" * 300, "ab" * 200, " " * 100, "=" * 80, "é" * 100, "🙂" * 30, "9" * 50, "The " * 50, "aA" * 50 + " " + "bB" * 50,
]


def test_ids(tokenizer):
    lines = [text for _, text in reviews()]
    raw = REVIEWS.read_bytes().decode("latin-1").split("\n")  # with tabs, numbers and carriage returns
    rng = random.Random(1)
    blocks = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x600, 0xDFF), (0x1E00, 0x20CF), (0x2100, 0x2BFF), (0x3000, 0x30FF),
              (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF)]

    def mixed():
        out = []
        while len(out) < rng.randint(1, 60):
            lo, hi = rng.choice(blocks)
            out += [chr(rng.randint(lo, hi)) for _ in range(rng.randint(1, 8))] + [" "] * rng.choice([0, 0, 1, 1, 3])
        return "".join(out)

    random_lines = [mixed() for _ in range(1500)]
    groups = dict(reviews=lines, raw_lines=raw, edge_cases=EDGE, random_Unicode=random_lines)
    texts = [t for g in groups.values() for t in g]
    assert len(lines) >= 10_000 and not any("\n" in t for t in texts)
    out = tabtune("tokenize", "--model", MODEL, stdin="".join(t + "\n" for t in texts).encode()).decode().split("\n")
    got = [json.loads(x) for x in out if x]
    assert len(got) == len(texts)
    wrong = [(t, g, w.ids) for t, g, w in zip(texts, got, tokenizer.encode_batch(texts, add_special_tokens=False)) if g != w.ids]
    note("tokenizer, lines with the ids of Hugging Face tokenizers", **{k: f"{len(g):,}" for k, g in groups.items()}, different=len(wrong))
    assert not wrong, f"{len(wrong)} of {len(texts)} lines differ, first: {wrong[0]}"
