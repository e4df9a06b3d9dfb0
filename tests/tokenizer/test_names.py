"""The pre-tokenizer names of llama.cpp's converter, each against `tokenizers` with the patterns that models publish."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from puna.tokenizer import load_tokenizer, tokenizer_from_hf
from puna.tokenizer.pretokenize import SCHEMES, find_scheme, find_split
from puna.tokenizer.recognize import find_name
from tokenizer.corpus import CODE, EMOJI, NASTY, SCRIPTS, WORDS
from tokenizer.vocabularies import TEXTS, splits

ENDS = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + ENDS
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + ENDS
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + ENDS
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + ENDS
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + ENDS
)
KIMI = (
    r"[\p{Han}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + ENDS
)
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    + ENDS,
)
SEED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+" + ENDS
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
EXAONE_MOE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
JAIS2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)"
    r"|\s{1,2}(?!\S)|\s{1}"
)

PUBLISHED: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "llama3": ((CL100K,), True, "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano"),
    "glm": ((CL100K,), True, "glm4"),
    "cl100k": ((CL100K,), False, "dbrx smaug-bpe chatglm-bpe"),
    "qwen2": ((QWEN2,), False, "qwen2 stablelm2 megrez deepseek-r1-qwen kormo f2llmv2 hunyuan grok-2 solar-open"),
    "qwen35": ((QWEN35,), False, "qwen35"),
    "o200k": ((O200K,), False, "gpt-4o llama4 kanana2 talkie minimax-m2"),
    "granite-embedding": ((O200K,), True, "granite-embed-multi-97m"),
    "tekken": ((TEKKEN,), True, "tekken"),
    "kimi": ((KIMI,), False, "kimi-k2"),
    "aya": ((r"\d{1,3}(?=(?:\d{3})*\b)", O200K), False, "tiny_aya cohere2moe"),
    "deepseek3": (DEEPSEEK3, False, "deepseek-v3 hunyuan-dense joyai-llm hy_v4"),
    "seed": ((SEED,), False, "seed-coder"),
    "gpt2": (
        *((GPT2,), False),
        "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code gigachat a.x-4.0 mellum modern-bert "
        "roberta-bpe jais exaone4 trillion granite-docling mpt olmo",
    ),
    "digits": ((r"\p{N}", GPT2), False, "smollm starcoder refact codeshell exaone minerva-7b command-r mellum2"),
    "minicpm5": ((r"\p{N}{1,3}", CL100K.replace("{1,3}", "+")), True, "minicpm5"),
    "exaone-moe": ((EXAONE_MOE,), False, "exaone-moe"),
    "jais2": ((JAIS2,), False, "jais-2"),
    "superbpe": ((r"\p{N}+", r"(?=(\d{3})+(?!\d))"), False, "superbpe"),
}
"""By family: the patterns in tokenizer.json, in order; `ignore_merges`; what llama.cpp's converter calls it."""

NAMED = [(family, name) for family, (_, _, names) in PUBLISHED.items() for name in names.split()]
OTHERS = ("default", "falcon", "bloom", "gpt3-finnish", "poro-chat", "viking", "chameleon", "deepseek-llm")
OTHERS += ("deepseek-coder", "bailingmoe", "bailingmoe2", "llada-moe", "youtu", "spark2_5", "laguna", "ufakzeka")
OTHERS += ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "mmbert", "whitespace", "glm5")
"""Names whose patterns other tests are about, or that are spelled in llama.cpp's own way."""

TRICKY = [
    *NASTY,
    *SCRIPTS,
    *EMOJI,
    *CODE,
    *WORDS,
    "1234567 12 1.5e10",
    " " * 700 + "x",
    "a" + " " * 11,
    "DON'T don't\n\n x",
]


