"""The matrix kernels of the CPU backend beside this machine's limits: memory in decode, arithmetic in prefill.

Weights are rotated out of cache. Every line reads the same bytes plainly in the same minute: compare GB/s with `read`.
Figures are the best of several rounds; `GOP/s` counts a multiplication and an addition as two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import numpy as np

from puna.dtypes import DTYPES, DType

if TYPE_CHECKING:
    from puna.backends.cpu import _native

SMOLLM2 = "576x576,1536x576,576x1536,49152x576"
LLAMA_1B = "2048x2048,8192x2048,2048x8192"
ROTATED = 100_000_000  # bytes of weights, several times any cache
WORK = 1e10  # operations per round at most


def weights_of(dtype: DType, n: int, k: int) -> list[_native.LinearWeight]:
    """Return as many packed weights of random bytes as exceed the caches."""
    from puna.backends.cpu import _native as native
    from puna.backends.cpu.weights import has_product

    assert dtype.ggml_id is not None
    assert has_product(dtype)
    raw = np.random.default_rng(0).integers(0, 60, dtype.nbytes((n, k)), dtype=np.uint8)
    if dtype.name == "MXFP4":
        raw[:: dtype.block_bytes] = 120  # small exponents would make denormals of the products
    first = native.linear_pack(dtype.ggml_id, n, k, raw, 2)
    count = max(1, ROTATED // first.nbytes)
    return [first] + [native.linear_pack(dtype.ggml_id, n, k, raw, 2) for _ in range(count - 1)]


def measure(dtype: DType, n: int, k: int, rows: list[int], isa: str, threads: int) -> str:
    """Return one line of figures."""
    from puna.backends.cpu import _native as native

    weights = weights_of(dtype, n, k)
    nbytes = sum(weight.nbytes for weight in weights)
    parts = [f"{dtype.name:5} {n:>6} x {k:<5}"]
    for t in rows:
        some = weights[: max(1, int(WORK / (2 * n * k * t)))]
        seconds = min(native.time_linear(some, t, isa, threads, 5))
        operations = f"{2 * n * k * t * len(some) / seconds / 1e9:6.0f} GOP/s"
        if t <= 4:
            read = nbytes / min(native.time_read(weights, threads, 5)) / 1e9
            speed = sum(weight.nbytes for weight in some) / seconds / 1e9
            parts.append(f"t={t}: {speed:5.1f} GB/s (read {read:5.1f}) {operations}")
        else:
            parts.append(f"t={t}: {operations}")
    return " | ".join(parts)


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--isa", default="auto", show_default=True, help="auto, or an instruction set that this machine has.")
@click.option("--types", default="Q4_0,Q4_1,Q8_0,Q4_K,Q6_K,BF16", show_default=True)
@click.option("--shapes", default=f"{SMOLLM2},{LLAMA_1B}", show_default=True, help="Rows x columns of the weights.")
@click.option("--rows", default="1,4,512", show_default=True, help="Rows of the input.")
def command(threads: int, isa: str, types: str, shapes: str, rows: str) -> None:
    """Matrix products: a line for each type and shape, beside the read bandwidth."""
    from puna.backends.cpu import _native as native

    click.echo(f"{threads} threads, {isa}; a barrier takes {native.time_barrier(threads) * 1e6:.2f} us")
    counts = [int(t) for t in rows.split(",")]
    for name in types.split(","):
        for shape in shapes.split(","):
            n, k = map(int, shape.split("x"))
            if k % DTYPES[name].block_size == 0:
                click.echo(measure(DTYPES[name], n, k, counts, isa, threads))
