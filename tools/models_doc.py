"""Writes docs/models.md from the architectures themselves:  python tools/models_doc.py"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from puna import arch as archs
from puna.arch.base import REQUIRES, Architecture, Biased, Weight
from puna.arch.hparams import FIELDS

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

PAGE = ROOT / "docs" / "models.md"
HEAD = """\
# Models

Made by `tools/models_doc.py` from `src/puna/arch/`; do not edit. Each architecture runs from a GGUF file whose
`general.architecture` is its name, and is converted from a Hugging Face checkpoint of one of its classes.
[How to add one](add-an-architecture.md).

What the second table says was taken from the graphs of tiny checkpoints that the tests make, with every feature of
the architecture in some of them. **Proven**: how many of them compute what transformers (5.23.0) does, in float32, to
1e-4 of the largest value; a stand-in is another class of transformers that computes the same of weights rearranged; or
what an independent reference in the tests does. **llama.cpp**: of how many its own converter writes the same tensors
and metadata.

| Architecture | Hugging Face classes | |
|---|---|---|
"""
FACTS = """
| Architecture | Kind | Attention | Positions | Memory | Proven | llama.cpp |
|---|---|---|---|---|---|---|
"""
ROPE = "rope.freq_base", "rope.dimension_count", "rope.scaling.*"


def page() -> str:
    """The text of docs/models.md."""
    from models_facts import facts  # beside this file; it knows the tests' cases

    found = [archs.find(name) for name in archs.names()]
    rows = [f"| [{a.name}](#{a.name}) | {', '.join(a.hf_classes)} | {_docstring(a).splitlines()[0]} |" for a in found]
    known = [f"| [{a.name}](#{a.name}) | {' | '.join(facts(a))} |" for a in found]
    sections = "\n".join("\n".join(_section(arch)) for arch in found)
    return HEAD + "\n".join(rows) + "\n" + FACTS + "\n".join(known) + "\n\n" + sections


def _docstring(arch: Architecture) -> str:
    return inspect.getdoc(importlib.import_module(f"puna.arch.{arch.name.replace('-', '_')}")) or ""


def _section(arch: Architecture) -> Iterator[str]:
    _, _, rest = _docstring(arch).partition("\n\n")
    yield f"## {arch.name}\n\n{rest or _docstring(arch)}\n"
    if arch.known:
        yield f"Published checkpoints, for instance: {', '.join(arch.known)}.\n"
    yield f"Metadata, after `{arch.name}.`: {', '.join(f'`{key}`' for key in _keys(arch))}.\n"
    hints = get_type_hints(arch.network, include_extras=True)
    kinds = [(blocks.prefix, *get_args(hints.pop(attribute))) for attribute, blocks in arch.blocks.items()]
    of_blocks = [f"`{prefix}.N`: {_tensors(get_type_hints(block, include_extras=True))}" for prefix, block in kinds]
    yield f"Tensors: {_tensors(hints)}; of each block {'; of each '.join(of_blocks)}.\n"
    if arch.hf_ignored:
        yield f"Tensors of a checkpoint that are left out: {', '.join(f'`{part}`' for part in arch.hf_ignored)}.\n"
    if arch.hf_lost:
        lost = "; ".join(f"`{part}`: {why}" for part, why in arch.hf_lost.items())
        yield f"Tensors that are left out though they change numbers, as conversion says: {lost}.\n"
    yield "Keys of config.json that have to be as listed, where they are there:\n\n| Key | |\n|---|---|"
    for key, values in arch.hf_requires.items():
        if key in REQUIRES:  # of packed weights, which are unpacked before an architecture sees them
            continue
        known = [f"`{value!r}`" for value in values if value is not None]
        yield f"| `{key}` | {', '.join(known) or 'only absent or null'} |"
    yield ""


def _keys(arch: Architecture) -> Iterator[str]:
    for field in fields(arch.hparams):
        if field.name == "rope":
            yield from ROPE
        elif keys := FIELDS[field.name].gguf.split():
            yield keys[0]


def _tensors(hints: dict[str, Any]) -> str:
    """Names of declared weights; `?` marks one that may be absent, `+ bias` one that needs its bias."""
    return ", ".join(_tensor(name, hint) for name, hint in hints.items())


def _tensor(name: str, hint: Any) -> str:
    if get_origin(hint) is Annotated:
        name, hint = hint.__metadata__[0].removesuffix(".weight"), hint.__origin__
    kinds = get_args(hint) or (hint,)
    groups = [kind for kind in kinds if is_dataclass(kind) and not issubclass(kind, Weight)]
    if groups:
        parts = [_tensors(get_type_hints(group, include_extras=True)) for group in groups]
        return parts[0] if len(parts) == 1 else f"either {' or '.join(f'({part})' for part in parts)}"
    return f"`{name}`" + (" + bias" if Biased in kinds else "") + ("?" if type(None) in kinds else "")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
