"""The beginning of a new architecture: what of a checkpoint is like one that is known, and a file to go on from."""

from __future__ import annotations

import importlib
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna import arch as archs
from puna.arch.base import Architecture
from puna.create.checkpoint import Checkpoint, open_checkpoint, read_parts
from puna.create.config import class_of
from puna.create.heeded import unheeded
from puna.create.original import Original, open_like
from puna.create.prequantized import unpack
from puna.create.structure import Likeness, like_names, pattern, said_of
from puna.dtypes import Stored
from puna.errors import ConversionError, PunaError

NAME = re.compile(r"[a-z][a-z0-9_-]*")
LEAST = 0.5
"""The share of tensors below which nothing is like another."""

PARTS = """
    HF_DEFAULTS HF_REQUIRES HF_PREFIXES HF_IGNORED HF_ONLY HF_TENSORS GGUF_IGNORED Hparams Block Network caches
    forward attention feed_forward HF_NAMES from_hf hparams_from_hf extra_tensors
"""
"""What a file takes from its sibling, where that has it, in this order."""


@dataclass(frozen=True, slots=True)
class Start:
    """A checkpoint that names the unknown class `hf_class`, and what it is like, the chosen or the likest first.

    `alike`: classes that it can be read as, for tensors, shapes and config say nothing that they do not have, and its
    checkpoint read as the first of them; else `reasons` says what stands against the likest.
    """

    name: str
    root: Path
    hf_class: str
    found: Sequence[Likeness]
    tensors: Mapping[str, Stored]
    alike: Mapping[str, Architecture]
    original: Original | None
    reasons: Mapping[str, str]
    strange: Sequence[str]

    @property
    def closest(self) -> Likeness:
        """What a file begins from."""
        return self.found[0]


def start(name: str, root: Path, like: str | None = None) -> Start:
    """Compare the checkpoint in `root` with what is known; `like` names the only architecture to compare with.

    ConversionError for a name that is taken or cannot be one, and for a class that is known.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConversionError(f"new-arch: '{name}' can be no architecture's name; small letters, digits, _ and - work")
    if name in archs.names():
        raise ConversionError(f"new-arch: '{name}' is known already; `puna show --archs` lists all")
    config, weights, _ = read_parts(root)
    hf_class = class_of(root, config)
    if known := [arch.name for arch in map(archs.find, archs.names()) if hf_class in arch.hf_classes]:
        raise ConversionError(f"new-arch: '{hf_class}' is converted already, as '{known[0]}'; `puna convert` does it")
    tensors = unpack(config, weights)
    found = like_names(tensors)
    if like:
        wanted = archs.find(like)
        found.sort(key=lambda each: each.arch is not wanted)
    if not like and found[0].share < LEAST:
        raise ConversionError(f"new-arch: {said_of(found)}; --like ARCH begins from one all the same")
    same = [each for each in (found[:1] if like else found) if each.share == 1]
    alike, reasons, original = _read_as(root, hf_class, config, same)
    strange = _strange(found[0].arch, config)
    return Start(name, root, hf_class, found, tensors, alike, original, reasons, strange)


def _read_as(
    root: Path, hf_class: str, config: Mapping[str, Any], same: Iterable[Likeness]
) -> tuple[dict[str, Architecture], dict[str, str], Original | None]:
    alike: dict[str, Architecture] = {}
    reasons: dict[str, str] = {}
    original: Original | None = None
    for likeness in same:
        arch = likeness.arch
        for each in _classes(arch, hf_class):
            try:
                opened = open_like(root, each)
                left = unheeded(arch, {**config, "architectures": [each]})
            except PunaError as error:
                reasons[arch.name] = str(error)
                continue
            if left:
                reasons[arch.name] = f"config.json says {', '.join(map(repr, left))}, which {arch.name} does not heed"
                continue
            alike[each], original = arch, original or opened
            break
    return alike, reasons, original


def _classes(arch: Architecture, hf_class: str) -> list[str]:
    """Classes of an architecture for the same task; those first that heed a window, where one is said."""
    task = hf_class.partition("For")[2]
    return sorted(
        (each for each in arch.hf_classes if each.partition("For")[2] == task), key=lambda c: c[:5] == "Llama"
    )


def _strange(arch: Architecture, config: Mapping[str, Any]) -> list[str]:
    try:
        return unheeded(arch, {**config, "architectures": [arch.hf_classes[0]]})
    except PunaError:
        return []


def open_alike(root: Path, arch: str) -> Checkpoint:
    """A checkpoint of an unknown class as what it was converted as: of this architecture."""
    config, _, _ = read_parts(root)
    classes = _classes(archs.find(arch), class_of(root, config))
    return open_checkpoint(root, like=classes[0] if classes else None)


# ---- the file -------------------------------------------------------------------------------------------------------


def text_of(begun: Start) -> str:
    """A file that imports, is its sibling by another name, and says what is left to do."""
    sibling = begun.closest.arch
    module = sibling.name.replace("-", "_")
    has = importlib.import_module(f"puna.arch.{module}")
    parts = {part: f"{module}.{part}" for part in PARTS.split() if hasattr(has, part)}
    if begun.strange:
        refused = ", ".join(f'"{key}": (None,)' for key in begun.strange)
        parts["HF_REQUIRES"] = (
            f"{module}.HF_REQUIRES | {{{refused}}}" if hasattr(has, "HF_REQUIRES") else f"{{{refused}}}"
        )
    name = [] if "-" not in begun.name else [f'NAME = "{begun.name}"']
    lines = [
        f'"""{begun.name}: {sibling.name}, but ... (one line: what is different about this model).',
        "",
        *_wrapped(_left_to_do(begun)),
        "Reference: https://huggingface.co/docs/transformers (the paper, and the modeling file).",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        f"from puna.arch import {module}",
        "",
        *name,
        f'HF_CLASSES = ("{begun.hf_class}",)',
        *(f"{part} = {value}" for part, value in parts.items()),
    ]
    return "\n".join(lines) + "\n"


