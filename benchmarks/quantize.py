"""Quantization in millions of weights a second: Puna's native code beside its numpy, ggml (llama.cpp) and libgguf.

All take the same F32 weights in memory and write into memory; llama-quantize reads and writes files besides. Threads
get equal bands of rows; libgguf starts threads of its own as well. Contenders alternate, and the best round of each
counts.
"""

from __future__ import annotations

import ctypes
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from puna.dtypes import DTYPES
from puna.quants import CODECS, native, quantize

TYPES = "F16,BF16,Q8_0,Q4_0,Q4_1,Q5_0,Q5_1,Q2_K,Q3_K,Q4_K,Q5_K,Q6_K"
ENOUGH = 0.4  # seconds of a round, beyond which slower contenders get fewer rows

Rows = NDArray[np.float32]
Encoder = Callable[[Rows, NDArray[np.uint8]], object]


def encoders(name: str, matrix: Rows | None, library: str | None, isas: list[str]) -> dict[str, Encoder]:
    """Return what encodes rows into bytes, by its name."""
    found: dict[str, Encoder] = {
        f"puna {isa}": lambda rows, out, isa=isa: quantize(rows, name, matrix, out=out, isa=isa)
        for isa in isas
        if native.encodes(name, isa)
    }
    found["numpy"] = lambda rows, out: quantize(rows, name, matrix, out=out, isa="numpy")
    if library:
        found["ggml"] = ggml(library, name, matrix)
    if importlib.util.find_spec("libgguf"):
        import libgguf

        found["libgguf"] = lambda rows, out: libgguf.quantize_rows(rows, DTYPES[name].ggml_id, imatrix=matrix)
    return found


def ggml(library: str, name: str, matrix: Rows | None) -> Encoder:
    """Return ggml_quantize_chunk, which llama-quantize calls for bands of rows."""
    loaded = ctypes.CDLL(library)
    chunk = loaded.ggml_quantize_chunk
    chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    chunk.restype = ctypes.c_size_t
    ggml_id, weights = DTYPES[name].ggml_id, None if matrix is None else matrix.ctypes.data
    loaded.ggml_quantize_init(ggml_id)
    return lambda rows, out: chunk(ggml_id, rows.ctypes.data, out.ctypes.data, 0, *rows.shape, weights)


def find_ggml() -> str | None:
    """Return the shared library that llama-cpp-python brings, where it is installed."""
    spec = importlib.util.find_spec("llama_cpp")
    places = Path(spec.origin).parent.glob("lib/libggml-base*") if spec and spec.origin else ()
    return next(map(str, sorted(places)), None)


def seconds(encode: Encoder, rows: Rows, out: NDArray[np.uint8], pool: Pool) -> float:
    """Return how long all bands take, one a thread."""
    bands = [slice(i * len(rows) // pool.threads, (i + 1) * len(rows) // pool.threads) for i in range(pool.threads)]
    wall, processor = time.perf_counter(), time.process_time()
    list(pool.map(lambda band: encode(rows[band], out[band]), bands))
    if pool.processor:
        return (time.process_time() - processor) / pool.threads
    return time.perf_counter() - wall


class Pool(ThreadPoolExecutor):
    """Some threads, and whether the time on processors counts, shared by the threads, or the clock on the wall."""

    def __init__(self, threads: int, processor: bool) -> None:
        super().__init__(threads)
        self.threads, self.processor = threads, processor


def speeds(contenders: dict[str, Encoder], rows: Rows, name: str, pool: Pool, rounds: int) -> dict[str, float]:
    """Return millions of weights a second of each contender."""
    out = np.zeros((len(rows), DTYPES[name].row_bytes(rows.shape[1])), np.uint8)
    best: dict[str, float] = {}
    taken = {key: fitting(encode, rows, out, pool) for key, encode in contenders.items()}
    for _ in range(rounds):
        for key, encode in contenders.items():
            some = rows[: taken[key]]
            best[key] = max(best.get(key, 0), some.size / seconds(encode, some, out[: len(some)], pool) / 1e6)
    return best


def fitting(encode: Encoder, rows: Rows, out: NDArray[np.uint8], pool: Pool) -> int:
    """Return how many rows a contender does in a round."""
    few = 16 * pool.threads
    seconds(encode, rows[:few], out[:few], pool)
    return min(len(rows), max(few, int(few * ENOUGH / seconds(encode, rows[:few], out[:few], pool))))


@click.command()
@click.option("--types", default=TYPES, show_default=True)
@click.option("--threads", default="1,2", show_default=True)
@click.option("--isa", "isas", default="auto", show_default=True, help=f"auto, or some of {','.join(native.ISAS)}.")
@click.option("--imatrix/--no-imatrix", help="With an importance matrix.")
@click.option("--shape", default="4096x8192", show_default=True, help="Rows x columns of the weights.")
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--ggml", "library", default=find_ggml(), help="ggml's shared library. [default: that of llama-cpp-python]"
)
@click.option("--processor", is_flag=True, help="Count time on a processor: for a machine that does other work too.")
def command(
    types: str, threads: str, isas: str, imatrix: bool, shape: str, rounds: int, library: str | None, processor: bool
) -> None:
    """Quantization: a line for each type and number of threads, in millions of weights a second."""
    size = tuple(map(int, shape.split("x")))
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(size, np.float32) * np.float32(0.02)
    matrix = rng.random(size[1], np.float32) + np.float32(0.1) if imatrix else None
    for name in types.split(","):
        used = matrix if CODECS[name].weighted else None
        for count in map(int, threads.split(",")):
            with Pool(count, processor) as pool:
                found = speeds(encoders(name, used, library, isas.split(",")), rows, name, pool, rounds)
            figures = " | ".join(f"{key} {speed:7.1f}" for key, speed in found.items())
            click.echo(f"{name:7} {count} thread{'s' if count > 1 else ' '} | {figures}")
