"""Blocks that read the latest positions only: what is out of reach is given back, and nothing that is said changes."""

import numpy as np
import pytest

from engine.stand_ins import SAMPLING, answer_to, engine_of, expected, prompt_of, talk, told
from puna.cache import BLOCK
from puna.engine.beginning import begin, find
from puna.engine.held import Held
from puna.engine.limits import limits
from puna.engine.memory import Memory
from puna.engine.scheduler import Scheduler

LENGTHS = (5, 90, 17, 129, 200, 64)


def in_use(engine, reach):
    """Blocks that somebody holds."""
    pool = engine._scheduler.memory.windows[reach]
    return pool.count - len(pool.free)


def given_back(engine):
    """Whether nobody holds anything once what is kept is forgotten."""
    memory = engine._scheduler.memory
    for node in [*memory.tree.nodes]:
        memory.forget(node)
    pools = [memory.blocks, memory.states, *memory.windows.values()]
    return all(pool.holders == [0] * pool.count and sorted(pool.free) == [*range(pool.count)] for pool in pools)


@pytest.mark.parametrize("states", [0, 5])
@pytest.mark.parametrize("tokens", [16, 64, 100])
@pytest.mark.parametrize("windows", [[(5, 20)], [(64, 20)], [(65, 9), (130, 12)], [(64, 4)]])
def test_a_crowd_says_what_histories_say_and_nobody_reads_what_is_gone(windows, tokens, states):
    engine, _ = engine_of(blocks=16, tokens=tokens, sequences=8, windows=windows, states=states)
    prompts = [prompt_of(n, seed=n) for n in LENGTHS]
    for _ in range(3):  # the second time beginnings are kept
        assert talk(engine, prompts) == told(prompts)
    assert given_back(engine)


@pytest.mark.parametrize(
    ("reach", "tokens", "most"),
    [
        (1, 64, 2),  # the token before, and its own
        (64, 64, 2),
        (65, 64, 3),
        (100, 256, 6),  # 99 positions before a step of 256
    ],
)
def test_a_sequence_holds_its_window_however_far_it_runs(reach, tokens, most):
    engine, _ = engine_of(context=2048, blocks=32, tokens=tokens, windows=[(reach, 32)])
    engine._scheduler.memory._hold_place = lambda *args: None  # nothing to resume from
    used, first = [], engine._scheduler.memory.advance
    engine._scheduler.memory.advance = lambda *args, **more: (used.append(in_use(engine, reach)), first(*args, **more))
    prompt = prompt_of(700)
    sequence = engine.submit(prompt, SAMPLING, limit=600)
    while not sequence.ended:
        engine.step()
    assert [c.token for c in sequence.choices] == expected(prompt, 600, SAMPLING)
    assert max(used) == most
    assert given_back(engine)


def test_one_sequence_goes_on_in_the_least_room_there_is():
    engine, _ = engine_of(context=2048, blocks=32, tokens=64, windows=[(100, 4)])
    prompt = prompt_of(700)
    for _ in range(2):
        sequence = engine.submit(prompt, SAMPLING, limit=600)
        assert [c.token for c in engine.tokens(sequence)] == expected(prompt, 600, SAMPLING)


@pytest.mark.parametrize("length", [100, 300, 320, 321])
def test_a_conversation_goes_on_from_where_it_ended(length):
    engine, model = engine_of(context=1024, blocks=16, tokens=512, windows=[(80, 16)])
    prompt = prompt_of(length)
    said = [c.token for c in engine.tokens(engine.submit(prompt, SAMPLING, limit=40))]
    longer = [*prompt, *said, 7, 8, 9]
    again = engine.submit(longer, SAMPLING, limit=5)
    assert [c.token for c in engine.tokens(again)] == expected(longer, 5, SAMPLING)
    assert again.cached == length + 39  # the last token said was never computed
    assert model.steps[-5:] == [[4], [1], [1], [1], [1]]


