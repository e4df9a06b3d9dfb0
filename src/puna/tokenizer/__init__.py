"""Tokenizers: from GGUF metadata to text and back, and from Hugging Face files to GGUF metadata."""

from typing import TYPE_CHECKING, Any

from puna.tokenizer.tokenizer import TextStream, Tokenizer, load_tokenizer
from puna.tokenizer.vocabulary import TokenType

if TYPE_CHECKING:
    from puna.tokenizer.hf import Extraction, metadata_from_hf, tokenizer_from_hf

__all__ = [
    "Extraction",
    "TextStream",
    "TokenType",
    "Tokenizer",
    "load_tokenizer",
    "metadata_from_hf",
    "tokenizer_from_hf",
]


def __getattr__(name: str) -> Any:
    if name in ("Extraction", "metadata_from_hf", "tokenizer_from_hf"):  # running a model does not need them
        from puna.tokenizer import hf

        return getattr(hf, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
