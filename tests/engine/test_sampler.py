import math
from collections import Counter
from random import Random

import numpy as np
import pytest

from puna.backends.cpu import _native
from puna.backends.selection import best
from puna.engine.sampler import Sampler, Sampling, penalized
from puna.errors import ModelError, RequestError

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}


def logits_of(*probabilities):
    return np.log(np.array(probabilities, np.float32))


def drawn(logits, count=2000, **options):
    sampler = Sampler(Sampling(**{**PLAIN, "seed": 1, **options}))
    return Counter(sampler.choose(logits, []).token for _ in range(count))


def test_temperature_0_takes_the_best_and_of_equals_the_first():
    sampler = Sampler(Sampling(temperature=0))
    assert sampler.choose(np.array([1, 5, 5, 2], np.float32), []).token == 1


def test_draws_follow_the_probabilities():
    counts = drawn(logits_of(0.5, 0.3, 0.2))
    for token, expected in ((0, 1000), (1, 600), (2, 400)):
        assert abs(counts[token] - expected) < 5 * math.sqrt(expected)


def test_temperature_sharpens():
    # p ** 2 of (0.6, 0.4), normalized: 0.36 / 0.52
    counts = drawn(logits_of(0.6, 0.4), temperature=0.5)
    assert abs(counts[0] - 2000 * 0.36 / 0.52) < 110


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.49}, {0}),
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.0}, {0}),
        ({"min_p": 0.5}, {0, 1}),
        ({"min_p": 0.7}, {0}),
        ({"top_k": 3, "top_p": 0.99}, {0, 1, 2}),
    ],
)
def test_filters_keep_what_their_definition_says(options, kept):
    assert set(drawn(logits_of(0.5, 0.3, 0.15, 0.05), **options)) == kept


def test_typical_keeps_the_tokens_whose_surprise_is_nearest_to_the_entropy():
    # entropy of (0.4, 0.3, 0.3) is 1.089; surprises are 0.916, 1.204, 1.204: distances 0.173, 0.115, 0.115
    assert set(drawn(logits_of(0.4, 0.3, 0.3), typical_p=0.5)) == {1, 2}


def test_the_same_seed_draws_the_same_and_another_draws_otherwise():
    logits = np.random.default_rng(3).normal(size=100).astype(np.float32)

    def run(seed):
        sampler = Sampler(Sampling(**PLAIN, seed=seed))
        return [sampler.choose(logits, []).token for _ in range(20)]

    assert run(1) == run(1) != run(2)


def test_penalties_act_on_what_was_seen_within_the_last_tokens():
    logits = np.array([2.0, -2.0, 1.0, 1.0], np.float32)
    sampling = Sampling(repeat_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25, repeat_last_n=3)
    out = penalized(logits, [3, 0, 1, 1], sampling)
    # token 3 is out of reach; 0: 2 / 2 - 0.5 - 0.25; 1: -2 * 2 - 0.5 - 2 * 0.25
    np.testing.assert_allclose(out, [0.25, -5.0, 1.0, 1.0])
    np.testing.assert_array_equal(logits, [2.0, -2.0, 1.0, 1.0])


@pytest.mark.parametrize(("last", "expected"), [(0, 2.0), (-1, 1.0)])
def test_repeat_last_n_0_looks_at_nothing_and_below_at_everything(last, expected):
    sampling = Sampling(repeat_penalty=2.0, repeat_last_n=last)
    assert penalized(np.array([2.0], np.float32), [0] * 500, sampling)[0] == expected


@pytest.mark.parametrize("best", [best, _native.best])
def test_best_is_sorted_and_breaks_ties_by_id(best):
    assert best(np.array([1, 3, 3, 2, 3], np.float32), 3).tolist() == [1, 2, 4]
    assert best(np.array([1, 3, 2], np.float32), 9).tolist() == [1, 2, 0]


def test_logprobs_come_from_the_unmodified_logits():
    logits = logits_of(0.5, 0.25, 0.25)
    choice = Sampler(Sampling(temperature=0, top_logprobs=2, presence_penalty=9.0)).choose(logits, [0])
    assert choice.token == 1
    assert choice.logprob == pytest.approx(math.log(0.25), abs=1e-6)
    assert [i for i, _ in choice.top] == [0, 1]
    assert choice.top[0][1] == pytest.approx(math.log(0.5), abs=1e-6)


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_p": 1.5}, {"min_p": math.nan}, {"top_k": "40"}, {"seed": True}]
)
def test_an_impossible_option_is_named(options):
    with pytest.raises(RequestError, match=next(iter(options))):
        Sampling(**options)


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(), Sampling(temperature=0, top_logprobs=2)])
@pytest.mark.parametrize("wrong", [[np.nan] * 4, [1, np.nan, 2, 3], [1, np.inf, 2, 3], [-np.inf] * 4])
def test_logits_that_are_not_numbers_are_an_error(wrong: list[float], sampling: Sampling) -> None:
    with pytest.raises(ModelError, match="the logits are not numbers; the file is damaged"):
        Sampler(sampling).choose(np.array(wrong, np.float32), [])


def test_a_token_may_be_ruled_out_by_minus_infinity() -> None:
    assert Sampler(Sampling(temperature=0)).choose(np.array([-np.inf, 1, 2], np.float32), []).token == 2


