import asyncio

import pytest

from puna.server.errors import Refused
from puna.server.turns import Turns


async def take(turns, client, order):
    async with turns.turn(client):
        order.append(client)
        await asyncio.sleep(0)


async def begin(turns, *clients):
    order = []
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(take(turns, client, order)))
        await asyncio.sleep(0)
    return tasks, order


def test_clients_take_turns_whoever_asked_more():
    async def run():
        turns = Turns(1, 10)
        async with turns.turn("holder"):
            tasks, order = await begin(turns, "a", "a", "a", "b", "c")
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == ["a", "b", "c", "a", "a"]


def test_who_comes_when_too_many_wait_is_told_to_come_again():
    async def run():
        turns = Turns(1, 1)
        async with turns.turn("holder"):
            tasks, _ = await begin(turns, "a")
            with pytest.raises(Refused) as refused:
                await take(turns, "b", [])
        await asyncio.gather(*tasks)
        return refused.value

    refused = asyncio.run(run())
    assert (refused.status, refused.headers) == (503, {"Retry-After": "1"})


def test_who_gives_up_waiting_takes_no_turn_from_others():
    async def run():
        turns = Turns(1, 10)
        async with turns.turn("holder"):
            tasks, order = await begin(turns, "a", "b")
            tasks[0].cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        async with turns.turn("c"):
            return order, turns.waiting

    assert asyncio.run(run()) == (["b"], 0)