@pytest.mark.parametrize(("family", "name"), NAMED)
def test_a_name_splits_as_the_published_patterns_do(family: str, name: str) -> None:
    patterns, whole, _ = PUBLISHED[family]
    theirs = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
    ours = find_split(find_scheme(name).patterns)
    for text in TRICKY:
        assert ours(text) == [piece for piece, _ in theirs.pre_tokenize_str(text)], repr(text)
    assert find_scheme(name).whole_words == whole


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_pre_tokenizer_is_converted_under_a_name_that_splits_alike(family: str) -> None:
    patterns, whole, _ = PUBLISHED[family]
    steps = splits(*patterns)
    found = find_name(json.loads(steps.__getstate__()), None, whole)
    assert found.problem is None
    assert (found.name, SCHEMES[found.name].whole_words) in {(n, whole) for _, n in NAMED}
    ours = find_split(find_scheme(found.name).patterns)
    theirs = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(p), "isolated") for p in patterns])
    assert all(ours(text) == [piece for piece, _ in theirs.pre_tokenize_str(text)] for text in TRICKY)


def test_every_name_is_held_to_something() -> None:
    assert sorted(SCHEMES) == sorted({name for _, name in NAMED} | set(OTHERS))


def trained(model: Any, pre_tokenizer: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def metadata_of(tokenizer: Tokenizer, model: str, pre: str, **more: Any) -> dict[str, Any]:
    """As llama.cpp's converter writes it."""
    spec = json.loads(tokenizer.to_str())
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    keys = {"model": model, "pre": pre, "tokens": tokens, "token_type": [2, 3, 3] + [1] * (len(tokens) - 3)}
    keys |= {"merges": merges, "unknown_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "add_bos_token": False}
    return {f"tokenizer.ggml.{key}": value for key, value in {**keys, **more}.items()}


def test_mmbert_puts_a_space_before_every_line_and_begins_words_with_spaces() -> None:
    theirs = trained(models.BPE(unk_token="<unk>"), pre_tokenizers.Metaspace(prepend_scheme="always"))
    ours = load_tokenizer(metadata_of(theirs, "gpt2", "mmbert"))
    known = set("".join(TEXTS)) - set("\n")

    def words(line: str) -> list[str]:
        line = line.replace(" ", "▁")
        starts = [i for i, c in enumerate(line) if c == "▁"] + [len(line)]
        first = [("▁" + line)[: starts[0] + 1]] if line[0] != "▁" else []
        return first + [line[a:b] for a, b in pairwise(starts)]

    for text in [*TRICKY, "two  lines\n of\ntext", " a", "▁a▁▁b"]:
        line = "".join(c for c in text if c in known)
        expected = [token.id for word in (words(line) if line else []) for token in theirs.model.tokenize(word)]
        assert ours.encode(line, special=False) == expected, repr(line)
    line = [token.id for word in ("▁two", "▁lines") for token in theirs.model.tokenize(word)]
    assert ours.encode("two lines\ntwo lines", special=False) == [*line, theirs.token_to_id("\n"), *line]


@pytest.mark.parametrize("lowercase", [False, True])
def test_white_space_separates_words_and_is_left_out(lowercase: bool) -> None:
    """Its pre-tokenizer also separates letters from signs, which no merge joins either."""
    normalizer = normalizers.Lowercase() if lowercase else None
    theirs = trained(models.BPE(unk_token="<unk>"), pre_tokenizers.Whitespace(), normalizer)
    metadata = metadata_of(theirs, "whitespace", "whitespace", **{"normalizer.lowercase": lowercase})
    ours = load_tokenizer(metadata)
    for text in TRICKY:
        ids = ours.encode(text, parse_special=True, add_bos=False, add_eos=False)
        assert ids == theirs.encode(text).ids, repr(text)


@pytest.mark.parametrize("split", [pre_tokenizers.Whitespace(), pre_tokenizers.WhitespaceSplit()])
def test_a_tokenizer_that_leaves_out_spaces_becomes_a_gguf_with_the_same_ids(split: Any, tmp_path: Path) -> None:
    theirs = trained(models.BPE(unk_token="<unk>"), split, normalizers.Lowercase())
    theirs.save(str(tmp_path / "tokenizer.json"))
    found = tokenizer_from_hf(tmp_path, {})
    assert not found.warnings
    assert found.metadata["tokenizer.ggml.model"] == found.metadata["tokenizer.ggml.pre"] == "whitespace"
    ours = load_tokenizer(found.metadata)
    for text in TRICKY:
        ids = ours.encode(text, parse_special=True, add_bos=False, add_eos=False)
        assert ids == theirs.encode(text, add_special_tokens=False).ids, repr(text)