def _left_to_do(begun: Start) -> Iterator[str]:
    closest, shapes = begun.closest, {pattern(name): tensor.shape for name, tensor in begun.tensors.items()}
    yield f"Begun by `puna new-arch`. {len(closest.claimed)} kinds of tensors are as {closest.arch.name} has them."
    if closest.unclaimed:
        yield "These have no place in Block, Network and HF_NAMES yet, and conversion stops at them:"
    for name in closest.unclaimed:
        guess = _elsewhere(name, begun.found)
        yield f"    {name} {tuple(shapes[name])}" + (f": {guess}" if guess else "")
    if closest.missing:
        yield "These the sibling needs, and the checkpoint has not:"
    yield from (f"    {name}" for name in closest.missing)
    if begun.strange:
        yield "These keys of config.json it does not heed; HF_REQUIRES refuses them until they are implemented:"
    yield from (f"    {key}" for key in begun.strange)
    if reason := begun.reasons.get(closest.arch.name):
        yield f"Read as {closest.arch.name}: {reason}"


def _elsewhere(name: str, found: Sequence[Likeness]) -> str:
    """What another architecture calls a tensor."""
    for likeness in sorted(found, key=lambda each: -each.share):
        if given := likeness.claimed.get(name):
            return f"{', '.join(given)} in {likeness.arch.name}"
    return ""


def _wrapped(lines: Iterable[str], width: int = 118) -> Iterator[str]:
    """Lines that fit a docstring, cut at spaces, without what would end or change it."""
    for line in lines:
        rest = line.replace("\\", "/").replace('"""', "'''")
        indent = " " * (len(rest) - len(rest.lstrip()))
        while len(rest) > width and (at := rest.rfind(" ", len(indent) + 1, width)) > 0:
            yield rest[:at]
            rest = f"{indent}    {rest[at + 1 :]}"
        yield rest[:width]
