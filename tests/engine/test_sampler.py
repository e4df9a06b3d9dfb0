import math
from collections import Counter

import numpy as np
import pytest

from puna.engine.sampler import Sampler, Sampling, best, penalized
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


def test_best_is_sorted_and_breaks_ties_by_id():
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
