"""What `general.name` and `general.size_label` say of a checkpoint, from its contents: its folder's name says nothing.

config.json: _name_or_path "meta-llama/Llama-3.2-1B"      -> "Llama-3.2-1B"
README.md: model_name of its front matter, which comes first
else the architecture: "llama"
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import Any

from puna.dtypes import Stored

_ID = re.compile(r"[\w.-]+/([\w][\w.-]*)")
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_LINE = re.compile(r"^model_name:[ \t]*[\"']?([^\"'\n]+?)[\"']?[ \t]*$", re.MULTILINE)
PHI3 = re.compile(r"phi-?3", re.IGNORECASE)
"""Names of models whose tokens llama.cpp changes after loading."""

PHI3_TOKENS = ("</s>", "<unk>", "<s>", "<|endoftext|>")
"""Those tokens: without them it does not load a model that is called so."""

_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def model_name(root: Path, arch: str, config: Mapping[str, Any], tokens: Collection[str]) -> str:
    """The model's name, the same wherever the checkpoint lies; Phi 4 is of Phi 3's architecture, but not called so."""
    return _card_name(root) or _hub_name(config) or (arch.rstrip("3") if is_misnamed(arch, tokens) else arch)


def is_misnamed(name: str, tokens: Collection[str]) -> bool:
    """Whether llama.cpp refuses these tokens under this name."""
    return bool(PHI3.search(name)) and not set(PHI3_TOKENS) <= set(tokens)


def _card_name(root: Path) -> str:
    try:
        front = _FRONT.match((root / "README.md").read_text("utf-8", "replace"))
    except OSError:
        return ""
    found = _LINE.search(front[1]) if front else None
    return found[1] if found else ""


def _hub_name(config: Mapping[str, Any]) -> str:
    said = config.get("_name_or_path")
    found = _ID.fullmatch(said) if isinstance(said, str) else None
    return found[1] if found and found[1] not in (".", "..") else ""


def size_label(tensors: Mapping[str, Stored]) -> str:
    """ "1.2B", or "8x7B" for stacked experts: how many there are, and the size of a model with one of them."""
    experts = {name: tensor for name, tensor in tensors.items() if name.endswith("_exps.weight")}
    total = sum(prod(tensor.shape) for tensor in tensors.values())
    if not experts:
        return _rounded(total)
    count = max(tensor.shape[0] for tensor in experts.values())
    routed = sum(prod(tensor.shape) for tensor in experts.values())
    return f"{count}x{_rounded(total - routed + routed // count)}"


def _rounded(count: int) -> str:
    scale, unit = next((each for each in _UNITS if count >= each[0]), _UNITS[-1])
    scaled = count / scale
    return f"{scaled:.{max(2 - len(str(round(scaled)).lstrip('0')), 0)}f}{unit}"