def test_an_answer_that_is_taken_back_goes_on_from_the_last_whole_block_of_its_prompt():
    engine, model = engine_of(context=1024, blocks=16, tokens=512, windows=[(80, 16)])
    prompt = prompt_of(400)
    for cached in (0, 384, 384):
        sequence = engine.submit(prompt, SAMPLING, limit=200)  # far beyond the window
        assert [c.token for c in engine.tokens(sequence)] == expected(prompt, 200, SAMPLING)
        assert sequence.cached == cached
    assert [step for step in model.steps if step != [1]] == [[400], [16], [16]]  # a place takes no step of its own


def test_what_is_shorter_than_its_window_is_resumed_anywhere():
    engine, _ = engine_of(context=1024, blocks=16, tokens=512, windows=[(512, 16)])
    prompt = prompt_of(300)
    list(engine.tokens(engine.submit(prompt, SAMPLING, limit=20)))
    for beginning, cached in ((200, 200), (170, 170)):
        other = [*prompt[:beginning], 3, 4]
        sequence = engine.submit(other, SAMPLING, limit=5)
        assert [c.token for c in engine.tokens(sequence)] == expected(other, 5, SAMPLING)
        assert sequence.cached == cached


def test_a_beginning_whose_window_is_gone_is_computed_again():
    engine, _ = engine_of(context=1024, blocks=16, tokens=512, windows=[(80, 16)])
    prompt = prompt_of(500)
    list(engine.tokens(engine.submit(prompt, SAMPLING, limit=20)))
    other = [*prompt[:200], 3, 4]
    sequence = engine.submit(other, SAMPLING, limit=5)
    assert [c.token for c in engine.tokens(sequence)] == expected(other, 5, SAMPLING)
    assert sequence.cached == 0


@pytest.mark.parametrize(("reach", "beginning", "cached"), [(80, 4500, 4096), (80, 3000, 2048), (1024, 3000, 0)])
def test_long_prompts_can_be_gone_on_from_on_the_way(reach, beginning, cached):
    engine, _ = engine_of(context=8192, blocks=256, tokens=512, windows=[(reach, 64)])
    prompt = prompt_of(5000)
    list(engine.tokens(engine.submit(prompt, SAMPLING, limit=1)))
    other = [*prompt[:beginning], 1, 2]
    sequence = engine.submit(other, SAMPLING, limit=3)
    assert [c.token for c in engine.tokens(sequence)] == expected(other, 3, SAMPLING)
    assert sequence.cached == cached  # a place every 2048 tokens, or every four windows


def test_two_at_once_go_on_from_one_place():
    engine, _ = engine_of(context=512, blocks=16, tokens=512, windows=[(80, 16)])
    common = prompt_of(320)
    talk(engine, [[*common, 1, 2]], limit=100)
    prompts = [[*common, 3], [*common, 4, 5]]
    several = [engine.submit(p, SAMPLING, limit=90) for p in prompts]
    while any(s.reason is None for s in several):
        engine.step()
    assert [s.cached for s in several] == [320, 320]
    assert [[c.token for c in s.choices] for s in several] == [expected(p, 90, SAMPLING) for p in prompts]
    assert given_back(engine)


def test_who_has_no_room_within_reach_waits_and_says_the_same(monkeypatch):
    lost, give_up = [], Scheduler._preempt
    monkeypatch.setattr(Scheduler, "_preempt", lambda self, s: lost.append(s.computed) or give_up(self, s))
    engine, _ = engine_of(context=512, blocks=32, sequences=4, windows=[(130, 8)])
    prompts = [prompt_of(10, seed=n) for n in range(4)]  # a block each, and four once they are longer
    assert talk(engine, prompts, limit=300) == told(prompts, 300)
    assert max(lost) > 0
    assert given_back(engine)


