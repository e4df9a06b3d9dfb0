"""A `tokenizer.json` made of the files that came before it: vocab.json with merges.txt, and vocab.txt.

It does not know added tokens beyond those that these files' own classes add.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from puna.errors import ConversionError, FormatError
from puna.tokenizer.pretokenize import find_scheme

_BERT = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
_ROLES = ("bos", "eos", "unk", "pad", "sep", "cls")
_ENDED = ("roberta", "bart", "mpnet", "longformer", "deberta", "led", "blenderbot")  # <s> text </s>


def from_merges(vocab: Mapping[str, int], merges: str, settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The tokenizer of a vocab.json and the text of a merges.txt, as GPT-2's class makes it.

    `settings` is tokenizer_config.json; `kind` is the config's model_type: of RoBERTa's kin, texts have ends.
    """
    spec: dict[str, Any] = {
        "model": {"type": "BPE", "vocab": dict(vocab), "merges": _pairs(merges)},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": bool(settings.get("add_prefix_space", False))},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": _added(vocab, ["<|endoftext|>", *(settings.get(f"{role}_token") for role in _ROLES)]),
    }
    if settings.get("tokenizer_class", "").startswith("Qwen2") or kind.startswith("qwen"):
        spec |= _split_as("qwen2")
    cls, sep = settings.get("cls_token") or "<s>", settings.get("sep_token") or "</s>"
    if any(name in kind for name in _ENDED) and cls in vocab and sep in vocab:
        spec["added_tokens"] = _added(
            vocab, ["<s>", "</s>", "<pad>", "<unk>"], [settings.get("mask_token") or "<mask>"]
        )
        spec["post_processor"] = _ends(cls, sep, vocab)
    return _whole(spec)


def from_words(words: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer of a vocab.txt, as BERT's class makes it; `settings` is tokenizer_config.json."""
    vocab = {word: i for i, word in enumerate(words)}
    unknown = settings.get("unk_token") or "[UNK]"
    if unknown not in vocab:
        raise FormatError(f"reading vocab.txt: there is no {unknown}; a vocabulary of BERT's kind has it")
    spec: dict[str, Any] = {
        "model": {
            **{"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##"},
            **{"max_input_chars_per_word": 100, "vocab": vocab},
        },
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
            "strip_accents": settings.get("strip_accents"),
            "lowercase": bool(settings.get("do_lower_case", True)),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "added_tokens": _added(vocab, _BERT),
    }
    cls, sep = settings.get("cls_token") or "[CLS]", settings.get("sep_token") or "[SEP]"
    if cls in vocab and sep in vocab:
        spec["post_processor"] = _ends(cls, sep, vocab)
    return _whole(spec)


def _pairs(merges: str) -> list[list[str]]:
    lines = [line.rstrip("\r") for line in merges.split("\n")]
    pairs = [line.split(" ") for line in lines[lines[0].startswith("#version") :] if line]
    for pair in pairs:
        if len(pair) != 2:
            raise FormatError(f"reading merges.txt: {' '.join(pair)!r} is no merge; two tokens in a line would work")
    if any(right.endswith("</w>") for _, right in pairs):
        raise ConversionError(
            "merges.txt: it marks the ends of words with </w>, as CLIP's does, and does not say how text becomes words;"
            " the model's tokenizer.json would work"
        )
    return pairs


def _split_as(name: str) -> dict[str, Any]:
    """The normalizer and the pre_tokenizer of a name in GGUF."""
    scheme = find_scheme(name)
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    steps = [{**split, "pattern": {"Regex": pattern}} for pattern in scheme.patterns]
    return {
        "normalizer": {"type": scheme.normalize} if scheme.normalize else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, letters]},
    }


def _added(vocab: Mapping[str, int], tokens: Sequence[Any], left: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Entries for the special `tokens` in `vocab`; those in `left` swallow white space to their left."""
    found = sorted({token for token in (*tokens, *left) if token in vocab}, key=lambda token: vocab[token])
    plain = {"single_word": False, "rstrip": False, "normalized": False, "special": True}
    return [{"id": vocab[token], "content": token, "lstrip": token in left, **plain} for token in found]


def _ends(cls: str, sep: str, vocab: Mapping[str, int]) -> dict[str, Any]:
    before, after = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (cls, sep))
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [before, text[0], after],
        "pair": [before, text[0], after, text[1], after],
        "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in (cls, sep)},
    }


def _whole(spec: dict[str, Any]) -> dict[str, Any]:
    absent = ("truncation", "padding", "normalizer", "post_processor")
    model = {
        **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
        "fuse_unk": False,
    }
    if spec["model"]["type"] == "BPE":
        spec["model"] = {**model, "byte_fallback": False, "ignore_merges": False, **spec["model"]}
    for step in (spec["pre_tokenizer"], spec["decoder"]):
        if step["type"] == "ByteLevel":
            step.update({"add_prefix_space": False, "trim_offsets": True, "use_regex": True, **step})
    return {"version": "1.0", **dict.fromkeys(absent), **spec}
