"""The tiny checkpoints whose outputs are on record: a class and a config.json in the dialect that published files use.

Each file of `families/` has `CASES` by name; `WRONG`, changes that must show; `PEERS`, those that llama.cpp knows.
`data/<name>.json` holds the same configuration as transformers writes it today, and every tensor's name and shape;
`data/<name>.npy` what transformers computes. `make.py` makes both.
"""

import zlib
from typing import Any

import numpy as np

from golden.families import dense, encoders, experts, gemma, hybrid, llama, newer, qwen, seq2seq

LENGTH = 80
"""Tokens of the text: more than a block of cache, than a window, than a context before it was stretched."""

ROWS = (0, 1, 15, 17, 40, 63, 64, 79)
"""Positions whose outputs are on record."""


def tokens(vocab_size: int) -> list[int]:
    """The text, ids below `vocab_size`."""
    return [(i * i * 31 + 7 * i + 3) % vocab_size for i in range(LENGTH)]


FAMILIES = (llama, qwen, gemma, dense, newer, experts, hybrid, encoders, seq2seq)
CASES: dict[str, dict[str, Any]] = {case: config for family in FAMILIES for case, config in family.CASES.items()}
WRONG = [each for family in FAMILIES for each in family.WRONG]
PEERS = [each for family in FAMILIES for each in family.PEERS]
ENCODERS = tuple(encoders.CASES)
WORDS = tuple(case for case in ENCODERS if case not in encoders.BYTES)
ANSWERING = tuple(seq2seq.CASES)
"""Decoders that read what an encoder has read."""
DECODERS = tuple(case for case in CASES if case not in ENCODERS)


def values(case: str, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """A tensor's weights, float32: they follow from its name, the same on every machine and NumPy.

    Matrices and biases are uniform with a standard deviation of 0.1; norms are that around what does nothing. Queries
    whose scores have no scale are smaller, as trained ones are: else float32 itself is off by what tests allow.
    """
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    uniform = (raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24) - np.float32(0.5)
    out = uniform * np.float32(0.35 / 8 if case in seq2seq.UNSCALED and name.endswith(".q.weight") else 0.35)
    out = out.reshape(shape)
    adds_one = case.startswith(("gemma", "nemotron", "qwen35", "qwen3next")) and not case.startswith(
        ("gemma3n", "gemma4")
    )
    adds_one = adds_one and not name.endswith("linear_attn.norm.weight")
    return out + np.float32(1) if is_norm(name) and not adds_one else out


NORMS = (
    *(
        "norm.weight",
        "LayerNorm.weight",
        "ln_1.weight",
        "ln_2.weight",
        "ln_f.weight",
        "norm_f.weight",
        "ln_attn.weight",
    ),
    "ln_mlp.weight",
    *("emb_ln.weight", "norm1.weight", "norm2.weight"),
    *(f"layer_norm_{part}.weight" for part in "12qk"),
)
"""Ends of their names."""


def is_norm(name: str) -> bool:
    """Whether a tensor is what a norm, or something like it, multiplies by."""
    return name.endswith((*NORMS, "layer_scalar", "_scale", "router.scale")) or ".norms." in name
