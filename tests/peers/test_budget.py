"""Types for a size on a real model: less measured error than the mixes of the same size, and closer to the original."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import puna
from puna.dtypes import DTYPES, F32
from puna.formats import write_gguf
from puna.quants import quantize
from puna.quants.budget import CANDIDATES, plan_for_size, relative_error
from puna.quants.recipe import is_kept, plan_types

pytestmark = pytest.mark.peer

KINDS = [kind for kind in CANDIDATES if kind not in ("Q4_1", "Q5_1")]  # the file has Q4_1's levels, which they keep


@pytest.fixture(scope="module")
def tensors(smollm2: Path) -> dict[str, Any]:
    """The model's tensors as float32, made when they are asked for."""

    class Plain(SimpleNamespace):
        @property
        def raw(self) -> Any:
            return self.stored.numpy().reshape(-1).view(np.uint8)

        def numpy(self) -> Any:
            return self.stored.numpy()

    found = puna.open_gguf(smollm2).tensors
    return {name: Plain(stored=t, shape=t.shape, dtype=F32) for name, t in found.items()}


def size(tensors: dict[str, Any], types: dict[str, str]) -> int:
    return sum(-(-DTYPES[types[name]].nbytes(t.shape) // 32) * 32 for name, t in tensors.items())


def error(tensors: dict[str, Any], types: dict[str, str]) -> float:
    """Relative error of each matrix in all, that of the output, which is the embedding, sixty times (30 blocks)."""
    total = 0.0
    for name, t in tensors.items():
        if not is_kept(name, t.shape):
            rows = t.numpy().reshape(-1, t.shape[-1])[5::11]  # other rows than were measured
            total += relative_error(rows, types[name]) * (60 if name == "token_embd.weight" else 1)
    return total


def divergence(model: puna.Model, original: puna.Model, ids: list[int]) -> float:
    """Mean KL divergence of next-token distributions."""
    logs = []
    for each in (original, model):
        logits = each.logits(ids).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        logs.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(1).mean())


@pytest.mark.parametrize("mix", ["IQ4_XS", "Q4_K_M"])
def test_the_plan_beats_the_mix_of_that_size(
    tensors: dict[str, Any], smollm2: Path, long_text: str, mix: str, tmp_path: Path
) -> None:
    original = puna.load(smollm2, backend="cpu", threads=2)
    shapes = {name: (t.shape, "F32") for name, t in tensors.items()}
    named = plan_types(shapes, mix, arch="llama", metadata=original.metadata)
    planned = plan_for_size(tensors, nbytes=size(tensors, named), arch="llama", candidates=KINDS, threads=2)
    assert 0.99 * size(tensors, named) < size(tensors, planned) <= size(tensors, named)
    assert error(tensors, planned) < 0.8 * error(tensors, named)
    ids = original.tokenizer.encode(long_text)[:256]
    found = []
    for types in (named, planned):
        weights = [(name, t.shape, types[name], quantize(t.numpy(), types[name])) for name, t in tensors.items()]
        write_gguf(tmp_path / "m.gguf", puna.open_gguf(smollm2).metadata, weights)
        found.append(divergence(puna.load(tmp_path / "m.gguf", backend="cpu", threads=2), original, ids))
    assert found[1] < 0.8 * found[0]
