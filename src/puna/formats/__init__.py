"""Checkpoint files as lazy, mapped tensors: GGUF, safetensors, and PyTorch's in `torch_pickle`. It knows no names.

Names are imported when they are first used: who reads a model needs no writer.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = [
    "GGUF",
    "Encoded",
    "MappedTensor",
    "Metadata",
    "Safetensors",
    "Typed",
    "ValueType",
    "gguf_chunks",
    "open_gguf",
    "open_safetensors",
    "to_values",
    "write_gguf",
    "write_safetensors",
]

if TYPE_CHECKING:
    from puna.formats.gguf import GGUF, open_gguf
    from puna.formats.gguf_metadata import Metadata
    from puna.formats.gguf_values import Encoded, Typed, ValueType
    from puna.formats.gguf_writer import gguf_chunks, write_gguf
    from puna.formats.mapped import MappedTensor, to_values
    from puna.formats.safetensors import Safetensors, open_safetensors, write_safetensors
else:
    _HOMES = {
        "gguf": ("GGUF", "open_gguf"),
        "gguf_metadata": ("Metadata",),
        "gguf_values": ("Encoded", "Typed", "ValueType"),
        "gguf_writer": ("gguf_chunks", "write_gguf"),
        "mapped": ("MappedTensor", "to_values"),
        "safetensors": ("Safetensors", "open_safetensors", "write_safetensors"),
    }

    def __getattr__(name):
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'puna.formats' has no attribute '{name}'")
        globals()[name] = value = getattr(import_module(f"puna.formats.{home}"), name)
        return value
