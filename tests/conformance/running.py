"""Runs a case on a backend."""

from dataclasses import dataclass

import numpy as np

from puna import quants
from puna.backends.base import Bounds
from puna.graph.cases import Case
from puna.graph.tensor import Dim, topological


@dataclass
class Values:
    """float32 values stored in some dtype."""

    shape: tuple
    dtype: object
    raw: np.ndarray

    def numpy(self):
        return quants.dequantize(self.raw, self.dtype.name, self.shape)


def q8_k(values: np.ndarray) -> np.ndarray:
    """Blocks of 256: a float32 scale, signed bytes, sums of 16 bytes each. Plain, for types without a quantizer."""
    blocks = values.reshape(-1, 256)
    out = np.zeros(len(blocks), [("d", "<f4"), ("qs", "i1", 256), ("sums", "<i2", 16)])
    out["d"] = np.abs(blocks).max(1) / 127
    out["qs"] = np.round(blocks / out["d"][:, None])
    out["sums"] = out["qs"].reshape(-1, 16, 16).sum(2, dtype=np.int16)
    return out.view(np.uint8)


def raw(values: np.ndarray, dtype: str) -> np.ndarray:
    importance = np.ones(values.shape[-1], np.float32) if dtype.startswith(("IQ1", "IQ2", "IQ3")) else None
    found = q8_k(values) if dtype == "Q8_K" else quants.quantize(values, dtype, importance)
    return np.ascontiguousarray(found).reshape(-1).view(np.uint8)


def stored(case: Case) -> dict:
    leaves = {n.name: n for n in topological([case.node]) if n.op == "weight"}
    return {
        name: Values(values.shape, leaves[name].dtype, raw(values, leaves[name].dtype.name))
        for name, values in case.weights.items()
        if name in leaves
    }


def sizes(case: Case) -> dict[str, int]:
    found = {}
    for node in topological([case.node]):
        if node.op == "input":
            dims = zip(node.shape, case.inputs[node.name].shape, strict=True)
            found |= {d.name: n for d, n in dims if isinstance(d, Dim)}
    return found


def run(backend, case: Case, node=None) -> np.ndarray:
    return outcome(backend, case, node)[0]


def outcome(backend, case: Case, node=None) -> tuple[np.ndarray, list[np.ndarray]]:
    """The result, and what the states hold afterwards."""
    program = backend.compile([node or case.node], backend.load(stored(case)), Bounds(T=128, O=8, S=64))
    inputs = {name: array.copy() for name, array in case.inputs.items()}
    (result,) = program.run(inputs)
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(inputs[name], array, err_msg=f"input {name} was changed")
    return np.array(result), [np.array(kept) for kept in program.states]


def nmse(result: np.ndarray, expected: np.ndarray) -> float:
    """Mean squared error relative to the mean square expected, over the finite elements."""
    finite = np.isfinite(expected)
    a, b = result[finite].astype(np.float64), expected[finite].astype(np.float64)
    if not a.size:
        return 0.0
    error, power = np.mean((a - b) ** 2), np.mean(b**2)
    return float(error / power) if power else float(error)


def check(what: str, result: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Same shape; NaN and infinities in the same places; the rest within the tolerance, equal where that is 0."""
    assert result.shape == expected.shape, what
    if expected.dtype.kind != "f" or tolerance == 0:
        np.testing.assert_array_equal(result, expected, err_msg=what)
        return
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected), err_msg=what)
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(np.isinf(result), infinite, err_msg=what)
    np.testing.assert_array_equal(result[infinite], expected[infinite], err_msg=what)
    error = nmse(result, expected)
    assert error <= tolerance, f"{what}: error {error:.2e} is above {tolerance:.0e}"
