"""Tokens computed in advance: nothing that is said changes, it only comes sooner."""

import itertools

import numpy as np
import pytest

from engine.stand_ins import VOCAB, answer_to, engine_of, prompt_of
from puna.cache import BLOCK
from puna.engine.draft import Draft, shared
from puna.engine.engine import Engine
from puna.engine.foresight import Foresight, Odds
from puna.engine.lookup import ENOUGH, Lookup
from puna.engine.predicted import Predicted, foretold
from puna.engine.sampler import Sampler, Sampling
from puna.engine.sequence import StopReason
from puna.engine.times import Times
from puna.errors import ModelError, RequestError

GREEDY = Sampling(temperature=0.0)
SEEDED = Sampling(temperature=1.0, seed=5)


def repeating(history):
    """Logits by the last token alone, and sure of one: a text that comes to what it said before."""
    return answer_to(history[-1:]) * 4


def ticking(model, context=256):
    """An engine for which all steps take one second, however much they compute."""
    return Engine(model, context, clock=itertools.count().__next__)


def repeating_engine(**sizes):
    _, model = engine_of(**sizes)
    model.said = repeating
    return ticking(model), model


def spoken(prompt, count, sampling=SEEDED, *, ahead, constraint=None, stop_ids=(), **sizes):
    """All that one sequence says, why it ended, and the steps that took."""
    engine, model = repeating_engine(**sizes)
    ends = {"limit": count, "stop_ids": stop_ids, "constraint": constraint}
    sequence = engine.submit(prompt, sampling, ahead=ahead, **ends)
    return list(engine.tokens(sequence)), sequence, model.steps


def expected(prompt, count, sampling=SEEDED):
    """The same by the definition."""
    sampler, history = Sampler(sampling), list(prompt)
    for _ in range(count):
        history.append(sampler.choose(repeating(history), history).token)
    return history[len(prompt) :]


SAMPLINGS = {
    "greedy": GREEDY,
    "seeded": SEEDED,
    "filters": Sampling(temperature=0.7, seed=2, top_k=5, top_p=0.8, min_p=0.05, typical_p=0.9),
    "penalties": Sampling(temperature=0.5, seed=3, repeat_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2),
    "mirostat": Sampling(temperature=1.0, seed=4, mirostat=1),
    "mirostat 2": Sampling(temperature=1.0, seed=4, mirostat=2),
    "bias": Sampling(temperature=0.6, seed=5, logit_bias=((3, 4.0), (7, -9.0))),
    "logprobs": Sampling(temperature=0.3, seed=6, top_logprobs=3),
}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_what_is_said_is_the_same_to_the_last_bit_of_its_probabilities(sampling):
    prompt = prompt_of(20)
    alone, _, steps = spoken(prompt, 200, sampling, ahead=0)
    ahead, sequence, fewer = spoken(prompt, 200, sampling, ahead=7)
    assert ahead == alone
    assert [choice.token for choice in alone] == expected(prompt, 200, sampling)
    assert len(fewer) == len(steps) - sequence.foresight.accepted


def test_a_text_that_repeats_itself_takes_far_fewer_steps():
    choices, sequence, steps = spoken(prompt_of(20), 200, GREEDY, ahead=7)
    assert [choice.token for choice in choices] == expected(prompt_of(20), 200, GREEDY)
    assert sequence.foresight.accepted > 100
    assert len(steps) < 70


@pytest.mark.parametrize("ahead", [1, 3, 15])
def test_nobody_is_further_ahead_than_asked_for(ahead):
    choices, sequence, steps = spoken(prompt_of(20), 150, GREEDY, ahead=ahead)
    assert [choice.token for choice in choices] == expected(prompt_of(20), 150, GREEDY)
    assert max(count for (count,) in steps[1:]) == 1 + ahead
    assert sequence.foresight.proposed == sum(count - 1 for (count,) in steps[1:])


@pytest.mark.parametrize("count", range(1, 40, 3))
def test_the_limit_is_met_and_nothing_is_computed_for_what_lies_beyond_it(count):
    choices, sequence, steps = spoken(prompt_of(60), count, GREEDY, ahead=7)
    assert [choice.token for choice in choices] == expected(prompt_of(60), count, GREEDY)
    assert sequence.reason is StopReason.LENGTH
    assert sum(map(sum, steps)) - (sequence.foresight.proposed - sequence.foresight.accepted) == 60 + count - 1


