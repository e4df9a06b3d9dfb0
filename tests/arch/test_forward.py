"""However a text reaches an architecture, its outputs are the same: at once, in chunks, one by one, among others."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from arch.run import BACKENDS, blocks_of, run, runner
from golden.cases import CASES, DECODERS, ENCODERS
from puna.engine.step import Part
from puna.opened import Opened

Array = np.ndarray[Any, Any]
Open = Callable[[str], Opened]

EVERY = (*DECODERS, *ENCODERS)
TOLERANCE = 3e-5  # float32 in any order; the encoder of T5, whose scores are not scaled, is off most


def text(length: int, start: int = 0) -> list[int]:
    return [(start + i * i * 13 + 5 * i) % 320 for i in range(length)]


def close(got: Array, want: Array) -> bool:
    return got.shape == want.shape and bool(np.abs(got - want).max() < TOLERANCE * np.abs(want).max())


def fed(opened: Opened, backend: str, ids: list[int], sizes: Sequence[int]) -> Array:
    """Outputs of every position, the text given in pieces of these sizes."""
    program, blocks, start, out = runner(opened, backend), blocks_of(1), 0, []
    for size in sizes:
        piece = ids[start : start + size]
        out.append(program.step([Part(piece, start, blocks, 2)], list(range(len(piece)))).copy())
        start += size
    return np.concatenate(out)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", DECODERS)
def test_one_token_at_a_time_is_all_at_once(case: str, backend: str, opened: Open) -> None:
    ids = text(70)
    whole = run(opened(case), backend, [(ids, list(range(70)))])
    assert close(fed(opened(case), backend, ids, [1] * 70), whole)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", DECODERS)
@pytest.mark.parametrize("sizes", [(64, 64, 22), (1, 33, 2, 90, 24), (149, 1)])
def test_chunks_are_all_at_once(case: str, backend: str, sizes: Sequence[int], opened: Open) -> None:
    ids = text(150)
    whole = run(opened(case), backend, [(ids, list(range(150)))])
    assert close(fed(opened(case), backend, ids, sizes), whole)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", EVERY)
def test_sequences_in_one_batch_do_not_see_each_other(case: str, backend: str, opened: Open) -> None:
    texts = [text(n, start) for n, start in ((3, 7), (90, 0), (1, 300), (65, 44))]
    alone = [run(opened(case), backend, [(ids, list(range(len(ids))))]) for ids in texts]
    together = run(opened(case), backend, [(ids, list(range(len(ids)))) for ids in texts])
    assert close(together, np.concatenate(alone))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", DECODERS)
def test_a_batch_mixes_decoding_and_prefill(case: str, backend: str, opened: Open) -> None:
    long, short = text(40), text(20, 9)
    program = runner(opened(case), backend)
    program.step([Part(long[:39], 0, blocks_of(0), 1)], [])
    mixed = program.step([Part(long[39:], 39, blocks_of(0), 3, 1), Part(short, 0, blocks_of(2), 0)], [0, 20]).copy()
    alone = [run(opened(case), backend, [(ids, [len(ids) - 1])]) for ids in (long, short)]
    assert close(mixed, np.concatenate(alone))


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "numpy"])
@pytest.mark.parametrize("case", EVERY)
def test_a_backend_computes_what_numpy_does(case: str, backend: str, opened: Open) -> None:
    sequences = [(text(77), list(range(77))), (text(5, 3), [4, 0])]
    assert close(run(opened(case), backend, sequences), run(opened(case), "numpy", sequences))


@pytest.mark.parametrize("case", ["llama3", "qwen3", "gemma3"])
def test_a_token_does_not_depend_on_later_ones(case: str, opened: Open) -> None:
    one, other = text(30), [*text(20), *text(10, 111)]
    rows = list(range(20))
    assert close(run(opened(case), "numpy", [(one, rows)]), run(opened(case), "numpy", [(other, rows)]))


def test_an_encoder_s_token_depends_on_later_ones(opened: Open) -> None:
    one, other = text(30), [*text(29), 300]
    assert not close(run(opened("bert"), "numpy", [(one, [0])]), run(opened("bert"), "numpy", [(other, [0])]))


@pytest.mark.parametrize("case", EVERY)
def test_the_graph_of_every_architecture_builds_and_is_planned(case: str, opened: Open) -> None:
    program = runner(opened(case), "null")
    assert program.memory.arena > 0
    assert program.memory.states > 0
    width = CASES[case].get("hidden_size", 256) if case in ENCODERS else CASES[case]["vocab_size"]
    assert program.step([Part(text(9), 0, [0])], [8, 2]).shape == (2, width)
