"""GGUF metadata values as Python values and back; it knows no file and no key.

    value  := scalar | string | array
    string := u64 length, bytes (UTF-8, no terminator)
    array  := u32 item type, u64 count, items

Strings that are not UTF-8 (token pieces may be halves of a character) survive as lone surrogates ("surrogateescape"):
`text.encode("utf-8", "surrogateescape")` gives the stored bytes, and writing does that too.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from puna.errors import FormatError


class ValueType(IntEnum):
    """The types of metadata values, by their numbers in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


MAX_DEPTH = 4  # arrays in arrays; the files in the world have one level
ARRAY_HEAD = struct.Struct("<IQ")
LENGTH = struct.Struct("<Q")

_CODES: dict[ValueType, str] = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
"""`struct` names of the types of fixed size."""

SCALARS: dict[ValueType, np.dtype[Any]] = {kind: np.dtype(f"<{code}") for kind, code in _CODES.items()}
"""Every type of fixed size, as the NumPy type with the same bytes."""

SMALLEST = {**{kind: dtype.itemsize for kind, dtype in SCALARS.items()}, ValueType.STRING: 8, ValueType.ARRAY: 12}
"""The fewest bytes one value of a type takes."""

_BY_NUMPY = {dtype.newbyteorder("="): kind for kind, dtype in SCALARS.items()}
_FOR_ONE = (ValueType.UINT32, ValueType.INT32, ValueType.UINT64, ValueType.INT64)
_FOR_MANY = (ValueType.INT32, ValueType.UINT32, ValueType.INT64, ValueType.UINT64)


