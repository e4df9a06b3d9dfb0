import itertools
import threading
import time

import numpy as np
import pytest

from engine.stand_ins import SAMPLING, answer_to, engine_of, prompt_of
from puna.engine.fair import FairLock


def test_one_at_a_time_has_it():
    lock, inside, most = FairLock(), [], []

    def work():
        for _ in range(200):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 1200
    assert set(most) == {1}


def test_it_goes_to_who_has_waited_longest():
    lock, came = FairLock(), []

    def work(i):
        with lock:
            came.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    with lock:
        for i, thread in enumerate(threads):
            thread.start()
            while len(lock._line) <= i:
                time.sleep(0.001)
    with lock:  # behind them all, though it was let go of only now
        came.append("again")
    for thread in threads:
        thread.join(30)
    assert came == [0, 1, 2, 3, "again"]


def test_trying_does_not_wait():
    lock = FairLock()
    with lock:
        assert not lock.acquire(blocking=False)
    assert lock.acquire(blocking=False)
    lock.release()


def test_who_gives_up_waiting_leaves_it_to_the_others():
    lock = FairLock()
    lock.acquire()
    waiting = threading.Lock()
    waiting.acquire()
    lock._line.append(waiting)
    interrupted = _Interrupted()
    lock._line.append(interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock._wait(interrupted)
    assert [*lock._line] == [waiting]
    lock.release()
    assert not waiting.locked()


class _Interrupted:
    def acquire(self):
        raise KeyboardInterrupt


def test_answers_go_on_while_results_of_a_long_text_are_computed():
    engine, runner = engine_of(context=1024, blocks=40, tokens=64)
    ids, text = prompt_of(640), prompt_of(4, seed=1)
    sequence = engine.submit(text, SAMPLING, limit=200)
    step, rows = runner.step, []

    def slow(parts, outputs):
        time.sleep(0.005)
        return step(parts, outputs)

    runner.step = slow
    thread = threading.Thread(target=lambda: rows.append(engine.forward(ids, last=True)))
    tokens = engine.tokens(sequence)
    next(tokens)
    thread.start()
    for _ in tokens:
        if rows:
            break
    thread.join(30)
    tokens.close()
    lengths = [sum(step) for step in runner.steps]
    long = [i for i, length in enumerate(lengths) if length > 4]
    assert any(b - a > 1 for a, b in itertools.pairwise(long))
    np.testing.assert_array_equal(rows[0][0], answer_to(np.array(ids)))
