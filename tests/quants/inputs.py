"""Arrays to quantize, the same on every machine and numpy version: made of integers and exact arithmetic only."""

import numpy as np

ROWS, COLUMNS = 8, 1024


def noise(count, seed):
    """Return `count` float64 in [0, 1) with 24 bits each (splitmix64)."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed << 32)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2.0**24


def grid(seed, rows=ROWS, columns=COLUMNS):
    return noise(rows * columns, seed).reshape(rows, columns)


def bell(seed, rows=ROWS, columns=COLUMNS):
    return sum(grid(seed + i, rows, columns) for i in range(4)) - 2


def arrays():
    """Return name -> float32 array (ROWS, COLUMNS): plain weights and everything that has ever gone wrong."""
    u, b = grid(1), bell(2)
    scales = 2.0 ** np.floor(grid(7, ROWS, COLUMNS // 32) * 50 - 40)
    zeros = np.where(grid(9) < 0.5, -0.0, 0.0)
    zeros[::2, ::3] = 0.0
    found = {
        "weights": b * 0.03125,
        "half precision": b.astype(np.float16),
        "large": b * 300,
        "positive": u,
        "negative": -u - 0.5,
        "sparse": np.where(grid(3) < 0.05, b, zeros),
        "ties": np.floor(u * 17) / 4 - 2,
        "three levels": np.floor(u * 3) - 1,
        "all scales": b * scales.repeat(32, axis=1),
        "constant": grid(5, ROWS, COLUMNS // 256).repeat(256, axis=1) - 0.5,
        "zeros": zeros,
        "outliers": np.where(grid(11) < 1 / 256, b * 64, b * 2.0**-7),
        "smallest normal": b * 2.0**-126,
        "denormal": b * 2.0**-140,
    }
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def importance():
    """Return name -> float32 (COLUMNS,): importance of columns."""
    u = noise(COLUMNS, 21)
    found = {"even": u + 0.5, "spiky": (u + 1) ** 20, "half zero": np.where(noise(COLUMNS, 22) < 0.5, 0, u)}
    return {name: array.astype(np.float32) for name, array in found.items()}
