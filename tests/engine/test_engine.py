import zlib

import numpy as np
import pytest

from puna.backends.selection import best
from puna.cache import BLOCK
from puna.engine.blocks import Blocks
from puna.engine.engine import Engine
from puna.engine.runner import Limits
from puna.engine.sampler import Sampling
from puna.engine.sequence import StopReason
from puna.errors import PromptTooLong, RequestError

VOCAB = 50


def answer_to(history):
    """The logits that a history of tokens has: any function of all of it will do."""
    seed = zlib.crc32(np.asarray(history, np.int32).tobytes())
    return np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32)


class Memory:
    """Stands in for a compiled model: keeps tokens in slots, and answers from what it reads back through the blocks."""

    best = staticmethod(best)

    def __init__(self, limits):
        self.limits, self.width = limits, VOCAB
        self.slots = np.full(limits.slots, -1)
        self.steps = []

    def step(self, parts, outputs):
        assert sum(len(tokens) for tokens, _, _ in parts) <= self.limits.tokens
        assert len(parts) <= self.limits.sequences
        assert len(outputs) <= self.limits.outputs
        self.steps.append([len(tokens) for tokens, _, _ in parts])
        rows = []
        for tokens, start, blocks in parts:
            where = [blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(start + len(tokens))]
            self.slots[where[start:]] = tokens
            rows += [self.slots[where[: start + i + 1]] for i in range(len(tokens))]
        return np.stack([answer_to(rows[o]) for o in outputs]) if outputs else np.empty((0, VOCAB), np.float32)


def engine_of(context=256, blocks=8, tokens=64, sequences=4):
    runner = Memory(
        Limits(slots=blocks * BLOCK, tokens=tokens, outputs=16, sequences=sequences, table=context // BLOCK)
    )
    return Engine(runner, context), runner


def expected(prompt, count, sampling):
    """What one sequence by itself has to say, by the definition."""
    from puna.engine.sampler import Sampler

    sampler, history = Sampler(sampling), list(prompt)
    for _ in range(count):
        history.append(sampler.choose(answer_to(history), history).token)
    return history[len(prompt) :]


def prompt_of(length, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, length).tolist()


SAMPLING = Sampling(temperature=1.0, seed=5)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_a_sequence_says_what_its_history_says(length):
    engine, _ = engine_of()
    prompt = prompt_of(length)
    sequence = engine.submit(prompt, SAMPLING, limit=20)
    assert [c.token for c in engine.tokens(sequence)] == expected(prompt, 20, SAMPLING)
    assert sequence.reason is StopReason.LENGTH


def test_sequences_in_one_batch_do_not_touch_each_other():
    engine, runner = engine_of()
    prompts = [prompt_of(n, seed=n) for n in (5, 90, 17)]
    sequences = [engine.submit(p, Sampling(temperature=1.0, seed=i), limit=12) for i, p in enumerate(prompts)]
    while any(s.reason is None for s in sequences):
        engine.step()
    for i, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True)):
        assert [c.token for c in sequence.choices] == expected(prompt, 12, Sampling(temperature=1.0, seed=i))
    assert max(len(step) for step in runner.steps) == 3


def test_generating_goes_on_while_a_long_prompt_is_read():
    engine, runner = engine_of(tokens=16)
    first = engine.submit(prompt_of(4), SAMPLING, limit=30)
    engine.step()
    engine.submit(prompt_of(100, seed=1), SAMPLING, limit=1)
    engine.step()
    assert runner.steps[-1] == [1, 15]
    assert len(first.choices) == 2


def test_a_conversation_that_goes_on_computes_only_what_is_new():
    engine, _ = engine_of()
    first = engine.submit(prompt := prompt_of(100), SAMPLING, limit=10)
    said = [c.token for c in engine.tokens(first)]
    again = engine.submit([*prompt, *said, 7, 8, 9], SAMPLING, limit=5)
    assert [c.token for c in engine.tokens(again)] == expected([*prompt, *said, 7, 8, 9], 5, SAMPLING)
    assert again.cached == 109  # the last token said was never computed


