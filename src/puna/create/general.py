"""What `general.name` and `general.size_label` say of a checkpoint, from its contents: its folder's name says nothing.

config.json: _name_or_path "meta-llama/Llama-3.2-1B"      -> "Llama-3.2-1B"
README.md: model_name, else base_model of its front matter
else the architecture and the size: "llama 1.2B"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from puna.dtypes import Stored

_ID = re.compile(r"[\w.-]+/([\w][\w.-]*)")
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_LINE = re.compile(r"^model_name:[ \t]*[\"']?([^\"'\n]+?)[\"']?[ \t]*$", re.MULTILINE)
_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def model_name(root: Path, arch: str, config: Mapping[str, Any]) -> str:
    """The model's name, the same wherever the checkpoint lies."""
    return _card_name(root) or _hub_name(config) or arch


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
    experts = {name: tensor for name, tensor in tensors.items() if "_exps." in name}
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