def test_a_prompt_whose_window_has_no_room_yet_is_not_begun():
    engine, model = engine_of(context=512, blocks=32, tokens=256, windows=[(128, 5)])
    first = engine.submit(prompt_of(200), SAMPLING, limit=2)
    second = engine.submit(prompt_of(220, seed=1), SAMPLING, limit=2)
    while not first.ended:
        engine.step()
    assert second.computed == 0
    while not second.ended:
        engine.step()
    assert [c.token for c in second.choices] == expected(prompt_of(220, seed=1), 2, SAMPLING)
    assert model.steps == [[200], [1], [220], [1]]


def test_places_of_running_sequences_give_way_before_one_of_them_has_to():
    engine, model = engine_of(context=512, blocks=32, tokens=512, windows=[(64, 7)])
    prompts = [prompt_of(100, seed=n) for n in range(2)]
    assert talk(engine, prompts, limit=150) == told(prompts, 150)
    assert sum(map(sum, model.steps)) == 2 * (100 + 149)  # nothing was computed twice


def test_places_in_the_midst_of_a_prompt_give_way_before_the_ends_of_conversations():
    engine, _ = engine_of(context=8192, blocks=256, tokens=64, windows=[(128, 9)])
    talk(engine, [prompt_of(150)], limit=2)
    talk(engine, [prompt_of(7000, seed=1)], limit=2)  # on the way are three places, of two blocks each
    memory = engine._scheduler.memory
    places = [sorted(node.places)[0] for node in memory.tree.nodes if node.places]
    assert places == [151, 128, 7001, 6976, 2048]


def test_the_conversation_that_was_not_needed_for_longest_gives_way():
    memory = Memory(8, windows={64: 8})
    for text in ([1] * 128, [2] * 128, [3] * 128):
        held = Held()
        assert memory.extend(held, 128)
        memory.advance(held, 128, text)
        memory.keep(text, held)
    found = find(memory, [1] * 128 + [9])
    assert found.length == 128
    memory.release(begin(memory, found)[0])
    assert memory.extend(Held(), 6 * BLOCK)
    assert [node.tokens[0] for node in memory.tree.nodes] == [1, 1]


def test_memory_of_sequences_that_are_cancelled_is_all_given_back():
    engine, _ = engine_of(windows=[(70, 9)], blocks=9, states=6)
    rng = np.random.default_rng(3)
    for _ in range(60):
        several = [engine.submit(prompt_of(int(rng.integers(1, 180)), seed=i), SAMPLING, limit=70) for i in range(4)]
        for _ in range(int(rng.integers(1, 80))):
            engine.step()
        for sequence in several:
            engine.cancel(sequence)
    assert given_back(engine)


def test_a_step_that_breaks_off_is_done_again():
    engine, model = engine_of(context=512, windows=[(70, 8)])
    sequence = engine.submit(prompt := prompt_of(150), SAMPLING, limit=40)
    engine.step()
    step = model.step

    def break_off(parts, outputs):
        step(parts, outputs)
        raise KeyboardInterrupt

    for _ in range(20):
        model.step = break_off
        with pytest.raises(KeyboardInterrupt):
            engine.step()
        model.step = step
        engine.step()
    while not sequence.ended:
        engine.step()
    assert [c.token for c in sequence.choices] == expected(prompt, 40, SAMPLING)


def test_results_for_every_token_take_no_more_than_a_window():
    engine, _ = engine_of(context=1024, blocks=16, windows=[(64, 4)])
    ids = prompt_of(300)
    np.testing.assert_array_equal(engine.forward(ids), np.stack([answer_to(ids[: i + 1]) for i in range(300)]))
    assert given_back(engine)


def test_room_for_windows_is_of_their_size_not_of_the_context():
    size = limits(32768, 32, reaches=[1024, 30000])
    assert size.slots == 4 * 32768
    assert size.windows == {1024: 4 * 2 * (1024 + 2 * BLOCK) + 512}  # the other would save nothing
    assert limits(32768, 32, reaches=[128]).windows == {128: 32 * 3 * BLOCK + 512}
    assert limits(32768, 1, reaches=[128]).windows == {128: 2 * (128 + 2 * BLOCK) + 512}
