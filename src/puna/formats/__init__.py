"""Checkpoint files as lazy, mapped tensors: GGUF, safetensors, and PyTorch's in `torch_pickle`. It knows no names."""

from puna.formats.gguf import GGUF, open_gguf
from puna.formats.gguf_metadata import Metadata
from puna.formats.gguf_values import Encoded, Typed, ValueType
from puna.formats.gguf_writer import gguf_chunks, write_gguf
from puna.formats.mapped import MappedTensor, to_values
from puna.formats.safetensors import Safetensors, open_safetensors, write_safetensors

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
