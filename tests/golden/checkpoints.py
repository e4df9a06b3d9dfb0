"""Writes the cases as Hugging Face checkpoint directories, with nothing but NumPy, in either dialect of config.json."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golden.cases import CASES, WORDS, values
from tokenizer import worlds

DATA = Path(__file__).parent / "data"
DIALECTS = ("published", "current")
Array = np.ndarray[Any, Any]


def recorded(case: str) -> dict[str, Any]:
    """`config` as transformers writes it today, and `tensors`: every name and shape."""
    description: dict[str, Any] = json.loads((DATA / f"{case}.json").read_text("utf-8"))
    return description


def config_of(case: str, dialect: str) -> dict[str, Any]:
    """config.json of a case."""
    return dict(CASES[case]) if dialect == "published" else dict(recorded(case)["config"])


def weights_of(case: str) -> dict[str, Array]:
    """Every tensor of a case, float32, in the order of the checkpoint."""
    return {name: values(case, name, tuple(shape)) for name, shape in recorded(case)["tensors"].items()}


def write_checkpoint(
    folder: Path,
    case: str,
    dialect: str = "published",
    *,
    rename: Callable[[str], str] = lambda name: name,
    **changes: Any,
) -> Path:
    """A whole checkpoint directory; `changes` are made to its config.json."""
    config = {**config_of(case, dialect), **changes}
    weights = {rename(name): array for name, array in weights_of(case).items()}
    return write_directory(folder, config, weights, words=case in WORDS)


def write_wide(folder: Path, case: str, **changes: Any) -> Path:
    """A case with rows of 256 and 512, which K types need; the vocabulary stays, other sizes double."""
    doubled = ("hidden_size", "head_dim", "query_pre_attn_scalar")
    config = {
        key: value * 2 if value and key in doubled else value for key, value in config_of(case, "published").items()
    }
    size = lambda n: {320: 320, 224: 512, 448: 1024, 2: 2, 5: 5}.get(n, 2 * n)  # noqa: E731
    shapes = {name: tuple(map(size, shape)) for name, shape in recorded(case)["tensors"].items()}
    if "embeddings.position_embeddings.weight" in shapes:
        config["max_position_embeddings"] *= 2
    weights = {name: values(case, name, shape) for name, shape in shapes.items()}
    return write_directory(folder, {**config, "intermediate_size": 512, **changes}, weights, words=case in WORDS)


def write_directory(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Array], *, words: bool) -> Path:
    """config.json, weights and a tokenizer: WordPiece with `words`, RWKV's World, else byte-level BPE."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    write_safetensors(folder / "model.safetensors", weights)
    size = config.get("text_config", config).get("vocab_size") or config["vocab_size"]
    if config.get("model_type") == "rwkv7":
        (folder / "rwkv_vocab_v20230424.txt").write_text(worlds.lines(worlds.tokens()), "utf-8")
        return folder
    tokenizer = word_pieces(size) if words else byte_pairs(size)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(BERT_SETTINGS if words else BPE_SETTINGS), "utf-8")
    return folder


SAFETENSORS = {"uint8": "U8", "float32": "F32", "float16": "F16", "int64": "I64", "uint16": "BF16"}
"""Names of element types; bfloat16 is given as its bits."""


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A safetensors file: the header's length, the header, the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": SAFETENSORS[array.dtype.name], "shape": array.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).tobytes())


SPECIAL = ("<bos>", "<eos>", "<pad>", "<unk>")
BPE_SETTINGS = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": True}
BERT_SETTINGS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
BERT_SETTINGS["tokenizer_class"] = "BertTokenizer"
SPLIT_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def alphabet() -> list[str]:
    """The character that stands for each byte in byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(256 + others.index(b)) if b in others else chr(b) for b in range(256)]


def byte_pairs(size: int) -> dict[str, Any]:
    """tokenizer.json of a byte-level BPE with the split of Llama 3: bytes, pairs of letters, special tokens."""
    pairs = [(a, b) for a in "etaoinsrhl" for b in "etaoinsrhldcumfp"][: size - 256 - len(SPECIAL)]
    tokens = [*alphabet(), *(a + b for a, b in pairs), *SPECIAL]
    split = {"type": "Split", "pattern": {"Regex": SPLIT_LLAMA3}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    merges = [f"{a} {b}" for a, b in pairs]
    vocabulary = {text: i for i, text in enumerate(tokens)}
    return {
        **{"version": "1.0", "truncation": None, "padding": None},
        "added_tokens": [_added(vocabulary[text], text) for text in SPECIAL],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_]},
        "post_processor": _around(vocabulary, "<bos>"),
        "decoder": {**bytes_, "use_regex": True},
        "model": {"type": "BPE", **BPE_OPTIONS, "vocab": vocabulary, "merges": merges},
    }


def word_pieces(size: int) -> dict[str, Any]:
    """tokenizer.json of a WordPiece: special tokens, letters at the start and inside of words, made-up words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    words += [f"w{i}" for i in range(size - len(words))]
    vocabulary = {word: i for i, word in enumerate(words)}
    cleaning = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    options = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {
        **{"version": "1.0", "truncation": None, "padding": None},
        "added_tokens": [_added(i, words[i]) for i in range(5)],
        "normalizer": {"type": "BertNormalizer", **cleaning},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _around(vocabulary, "[CLS]", "[SEP]"),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", **options, "vocab": vocabulary},
    }


BPE_OPTIONS = {
    **{"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None},
    **{"fuse_unk": False, "byte_fallback": False, "ignore_merges": False},
}


def _added(identity: int, text: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": identity, "content": text, **plain, "special": True}


def _around(vocabulary: Mapping[str, int], first: str, *last: str) -> dict[str, Any]:
    """The post-processor that puts special tokens around a text, and between two."""
    special = [[{"SpecialToken": {"id": text, "type_id": 0}} for text in texts] for texts in ([first], last)]
    sequence = lambda name: [{"Sequence": {"id": name, "type_id": 0}}]  # noqa: E731
    single = special[0] + sequence("A") + special[1]
    tokens = {text: {"id": text, "ids": [vocabulary[text]], "tokens": [text]} for text in (first, *last)}
    pair = single + sequence("B") + special[1]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}
