"""Sequences with adapters of their own in one batch: each says what a model says that has only its adapters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arch.loras import random_adapter
from arch.run import BACKENDS, backend_of, blocks_of, runner
from puna import arch as archs
from puna.engine.adapters import graft
from puna.engine.limits import Limits
from puna.engine.runner import Runner
from puna.engine.step import Part
from puna.formats.lora import Adapter
from puna.opened import Opened

Array = np.ndarray[Any, Any]
Open = Callable[[str], Opened]
CASES = (
    *("llama3", "smollm", "gemma3", "gemma3n", "phi3", "gptneox", "qwen2", "falcon_7b"),
    *("mixtral", "olmoe", "gpt_oss", "deepseek_v3", "llama4", "qwen3next"),
    *("mamba2", "rwkv7", "falcon_h1", "lfm2"),
)
LENGTHS = (7, 5, 40, 1, 12)
CHOSEN: tuple[tuple[tuple[int, float], ...], ...] = (((1, 1.0),), (), ((2, 0.75),), (), ((1, 0.5), (3, -1.0)))


def with_changes(opened: Opened, backend: str, adapters: list[tuple[Adapter, float]]) -> Runner:
    """As a model that is loaded with adapters."""
    arch, made = archs.find(str(opened.metadata["general.architecture"])), backend_of(backend)
    hp, grafted = arch.hparams.from_gguf(arch.name, opened.metadata), graft(opened.tensors, adapters)
    size = Limits(slots=768, states=4, tokens=256, outputs=256, sequences=4, table=3)
    parts = (arch, hp, grafted.tensors, made, made.load(grafted.weights), size)
    return Runner(*parts, kv_type="f32", changes=grafted.changes)


def adapters_of(opened: Opened) -> list[Adapter]:
    """Of different ranks, types and places."""
    return [
        random_adapter(opened, 1, 4),
        random_adapter(opened, 2, 3, some=slice(0, None, 2)),
        random_adapter(opened, 3, 5, some=slice(1, None, 3)),
    ]


def close(got: Array, want: Array, tolerance: float = 5e-5) -> bool:
    return got.shape == want.shape and bool(np.abs(got - want).max() < tolerance * np.abs(want).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_each_of_a_batch_has_its_own_adapters(case: str, backend: str, opened: Open) -> None:
    model, adapters = opened(case), adapters_of(opened(case))
    mixed = runner(model, backend, sequences=5)
    assert isinstance(mixed, Runner)
    assert [mixed.choosing.add(adapter) for adapter in adapters] == [1, 2, 3]
    texts = [[(11 * s + i * i * 13 + 5 * i) % 320 for i in range(n)] for s, n in enumerate(LENGTHS)]
    plain = [mixed.step([Part(ids, 0, blocks_of(1), 0)], [*range(len(ids))]).copy() for ids in texts]
    got: list[list[Array]] = [[] for _ in texts]
    for start, stop in ((0, -1), (-1, None)):  # a prompt, and a token behind it
        parts, rows = [], []
        for s, ids in enumerate(texts):
            some = ids[start:stop] if len(ids) > 1 or stop is None else []
            if some:
                first = 0 if stop else len(ids) - 1
                parts.append(Part(some, first, [3 * s, 3 * s + 1, 3 * s + 2], s, adapters=CHOSEN[s]))
                rows.append(s)
        out = mixed.step(parts, [*range(sum(len(part.tokens) for part in parts))]).copy()
        for s, piece in zip(rows, np.split(out, np.cumsum([len(p.tokens) for p in parts])[:-1]), strict=True):
            got[s].append(piece)
    for ids, chosen, pieces, without in zip(texts, CHOSEN, got, plain, strict=True):
        result = np.concatenate(pieces)
        if not chosen:
            assert close(result, without)
            assert not backend.startswith("cpu") or np.array_equal(result, without)
            continue
        alone = with_changes(model, backend, [(adapters[number - 1], factor) for number, factor in chosen])
        want = alone.step([Part(ids, 0, blocks_of(1), 0)], [*range(len(ids))]).copy()
        assert np.abs(want - without).max() > 1e-3
        assert close(result, want)
