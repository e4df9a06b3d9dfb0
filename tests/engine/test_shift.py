"""A context that is full: it ends the answer, or, where that is asked for, loses what is old."""

import pytest

import puna
from cli.tiny import write_tiny
from engine.stand_ins import SAMPLING, answer_to, engine_of, expected, prompt_of
from puna.engine.sampler import Sampler
from puna.engine.sequence import StopReason
from puna.errors import RequestError


def said(engine, prompt, **options):
    sequence = engine.submit(prompt, SAMPLING, **options)
    return [choice.token for choice in engine.tokens(sequence)], sequence


def shifted(prompt, count, context, keep):
    """What has to be said, and how much is dropped, by the definition: half of the rest, whenever it is full."""
    sampler, history, out, dropped = Sampler(SAMPLING), list(prompt), [], 0
    while len(out) < count:
        history.append(sampler.choose(answer_to(history), history).token)
        out.append(history[-1])
        if len(history) == context and len(out) < count:
            half = (context - keep) // 2
            dropped += half
            history = history[:keep] + history[keep + half :]
    return out, dropped


KINDS = {"plain": {}, "windows": {"windows": [(80, 40)]}, "memory": {"states": 8}}


@pytest.mark.parametrize("keep", [0, 4, 70, 126])
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_context_goes_on_as_a_fresh_prompt_of_what_is_kept_would(kind, keep):
    engine, _ = engine_of(context=128, blocks=16, **KINDS[kind])
    want, dropped = shifted(prompt_of(100), 200, 128, keep)
    tokens, sequence = said(engine, prompt_of(100), limit=200, keep=keep)
    assert tokens == want
    assert (sequence.reason, sequence.generated, sequence.dropped) == (StopReason.LENGTH, 200, dropped)


def test_without_being_asked_it_ends():
    engine, _ = engine_of(context=128)
    tokens, sequence = said(engine, prompt_of(100), limit=200)
    assert tokens == expected(prompt_of(100), 28, SAMPLING)
    assert (sequence.reason, sequence.dropped) == (StopReason.LENGTH, 0)


def test_it_does_not_go_on_for_ever():
    engine, _ = engine_of(context=64)
    tokens, sequence = said(engine, prompt_of(10), keep=4)
    assert (len(tokens), sequence.reason) == (640, StopReason.LENGTH)


def test_others_go_on_beside_it():
    engine, _ = engine_of(context=128, blocks=16)
    several = [engine.submit(prompt_of(100, seed=n), SAMPLING, limit=90, keep=n * 10) for n in range(3)]
    while not all(s.ended for s in several):
        engine.step()
    for n, sequence in enumerate(several):
        assert [c.token for c in sequence.choices] == shifted(prompt_of(100, seed=n), 90, 128, n * 10)[0]


def test_a_model_says_how_much_it_dropped(tmp_path):
    model = puna.load(write_tiny(tmp_path / "tiny.gguf"), context_length=64)
    options = {"temperature": 0, "ignore_eos": True}
    plain = [*model.generate("abc\n", **options)]
    assert (plain[-1].done_reason, plain[-1].stats.tokens, plain[-1].stats.dropped_tokens) == ("length", 60, 0)
    longer = [*model.generate("abc\n", shift=True, num_predict=100, **options)]
    text = "".join(chunk.text for chunk in longer)
    assert text[:26] == "abcdefghijklmnopqrstuvwxyz"
    assert longer[-1].stats.tokens == 100
    assert longer[-1].stats.dropped_tokens == 60  # at 64 tokens, and again 30 later
    kept = [*model.generate("abc\n", shift=True, num_keep=-1, num_predict=70, **options)]
    assert kept[-1].stats.dropped_tokens == 30


def test_what_is_kept_is_a_number(tmp_path):
    with pytest.raises(
        RequestError, match="option 'num_keep' is 'all'; it must be a whole number, or -1 for the prompt"
    ):
        puna.load(write_tiny(tmp_path / "tiny.gguf")).generate("a", shift=True, num_keep="all")
