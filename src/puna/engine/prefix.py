"""A beginning in a file: tokens, and what a model computed of them, from which any process goes on bit for bit.

    file   := safetensors with metadata: what must be the same for it to be gone on from, and first.<reach>
    tokens :  I32 (n,)
    <state>:  U8 (groups, units, bytes of one in a group), as the backend has them: of blocks of BLOCK positions, from
              number first.<reach> on where they are of a reach, or of the one memory

Knows no text, and where files are only from its caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.backends.base import Portable
from puna.cache import BLOCK
from puna.dtypes import DTYPES, DType
from puna.engine.beginning import begin, find
from puna.engine.engine import Engine
from puna.engine.held import Held, Row
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling
from puna.errors import FormatError, RequestError
from puna.formats.safetensors import Safetensors, open_safetensors, write_safetensors

FORM = "puna.prefix"
VERSION = "1"
PROBES = 8
"""Tokens whose logits tell models apart."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Part of a state, that is taken out when it is written."""

    shape: tuple[int, ...]
    fetch: Any
    dtype: DType = field(default=DTYPES["U8"])

    @property
    def raw(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self.fetch()).reshape(-1)

    def numpy(self) -> NDArray[np.uint8]:
        return self.raw.reshape(self.shape)


def save_prefix(engine: Engine, path: str | PathLike[str], tokens: Sequence[int], about: Mapping[str, str]) -> None:
    """Compute what stands for `tokens`, as far as it is not there, and write it to a file, which appears when complete.

    `about` says by name what it depends on. RequestError where it cannot be had.
    """
    program = _portable(engine)
    same = _same(engine, program, about)
    with _held(engine, list(tokens)) as held:
        first = {f"first.{reach}": str(row.first) for reach, row in held.windows.items()}
        arrays: dict[str, Any] = {"tokens": np.asarray(tokens, np.int32)}
        for name, (size, units) in _units(engine.runner, program, held).items():
            groups, _, each = program.fetch(name, size, units[:1]).shape
            arrays[name] = _Fetched((groups, len(units), each), partial(program.fetch, name, size, units))
        write_safetensors(path, arrays, {**same, **first})


def load_prefix(engine: Engine, path: str | PathLike[str], about: Mapping[str, str]) -> list[int]:
    """Take what a file has for what whoever begins with the same tokens goes on from; gives these.

    RequestError where it is of another model, or was computed or kept in another way, or where there is no room;
    FormatError where it is no such file.
    """
    program = _portable(engine)
    with open_safetensors(path) as file:
        name, there = Path(path).name, file.metadata
        if there.get(FORM) != VERSION or "tokens" not in file.tensors:
            raise FormatError(f"reading {name}: it is no prefix of version {VERSION}; `save_prefix` writes such files")
        for what, mine in _same(engine, program, about).items():
            if there.get(what) != mine:
                raise RequestError(
                    f"reading {name}: it was saved with {what} {there.get(what)!r}, and here that is {mine!r}; "
                    "it can be gone on from only as it was computed"
                )
        tokens: list[int] = file.tensors["tokens"].numpy().tolist()
        if not 0 < len(tokens) < engine.context_length:
            limit = engine.context_length
            raise RequestError(
                f"reading {name}: it has {len(tokens)} tokens, and the context {limit}; load a longer one"
            )
        _restore(engine, program, file, tokens)
    return tokens


def _portable(engine: Engine) -> Portable:
    program = engine.runner.program
    if engine.reads or not isinstance(program, Portable):
        what = "an encoder-decoder" if engine.reads else f"the backend of {type(program).__module__}"
        raise RequestError(f"a prefix: {what} has none that can be saved; decoders on 'cpu' and 'numpy' do")
    return program


def _same(engine: Engine, program: Portable, about: Mapping[str, str]) -> dict[str, str]:
    """What has to be equal, the names first, and at last what the model says to a few tokens, where all else shows."""
    width, count = engine.runner.width, min(PROBES, engine.context_length)
    logits = engine.forward([i * width // count for i in range(count)], last=True)
    windows = ", ".join(map(str, engine.runner.limits.windows)) or "none"
    said = hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()
    return {FORM: VERSION, **about, "backend": program.layout, "windows": windows, "weights": said}


@contextmanager
def _held(engine: Engine, tokens: list[int]) -> Iterator[Held]:
    """What stands for all of `tokens`, which nobody writes to meanwhile."""
    for _ in range(3):  # another may take the end of it before it is held here
        for _ in engine.tokens(engine.submit(tokens, Sampling(temperature=0.0), limit=1)):
            pass  # beside all that runs
        with engine.alone() as memory:
            held, length = begin(memory, find(memory, tokens, engine.always), engine.always)
            if length == len(tokens):
                break
            memory.release(held)
    else:
        raise RequestError("saving a prefix: others take all the room; try again when less is running")
    try:
        yield held
    finally:
        with engine.alone() as memory:
            memory.keep(tokens, held)


@contextmanager
def _taking(engine: Engine, tokens: list[int], windows: dict[int, Row]) -> Iterator[Held]:
    """Room for what stands for `tokens`, which the caller fills; whoever begins with them goes on from it then."""
    with engine.alone() as memory:
        held = Held(windows=windows, key=engine.always)
        try:
            if not memory.extend(held, len(tokens)):
                raise RequestError("the cache is taken by running sequences; finish or cancel them first")
            memory.advance(held, len(tokens))
            yield held
            memory.keep(tokens, held)
        finally:
            memory.release(held)


def _units(runner: Runner, program: Portable, held: Held) -> dict[str, tuple[int, list[int]]]:
    """By state how large units are, and which of them a sequence has."""
    found = {}
    for name, reach in runner.states.items():
        if name in program.kept:
            blocks = held.windows[reach].live if reach else held.blocks
            found[name] = (1, [held.state]) if reach is None else (BLOCK, blocks)
    return found


def _restore(engine: Engine, program: Portable, file: Safetensors, tokens: list[int]) -> None:
    first = {reach: _number(file.metadata.get(f"first.{reach}", "")) for reach in engine.runner.limits.windows}
    count = -(-len(tokens) // BLOCK)
    with _taking(engine, tokens, {reach: Row([0] * min(at, count), at) for reach, at in first.items()}) as held:
        for name, (size, units) in _units(engine.runner, program, held).items():
            groups, _, each = program.fetch(name, size, units[:1]).shape
            stored = file.tensors.get(name)
            if stored is None or stored.dtype.name != "U8" or stored.shape != (groups, len(units), each):
                was = "absent" if stored is None else f"{stored.dtype} {stored.shape}"
                raise FormatError(f"reading a prefix: {name} is {was}; U8 {(groups, len(units), each)} would fit")
            program.put(name, size, units, stored.numpy())


def _number(text: str) -> int:
    if not text.isdecimal():
        raise FormatError(f"reading a prefix: {text!r} is where a window begins; a block's number would work")
    return int(text)
