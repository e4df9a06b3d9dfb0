"""A graph cut at its blocks computes what the whole does, and measures are what they are called."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from arch.run import BACKENDS, backend_of
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import DATA, write_checkpoint
from puna import dtypes, quants
from puna.create.verify import Limits, measures
from puna.create.verify.limits import TABLE
from puna.create.verify.running import Source, Staged
from puna.create.verify.stages import block_of, cut
from puna.create.verify.tensors import bands
from puna.graph import O, S, T, Tensor, input_, state, weight
from puna.graph.ops import apply
from puna.verifying import open_side


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["llama3", "llama_yarn", "mistral_window", "qwen2", "gemma3_tuned", "bert"])
def test_stages_one_after_the_other_compute_what_transformers_does(case: str, backend: str, tmp_path: Path) -> None:
    side = open_side(write_checkpoint(tmp_path, case))
    ids = tokens(CASES[case]["vocab_size"])
    staged = Staged(side, side.hparams(), backend_of(backend), ids, floats=True)
    truth = Source(staged)
    for place, stage in enumerate(staged.stages):
        (got,) = truth.gives(place, stage)
    want = np.load(DATA / f"{case}.npy")
    assert np.abs(got[list(ROWS)] - want).max() < 2e-5 * np.abs(want).max()
    blocks = [b for stage in staged.stages for b in stage.blocks]
    assert blocks == list(range(CASES[case]["num_hidden_layers"]))
    assert sorted(n for stage in staged.stages for n in set(stage.weights) if block_of(n) is not None) == sorted(
        n for n in side.tensors if block_of(n) is not None
    )


def linear(x: Tensor, name: str) -> Tensor:
    return apply("linear", x, weight(name, (8, 8), dtypes.F32), None)


def attention(x: Tensor, keys: Tensor) -> Tensor:
    read = [input_(n, s, dtypes.I32) for n, s in (("positions", (T,)), ("sequence", (T,)), ("table", (S, 1)))]
    attrs = {"scale": 1.0, "causal": True, "window": 0, "softcap": 0.0, "block_size": 64}
    inputs = (x.reshape(T, 1, 8), keys, keys, *read, input_("lengths", (S,), dtypes.I32), None)
    return apply("attention", *inputs, **attrs).reshape(T, 8)


def embedded() -> Tensor:
    return apply("embedding", input_("tokens", (T,), dtypes.I32), weight("token_embd.weight", (9, 8), dtypes.F32))


def written(x: Tensor, number: int) -> Tensor:
    slots = input_("slots", (T,), dtypes.I32)
    return apply("write", state(f"cache.{number}", (64, 1, 8), dtypes.F32), slots, x.reshape(T, 1, 8))


def test_blocks_that_read_another_one_s_cache_stay_with_it() -> None:
    x = embedded()
    x = x + linear(x, "blk.0.a.weight")
    keys = written(linear(x, "blk.1.k.weight"), 1)
    x = x + attention(linear(x, "blk.1.q.weight"), keys)
    x = x + linear(x, "blk.2.a.weight")
    x = x + attention(linear(x, "blk.3.q.weight"), keys)
    x = x + linear(x, "blk.4.a.weight")
    stages = cut(linear(apply("take", x, input_("outputs", (O,), dtypes.I32)), "output.weight"), 8)
    assert [(s.name, s.blocks) for s in stages] == [
        ("embedding", ()),
        ("block 0", (0,)),
        ("blocks 1-3", (1, 2, 3)),
        ("block 4", (4,)),
        ("output", ()),
    ]
    assert [s.takes for s in stages] == [(), (0,), (1,), (2,), (3,)]


def test_what_is_embedded_once_for_each_block_reaches_it() -> None:
    """Two streams leave the embedding; the second one is read by every block, and is no hidden state."""
    x = embedded()
    extra = apply("embedding", input_("tokens", (T,), dtypes.I32), weight("more.weight", (9, 2), dtypes.F32))
    for i in range(2):
        x = x + apply("linear", extra, weight(f"blk.{i}.a.weight", (8, 2), dtypes.F32), None)
    stages = cut(linear(x, "output.weight"), 8)
    assert [(s.name, s.takes, s.gives, s.main) for s in stages] == [
        ("embedding", (), (0, 1), (0,)),
        ("block 0", (0, 1), (2,), (0,)),
        ("block 1", (1, 2), (3,), (0,)),
        ("output", (3,), (4,), (0,)),
    ]


def test_errors_are_relative_and_what_is_not_finite_is_infinitely_far() -> None:
    want = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    got = np.array([[3.0, 3.0], [1.0, 0.0], [0.0, 1.0], [1.0, np.nan]])
    np.testing.assert_array_equal(measures.row_errors(want, got), [1 / 25, 0, np.inf, np.inf])
    np.testing.assert_array_equal(measures.row_errors(want[:1], got[:1], np.array([[0.5, 0.0]])), [4.0])
    sums = measures.Sums()
    for a, b in zip(want[:2], got[:2], strict=True):
        sums.add(a, b)
    assert (sums.nmse, sums.most, sums.count) == (1 / 26, 1.0, 4)
    assert sums.gain == pytest.approx((9 + 12 + 1) / 26)
    assert sums.cosine == pytest.approx(22 / np.sqrt(26 * 19))


def test_divergence_and_agreement_of_logits() -> None:
    """Two tokens with probabilities 3/4 and 1/4 against 1/2 and 1/2, and one that keeps its order."""
    low = -50.0
    want = np.log(np.array([[0.75, 0.25], [0.25, 0.75]]))
    want = np.concatenate([want, np.full((2, 6), low)], 1)
    got = np.concatenate([np.log([[0.5, 0.5], [0.2, 0.8]]), np.full((2, 6), low)], 1)
    got[0, 1] += 1e-9
    found = measures.compare_logits(want, got, np.array([0, 1]))
    first = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    second = 0.25 * np.log(0.25 / 0.2) + 0.75 * np.log(0.75 / 0.8)
    assert found.kl == pytest.approx([first, second], abs=1e-8)
    assert found.top1 == [False, True]
    assert (found.k, found.topk) == (2, [1.0, 1.0])
    assert [losses[0] for losses in found.loss] == pytest.approx([-np.log(0.25), -np.log(0.5)], abs=1e-8)


def test_every_type_that_is_written_has_its_limits_and_keeps_them() -> None:
    """Gaussian rows stay within their type's limit; the same rows in another order do not."""
    rows = np.random.default_rng(1).standard_normal((24, 512)).astype(np.float32)
    importance = np.ones(512, np.float32)
    for name, codec in quants.CODECS.items():
        if not codec.encodes:
            continue
        assert name in TABLE, name
        limit = Limits().of_tensor(name)
        found = measures.Sums()
        again = quants.dequantize(quants.quantize(rows, name, imatrix=importance), name, rows.shape)
        found.add(rows, again)
        assert found.nmse <= limit, name
        wrong = measures.Sums()
        wrong.add(rows, again[::-1])
        assert wrong.nmse > limit, name


