"""Importance matrices of a tiny llama against a forward pass written out here, and of experts against loops."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS, backend_of
from cli.tiny import FFN, HEAD_DIM, HEADS, START, weights, write_tiny
from golden.checkpoints import write_checkpoint
from puna.backends.base import Bounds
from puna.dtypes import F32, I32
from puna.engine.imatrix import cut
from puna.errors import FormatError, RequestError
from puna.formats.imatrix import Imatrix, merge_imatrices
from puna.graph import T, input_, weight
from puna.graph.ops import apply
from puna.graph.squares import input_squares
from puna.quants import dequantize, quantize

Array = np.ndarray[Any, Any]
TEXT = "the quick brown fox jumps over the lazy dog, and again\n" * 30


def normed(x: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)  # type: ignore[no-any-return]


def turned(x: Array) -> Array:
    """Rotary positions on (T, heads, size), neighbouring elements in pairs."""
    angles = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    a, b, cos, sin = x[..., ::2], x[..., 1::2], np.cos(angles)[:, None], np.sin(angles)[:, None]
    return np.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def inputs_of(tokens: list[int]) -> dict[str, Array]:
    """What goes into each matrix of the tiny llama, in float64: name -> (T, columns)."""
    w = {name: array.astype(np.float64) for name, array in weights().items()}
    x, seen = w["token_embd.weight"][tokens], {}
    for i in range(2):

        def linear(name: str, y: Array, i: int = i) -> Array:
            seen[f"blk.{i}.{name}.weight"] = y
            return y @ w[f"blk.{i}.{name}.weight"].T  # type: ignore[no-any-return]

        h = normed(x)
        q, k, v = (linear(f"attn_{p}", h).reshape(len(h), -1, HEAD_DIM) for p in "qkv")
        q, k, v = turned(q), np.repeat(turned(k), 2, 1), np.repeat(v, 2, 1)
        scores = np.einsum("thd,phd->htp", q, k) / np.sqrt(HEAD_DIM)
        scores[:, ~np.tri(len(h), dtype=bool)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + linear("attn_output", np.einsum("htp,phd->thd", shares, v).reshape(len(h), HEADS * HEAD_DIM))
        h = normed(x)
        gate, up = linear("ffn_gate", h), linear("ffn_up", h)
        x = x + linear("ffn_down", gate / (1 + np.exp(-gate)) * up)
    return seen | {"output.weight": normed(x)}


def expected(chunks: list[list[int]], *, output: bool = False) -> dict[str, Array]:
    every = [inputs_of(chunk) for chunk in chunks]
    return {
        name: np.mean([(seen[name] ** 2).mean(0) for seen in every], 0)
        for name in every[0]
        if output or name != "output.weight"
    }


def same(matrix: Imatrix, wanted: dict[str, Array], tolerance: float = 2e-3) -> None:
    assert sorted(matrix.values) == sorted(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(matrix.values[name], values, rtol=tolerance, atol=1e-7, err_msg=name)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., puna.Model]:
    def loaded(backend: str, **more: object) -> puna.Model:
        return puna.load(write_tiny(tmp_path / "tiny.gguf", **more), backend=backend, threads=2)

    return loaded


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [8, 200])
def test_values_are_the_mean_squares_of_what_goes_into_each_matrix(load: Any, backend: str, size: int) -> None:
    tokens = list(TEXT.encode())
    found = load(backend).imatrix(tokens, chunk_size=size, chunks=3)
    same(found, expected([tokens[i * size : (i + 1) * size] for i in range(3)]))
    assert (found.chunks, found.chunk_size) == (3, size)
    assert {counts.tolist()[0] for counts in found.counts.values()} == {3 * size}


def test_a_chunk_longer_than_a_step_is_one_sequence(load: Any) -> None:
    tokens = list(TEXT.encode())[:700]
    same(load("cpu", llama__context_length=1024).imatrix(tokens, chunk_size=700), expected([tokens]))


def test_each_chunk_begins_with_the_begin_token_where_the_tokenizer_adds_it(load: Any) -> None:
    model = load("cpu", tokenizer__ggml__add_bos_token=True, tokenizer__ggml__bos_token_id=START)
    ids = [START, *TEXT.encode()]
    same(model.imatrix(TEXT, chunk_size=16, chunks=2), expected([ids[:16], [START, *ids[17:32]]]))


def test_the_output_is_measured_where_it_is_asked_for(load: Any) -> None:
    tokens = list(TEXT.encode())[:32]
    same(load("cpu").imatrix(tokens, chunk_size=32, output=True), expected([tokens], output=True))


def test_two_halves_merge_to_the_whole(load: Any) -> None:
    model, tokens = load("cpu"), list(TEXT.encode())
    halves = [model.imatrix(tokens[:128], chunk_size=16, from_chunk=i, chunks=4) for i in (0, 4)]
    whole = model.imatrix(tokens[:128], chunk_size=16)
    merged = merge_imatrices(halves)
    assert (merged.chunks, whole.chunks) == (8, 8)
    same(merged, dict(whole.values), 1e-5)


def test_what_was_read_so_far_is_there_after_each_step(load: Any) -> None:
    seen = []
    tokens = list(TEXT.encode())[:1200]
    load("cpu").imatrix(
        tokens, chunk_size=200, on_chunk=lambda done, total, so_far: seen.append((done, total, so_far().chunks))
    )
    assert seen == [(2, 6, 2), (4, 6, 4), (6, 6, 6)]


def test_quantizing_with_the_matrix_lowers_the_error_that_it_weighs(load: Any) -> None:
    rng = np.random.default_rng(5)
    found = load("cpu").imatrix(TEXT, chunk_size=64)
    rows = rng.standard_normal((256, FFN)).astype(np.float32)
    values = found.importance("blk.0.ffn_down.weight", rows.shape)

    def error(kind: str, importance: Array | None) -> float:
        wrong = dequantize(quantize(rows, kind, importance), kind, rows.shape) - rows
        return float((wrong**2 * values).sum())

    for kind in ("Q4_0", "Q4_1", "Q5_0", "IQ4_NL"):
        assert error(kind, values) < 0.97 * error(kind, None), kind


def test_an_importance_matrix_of_another_model_is_refused(load: Any) -> None:
    found = load("cpu").imatrix(TEXT, chunk_size=64)
    with pytest.raises(FormatError, match=f"'blk.0.ffn_down.weight' has {FFN} columns, a weight of shape"):
        found.importance("blk.0.ffn_down.weight", (64, 128))


def test_what_is_no_whole_chunk_is_left_out() -> None:
    assert cut(range(7), 3, 0, None, None) == [[0, 1, 2], [3, 4, 5]]
    assert cut(range(7), 3, 0, 1, 9) == [[9, 1, 2]]
    assert cut(range(7), 2, 1, 2, None) == [[2, 3], [4, 5]]
    with pytest.raises(RequestError, match="the text has 7 tokens, no whole chunk of 8 in them"):
        cut(range(7), 8, 0, None, None)
    with pytest.raises(RequestError, match="the text has 7 tokens, no whole chunk of 2 from chunk 3 on"):
        cut(range(7), 2, 3, None, None)
    with pytest.raises(RequestError, match="0 chunks of 2 tokens"):
        cut(range(7), 2, 0, 0, None)


def test_chunks_longer_than_the_context_are_refused(load: Any) -> None:
    with pytest.raises(RequestError, match="chunks of 257 tokens; 1 to 256 would work"):
        load("cpu").imatrix(TEXT, chunk_size=257)


@pytest.mark.parametrize("own", [False, True], ids=["one input", "an input for each choice"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_experts_add_up_the_rows_that_were_sent_to_them(backend: str, own: bool) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 2, 32) if own else (6, 32)).astype(np.float32)
    ids = np.array([[0, 2], [2, 3], [0, 3], [3, 2], [2, 0], [3, 0]], np.int32)
    stored = SimpleNamespace(shape=(4, 5, 32), dtype=F32, values=rng.standard_normal((4, 5, 32)).astype(np.float32))
    stored.raw = stored.values.reshape(-1).view(np.uint8)
    stored.numpy = lambda: stored.values
    shape = (T, 2, 32) if own else (T, 32)
    node = apply("experts", input_("x", shape, F32), weight("w", (4, 5, 32), F32), input_("ids", (T, 2), I32), None)
    (squares,) = input_squares([node], lambda name: name == "w")
    made = backend_of(backend)
    assert squares.counts is not None
    program = made.compile([squares.sums, squares.counts], made.load({"w": stored}), Bounds(T=8, O=8, S=1))
    sums, counts = program.run({"x": x, "ids": ids})
    wanted = np.zeros((4, 32))
    for t in range(6):
        for j in range(2):
            wanted[ids[t, j]] += np.square(x[t, j] if own else x[t], dtype=np.float64)
    np.testing.assert_allclose(sums, wanted, rtol=1e-5)
    assert counts.tolist() == [[4, 0, 4, 4]]


def test_all_experts_together_saw_what_their_router_saw(tmp_path: Path) -> None:
    model = puna.load(write_checkpoint(tmp_path, "mixtral"), backend="cpu", threads=2)
    found = model.imatrix([5 + i % 80 for i in range(60)], chunk_size=20)
    used, names = model.hparams.n_experts_used, [name for name in found.sums if "ffn_gate_exps" in name]
    assert names
    for name in names:
        assert found.counts[name].sum() == 60 * used
        router = found.sums[name.replace("gate_exps", "gate_inp")]
        np.testing.assert_allclose(found.sums[name].sum(0), used * router[0], rtol=1e-4)
