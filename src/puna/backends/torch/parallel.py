"""Tensor parallel: a model split over devices, a process for each, of which this one is the first and leads the others.

`torch:cuda:0,1` is two of them. A graph is split by `puna.graph.shard`; what a run is given goes to every process.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import weakref
from collections import ChainMap
from collections.abc import Mapping, Sequence
from itertools import count as counting
from multiprocessing.connection import Connection, Listener
from typing import Any

from puna.backends.base import Array, Bounds, Inputs, Memory, Progress
from puna.backends.selection import best
from puna.backends.torch import follower, joining, single
from puna.backends.torch.hardware import open_device
from puna.backends.torch.sending import Piece, flat, piece_of
from puna.dtypes import Stored
from puna.errors import BackendError
from puna.graph.shard import shard
from puna.graph.tensor import Tensor, topological

PATIENCE = 120
"""Seconds until a process that was started must have spoken."""


def names_of(device: str) -> list[str]:
    """The devices that a name lists: "cuda:0,1" is cuda:0 and cuda:1; one that is no list is itself."""
    first, *others = device.split(",")
    kind = first.partition(":")[0]
    return [first, *(f"{kind}:{other}" if other.isdigit() else other for other in others)]


class Weights:
    """Stored tensors, and what each process was sent of them."""

    def __init__(self, number: int, stored: Mapping[str, Stored], backend: single.TorchBackend, progress: Any) -> None:
        self.number, self.stored = number, stored
        self.mine: dict[str, Stored] = {}
        self.loaded = backend.load(self.mine, progress)
        self.sent: dict[int, set[str]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes on the first device."""
        return self.loaded.nbytes

    def finish(self) -> None:
        """Nothing is under way."""


class Program:
    """The first process' part of a graph, which the others run at the same time."""

    def __init__(self, number: int, mine: Any, others: Sequence[Connection]) -> None:
        self.number, self.mine, self._others = number, mine, others

    @property
    def memory(self) -> Memory:
        """What it takes on one device."""
        found: Memory = self.mine.memory
        return found

    @property
    def states(self) -> list[Array]:
        """The first process' part of them."""
        found: list[Array] = self.mine.states
        return found

    def run(self, inputs: Inputs) -> list[Array]:
        """Once, in every process."""
        for other in self._others:
            _tell(other, "run", self.number, dict(inputs))
        found: list[Array] = self.mine.run(inputs)
        return found


class ParallelBackend:
    """Several devices, each with a process that has a part of the model."""

    best = staticmethod(best)

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        self.name = f"torch:{','.join(devices)}"
        self._count = len(devices)
        self._numbers = counting()
        self._first = single.TorchBackend(open_device(devices[0]))
        joining.require_none()
        self._others, started = _started(devices, threads)
        place = joining.meeting_place(self._count)
        for rank, (other, device) in enumerate(zip(self._others, devices[1:], strict=True), 1):
            _tell(other, "__init__", rank, self._count, place.port, device, threads)
        joining.join(self._first.device, 0, self._count, place)
        _require([_answer(other) for other in self._others])
        self.close = weakref.finalize(self, _ended, self._others, started)

    def supports(self, node: Tensor) -> bool:
        """What one device does."""
        return self._first.supports(node)

    def load(
        self, weights: Mapping[str, Stored], progress: Progress | None = None, *, beside: Weights | None = None
    ) -> Weights:
        """Keeps the handles; each process is sent its part when a graph that reads it is compiled."""
        stored = weights if beside is None else ChainMap(dict(weights), dict(beside.stored))
        return Weights(next(self._numbers), stored, self._first, progress)

    def compile(
        self,
        outputs: Sequence[Tensor],
        weights: Weights,
        bounds: Bounds,
        *,
        writes: Sequence[Tensor] = (),
        beside: Program | None = None,
    ) -> Program:
        """Splits the graph, and compiles each part in its process."""
        number, count = next(self._numbers), len(outputs)
        for rank, other in enumerate(self._others, 1):
            graph, parts = shard([*outputs, *writes], rank, self._count)
            self._send(other, rank, weights, piece_by_name(weights.stored, parts, graph))
            with_them = None if beside is None else beside.number
            _tell(other, "compile", number, weights.number, flat(graph), count, bounds, with_them)
        graph, parts = shard([*outputs, *writes], 0, self._count)
        weights.mine.update(piece_by_name(weights.stored, parts, graph))
        near = None if beside is None else beside.mine
        try:
            mine = self._first.compile(graph[:count], weights.loaded, bounds, writes=graph[count:], beside=near)
        finally:  # whatever came of it, they answer
            wrong = [_answer(other) for other in self._others]
        _require(wrong)
        return Program(number, mine, self._others)

    def _send(self, other: Connection, rank: int, weights: Weights, pieces: Mapping[str, Stored]) -> None:
        sent = weights.sent.setdefault(rank, set())
        for name in pieces.keys() - sent:
            stored = pieces[name]
            piece = Piece(tuple(stored.shape), stored.dtype.name, stored.raw)
            _tell(other, "load", weights.number, name, piece)
        sent |= pieces.keys()


def piece_by_name(stored: Mapping[str, Stored], parts: Any, graph: Sequence[Tensor]) -> dict[str, Stored]:
    """What a graph reads of stored tensors; what is not there will be missed when it is compiled."""
    names = [node.name for node in topological(graph) if node.op == "weight"]
    there = (name for name in names if name in parts or name in stored)
    return {name: piece_of(stored, parts, name) for name in there}


def _started(devices: Sequence[str], threads: int) -> tuple[list[Connection], list[subprocess.Popen[bytes]]]:
    """Processes for all devices but the first, and the connections to them."""
    key = secrets.token_bytes(32)
    environment = os.environ | {follower.KEY: key.hex(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with Listener((joining.HOST, 0), authkey=key) as listener:
        _, port = listener.address
        start = f"from {follower.__name__} import main; main()"
        command = [sys.executable, "-P", "-c", start, joining.HOST, str(port)]
        started = [subprocess.Popen(command, env=environment) for _ in devices[1:]]
        listener._listener._socket.settimeout(PATIENCE)  # type: ignore[attr-defined]  # it has no other way to wait
        try:
            return [listener.accept() for _ in started], started
        except OSError as error:
            for process in started:
                process.kill()
            raise BackendError(f"backend 'torch': starting a process for each of {devices}: {error}") from error


def _ended(others: Sequence[Connection], started: Sequence[subprocess.Popen[bytes]]) -> None:
    for other in others:
        other.close()
    joining.leave()
    for process in started:
        process.wait(PATIENCE)


def _tell(other: Connection, what: str, *arguments: Any) -> None:
    try:
        other.send((what, *arguments))
    except OSError as error:
        raise BackendError(f"backend 'torch': a process of the model has ended: {error}; load it again") from error


def _answer(other: Connection) -> str:
    """What went wrong there, or nothing."""
    try:
        return str(other.recv())
    except (EOFError, OSError) as error:
        raise BackendError("backend 'torch': a process of the model has ended; load it again") from error


def _require(answers: Sequence[str]) -> None:
    for wrong in filter(None, answers):
        raise BackendError(wrong)
