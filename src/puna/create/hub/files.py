"""Which files of a repository are wanted, by their names alone: one GGUF model among many, or a checkpoint's."""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from puna.create.source import select_files
from puna.errors import ConversionError, StoreError
from puna.formats.gguf_shards import SHARD, sets_of

PREFERRED = (
    *("Q4_K_M", "Q4_K_S", "Q4_K_XL", "Q4_K_L", "Q4_0", "Q4_1", "IQ4_NL", "IQ4_XS", "MXFP4_MOE", "MXFP4", "NVFP4"),
    *("Q5_K_M", "Q5_K_S", "Q5_0", "Q5_1", "Q6_K", "Q8_0", "Q3_K_L", "Q3_K_M", "Q3_K_S", "IQ3_M", "Q2_K"),
    *("BF16", "F16", "F32"),
)
"""What is taken where nobody says: the first that is there, Ollama's default foremost."""

BESIDE = ("template", "system", "params")
"""Files of a repository that are layers of the model, as the hub hands them to Ollama."""

_SMALL = (
    *("README.md", "merges.txt", "vocab.txt", "*.tiktoken", "tiktoken.model", "additional_chat_templates/*.jinja"),
    *("spiece.model", "sentencepiece.bpe.model", "spm.model"),
)
"""Of a checkpoint, what conversion reads besides: the model's card for its name, older tokenizers, templates."""

_QUANT = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|FP16|F32|FP32))$",
    re.IGNORECASE,
)


def quant_of(name: str) -> str:
    """The quantization that a GGUF file's name ends in, or its folder is called; '' where neither says."""
    path = PurePosixPath(name)
    match = SHARD.fullmatch(path.name)
    stem = match[1] if match else path.name.removesuffix(".gguf")
    found = _QUANT.search(stem) or _QUANT.search(path.parent.name)
    return found[1].upper().replace("FP16", "F16").replace("FP32", "F32") if found else ""


def ggufs_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The GGUF models among files, each with its shards; projectors and importance matrices are none."""
    models = [name for name in names if name.lower().endswith(".gguf")]
    besides = ("mmproj", "imatrix")
    return sets_of(name for name in models if not any(word in name.lower().rpartition("/")[2] for word in besides))


def choose_gguf(names: Iterable[str], quant: str | None, what: str) -> list[str]:
    """The files of the model that `quant` names, by its type or its file; else of the first that is preferred.

    StoreError lists what is there.
    """
    sets = ggufs_of(names)
    if quant is None or quant.lower() == "latest":
        ranked = sorted(sets, key=lambda name: (_rank(quant_of(name)), name))
        return sets[ranked[0]]
    wanted = quant.lower()
    ways: tuple[Callable[[str], bool], ...] = (
        lambda name: quant_of(name).lower() == wanted,
        lambda name: quant_of(name).lower() == f"ud-{wanted}",
        lambda name: PurePosixPath(name).name.lower() in (wanted, f"{wanted}.gguf"),
    )
    for fits in ways:
        found = [name for name in sets if fits(name)]
        if len(found) > 1:
            raise StoreError(f"{what}: {quant} may be {', '.join(found[:4])}; the name of one of these files works")
        if found:
            return sets[found[0]]
    raise StoreError(f"{what}: there is no {quant}; there are {_listed(sets)}")


def _rank(quant: str) -> int:
    plain = quant.removeprefix("UD-")
    return PREFERRED.index(plain) if plain in PREFERRED else len(PREFERRED)


def _listed(sets: Mapping[str, list[str]]) -> str:
    known = sorted({quant_of(name) or PurePosixPath(name).name for name in sets})
    return ", ".join(known[:40]) + (" ..." if len(known) > 40 else "")


def checkpoint_files(names: Iterable[str], what: str) -> list[str]:
    """The files of a checkpoint that an import takes, weights first; StoreError says what is there instead."""
    names = list(names)
    small = [name for name in names if any(fnmatchcase(name, pattern) for pattern in _SMALL)]
    try:
        return list(dict.fromkeys([*select_files(names), *small]))
    except ConversionError as error:
        shown = ", ".join(sorted(names)[:6]) or "nothing"
        raise StoreError(f"{what}: there are no weights, but {shown}; GGUF or safetensors files work") from error


def listed_weights(files: Iterable[str], weight_map: Mapping[str, str]) -> list[str]:
    """Those of a checkpoint's files that its index needs: the weights that it does not list are left out."""
    needed = set(weight_map.values())
    weights = (".safetensors", ".bin")
    return [name for name in files if not name.endswith(weights) or "/" in name or name in needed]
