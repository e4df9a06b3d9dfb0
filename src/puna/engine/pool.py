"""Things of one kind, by number: which are free, and how many hold each of the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Pool:
    """`count` things; one is free when nobody holds it."""

    count: int
    holders: list[int] = field(init=False)
    free: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.holders = [0] * self.count
        self.free = list(reversed(range(self.count)))

    def take(self) -> int:
        """A free one, held once; there must be one."""
        number = self.free.pop()
        self.holders[number] = 1
        return number

    def hold(self, numbers: Iterable[int]) -> None:
        """One holder more."""
        for number in numbers:
            self.holders[number] += 1

    def release(self, numbers: Iterable[int]) -> None:
        """One holder lets go."""
        for number in numbers:
            self.holders[number] -= 1
            if self.holders[number] == 0:
                self.free.append(number)
