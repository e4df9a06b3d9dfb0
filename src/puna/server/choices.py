"""Several answers to one request, side by side: their pieces as they come, each with its number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def side_by_side(answers: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """What all of them give, as it comes; an error of one ends all, and so does closing this."""
    if len(answers) == 1:
        async with aclosing(answers[0]) as only:
            async for said in only:
                yield 0, said
        return
    heard: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue(1)

    async def read(number: int, answer: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(answer):
                async for piece in answer:
                    await heard.put((number, piece))
        except Exception as error:
            await heard.put(error)
        await heard.put(None)

    reading = [asyncio.create_task(read(number, answer)) for number, answer in enumerate(answers)]
    left = len(reading)
    try:
        while left:
            piece = await heard.get()
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                left -= 1
            else:
                yield piece
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