def test_two_at_once_share_the_whole_blocks_of_a_kept_beginning():
    engine, _ = engine_of()
    common = prompt_of(100)
    list(engine.tokens(engine.submit([*common, *prompt_of(150 - 100, seed=9)], SAMPLING, limit=60)))
    pair = [engine.submit([*common, 1, i], SAMPLING, limit=8) for i in range(2)]
    while any(s.reason is None for s in pair):
        engine.step()
    for i, sequence in enumerate(pair):
        assert sequence.cached == BLOCK
        assert [c.token for c in sequence.choices] == expected([*common, 1, i], 8, SAMPLING)


def test_when_blocks_run_out_the_youngest_waits_and_says_the_same():
    engine, runner = engine_of(context=256, blocks=4, tokens=64)
    prompts = [prompt_of(100, seed=n) for n in (1, 2)]  # two blocks each; both want a third
    sequences = [engine.submit(p, SAMPLING, limit=60) for p in prompts]
    while any(s.reason is None for s in sequences):
        engine.step()
    for prompt, sequence in zip(prompts, sequences, strict=True):
        assert [c.token for c in sequence.choices] == expected(prompt, 60, SAMPLING)
    computed_once = 2 * (100 + 59)
    assert sum(map(sum, runner.steps)) > computed_once


def test_a_prompt_that_has_no_room_yet_is_not_begun():
    engine, runner = engine_of(context=320, blocks=5)
    first = engine.submit(prompt_of(2 * BLOCK - 8), SAMPLING, limit=2)
    second = engine.submit(prompt_of(4 * BLOCK, seed=1), SAMPLING, limit=2)
    while not first.ended:
        engine.step()
    assert second.computed == 0
    while not second.ended:
        engine.step()
    assert [c.token for c in second.choices] == expected(prompt_of(4 * BLOCK, seed=1), 2, SAMPLING)
    assert sum(map(sum, runner.steps)) == (2 * BLOCK - 8 + 1) + (4 * BLOCK + 1)


def test_what_only_kept_conversations_hold_is_spare():
    blocks, mine = Blocks(4), []
    assert blocks.extend(mine, 3 * BLOCK)
    assert blocks.spare() == 1
    blocks.keep(list(range(3 * BLOCK)), mine)
    assert blocks.spare() == 4
    blocks.reuse(list(range(2 * BLOCK)))
    assert blocks.spare() == 2


def test_more_sequences_than_fit_wait_for_their_turn():
    engine, runner = engine_of(sequences=2)
    sequences = [engine.submit(prompt_of(3, seed=n), SAMPLING, limit=4) for n in range(5)]
    while any(s.reason is None for s in sequences):
        engine.step()
    assert max(len(step) for step in runner.steps) == 2
    for n, sequence in enumerate(sequences):
        assert [c.token for c in sequence.choices] == expected(prompt_of(3, seed=n), 4, SAMPLING)


def test_a_stop_token_ends_the_sequence_and_is_not_given():
    engine, _ = engine_of()
    prompt = prompt_of(10)
    said = expected(prompt, 10, SAMPLING)
    stop = said[6]
    sequence = engine.submit(prompt, SAMPLING, limit=50, stop_ids=[stop])
    assert [c.token for c in engine.tokens(sequence)] == said[: said.index(stop)]
    assert sequence.reason is StopReason.STOP


def test_leaving_early_frees_everything():
    engine, _ = engine_of()
    for _ in range(50):  # 50 times two of eight blocks
        stream = engine.tokens(engine.submit(prompt_of(100, seed=_), SAMPLING))
        next(stream)
        stream.close()
    assert [c.token for c in engine.tokens(engine.submit([1, 2], SAMPLING, limit=3))] == expected([1, 2], 3, SAMPLING)


def test_the_context_bounds_what_is_generated():
    engine, _ = engine_of(context=64)
    sequence = engine.submit(prompt_of(60), SAMPLING)
    assert len(list(engine.tokens(sequence))) == 4
    with pytest.raises(PromptTooLong, match="64 tokens, the context holds 64"):
        engine.submit(prompt_of(64), SAMPLING)


def test_an_empty_prompt_is_refused():
    with pytest.raises(RequestError, match="empty"):
        engine_of()[0].submit([], SAMPLING)


def test_forward_gives_every_row_and_leaves_no_state():
    engine, _ = engine_of()
    tokens = prompt_of(70)
    rows = engine.forward(tokens)
    for i in (0, 15, 16, 69):
        np.testing.assert_array_equal(rows[i], answer_to(tokens[: i + 1]))
    assert engine.submit(tokens, SAMPLING).cached == 0