def defined(logits: list[float], chance: float, s: Sampling) -> int:
    """A draw by the definition: everything sorted, every filter on a list of normalized probabilities."""
    ids = sorted(range(len(logits)), key=lambda i: (-logits[i], i))[: s.top_k if s.top_k > 0 else None]
    weights = [math.exp((logits[i] - logits[ids[0]]) / s.temperature) for i in ids]
    total = math.fsum(weights)
    p = {i: w / total for i, w in zip(ids, weights, strict=True)}
    if s.typical_p < 1:
        entropy = -math.fsum(x * math.log(x) for x in p.values() if x)
        order = sorted(p, key=lambda i: abs(-math.log(p[i]) - entropy))
        p = head(p, order, s.typical_p, lambda mass, limit: mass >= limit)
    if s.top_p < 1:
        p = head(p, list(p), s.top_p, lambda mass, limit: mass > limit)
    least = s.min_p * max(p.values())
    p = {i: x for i, x in p.items() if x >= least}
    left = chance * math.fsum(p.values())
    for i, x in p.items():
        left -= x
        if left < 0:
            return i
    return list(p)[-1]


def head(p, order, limit, full):
    """The first of `order` until their sum is `full`; in the order of `p`, normalized."""
    kept, mass = set(), 0.0
    for i in order:
        kept.add(i)
        mass += p[i]
        if full(mass, limit):
            break
    return {i: x / mass for i, x in p.items() if i in kept}


FILTERS = [
    {},
    {"temperature": 1.7},
    {"top_k": 0, "top_p": 1.0},
    {"top_k": 0, "top_p": 1.0, "temperature": 3.0},
    {"top_k": 0, "top_p": 0.5},
    {"top_k": 0, "top_p": 0.99, "temperature": 3.0},
    {"top_k": 0, "top_p": 1.0, "min_p": 0.05},
    {"top_k": 0, "top_p": 0.95, "min_p": 1e-3},
    {"top_k": 0, "top_p": 1.0, "typical_p": 0.6},
    {"top_k": 700, "top_p": 0.8, "min_p": 0.01, "typical_p": 0.9},
]


@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_a_draw_from_a_large_vocabulary_is_what_sorting_all_of_it_gives(options):
    random = np.random.default_rng(5)
    for seed in range(4):
        logits = random.normal(0, 3, 3001).astype(np.float32).round(2)  # rounded, so that some are equal
        sampling = Sampling(seed=seed, **options)
        sampler, chances = Sampler(sampling), Random(seed)
        for _ in range(3):
            expected = defined(logits.tolist(), chances.random(), sampling)
            assert sampler.choose(logits, []).token == expected


@pytest.mark.parametrize("options", [{"temperature": 0}, {}, {"top_k": 0}, {"top_k": 0, "top_p": 1.0, "min_p": 0.1}])
def test_the_vocabulary_is_not_sorted(options, monkeypatch):
    sizes, argsort = [], np.argsort
    monkeypatch.setattr(np, "argsort", lambda x, **more: sizes.append(len(x)) or argsort(x, **more))
    logits = np.random.default_rng(1).normal(0, 4, 100_000).astype(np.float32)
    Sampler(Sampling(seed=1, **options)).choose(logits, [])
    assert sum(sizes) < 2500


@pytest.mark.parametrize("count", [1, 7, 40, 1000, 2999, 3001])
@pytest.mark.parametrize("digits", [0, 1, 6])
@pytest.mark.parametrize("best", [best, _native.best])
@pytest.mark.parametrize("order", ["any", "rising", "falling", "equal", "hardly any"])
def test_best_is_the_head_of_the_sorted_vocabulary(count, digits, best, order):
    logits = np.random.default_rng(count).normal(size=3001).astype(np.float32).round(digits)
    logits = {
        "any": logits,
        "rising": np.sort(logits),
        "falling": -np.sort(-logits),
        "equal": logits * 0,
        "hardly any": np.where(logits > 1, logits, -np.inf).astype(np.float32),
    }[order]
    expected = sorted(range(3001), key=lambda i: (-float(logits[i]), i))[:count]
    assert best(logits, count).tolist() == expected


def test_a_logit_that_is_as_good_as_minus_infinity_is_never_drawn():
    logits = np.full(5000, np.finfo(np.float32).min)
    logits[[3, 4000]] = 0
    assert set(drawn(logits, 200, temperature=0.1)) == {3, 4000}


def test_a_bias_makes_a_token_certain_or_impossible():
    logits = np.zeros(5, np.float32)
    certain = Sampler(Sampling(seed=1, logit_bias=((3, 100.0),)))
    assert {certain.choose(logits, []).token for _ in range(20)} == {3}
    without = Sampler(Sampling(seed=1, logit_bias=((0, -100.0), (1, -100.0))))
    assert {without.choose(logits, []).token for _ in range(60)} == {2, 3, 4}
    with pytest.raises(RequestError, match="token 7 is none of 0 to 4"):
        Sampler(Sampling(logit_bias=((7, 1.0),))).choose(logits, [])


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_draws_what_surprises_as_much_as_it_is_told(version):
    def mean(tau):
        rng = np.random.default_rng(0)
        sampler = Sampler(Sampling(mirostat=version, mirostat_tau=tau, temperature=1.0, seed=3))
        surprises = []
        for _ in range(600):
            logits = (-np.log(np.arange(1, 2001)) * 1.1 + rng.normal(size=2000) * 0.1).astype(np.float32)
            p = np.exp(logits.astype(np.float64))
            surprises.append(-np.log2(p[sampler.choose(logits, []).token] / p.sum()))
        return np.mean(surprises[100:])

    assert mean(4.0) == pytest.approx(4.0, abs=1.0)
    assert mean(1.0) < mean(2.0) - 0.3 < mean(4.0) - 0.6
