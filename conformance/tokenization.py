"""SmolLM2's tokenizer, built with Hugging Face tokenizers from a GGUF."""

from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


def load(path):
    r = GGUFReader(path)
    field = lambda k: r.get_field("tokenizer.ggml." + k).contents()
    assert field("model") == "gpt2" and field("pre") == "smollm"
    tokens = field("tokens")
    merges = [tuple(m.split(" ")) for m in field("merges")]
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s, k in zip(tokens, field("token_type")) if k in (CONTROL, USER_DEFINED)])
    assert t.get_vocab_size() == len(tokens)
    return t
