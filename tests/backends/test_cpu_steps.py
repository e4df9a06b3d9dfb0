"""Phases: what may run between two barriers."""

from puna import dtypes
from puna.backends.cpu.steps import Step, phases
from puna.backends.cpu.views import Storage, extents, whole


def storages(n, **attrs):
    return [whole(Storage(i, lambda sizes: 64, **attrs), dtypes.F32, extents((4,))) for i in range(n)]


def grouped(steps, *, own=False):
    return [(phase.own, phase.shared) for phase in phases(steps, own=own)]


def test_steps_that_do_not_depend_on_each_other_share_a_phase():
    x, a, b = storages(3)
    assert grouped([Step("", (a, x)), Step("", (b, x))]) == [([], [0, 1])]


def test_a_step_waits_for_what_it_reads():
    x, a, b = storages(3)
    assert grouped([Step("", (a, x)), Step("", (b, a))]) == [([], [0]), ([], [1])]


def test_a_step_runs_as_early_as_it_can():
    x, a, b, c = storages(4)
    assert grouped([Step("", (a, x)), Step("", (b, a)), Step("", (c, x))]) == [([], [0, 2]), ([], [1])]


def test_overwriting_waits_for_readers_and_earlier_writers():
    x, a, y = storages(3)
    steps = [Step("", (y, a)), Step("", (a, x)), Step("", (a, x))]
    assert grouped(steps) == [([], [0]), ([], [1]), ([], [2])]


def test_reading_what_was_overwritten_waits_for_the_last_write():
    x, a, y = storages(3)
    steps = [Step("", (a, x)), Step("", (a, x)), Step("", (y, a))]
    assert grouped(steps) == [([], [0]), ([], [1]), ([], [2])]


def test_parts_of_one_value_are_written_together():
    x, a = storages(2)
    group = object()
    steps = [Step("", (a, x), group=group), Step("", (a, x), group=group)]
    assert grouped(steps) == [([], [0, 1])]


def test_a_tiny_step_is_done_by_every_thread_without_waiting():
    x, a, b, c = storages(4)
    steps = [Step("", (a, x), tiny=False), Step("", (b, a)), Step("", (c, b), tiny=False)]
    assert grouped(steps, own=True) == [([], [0]), ([1], [2])]
    assert grouped(steps) == [([], [0]), ([], [1]), ([], [2])]


def test_a_step_that_writes_shared_memory_is_not_done_by_every_thread():
    (a,), (x,) = storages(1, fixed=True), storages(1)
    assert grouped([Step("", (a, x))], own=True) == [([], [0])]


def test_a_large_step_is_not_done_by_every_thread():
    (x,) = storages(1)
    large = whole(Storage(9, lambda sizes: 1 << 20), dtypes.F32, extents((1 << 18,)))
    assert grouped([Step("", (large, x))], own=True) == [([], [0])]


def test_overwriting_waits_for_a_tiny_step_that_reads():
    x, y, z = storages(3)
    steps = [Step("", (y, x)), Step("", (x, z), tiny=False)]
    assert grouped(steps, own=True) == [([0], []), ([], [1])]
