"""Tokenizers: from GGUF metadata to text and back, and from Hugging Face files to GGUF metadata."""

from puna.tokenizer.hf import metadata_from_hf
from puna.tokenizer.tokenizer import TextStream, Tokenizer, load_tokenizer
from puna.tokenizer.vocabulary import TokenType

__all__ = ["TextStream", "TokenType", "Tokenizer", "load_tokenizer", "metadata_from_hf"]