def test_a_context_is_filled_to_its_end():
    choices, sequence, _ = spoken(prompt_of(200), -1, GREEDY, ahead=7)
    assert [choice.token for choice in choices] == expected(prompt_of(200), 56, GREEDY)
    assert sequence.reason is StopReason.LENGTH


@pytest.mark.parametrize("place", range(30, 44))
def test_an_end_token_ends_it_wherever_it_comes_in_a_step(place):
    said = expected(prompt_of(20), 60, SEEDED)
    stop = {said[place]}
    count = next(i for i, token in enumerate(said) if token in stop)
    choices, sequence, _ = spoken(prompt_of(20), 60, ahead=7, stop_ids=stop)
    assert [choice.token for choice in choices] == said[:count]
    assert sequence.reason is StopReason.STOP
    assert sequence.told == count + 1


class Follows:
    """A constraint: no token twice in a row, and behind 3 there must be 4 and 5."""

    def __init__(self):
        self.last, self.complete = -1, False

    def masked(self, logits):
        out = logits.copy()
        if self.last >= 0:
            out[self.last] = -np.inf
        return out

    def take(self, token):
        forced = [4, 5] if token == 3 else []
        self.last = forced[-1] if forced else token
        return forced


@pytest.mark.parametrize("seed", range(6))
def test_what_a_constraint_forces_is_the_same(seed):
    sampling = Sampling(temperature=1.0, seed=seed, logit_bias=((3, 6.0),), top_logprobs=0)
    alone, one, _ = spoken(prompt_of(20), 120, sampling, ahead=0, constraint=Follows())
    ahead, other, _ = spoken(prompt_of(20), 120, sampling, ahead=7, constraint=Follows())
    assert ahead == alone
    assert other.tokens == one.tokens
    assert other.foresight.accepted > 10


