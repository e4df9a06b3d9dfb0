"""Loading and unloading, with workers that are none."""

import asyncio
from types import SimpleNamespace

import pytest

from puna.server.errors import Refused
from puna.server.models import Models, Wanted
from puna.server.settings import Settings

GIB = 1 << 30


class Worker:
    """Stands in for a process with a model."""

    pid = 1
    jobs = 0

    def __init__(self, stopped, name, context_length):
        self.alive = True
        self.ready = SimpleNamespace(context_length=context_length)
        self._stopped, self._name = stopped, name

    async def stop(self):
        self.alive = False
        self._stopped.append(self._name)


def models(stopped, **settings):
    async def start(name, options):
        await asyncio.sleep(0)
        return Worker(stopped, name, options.get("context_length", 8192))

    return Models(Settings(**settings), lambda: 100 * GIB, start)


def wanted(name, size=GIB, digest="d", context_length=0):
    return Wanted(name, digest, size, context_length)


async def used(loaded, *wanteds):
    for each in wanteds:
        async with loaded.lease(each):
            await asyncio.sleep(0.001)


def names(loaded):
    return [model.wanted.name for model in loaded.loaded]


def test_a_model_stays_loaded_and_the_longest_unused_gives_way():
    async def run():
        stopped = []
        loaded = models(stopped, models=2)
        await used(loaded, wanted("a"), wanted("b"), wanted("a"), wanted("c"))
        return names(loaded), stopped

    assert asyncio.run(run()) == (["c", "a"], ["b"])


def test_models_give_way_to_what_needs_their_memory():
    async def run():
        stopped = []
        loaded = models(stopped, models=9, memory=4 * GIB)
        await used(loaded, wanted("a"), wanted("b"), wanted("big", 3 * GIB))
        return names(loaded), stopped

    assert asyncio.run(run()) == (["big", "b"], ["a"])


def test_what_will_never_fit_is_refused_with_the_numbers():
    async def run():
        await used(models([], memory=GIB), wanted("big", 3 * GIB))

    with pytest.raises(Refused, match="about 3072 MiB, and 1024 MiB are free") as refused:
        asyncio.run(run())
    assert refused.value.status == 507


def test_a_model_in_use_is_waited_for():
    async def run():
        stopped = []
        loaded = models(stopped, models=1)
        async with loaded.lease(wanted("a")):
            other = asyncio.create_task(used(loaded, wanted("b")))
            await asyncio.sleep(0.01)
            before = names(loaded)
        await other
        return before, names(loaded)

    assert asyncio.run(run()) == (["a"], ["b"])


def test_another_digest_or_a_longer_context_loads_anew_and_a_shorter_one_does_not():
    async def run():
        stopped = []
        loaded = models(stopped)
        await used(loaded, wanted("a"), wanted("a", context_length=100), wanted("a", context_length=9000))
        await used(loaded, wanted("a", digest="e", context_length=9000))
        return stopped

    assert asyncio.run(run()) == ["a", "a"]


def test_what_nobody_asked_for_in_its_time_is_unloaded():
    async def run():
        stopped = []
        loaded = models(stopped, keep_alive=0.02)
        expiring = asyncio.create_task(loaded.expire(every=0.01))
        await used(loaded, wanted("a"))
        async with loaded.lease(wanted("b"), 60):
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        expiring.cancel()
        return names(loaded), stopped

    assert asyncio.run(run()) == (["b"], ["a"])


def test_a_model_whose_process_ended_is_loaded_again():
    async def run():
        loaded = models([])
        async with loaded.lease(wanted("a")) as first:
            first.worker.alive = False
        async with loaded.lease(wanted("a")) as second:
            return second is first

    assert asyncio.run(run()) is False
