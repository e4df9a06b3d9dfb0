"""A process that computes its part of what another one does, which started it: `main` is all that it runs.

It is told over a connection what to load, compile and run; sums go through torch.distributed. It ends with the
connection.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from typing import Any

import numpy as np

from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.backends.torch.joining import join
from puna.backends.torch.sending import Piece, built
from puna.errors import BackendError

KEY = "PUNA_FOLLOWER_KEY"
"""The environment variable with the connection's secret, in hexadecimal digits."""


class Follower:
    """What this process has: weights and programs by the numbers that they are asked for by."""

    def __init__(self, rank: int, count: int, port: int, device: str, threads: int) -> None:
        backend: Any = open_backend(f"torch:{device}", threads=threads)
        join(backend.device, rank, count, port)
        self._backend = backend
        self._pieces: dict[int, dict[str, Piece]] = {}
        self._weights: dict[int, Any] = {}
        self._programs: dict[int, Any] = {}

    def load(self, number: int, name: str, piece: Piece) -> None:
        """One weight of a set."""
        if number not in self._weights:
            self._pieces[number] = {}
            self._weights[number] = self._backend.load(self._pieces[number])
        self._pieces[number][name] = piece

    def compile(self, number: int, weights: int, graph: Any, count: int, bounds: Bounds, beside: int | None) -> None:
        """A program; `count` of its nodes are outputs, the others are run for what they write."""
        nodes, pieces = built(graph), self._pieces.setdefault(weights, {})
        loaded = self._weights.setdefault(weights, self._backend.load(pieces))
        other = None if beside is None else self._programs[beside]
        options = {"writes": nodes[count:], "beside": other}
        self._programs[number] = self._backend.compile(nodes[:count], loaded, bounds, **options)
        for piece in pieces.values():  # it is on the device now
            piece.raw = np.empty(0, np.uint8)

    def run(self, number: int, inputs: Any) -> None:
        """A step; what is wrong with it, the other process finds too."""
        with suppress(BackendError):
            self._programs[number].run(inputs)


ANSWERED = ("__init__", "compile")
"""What the other process waits for: it is sent what went wrong, or nothing."""


def follow(connection: Connection) -> None:
    """Do what is asked until the connection ends."""
    follower: Follower | None = None
    while True:
        try:
            what, *arguments = connection.recv()
        except EOFError:
            return
        wrong = ""
        try:
            if follower is None:
                follower = Follower(*arguments)
            else:
                getattr(follower, what)(*arguments)
        except (BackendError, RuntimeError) as error:
            wrong = str(error)
        if what in ANSWERED:
            connection.send(wrong)


def main() -> None:
    """The process: it is called with the host and the port of who leads it."""
    follow(Client((sys.argv[1], int(sys.argv[2])), authkey=bytes.fromhex(os.environ.pop(KEY))))
    os._exit(0)  # nothing is left to be told to the others, which may have ended