SIZES = {
    "room for all": {"blocks": 32},
    "few blocks, so that some wait": {"blocks": 5},
    "small steps": {"blocks": 32, "tokens": 9},
    "windows": {"blocks": 16, "windows": [(5, 20), (65, 12)]},
    "tight windows": {"blocks": 16, "windows": [(64, 4)]},
    "a memory": {"blocks": 16, "states": 5},
    "windows and a memory": {"blocks": 16, "windows": [(65, 9)], "states": 5},
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_a_crowd_of_which_some_look_ahead_says_what_each_says_alone(sizes):
    engine, model = repeating_engine(**sizes)
    prompts = [prompt_of(n, seed=n) for n in (5, 90, 17, 129)]
    for _ in range(2):  # the second time beginnings are kept
        several = [
            engine.submit(prompt, Sampling(temperature=1.0, seed=i), limit=50, ahead=(7, 0, 3, 15)[i])
            for i, prompt in enumerate(prompts)
        ]
        while any(s.reason is None for s in several):
            engine.step()
        for i, (prompt, sequence) in enumerate(zip(prompts, several, strict=True)):
            assert [c.token for c in sequence.choices] == expected(prompt, 50, Sampling(temperature=1.0, seed=i))
        assert any(s.foresight and s.foresight.accepted for s in several) != model.recurrent


@pytest.mark.parametrize("windows", [(), [(70, 12)]])
def test_a_conversation_goes_on_from_what_was_right_and_reads_nothing_else(windows):
    sampling = Sampling(temperature=1.6, seed=3)
    engine, _ = repeating_engine(windows=windows)
    prompt = prompt_of(BLOCK - 9)
    first = engine.submit(prompt, sampling, limit=50, ahead=7)
    said = [choice.token for choice in engine.tokens(first)]
    assert said == expected(prompt, 50, sampling)
    assert first.foresight.proposed > first.foresight.accepted > 0
    again = engine.submit([*prompt, *said, 7, 8, 9], sampling, limit=20, ahead=7)
    assert [choice.token for choice in engine.tokens(again)] == expected([*prompt, *said, 7, 8, 9], 20, sampling)
    assert len(prompt) + 48 <= again.cached <= len(prompt) + 50


def test_who_leaves_in_the_midst_of_a_step_has_the_others_say_the_same():
    engine, _ = repeating_engine()
    leaving, staying = (engine.submit(prompt_of(30, seed=n), GREEDY, limit=90, ahead=7) for n in range(2))
    for _, _ in zip(engine.tokens(leaving), range(25), strict=False):
        pass
    assert [c.token for c in engine.tokens(staying)] == expected(prompt_of(30, seed=1), 90, GREEDY)
    assert leaving.reason is StopReason.CANCELLED
    assert not engine._scheduler.running


def test_of_tokens_that_nobody_took_none_are_told():
    engine, _ = repeating_engine()
    sequence = engine.submit(prompt_of(30), GREEDY, limit=90, ahead=7)
    stream = engine.tokens(sequence)
    while not sequence.choices:
        next(stream)
    assert sequence.told == sequence.generated - len(sequence.choices) < sequence.generated


def test_what_goes_wrong_in_a_row_in_advance_ends_the_sequence_there():
    engine, model = repeating_engine()
    said = expected(prompt_of(30), 60, GREEDY)

    def breaking(history):
        return np.full(VOCAB, np.nan, np.float32) if len(history) == 30 + 50 else repeating(history)

    model.said = breaking
    sequence = engine.submit(prompt_of(30), GREEDY, limit=60, ahead=7)
    came = []
    with pytest.raises(Exception, match="the logits are not numbers"):
        came += (choice.token for choice in engine.tokens(sequence))
    assert sequence.reason is StopReason.FAILED
    assert sequence.tokens == [*prompt_of(30), *said[:50]]


def test_where_more_tokens_take_as_much_longer_nothing_is_computed_in_advance():
    engine, model = engine_of()
    model.said = repeating
    now, step = [0.0], model.step

    def slow(parts, outputs):
        now[0] += sum(len(part.tokens) for part in parts)
        return step(parts, outputs)

    model.step = slow
    engine = Engine(model, 256, clock=lambda: now[0])
    sequence = engine.submit(prompt_of(20), GREEDY, limit=200, ahead=7)
    assert [choice.token for choice in engine.tokens(sequence)] == expected(prompt_of(20), 200, GREEDY)
    assert sum(count > 1 for (count,) in model.steps[1:]) < 12  # to find that out


# ---- guesses ---------------------------------------------------------------------------------------------------------


def naive_match(said, most):
    """The longest end of a text that stands before in it, the latest such place; by comparing all."""
    lengths = {}
    for place in range(1, len(said)):
        same = 0
        while same < min(place, most) and said[place - 1 - same] == said[-1 - same]:
            same += 1
        lengths[place] = same
    length = max(lengths.values(), default=0)
    return (max(p for p, n in lengths.items() if n == length), length) if length >= 2 else (0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_the_longest_match_is_found_and_of_equals_the_latest(seed):
    said = np.random.default_rng(seed).integers(0, 5, 60).tolist()
    lookup = Lookup(said[:20])
    lookup.add(said[20:])
    place, length = naive_match(said, ENOUGH)
    found, common = lookup.find(5)
    assert common == length
    assert found == ([said[place + i % (60 - place)] for i in range(5)] if place else [])


def test_a_loop_goes_round():
    assert Lookup([1, 2, 3, 1, 2, 3, 1, 2]).find(7) == ([3, 1, 2, 3, 1, 2, 3], 5)


@pytest.mark.parametrize("said", [[], [1], [1, 1], [1, 2, 3, 1]])
def test_nothing_is_guessed_where_nothing_came_twice(said):
    assert Lookup(said).find(4) == ([], 0)


def test_a_text_of_an_encoder_may_be_repeated():
    foresight = Foresight(3, before=(5, 6, 7, 8, 9))
    assert foresight.look([1, 6, 7])[0] == [8, 9, 1]


def engine_of_random_texts():
    _, model = engine_of(context=256)
    return ticking(model), model


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
def test_an_answer_that_was_predicted_takes_far_fewer_steps_and_is_the_same(sampling):
    prompt = prompt_of(20)
    engine, model = engine_of_random_texts()
    alone = list(engine.tokens(engine.submit(prompt, sampling, limit=120)))
    said = [choice.token for choice in alone]
    steps = len(model.steps)
    for predicted in (said, [*said[:40], 1, 1, *said[41:]]):
        engine, model = engine_of_random_texts()
        sequence = engine.submit(prompt, sampling, limit=120, ahead=15, predicted=predicted)
        assert list(engine.tokens(sequence)) == alone
        assert len(model.steps) == steps - sequence.foresight.accepted
        assert len(model.steps) < steps / 4


def test_a_prediction_that_is_wrong_changes_nothing_and_is_soon_left_alone():
    prompt = prompt_of(20)
    engine, _ = engine_of_random_texts()
    alone = list(engine.tokens(engine.submit(prompt, SEEDED, limit=120)))
    engine, _ = engine_of_random_texts()
    sequence = engine.submit(prompt, SEEDED, limit=120, ahead=7, predicted=[VOCAB - 1] * 50)
    assert list(engine.tokens(sequence)) == alone
    assert sequence.foresight.proposed < 60


def test_a_predicted_text_is_read_along_with():
    reading = Predicted([1, 2, 3, 4, 5, 6, 3, 4, 8], skip=2)
    assert reading.find(3) == ([1, 2, 3], 0)
    reading.add([9, 9, 1, 2])
    assert reading.find(3) == ([3, 4, 5], 2)
    reading.add([7])
    assert reading.find(3) == ([], 0)
    reading.add([3, 4])
    assert reading.find(9) == ([5, 6, 3, 4, 8], 0)
    reading.add([5, 6, 7, 3, 4])
    assert (reading.find(2), reading.right) == (([8], 0), 4)
    reading.add([8, 8, 1, 2])
    assert reading.find(2) == ([3, 4], 0)


@pytest.mark.parametrize(
    ("prediction", "answer", "count"),
    [
        ([1, 2, 3], [1, 2, 3, 4], 3),
        ([1, 2, 3, 4, 5], [1, 9, 3, 4, 5], 2),
        ([1, 2], [3], 0),
        ([1], [1, 1], 1),
        ([], [1], 0),
    ],
)
def test_what_of_a_prediction_came_is_counted(prediction, answer, count):
    assert foretold(prediction, answer) == count


def test_guesses_that_turn_out_wrong_are_thought_less_of_and_right_ones_more():
    odds = Odds()
    before = odds.of(5)
    for _ in range(30):
        assert odds.judge([5, 5], [1, 1], [2, 1]) == [False]
        assert odds.judge([9, 9], [1, 1], [1]) == [True]
    assert odds.of(5) < 0.15 < before < 0.9 < odds.of(9)


def test_a_guess_is_judged_by_what_came_though_nobody_tried_it():
    wrong, right = Foresight(4), Foresight(4)
    text = [1, 2, 3, 1, 2]
    before = Foresight(4).look(text)[1][0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        wrong.look(text := [*text, *rng.integers(10, 10**6, 3).tolist(), 1, 2])
    loop = [1, 2, 3] * 2
    for _ in range(20):
        right.look(loop := [*loop, loop[-3]])
    assert wrong.look(text)[1][0] < before / 2
    assert right.look(loop)[1][3] > 0.8


def test_what_was_dropped_of_a_text_may_come_again():
    foresight = Foresight(2)
    foresight.look([1, 2, 3, 4, 5, 6])
    assert foresight.look([5, 6, 1, 2], dropped=4)[0] == [3, 4]


@pytest.mark.parametrize("keep", [0, 30])
def test_a_full_context_that_goes_on_says_the_same(keep):
    texts, seen = [], []
    for ahead in (0, 7):
        engine, _ = repeating_engine(context=128)
        engine = ticking(engine.runner, 128)
        sequence = engine.submit(prompt_of(60), SEEDED, limit=300, keep=keep, ahead=ahead)
        texts.append([choice.token for choice in engine.tokens(sequence)])
        seen.append(sequence)
    assert texts[0] == texts[1]
    assert len(texts[0]) == 300
    assert seen[0].dropped == seen[1].dropped > 0
    assert seen[1].foresight.accepted > 50


# ---- what they are worth ---------------------------------------------------------------------------------------------


def measured(*steps):
    times = Times()
    for _ in range(50):
        for tokens, seconds in steps:
            times.note(tokens, seconds)
    return times


def test_more_is_worth_it_where_steps_of_more_take_as_long():
    times = measured(*[(n, 1.0) for n in range(8, 0, -1)])
    assert times.worth(1, 1, [0.9, 0.8, 0.5, 0.1]) == 4
    assert times.worth(1, 1, [0.01]) == 0


def test_nothing_is_worth_it_where_each_token_takes_as_long_as_all_others():
    times = measured(*[(n, float(n)) for n in range(8, 0, -1)])
    assert times.worth(1, 1, [0.95, 0.9, 0.85, 0.8]) == 0


def test_a_size_that_is_slow_is_passed_over():
    times = measured((4, 1.1), (3, 2.0), (2, 2.0), (1, 1.0))
    assert times.worth(1, 1, [0.9, 0.8, 0.7]) == 3


def test_a_clock_may_stand_still():
    assert measured((1, 0.0), (2, 0.0)).worth(1, 1, [0.9]) == 1


def test_a_time_that_was_disturbed_is_soon_forgotten():
    times = measured((1, 1.0))
    times.note(1, 50.0)
    assert times.seconds(1) < 6
    for _ in range(10):
        times.note(1, 1.0)
    assert times.seconds(1) == pytest.approx(1.0, abs=0.05)


def test_what_was_slow_long_ago_is_tried_again():
    times = measured((8, 20.0), (1, 1.0))
    assert times.worth(1, 1, [0.9] * 7) < 7
    for _ in range(4000):
        times.note(1, 1.0)
    assert times.worth(1, 1, [0.9] * 7) == 7


def test_an_impossible_number_of_tokens_in_advance_is_refused():
    from puna.generation import parse_options

    assert parse_options({"draft_num_predict": 4}, {}).draft_num_predict == 4
    assert parse_options({"draft_num_predict": 4}, {"draft_num_predict": 0}).draft_num_predict == 0
    with pytest.raises(RequestError, match="'draft_num_predict' is 64; it must be a whole number from 0 to 63"):
        parse_options({}, {"draft_num_predict": 64})


# ---- a smaller model -------------------------------------------------------------------------------------------------


def nearly(history):
    """What a smaller model would say: the same, but for some texts."""
    return answer_to([1, 2, 3]) if len(history) % 5 == 0 else answer_to(history) * 2


def drafted_engine(says=nearly, vocabulary=VOCAB, seconds=lambda: 0.0, **sizes):
    """An engine that a smaller model drafts for, in no time; its own steps take a second."""
    _, model = engine_of(**sizes)
    _, small = engine_of(**sizes)
    model.said, small.said = (lambda history: answer_to(history) * 2), says
    draft = Draft(small, vocabulary, clock=seconds)
    return Engine(model, sizes.get("context", 256), itertools.count().__next__, draft=draft), model, draft


def said_by(prompt, count, sampling):
    sampler, history = Sampler(sampling), list(prompt)
    for _ in range(count):
        history.append(sampler.choose(answer_to(history) * 2, history).token)
    return history[len(prompt) :]


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_a_smaller_model_changes_nothing_that_is_said(sampling):
    engine, model, _ = drafted_engine()
    sequence = engine.submit(prompt_of(70), sampling, limit=120, ahead=4)
    assert [choice.token for choice in engine.tokens(sequence)] == said_by(prompt_of(70), 120, sampling)
    assert len(model.steps) == 2 + 119 - sequence.foresight.accepted


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_both_models_say_the_same_nearly_all_is_right_also_where_it_is_drawn(temperature):
    engine, model, _ = drafted_engine(says=lambda history: answer_to(history) * 2)
    sequence = engine.submit(prompt_of(30), Sampling(temperature=temperature, seed=1), limit=100, ahead=4)
    engine_tokens = [choice.token for choice in engine.tokens(sequence)]
    assert engine_tokens == said_by(prompt_of(30), 100, Sampling(temperature=temperature, seed=1))
    assert sequence.foresight.accepted == sequence.foresight.proposed > 70
    assert len(model.steps) < 30


@pytest.mark.parametrize("sizes", [{}, {"blocks": 5}, {"tokens": 9}, {"windows": [(65, 12)]}], ids=str)
def test_a_crowd_with_a_smaller_model_says_what_each_says_alone(sizes):
    engine, _, draft = drafted_engine(**sizes)
    for _ in range(2):
        several = [
            engine.submit(prompt_of(n, seed=n), Sampling(temperature=0.7, seed=n), limit=40, ahead=5)
            for n in (3, 90, 17, 129, 60)
        ]
        while any(s.reason is None for s in several):
            engine.step()
        for n, sequence in zip((3, 90, 17, 129, 60), several, strict=True):
            told = said_by(prompt_of(n, seed=n), 40, Sampling(temperature=0.7, seed=n))
            assert [choice.token for choice in sequence.choices] == told
        assert sum(s.foresight.accepted for s in several) > 5
    draft._forget()
    assert not draft._texts
    assert all(count <= 1 for count in draft._memory.blocks.holders)


def test_a_smaller_model_reads_a_conversation_on_from_where_it_was():
    engine, _, draft = drafted_engine()
    first = engine.submit(prompt_of(150), GREEDY, limit=20, ahead=4)
    said = [choice.token for choice in engine.tokens(first)]
    before = sum(map(sum, draft._runner.steps))
    list(engine.tokens(engine.submit([*prompt_of(150), *said, 7], GREEDY, limit=4, ahead=4)))
    assert sum(map(sum, draft._runner.steps)) - before < 60


def test_a_full_context_goes_on_with_a_smaller_model():
    told = []
    for ahead in (0, 5):
        engine, _, _ = drafted_engine(context=128)
        sequence = engine.submit(prompt_of(60), SEEDED, limit=200, keep=10, ahead=ahead)
        told.append([choice.token for choice in engine.tokens(sequence)])
    assert told[0] == told[1]
    assert sequence.dropped > 0
    assert sequence.foresight.accepted > 20


def test_a_smaller_model_that_is_never_right_is_hardly_asked():
    engine, _, draft = drafted_engine(
        says=lambda history: -answer_to(history), seconds=itertools.count(step=0.3).__next__
    )
    sequence = engine.submit(prompt_of(30), GREEDY, limit=200, ahead=4)
    assert [choice.token for choice in engine.tokens(sequence)] == said_by(prompt_of(30), 200, GREEDY)
    assert len(draft._runner.steps) < 40


def test_tokens_that_a_smaller_model_does_not_know_are_neither_said_nor_read_by_it():
    engine, _, draft = drafted_engine(vocabulary=30)
    sampling = Sampling(temperature=0.7, seed=1, logit_bias=((45, 1.0), (3, 1.0)))
    sequence = engine.submit([1, 2, 3], sampling, limit=60, ahead=4)
    assert [choice.token for choice in engine.tokens(sequence)] == said_by([1, 2, 3], 60, sampling)
    assert all(token < 30 for text in draft._texts.values() for token in text.known)


def test_a_smaller_model_with_a_memory_is_refused():
    _, small = engine_of(states=4)
    with pytest.raises(ModelError, match="cannot be taken back"):
        Draft(small, VOCAB)


def words(*tokens):
    return {"tokenizer.ggml.tokens": list(tokens)}


def test_vocabularies_may_differ_by_what_fills_a_matrix_and_by_nothing_else():
    assert shared(words("a", "b"), words("a", "b", "<pad>")) == 2
    with pytest.raises(
        ModelError, match="its token 1 is 'c', and the model's is 'b'; a smaller model of the same family"
    ):
        shared(words("a", "b"), words("a", "c"))
    with pytest.raises(ModelError, match="its vocabulary has 131 tokens, and the model's 2;"):
        shared(words("a", "b"), words("a", "b", *map(str, range(129))))
    with pytest.raises(ModelError, match="its vocabulary has 0 tokens, and the model's 1;"):
        shared(words("a"), {})
