"""Requests that begin alike, at once and one after the other: what they begin with is computed once."""

import numpy as np
import pytest

from engine.stand_ins import SAMPLING, answer_to, engine_of, expected, prompt_of, told
from puna.cache import BLOCK
from puna.engine.beginning import begin, find
from puna.engine.held import Held
from puna.engine.memory import Memory
from puna.engine.sampler import Sampling
from puna.engine.tree import Tree

KINDS = {"plain": {}, "windows": {"windows": [(80, 60)]}, "memory": {"states": 16}}
KINDS["both"] = KINDS["windows"] | KINDS["memory"]


def run(engine, prompts, limit=4):
    several = [engine.submit(p, Sampling(temperature=1.0, seed=i), limit=limit) for i, p in enumerate(prompts)]
    while any(s.reason is None for s in several):
        engine.step()
    assert [[c.token for c in s.choices] for s in several] == told(prompts, limit)
    return several


@pytest.mark.parametrize("kind", KINDS)
def test_eight_at_once_compute_the_prompt_that_they_have_in_common_once(kind):
    engine, model = engine_of(context=1024, blocks=60, tokens=256, sequences=8, **KINDS[kind])
    several = run(engine, [prompt_of(500)] * 8)
    assert [s.cached for s in several] == [0] + [499] * 7  # the last token is computed for what it says
    assert sum(map(sum, model.steps)) == 500 + 7 * 1 + 8 * 3


@pytest.mark.parametrize("kind", KINDS)
def test_where_blocks_cannot_be_copied_whole_ones_are_shared(kind):
    engine, model = engine_of(context=1024, blocks=60, tokens=256, sequences=8, copies=False, **KINDS[kind])
    several = run(engine, [prompt_of(500)] * 8)
    assert [s.cached for s in several] == [0] + [448] * 7
    assert sum(map(sum, model.steps)) == 500 + 7 * 52 + 8 * 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_common_beginning_is_where_others_go_on(kind):
    engine, model = engine_of(context=1024, blocks=90, tokens=256, sequences=8, **KINDS[kind])
    common = prompt_of(500)
    several = run(engine, [[*common, *prompt_of(100 + n, seed=n)] for n in range(1, 9)])
    assert [s.cached for s in several] == [0] + [500] * 7
    assert sum(map(sum, model.steps)) == 500 + sum(100 + n for n in range(1, 9)) + 8 * 3


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_while_a_long_prompt_is_read_shares_it_too(kind):
    engine, _ = engine_of(context=1024, blocks=60, tokens=64, **KINDS[kind])
    common = prompt_of(700)
    first = engine.submit([*common, 1], SAMPLING, limit=3)
    engine.step()
    second = engine.submit([*common, 2, 3], SAMPLING, limit=3)
    stranger = engine.submit(prompt_of(30, seed=3), SAMPLING, limit=3)
    while not (first.ended and second.ended and stranger.ended):
        engine.step()
    assert [c.token for c in second.choices] == expected([*common, 2, 3], 3, SAMPLING)
    assert [c.token for c in stranger.choices] == expected(prompt_of(30, seed=3), 3, SAMPLING)
    assert (first.cached, second.cached, stranger.cached) == (0, 700, 0)


def test_who_comes_when_a_prompt_has_just_been_read_shares_the_block_that_is_not_full_yet():
    engine, _ = engine_of(context=1024, blocks=60, tokens=512)
    several = [engine.submit(prompt_of(500), SAMPLING, limit=9)]
    engine.step()
    several += [engine.submit([*prompt_of(480), 1], SAMPLING, limit=9), engine.submit(prompt_of(30), SAMPLING, limit=9)]
    while not all(s.ended for s in several):
        engine.step()
    assert [s.cached for s in several] == [0, 480, 29]
    prompts = [prompt_of(500), [*prompt_of(480), 1], prompt_of(30)]
    assert [[c.token for c in s.choices] for s in several] == [expected(p, 9, SAMPLING) for p in prompts]


