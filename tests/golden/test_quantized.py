"""Every model, quantized, still says nearly what it did in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import CASES, DECODERS, ENCODERS, tokens
from golden.checkpoints import write_checkpoint
from puna.opened import open_model

LIMITS = {"Q8_0": 1e-2, "Q4_K_M": 0.25}
"""Mean KL divergence from float32, in nats; random weights forgive nothing, and a router may choose another expert."""

MORE = {
    **{"qwen2moe": (0.01, 0.3), "smollm3": (0.01, 0.29), "jamba": (0.015, 0.3)},
    **{"dots1": (0.0125, 0.21), "qwen35moe": (0.02, 0.37), "gpt_oss": (0.06, 0.35), "phimoe": (0.055, 0.5)},
}
"""Where it is more than LIMITS of the weights alone: as much with the numpy backend, which multiplies by what they are
read as, and with llama.cpp (tests/peers holds both to each other). All have rows that K types divide."""

ANGLES = {"Q8_0": 0.998, "Q4_K_M": 0.92}
"""The least mean cosine between an encoder's hidden states and those in float32."""

SHARP = {"Q8_0": 0.99, "Q4_K_M": 0.8}
"""The same of T5, which does not scale scores: with random weights one key takes nearly all, and which one, changes.

llama.cpp's embeddings turn as far (tests/peers)."""

Array = np.ndarray[Any, Any]


def log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence(want: Array, got: Array) -> float:
    p, q = log_softmax(want), log_softmax(got)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def test_divergence_is_that_of_the_definition() -> None:
    want, got = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    assert divergence(want, got) == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))


def cosine(want: Array, got: Array) -> float:
    return float(((want * got).sum(-1) / np.linalg.norm(want, axis=-1) / np.linalg.norm(got, axis=-1)).mean())


def test_the_cosine_is_that_of_the_definition() -> None:
    assert cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])) == pytest.approx(24 / 25)


def outputs(path: Path, case: str) -> Array:
    ids = tokens(CASES[case]["vocab_size"])
    return run(open_model(path), "cpu", [(ids, list(range(len(ids))))])


@pytest.mark.parametrize("case", DECODERS)
def test_a_quantized_decoder_stays_close(case: str, tmp_path: Path) -> None:
    want = outputs(write_checkpoint(tmp_path, case), case)
    limits = MORE.get(case, tuple(LIMITS.values()))
    for kind, limit in zip(LIMITS, limits, strict=True):
        puna.convert(tmp_path, tmp_path / f"{kind}.gguf", quantize=kind)
        assert 0 < divergence(want, outputs(tmp_path / f"{kind}.gguf", case)) < limit, kind


@pytest.mark.parametrize("case", ENCODERS)
def test_a_quantized_encoder_stays_close(case: str, tmp_path: Path) -> None:
    want = outputs(write_checkpoint(tmp_path, case), case)
    for kind, limit in (SHARP if case.startswith("t5") else ANGLES).items():
        puna.convert(tmp_path, tmp_path / f"{kind}.gguf", quantize=kind)
        assert limit < cosine(want, outputs(tmp_path / f"{kind}.gguf", case)) < 1, kind
