"""Time of one run of a Llama-shaped program with random weights, in decode and prefill."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import click
import numpy as np

from puna import dtypes, quants
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.dtypes import DType
from puna.graph import O, S, T, Tensor, constant, input_, state, weight
from puna.graph.ops import apply


@dataclass
class Random:
    """A stored tensor of random values; a large one repeats a few random rows."""

    shape: tuple[int, ...]
    dtype: DType
    seed: int = 0

    @cached_property
    def raw(self) -> Any:
        rng = np.random.default_rng(self.seed)
        if len(self.shape) == 1:
            return rng.uniform(0.5, 1.5, self.shape).astype(np.float32).view(np.uint8)
        rows, columns = self.shape
        few = (rng.standard_normal((min(rows, 96), columns)) / np.sqrt(columns)).astype(np.float32)
        raw = np.asarray(quants.quantize(few, self.dtype.name)).reshape(len(few), -1)
        return np.resize(raw, (rows, raw.shape[1])).reshape(-1)

    def numpy(self) -> Any:
        return np.asarray(quants.dequantize(self.raw, self.dtype.name, self.shape))


@dataclass
class Shape:
    """The numbers of a Llama-shaped model."""

    blocks: int
    hidden: int
    ffn: int
    heads: int
    groups: int
    vocabulary: int
    dtype: str = "Q4_0"
    tied: str = "Q8_0"
    style: str = "pairs"
    weights: dict[str, Random] = field(default_factory=dict)

    def weight(self, name: str, *shape: int, dtype: str | None = None) -> Tensor:
        kind = dtypes.DTYPES[dtype or ("F32" if len(shape) == 1 else self.dtype)]
        self.weights.setdefault(name, Random(shape, kind, seed=len(self.weights)))
        return weight(name, shape, kind)


SHAPES = {
    "tiny": Shape(2, 64, 96, 4, 2, 100),
    "smollm2": Shape(30, 576, 1536, 9, 3, 49152, dtype="Q4_1"),
    "1b": Shape(16, 2048, 8192, 32, 8, 128256),
}


def block(hp: Shape, i: int, x: Tensor, leaves: dict[str, Tensor], slots: int, block_size: int) -> Tensor:
    size = hp.hidden // hp.heads
    name = lambda part: f"blk.{i}.{part}"  # noqa: E731
    h = apply("rms_norm", x, hp.weight(name("attn_norm"), hp.hidden), eps=1e-5)
    parts = {"q": hp.heads, "k": hp.groups, "v": hp.groups}
    q, k, v = (
        apply("linear", h, hp.weight(name(f"attn_{p}"), n * size, hp.hidden), None).reshape(T, n, size)
        for p, n in parts.items()
    )
    turn = lambda t: apply("rope", t, leaves["positions"], leaves["frequencies"], style=hp.style, scale=1.0)  # noqa: E731
    keys, values = (
        apply("write", state(name(p), (slots, hp.groups, size), dtypes.F16), leaves["slots"], t)
        for p, t in (("k", turn(k)), ("v", v))
    )
    read = (leaves[n] for n in ("positions", "sequence", "table", "lengths"))
    attrs = {"scale": size**-0.5, "causal": True, "window": 0, "softcap": 0.0, "block_size": block_size}
    a = apply("attention", turn(q), keys, values, *read, None, **attrs).reshape(T, hp.hidden)
    x = x + apply("linear", a, hp.weight(name("attn_output"), hp.hidden, hp.hidden), None)
    h = apply("rms_norm", x, hp.weight(name("ffn_norm"), hp.hidden), eps=1e-5)
    gate, up = (apply("linear", h, hp.weight(name(f"ffn_{p}"), hp.ffn, hp.hidden), None) for p in ("gate", "up"))
    down = hp.weight(name("ffn_down"), hp.hidden, hp.ffn)
    return x + apply("linear", apply("silu_mul", gate, up), down, None)


def graph(hp: Shape, context: int, block_size: int = 32) -> Tensor:
    columns, size = context // block_size, hp.hidden // hp.heads
    shapes = {
        "tokens": (T,),
        "positions": (T,),
        "sequence": (T,),
        "slots": (T,),
        "table": (S, columns),
        "lengths": (S,),
        "outputs": (O,),
    }
    leaves = {name: input_(name, shape, dtypes.I32) for name, shape in shapes.items()}
    leaves["frequencies"] = constant(10000.0 ** -(np.arange(size // 2) * 2 / size))
    table = hp.weight("token_embd", hp.vocabulary, hp.hidden, dtype=hp.tied)
    x = apply("embedding", leaves["tokens"], table)
    for i in range(hp.blocks):
        x = block(hp, i, x, leaves, context, block_size)
    x = apply("take", x, leaves["outputs"])
    return apply("linear", apply("rms_norm", x, hp.weight("output_norm", hp.hidden), eps=1e-5), table, None)


def batch(hp: Shape, start: int, n: int, context: int, block_size: int = 32, seed: int = 1) -> dict[str, Any]:
    """Inputs of `n` tokens of one sequence from position `start`."""
    position = np.arange(start, start + n, dtype=np.int32)
    tokens = np.random.default_rng(seed).integers(0, hp.vocabulary, n).astype(np.int32)
    return {
        "tokens": tokens,
        "positions": position,
        "sequence": np.zeros(n, np.int32),
        "slots": position,
        "table": np.arange(context // block_size, dtype=np.int32)[None],
        "lengths": np.array([start + n], np.int32),
        "outputs": np.array([n - 1], np.int32),
    }


def best(function: Any, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


@click.command()
@click.option("--shape", type=click.Choice(sorted(SHAPES)), default="smollm2", show_default=True)
@click.option("--threads", type=int, help="Else one for each core.")
@click.option("--backend", default="cpu", show_default=True)
@click.option("--context", default=4096, show_default=True)
@click.option("--prefill", default=512, show_default=True)
def command(shape: str, threads: int | None, backend: str, context: int, prefill: int) -> None:
    """One program of a Llama's shape with random weights: no file, no engine."""
    hp = SHAPES[shape]
    opened = open_backend(backend, threads=threads)
    logits = graph(hp, context)
    for tensor in hp.weights.values():
        _ = tensor.raw
    begun = time.perf_counter()
    program = opened.compile([logits], opened.load(hp.weights), Bounds(T=prefill, O=1, S=1))
    click.echo(f"load and compile {1e3 * (time.perf_counter() - begun):.0f} ms, memory {program.memory}")
    if hasattr(program, "schedules"):
        click.echo(f"phases {[len(s.phases) for s in program.schedules]} steps {len(program.steps)}")
    prompt = batch(hp, 0, prefill, context)
    seconds = best(lambda: program.run(prompt), 5)
    click.echo(f"prefill {prefill}: {1e3 * seconds:.1f} ms, {prefill / seconds:.0f} tok/s")
    for at in (16, 128, 1024, context - 1):
        if at < context:
            inputs = batch(hp, at, 1, context)
            seconds = best(lambda inputs=inputs: program.run(inputs), 60)
            click.echo(f"decode at {at}: {1e3 * seconds:.3f} ms, {1 / seconds:.0f} tok/s")