@pytest.mark.parametrize("kind", KINDS)
def test_who_waits_for_one_that_is_cancelled_goes_on_itself(kind):
    engine, model = engine_of(context=1024, blocks=60, tokens=64, **KINDS[kind])
    several = [engine.submit(prompt_of(500), SAMPLING, limit=3) for _ in range(3)]
    for _ in range(2):
        engine.step()
    engine.cancel(several[0])
    while not all(s.ended for s in several):
        engine.step()
    assert [[c.token for c in s.choices] for s in several[1:]] == [expected(prompt_of(500), 3, SAMPLING)] * 2
    assert [s.cached for s in several] == [0, 128, 499]
    assert sum(map(sum, model.steps)) == 128 + 372 + 1 + 2 * 2


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_sharing_goes_well_with_too_little_room(kind, copies):
    small = {"plain": {}, "windows": {"windows": [(80, 7)]}, "memory": {"states": 3}}
    small["both"] = small["windows"] | small["memory"]
    engine, _ = engine_of(context=640, blocks=14, tokens=64, sequences=6, copies=copies, **small[kind])
    common = prompt_of(300)
    for round_ in range(2):
        run(
            engine,
            [[*common[: 300 - 70 * (n % 3)], *prompt_of(20 * n, seed=n + round_)] for n in range(1, 9)],
            limit=70,
        )
    memory = engine._scheduler.memory
    for node in [*memory.tree.nodes]:
        memory.forget(node)
    for pool in (memory.blocks, memory.states, *memory.windows.values()):
        assert pool.holders == [0] * pool.count


def test_texts_of_different_keys_share_nothing():
    engine, _ = engine_of(blocks=16)
    several = [engine.submit(prompt_of(150), SAMPLING, limit=2) for _ in range(3)]
    for sequence, key in zip(several, "aba", strict=True):
        sequence.held.key = key
    while not all(s.ended for s in several):
        engine.step()
    again = engine.submit(prompt_of(150), SAMPLING, limit=2)
    list(engine.tokens(again))
    assert [s.cached for s in (*several, again)] == [0, 0, 149, 0]


def kept(memory, tokens):
    held = begin(memory, find(memory, tokens))[0]
    assert memory.extend(held, len(tokens))
    memory.advance(held, len(tokens), tokens)
    memory.keep(tokens, held)


def test_a_beginning_that_many_texts_have_outlives_the_rest_of_each():
    memory = Memory(8)
    common = prompt_of(2 * BLOCK)
    for n in range(3):
        kept(memory, [*common, *prompt_of(BLOCK, seed=n + 1)])
    kept(memory, prompt_of(5 * BLOCK, seed=9))  # of the three texts before, one block is left besides the common two
    assert find(memory, [*common, 1]).length == 2 * BLOCK
    lengths = [find(memory, [*common, *prompt_of(BLOCK, seed=n + 1)]).length // BLOCK for n in range(3)]
    assert lengths == [2, 2, 3]
    assert find(memory, prompt_of(5 * BLOCK, seed=9)).length == 5 * BLOCK


def test_what_two_computed_apart_is_held_once():
    memory, tokens = Memory(8), prompt_of(3 * BLOCK)
    pair = [Held(), Held()]
    for held in pair:
        assert memory.extend(held, len(tokens))
    for held in pair:
        memory.advance(held, len(tokens), tokens)
    assert pair[0].blocks == pair[1].blocks
    assert len(memory.blocks.free) == 5


def test_a_tree_gives_away_ends_before_what_they_go_on_from():
    tree, rng = Tree(), np.random.default_rng(1)
    for _ in range(200):
        node = tree.root(None)
        for _ in range(int(rng.integers(1, 6))):
            said = (int(rng.integers(3)),) * BLOCK
            node = node.children.get(said) or tree.add(node, said, 0)
        tree.touch(node)
    assert len(tree.nodes) > 100
    for node in [*tree.nodes]:
        assert not node.children
        tree.remove(node)


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_several_texts_is_computed_beside_each_other_and_their_beginning_once(kind):
    engine, model = engine_of(context=512, blocks=60, tokens=256, sequences=8, **KINDS[kind])
    prompts = [[*prompt_of(300), *more] for more in ([], [1], [1, 2], [3])]
    for row, prompt in zip(engine.following(prompts), prompts, strict=True):
        np.testing.assert_array_equal(row, answer_to(prompt))
    assert sum(map(sum, model.steps)) < 300 + 3 * BLOCK
