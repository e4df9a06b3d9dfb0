"""What generating takes and gives: options by name, chunks of text, stop strings, figures. It computes nothing."""

from puna.generation.answer import Answer, Begun
from puna.generation.chunk import Chunk, Logprob, Stats
from puna.generation.options import KNOWN, LOAD_TIME, Options, parse_options
from puna.generation.stop import StopText
from puna.generation.stream import chunks, logprobs_of

__all__ = [
    "KNOWN",
    "LOAD_TIME",
    "Answer",
    "Begun",
    "Chunk",
    "Logprob",
    "Options",
    "Stats",
    "StopText",
    "chunks",
    "logprobs_of",
    "parse_options",
]
