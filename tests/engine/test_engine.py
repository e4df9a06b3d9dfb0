import threading

import numpy as np
import pytest

from engine.stand_ins import SAMPLING, VOCAB, answer_to, engine_of, expected, prompt_of, talk, told
from puna.cache import BLOCK
from puna.engine.beginning import begin, find
from puna.engine.held import Held
from puna.engine.memory import Memory
from puna.engine.sampler import Sampling
from puna.engine.sequence import StopReason
from puna.errors import PromptTooLong, RequestError


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


def test_two_at_once_share_a_kept_beginning():
    engine, _ = engine_of()
    common = prompt_of(100)
    list(engine.tokens(engine.submit([*common, *prompt_of(150 - 100, seed=9)], SAMPLING, limit=60)))
    pair = [engine.submit([*common, 1, i], SAMPLING, limit=8) for i in range(2)]
    while any(s.reason is None for s in pair):
        engine.step()
    for i, sequence in enumerate(pair):
        assert sequence.cached == 100
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
    memory, mine = Memory(4), Held()
    assert memory.extend(mine, 3 * BLOCK)
    assert memory.spare() == 1
    memory.keep(list(range(3 * BLOCK)), mine)
    assert memory.spare() == 4
    begin(memory, find(memory, list(range(2 * BLOCK))))
    assert memory.spare() == 2


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


@pytest.mark.parametrize("states", [1, 2, 3, 9])
@pytest.mark.parametrize("tokens", [16, 64, 100])
def test_sequences_with_memory_of_their_own_say_what_their_histories_say(states, tokens):
    engine, model = engine_of(tokens=tokens, states=states)
    prompts = [prompt_of(n, seed=n) for n in (5, 90, 17, 129, 200, 64)]
    for _ in range(3):  # the second time beginnings are kept
        assert talk(engine, prompts) == told(prompts)
    assert max(map(len, model.steps)) <= states


def test_a_conversation_goes_on_from_the_memory_it_was_left_with():
    engine, _ = engine_of(states=6)
    first = engine.submit(prompt := prompt_of(100), SAMPLING, limit=10)
    said = [c.token for c in engine.tokens(first)]
    again = engine.submit([*prompt, *said, 7, 8, 9], SAMPLING, limit=5)
    assert [c.token for c in engine.tokens(again)] == expected([*prompt, *said, 7, 8, 9], 5, SAMPLING)
    assert again.cached == 109


def test_an_answer_that_is_taken_back_goes_on_from_the_last_whole_block_of_its_prompt():
    engine, model = engine_of(states=6, tokens=256)
    prompt = prompt_of(150)
    for cached in (0, 128, 128):
        sequence = engine.submit(prompt, SAMPLING, limit=3)
        assert [c.token for c in engine.tokens(sequence)] == expected(prompt, 3, SAMPLING)
        assert sequence.cached == cached
    assert model.steps == [[128], [22], [1], [1], [22], [1], [1], [22], [1], [1]]


def test_two_at_once_go_on_from_one_memory():
    engine, _ = engine_of(states=6)
    common = prompt_of(128)
    talk(engine, [[*common, 1, 2]])
    prompts = [[*common, 3], [*common, 4, 5]]
    several = [engine.submit(p, SAMPLING, limit=4) for p in prompts]
    while any(s.reason is None for s in several):
        engine.step()
    assert [s.cached for s in several] == [128, 128]
    assert [[c.token for c in s.choices] for s in several] == [expected(p, 4, SAMPLING) for p in prompts]


def test_a_step_that_breaks_off_leaves_no_memory_to_go_on_from():
    engine, model = engine_of(states=3)
    sequence = engine.submit(prompt := prompt_of(30), SAMPLING, limit=4)
    engine.step()
    step = model.step

    def break_off(parts, outputs):
        step(parts, outputs)
        raise KeyboardInterrupt

    model.step = break_off
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    model.step = step
    while sequence.reason is None:
        engine.step()
    assert [c.token for c in sequence.choices] == expected(prompt, 4, SAMPLING)


def test_memory_of_sequences_that_come_and_go_is_all_given_back():
    engine, _ = engine_of(states=5, blocks=6)
    rng = np.random.default_rng(3)
    for _ in range(60):
        several = [engine.submit(prompt_of(int(rng.integers(1, 180)), seed=i), SAMPLING, limit=9) for i in range(4)]
        for _ in range(int(rng.integers(1, 8))):
            engine.step()
        for sequence in several:
            engine.cancel(sequence)
    memory = engine._scheduler.memory
    for node in [*memory.tree.nodes]:
        memory.forget(node)
    assert (sorted(memory.states.free), memory.states.holders) == ([0, 1, 2, 3, 4], [0] * 5)
    assert (sorted(memory.blocks.free), memory.blocks.holders) == ([*range(6)], [0] * 6)


def test_results_for_every_token_need_a_memory_too():
    engine, _ = engine_of(states=2)
    ids = prompt_of(100)
    want = np.stack([answer_to(np.array(ids[: i + 1])) for i in range(100)])
    np.testing.assert_array_equal(engine.forward(ids), want)
    np.testing.assert_array_equal(engine.forward(ids[:64]), want[:64])


def test_threads_that_read_at_once_share_steps_and_each_gets_its_own_tokens():
    engine, model = engine_of(blocks=16, sequences=8)
    prompts = [prompt_of(3 + i, seed=i) for i in range(8)]
    sequences = [engine.submit(prompt, SAMPLING, limit=20) for prompt in prompts]
    said = {}

    def read(i):
        said[i] = [choice.token for choice in engine.tokens(sequences[i])]

    threads = [threading.Thread(target=read, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert said == {i: expected(prompts[i], 20, SAMPLING) for i in range(8)}
    assert len(model.steps) < 8 * 20


def test_a_sequence_that_another_thread_cancels_ends_for_who_reads_it():
    engine, _ = engine_of()
    sequence = engine.submit(prompt_of(3), SAMPLING)
    tokens = engine.tokens(sequence)
    next(tokens)
    thread = threading.Thread(target=engine.cancel, args=(sequence,))
    thread.start()
    thread.join()
    assert list(tokens) == []
    assert sequence.reason is StopReason.CANCELLED


def test_a_sequence_for_which_no_token_can_be_chosen_ends_alone():
    engine, _ = engine_of()
    wrong = engine.submit(prompt_of(3), Sampling(logit_bias=((VOCAB, 1.0),)))
    right = engine.submit(prompt_of(4), SAMPLING, limit=5)
    assert [choice.token for choice in engine.tokens(right)] == expected(prompt_of(4), 5, SAMPLING)
    with pytest.raises(RequestError, match=f"token {VOCAB} is none of"):
        list(engine.tokens(wrong))
    assert wrong.reason is StopReason.FAILED
