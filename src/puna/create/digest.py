"""A digest of what a file is made from: cheap, and the same on every machine.

    sha256 of   each tensor by name: name, type, shape, its first and last 4096 bytes
                config.json and every file of the tokenizer and of generation: name and content
                (of a GGUF file: its metadata instead)

Two fine-tunes of one base differ in it, as does one checkpoint before and after any change of configuration; how it is
cut into files does not matter. It is no proof that every byte in the middle of a tensor is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from puna.create.prequantized import Unpacked
from puna.dtypes import Stored
from puna.formats.mapped import MappedTensor

SAMPLE = 4096

FILES = (
    *("config.json", "generation_config.json", "params.json", "hf_quant_config.json", "quantize_config.json"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("spiece.model", "sentencepiece.bpe.model", "spm.model", "tiktoken.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "tekken.json", "chat_template.jinja", "chat_template.json"),
    *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "adapter_config.json"),
)
"""Files that the output depends on besides weights; *.tiktoken, rwkv_vocab_*.txt and nested config.json
files are found by their form."""


def digest_of(tensors: Mapping[str, Stored], contents: Iterable[tuple[str, bytes]]) -> str:
    """`sha256:<hex>` of tensors and of what else the output follows from, both in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        _add_tensor(total, name, tensors[name])
    for name, content in sorted(contents):
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return f"sha256:{total.hexdigest()}"


def files_of(root: Path) -> list[tuple[str, bytes]]:
    """Names and contents of the files in a checkpoint directory that count."""
    found = [root / name for name in FILES] + sorted(root.glob("*.tiktoken")) + sorted(root.glob("*/config.json"))
    found += sorted(root.glob("rwkv_vocab_*.txt"))
    found += sorted(root.glob("additional_chat_templates/*.jinja"))
    return [(path.relative_to(root).as_posix(), path.read_bytes()) for path in found if path.is_file()]


def _add_tensor(total: hashlib._Hash, name: str, tensor: Stored) -> None:
    total.update(f"{name}\0{tensor.dtype.name}\0{tensor.shape}\0".encode())
    if isinstance(tensor, Unpacked):
        for role, part in sorted(tensor.parts.items()):
            _add_tensor(total, role, part)
    elif isinstance(tensor, MappedTensor):
        raw = tensor.raw
        total.update(raw[:SAMPLE].tobytes())
        total.update(raw[max(SAMPLE, raw.size - SAMPLE) :].tobytes())
    elif tensor.dtype.nbytes(tensor.shape) <= 1 << 24:  # a view with strides: what is large would have to be copied
        total.update(tensor.raw.tobytes())