def test_a_looser_type_never_has_a_tighter_limit() -> None:
    rows = list(TABLE.values())
    assert all(a.noise <= b.noise and a.kl <= b.kl and a.top1 >= b.top1 for a, b in pairwise(rows))
    assert Limits().of_block(["Q8_0", "Q4_K"], rounded=False) == pytest.approx(20 * 9e-3)
    assert Limits().of_block(["Q2_K"], rounded=True) == 0.95
    assert Limits().of_block(["F32", "TQ1_0"], rounded=True) == float("inf")


class Chunked:
    """A computed tensor whose chunks end where they like."""

    dtype = dtypes.Q8_0
    shape = (3, 5, 64)

    def __init__(self, values: np.ndarray, sizes: list[int]) -> None:
        self._raw = quants.quantize(values, "Q8_0").reshape(-1)
        self._sizes = sizes

    def chunks(self):
        start = 0
        for rows in self._sizes:
            yield self._raw[start : start + rows * 68]
            start += rows * 68


@pytest.mark.parametrize("sizes", [[15], [1] * 15, [4, 4, 7], [14, 1]])
@pytest.mark.parametrize("band", [64, 128, 300, 1 << 20])
def test_bands_do_not_depend_on_how_a_tensor_arrives(
    sizes: list[int], band: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.create.verify.tensors.BAND", band)
    values = np.random.default_rng(2).standard_normal((3, 5, 64)).astype(np.float32)
    found = list(bands(Chunked(values, sizes)))
    assert {len(part) for part in found[:-1]} <= {max(1, band // 64)}
    want = quants.dequantize(quants.quantize(values, "Q8_0"), "Q8_0", (15, 64))
    np.testing.assert_array_equal(np.concatenate(found), want)


def test_the_page_has_the_limits_that_hold() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "verify.md").read_text("utf-8")
    for name, row in TABLE.items():
        tensor, block = Limits().of_tensor(name), Limits().of_block([name], rounded=False)
        line = f"| {name} | {row.noise:.2g} | {tensor:.2g} | {block:.2g} | {row.kl:g} | {row.top1:g} |"
        assert f"{line}\n" in page, line
