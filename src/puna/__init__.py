"""Puna: any published model checkpoint becomes one GGUF file, and runs.

    import puna
    model = puna.load("smollm2")
    for chunk in model.chat([{"role": "user", "content": "Why is the sky blue?"}]):
        print(chunk.text, end="")

Names are imported when they are first used, so that `import puna` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.create import create
    from puna.create.convert import ConversionReport, convert
    from puna.create.modelfile import Modelfile, parse_modelfile
    from puna.errors import PunaError
    from puna.formats.gguf import GGUF, open_gguf
    from puna.generation import Chunk
    from puna.model import Model, load
    from puna.quants import dequantize, quantize
    from puna.rendering import render
    from puna.store import Store
    from puna.store.name import ModelName
    from puna.template import Message

__version__ = "0.1.0"

_HOMES = {
    "GGUF": "puna.formats.gguf",
    "Chunk": "puna.generation",
    "ConversionReport": "puna.create.convert",
    "Message": "puna.template",
    "Model": "puna.model",
    "ModelName": "puna.store.name",
    "Modelfile": "puna.create.modelfile",
    "PunaError": "puna.errors",
    "Store": "puna.store",
    "convert": "puna.create.convert",
    "create": "puna.create",
    "dequantize": "puna.quants",
    "load": "puna.model",
    "open_gguf": "puna.formats.gguf",
    "parse_modelfile": "puna.create.modelfile",
    "quantize": "puna.quants",
    "render": "puna.rendering",
}

__all__ = [
    "GGUF",
    "Chunk",
    "ConversionReport",
    "Message",
    "Model",
    "ModelName",
    "Modelfile",
    "PunaError",
    "Store",
    "convert",
    "create",
    "dequantize",
    "load",
    "open_gguf",
    "parse_modelfile",
    "quantize",
    "render",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'puna' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
