"""Tokenizers: from GGUF metadata to text and back, and from Hugging Face files to GGUF metadata."""

from typing import TYPE_CHECKING, Any

from puna.tokenizer.tokenizer import TextStream, Tokenizer, load_tokenizer
from puna.tokenizer.vocabulary import TokenType

if TYPE_CHECKING:
    from puna.tokenizer.hf import metadata_from_hf

__all__ = ["TextStream", "TokenType", "Tokenizer", "load_tokenizer", "metadata_from_hf"]


def __getattr__(name: str) -> Any:
    if name == "metadata_from_hf":  # running a model does not need it
        from puna.tokenizer.hf import metadata_from_hf

        return metadata_from_hf
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
