"""Every decoder, quantized, still says nearly what it did in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import CASES, DECODERS, tokens
from golden.checkpoints import write_checkpoint
from puna.opened import open_model

LIMITS = {"Q8_0": 1e-2, "Q4_K_M": 0.25}
"""Mean KL divergence from float32, in nats; random weights forgive nothing, and a router may choose another expert."""

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


@pytest.mark.parametrize("case", DECODERS)
def test_a_quantized_model_stays_close(case: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, case)
    ids = tokens(CASES[case]["vocab_size"])
    want = run(open_model(tmp_path), "cpu", [(ids, list(range(len(ids))))])
    for kind, limit in LIMITS.items():
        puna.convert(tmp_path, tmp_path / f"{kind}.gguf", quantize=kind)
        got = run(open_model(tmp_path / f"{kind}.gguf"), "cpu", [(ids, list(range(len(ids))))])
        assert 0 < divergence(want, got) < limit, kind
