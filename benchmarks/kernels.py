"""The matrix kernels of the CPU backend beside this machine's limits: memory in decode, arithmetic in prefill.

    python benchmarks/kernels.py [--threads 2] [--isa auto] [--types Q4_1,Q8_0] [--shapes 1536x576] [--rows 1,4,512]

Weights are rotated out of cache. Every line reads the same bytes plainly in the same minute: compare GB/s with `read`.
Figures are the best of several rounds; `GOP/s` counts a multiplication and an addition as two.
"""

import argparse

import numpy as np

from puna.backends.cpu import _native as native
from puna.dtypes import DTYPES, DType

SMOLLM2 = "576x576,1536x576,576x1536,49152x576"
LLAMA_1B = "2048x2048,8192x2048,2048x8192"
ROTATED = 100_000_000  # bytes of weights, several times any cache
WORK = 1e10  # operations per round at most


def weights_of(dtype: DType, n: int, k: int) -> list[native.LinearWeight]:
    """Return as many packed weights of random bytes as exceed the caches."""
    assert dtype.ggml_id is not None
    raw = np.random.default_rng(0).integers(0, 60, dtype.nbytes((n, k)), dtype=np.uint8)
    first = native.linear_pack(dtype.ggml_id, n, k, raw, 2)
    count = max(1, ROTATED // first.nbytes)
    return [first] + [native.linear_pack(dtype.ggml_id, n, k, raw, 2) for _ in range(count - 1)]


def measure(dtype: DType, n: int, k: int, rows: list[int], isa: str, threads: int) -> str:
    """Return one line of figures."""
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


def main() -> None:
    """Print one line per type and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="auto", help=f"auto or one of: {' '.join(native.isas())}")
    parser.add_argument("--types", default="Q4_0,Q4_1,Q8_0,Q4_K,Q6_K,BF16")
    parser.add_argument("--shapes", default=f"{SMOLLM2},{LLAMA_1B}")
    parser.add_argument("--rows", default="1,4,512")
    options = parser.parse_args()
    print(
        f"{options.threads} threads, {options.isa}; a barrier takes {native.time_barrier(options.threads) * 1e6:.2f} us"
    )
    rows = [int(t) for t in options.rows.split(",")]
    for name in options.types.split(","):
        for shape in options.shapes.split(","):
            n, k = map(int, shape.split("x"))
            if k % DTYPES[name].block_size == 0:
                print(measure(DTYPES[name], n, k, rows, options.isa, options.threads), flush=True)


if __name__ == "__main__":
    main()