@dataclass(frozen=True, slots=True)
class Typed:
    """A value with its exact type by name: `Typed(1, "UINT64")`, `Typed([1, 2], "ARRAY[UINT8]")`."""

    value: Any
    type: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as its bytes in a file, for exact copies; `data` leaves out the type."""

    type: ValueType
    data: bytes


def encode_value(value: Any, depth: int = 0) -> Encoded:
    """Return a Python value's type and bytes; FormatError where it has none.

    int is UINT32 where it fits, else INT32, UINT64, INT64; float FLOAT32; str and bytes STRING. A list of int is INT32
    where all fit, else UINT32, INT64, UINT64; int and float mixed are FLOAT32; an empty list needs `Typed`. NumPy
    scalars and 1-D arrays keep their type. `Typed` and `Encoded` say it exactly.
    """
    if isinstance(value, Encoded):
        return value
    if isinstance(value, Typed):
        return _encode_as(value.value, value.type, depth)
    if isinstance(value, np.ndarray) and value.ndim:
        return _encode_numpy(value)
    if isinstance(value, list | tuple):
        return _encode_array(value, _type_of_all(value), depth)
    kind = _type_of(value)
    return Encoded(kind, _scalar(value, kind))


def _encode_as(value: Any, name: str, depth: int) -> Encoded:
    outer, bracket, item = name.partition("[")
    if outer == "ARRAY" and bracket:
        kind = _named(item.removesuffix("]"), name)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise FormatError(f"encoding {name}: {type(value).__name__} is not a list")
        return _encode_array(value, kind, depth)
    if outer == "ARRAY":
        return _of_type(encode_value(value, depth), ValueType.ARRAY)
    kind = _named(name, name)
    return Encoded(kind, _scalar(value, kind))


def _named(name: str, spec: str) -> ValueType:
    try:
        return ValueType[name]
    except KeyError:
        known = ", ".join(kind.name for kind in ValueType)
        raise FormatError(f"encoding a value: type {spec!r} is unknown; known: {known}, ARRAY[...] of these") from None


def _of_type(value: Encoded, kind: ValueType) -> Encoded:
    if value.type is not kind:
        raise FormatError(f"encoding {kind.name}: the value is {value.type.name}")
    return value


def _encode_numpy(array: np.ndarray[Any, Any]) -> Encoded:
    kind = _BY_NUMPY.get(array.dtype.newbyteorder("="))
    if kind is None or array.ndim != 1:
        raise FormatError(f"encoding an array: {array.dtype} of shape {array.shape} has no GGUF type; 1-D numbers have")
    return Encoded(ValueType.ARRAY, ARRAY_HEAD.pack(kind, array.size) + array.astype(SCALARS[kind]).tobytes())


def _encode_array(items: Sequence[Any], kind: ValueType, depth: int) -> Encoded:
    if depth >= MAX_DEPTH:
        raise FormatError(f"encoding an array: it is nested deeper than {MAX_DEPTH}")
    head = ARRAY_HEAD.pack(kind, len(items))
    if kind is ValueType.ARRAY:
        body = b"".join(_of_type(encode_value(item, depth + 1), kind).data for item in items)
    elif kind is ValueType.STRING:
        body = b"".join(map(encode_string, items))
    else:
        body = _numbers(items, kind)
    return Encoded(ValueType.ARRAY, head + body)


def _type_of_all(items: Iterable[Any]) -> ValueType:
    """The item type of a list; where items differ, integers may join each other and floats."""
    items = list(items)
    if not items:
        raise FormatError("encoding a list: it is empty, so its type is unknown; Typed([], 'ARRAY[STRING]') says it")
    if all(type(item) is str for item in items):
        return ValueType.STRING
    if all(type(item) is int for item in items):
        return _fitting(min(items), max(items), _FOR_MANY)
    if all(isinstance(item, list | tuple | Typed | Encoded | np.ndarray) for item in items):
        return ValueType.ARRAY
    kinds = {ValueType.FLOAT32 if type(item) is int else _type_of(item) for item in items}
    if len(kinds) != 1 or (ValueType.FLOAT32 not in kinds and any(type(item) is int for item in items)):
        raise FormatError(f"encoding a list: its items differ: {', '.join(sorted(kind.name for kind in kinds))}")
    return kinds.pop()


def _type_of(value: Any) -> ValueType:
    if isinstance(value, np.generic | np.ndarray) and value.dtype.newbyteorder("=") in _BY_NUMPY:
        return _BY_NUMPY[value.dtype.newbyteorder("=")]
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, int):
        return _fitting(value, value, _FOR_ONE)
    if isinstance(value, float):
        return ValueType.FLOAT32
    if isinstance(value, str | bytes):
        return ValueType.STRING
    raise FormatError(
        f"encoding a value: {type(value).__name__} has no GGUF type; bool, int, float, str and lists have"
    )


def _fitting(low: int, high: int, kinds: Sequence[ValueType]) -> ValueType:
    for kind in kinds:
        bounds = np.iinfo(SCALARS[kind])
        if bounds.min <= low and high <= bounds.max:
            return kind
    raise FormatError(f"encoding integers: {low} to {high} fits no GGUF type; 64 bits are the most")


def _scalar(value: Any, kind: ValueType) -> bytes:
    if kind is ValueType.ARRAY:
        raise FormatError("encoding ARRAY: a list is needed")
    return encode_string(value) if kind is ValueType.STRING else _numbers([value], kind)


def encode_string(text: str | bytes) -> bytes:
    """Return a string with its length before it."""
    if not isinstance(text, str | bytes):
        raise FormatError(f"encoding STRING: {type(text).__name__} is not text")
    try:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise FormatError(f"encoding STRING: {text[:40]!r} has a surrogate that stands for no byte") from error
    return LENGTH.pack(len(data)) + data


def _numbers(items: Sequence[Any], kind: ValueType) -> bytes:
    """The bytes of numbers, each of which must fit; floats are rounded, never made infinite."""
    try:
        return struct.pack(f"<{len(items)}{_CODES[kind]}", *[_number(item, kind) for item in items])
    except (struct.error, OverflowError) as error:
        raise FormatError(f"encoding {kind.name}: a value does not fit: {error}") from error


def _number(value: Any, kind: ValueType) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()
    wanted: Any = {ValueType.BOOL: bool, ValueType.FLOAT32: (int, float), ValueType.FLOAT64: (int, float)}.get(
        kind, int
    )
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not ValueType.BOOL):
        raise FormatError(f"encoding {kind.name}: {value!r} is a {type(value).__name__}")
    return value
