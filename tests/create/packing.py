"""Packed weights as their libraries publish them, made and read by loops; shared by the tests of packed checkpoints."""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from puna.dtypes import DTYPES, DType

Array = np.ndarray[Any, Any]
ELEMENTS = {
    "float32": "F32",
    "float16": "F16",
    "int8": "I8",
    "uint8": "U8",
    "int32": "I32",
    "int64": "I64",
    "uint32": "U32",
}
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Given:
    """A tensor in memory (a `puna.dtypes.Stored`); `bits` are its elements, bfloat16 and fp8 as integers."""

    bits: Array
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.bits.shape)

    @property
    def raw(self) -> Array:
        return np.frombuffer(self.bits.tobytes(), np.uint8)

    def numpy(self) -> Array:
        raise AssertionError("unpacking reads bytes")


def given(array: Array, dtype: str = "") -> Given:
    return Given(np.asarray(array), DTYPES[dtype or ELEMENTS[array.dtype.name]])


def f8(codes: Array, kind: str = "F8_E4M3") -> Given:
    return given(codes.astype(np.uint8), kind)


def bf16(values: Any) -> Given:
    """Values that bfloat16 holds."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return given((bits >> 16).astype(np.uint16), "BF16")


def nearest_bf16(value: float) -> float:
    """To nearest, ties to even, by the bits."""
    with np.errstate(over="ignore"):
        bits = struct.unpack("<I", struct.pack("<f", np.float32(value)))[0]
    low, high = bits & 0xFFFF, bits >> 16
    high += low > 0x8000 or (low == 0x8000 and high & 1)
    return float(struct.unpack("<f", struct.pack("<I", high << 16))[0])


def nearest(value: float, dtype: str) -> float:
    return {"F32": lambda v: float(np.float32(v)), "F16": lambda v: float(np.float16(v)), "BF16": nearest_bf16}[dtype](
        value
    )


def e4m3(code: int) -> float:
    sign, exponent, fraction = -1 if code & 128 else 1, code >> 3 & 15, code & 7
    return sign * (fraction * 2.0**-9 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7))


def e5m2(code: int) -> float:
    sign, exponent, fraction = -1 if code & 128 else 1, code >> 2 & 31, code & 3
    return sign * (fraction * 2.0**-16 if exponent == 0 else (1 + fraction / 4) * 2.0 ** (exponent - 15))


def e2m1(code: int) -> float:
    return -E2M1[code & 7] if code & 8 else E2M1[code]


def stream(codes: Iterable[int], bits: int) -> Array:
    """Codes one after another, lowest bits first, as words of 32 bits; the last is filled up with zeros."""
    codes = [int(code) for code in codes]
    whole = sum(code << bits * i for i, code in enumerate(codes))
    size = -(-len(codes) * bits // 32) * 4
    return np.frombuffer(whole.to_bytes(size, "little"), "<u4").copy()


def rows_of_words(codes: Array, bits: int) -> Array:
    return np.stack([stream(row, bits) for row in codes])


def gptq(
    codes: Array, zeros: Array, scales: Array, bits: int, index: Array | None = None, *, less: int = 1
) -> dict[str, Given]:
    """codes (out, in), zeros and scales (groups, out)."""
    mask = (1 << bits) - 1
    made = {
        "qweight": given(rows_of_words(codes, bits).T.copy().view(np.int32)),
        "qzeros": given(rows_of_words((zeros.astype(int) - less) & mask, bits).view(np.int32)),
        "scales": given(scales),
    }
    return made | ({} if index is None else {"g_idx": given(index.astype(np.int32))})


def awq_words(codes: Array) -> Array:
    """codes (n, out) of four bits: words (n, out / 8)."""
    words = np.zeros((len(codes), codes.shape[1] // 8), np.uint32)
    for n, row in enumerate(codes):
        for word in range(words.shape[1]):
            for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
                words[n, word] |= np.uint32(int(row[8 * word + column]) << 4 * place)
    return words.view(np.int32)


def awq(codes: Array, zeros: Array, scales: Array) -> dict[str, Given]:
    """codes (out, in), zeros and scales (groups, out)."""
    return {"qweight": given(awq_words(codes.T)), "qzeros": given(awq_words(zeros)), "scales": given(scales)}


def nibbles(codes: Array, *, upper_first: bool = False) -> Array:
    """Two codes in a byte of the last axis."""
    even, odd = codes[..., ::2].astype(np.uint8), codes[..., 1::2].astype(np.uint8)
    return even << 4 | odd if upper_first else odd << 4 | even


def prefixed(stem: str, tensors: Mapping[str, Given]) -> dict[str, Given]:
    return {stem + name: tensor for name, tensor in tensors.items()}


def write_model(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Given]) -> None:
    """config.json and model.safetensors of a checkpoint whose other files are there."""
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.raw.size
        header[name] = {"dtype": tensor.dtype.name, "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    data = b"".join(tensor.raw.tobytes() for tensor in tensors.values())
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def codes_of(rng: np.random.Generator, bits: int, shape: Sequence[int]) -> Array:
    return rng.integers(0, 1 << bits, shape)


def scales_of(rng: np.random.Generator, shape: Sequence[int], dtype: str = "F16") -> Given:
    """Scales between 0.01 and 0.03 that the type holds."""
    values = rng.uniform(0.01, 0.03, shape).astype(np.float32)
    if dtype == "BF16":
        return given((values.view(np.uint32) >> 16).astype(np.uint16), "BF16")
    return given(values.astype({"F32": np.float32, "F16": np.float16}[dtype]))


def value_of(tensor: Given, *index: int) -> float:
    """One element's value."""
    bits = tensor.bits[index]
    if tensor.dtype.name == "BF16":
        return float(struct.unpack("<f", struct.pack("<I", int(bits) << 16))[0])
    return float(bits)
