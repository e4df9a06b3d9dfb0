"""The metadata of a mapped GGUF file: checked once when opened, decoded by key when asked for; no meanings.

    pair := string key, u32 type, value            (values are drawn in `gguf_values`)

Finding where an array of n strings ends is a chain of n steps, as each length says where the next one is. Here the
steps are guessed together, then proven: a byte that is not zero before seven that are looks like a length below 256; if
each such length leads exactly to the next one, the chain from a known start is proven as if walked. Other strings
(empty, long, with zero bytes) are stepped over one by one.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from struct import Struct
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from puna.errors import FormatError
from puna.formats.gguf_values import ARRAY_HEAD, LENGTH, MAX_DEPTH, SCALARS, SMALLEST, Encoded, ValueType
from puna.formats.mapped import Bytes, MappedFile

_U32 = Struct("<I")
_WINDOW = 1 << 18  # bytes searched at a time: fits the second-level cache
_STEPS = 16  # strings stepped over before guessing again

Starts = NDArray[np.int64]


class Cursor:
    """A place in a file's header that only moves within the file; everything it refuses names the byte."""

    def __init__(self, file: MappedFile, at: int = 0) -> None:
        self.file = file
        self.data = file.data
        self.view = self.data.data
        self.size = file.size
        self.at = at

    def fail(
        self, problem: str, remedy: str = "the file is damaged or incomplete, fetch or write it again"
    ) -> NoReturn:
        """Raise a FormatError at this place."""
        raise FormatError(f"reading {self.file.name}: at byte {self.at}: {problem}; {remedy}")

    def skip(self, size: int, what: str) -> int:
        """Move over `size` bytes and return where they began."""
        start = self.at
        if size > self.size - start:
            self.fail(f"{what} of {size} bytes reaches past the end of the file at byte {self.size}")
        self.at = start + size
        return start

    def unpack(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """Read fixed-size fields."""
        return layout.unpack_from(self.view, self.skip(layout.size, what))

    def name(self, what: str) -> str:
        """Read a key or a tensor name: UTF-8, not empty."""
        start = self.at
        (length,) = self.unpack(LENGTH, f"the length of {what}")
        begin = self.skip(length, what)
        if not length:
            self.at = start
            self.fail(f"{what} is empty")
        try:
            return str(self.view[begin : self.at], "utf-8")
        except UnicodeDecodeError as error:
            self.at = begin + error.start
            self.fail(f"{what} is not UTF-8")

    def kind(self, what: str) -> ValueType:
        """Read a value type."""
        start = self.at
        (number,) = self.unpack(_U32, f"the type of {what}")
        try:
            return ValueType(number)
        except ValueError:
            self.at = start
            self.fail(f"{what} has the unknown type {number}")

    def array_head(self, what: str) -> tuple[ValueType, int]:
        """Read an array's item type and a count that the rest of the file can hold."""
        start = self.at
        item = self.kind(f"the items of {what}")
        self.at = start
        _, count = self.unpack(ARRAY_HEAD, f"the head of {what}")
        if count * SMALLEST[item] > self.size - self.at:
            self.at = start
            self.fail(f"{what} has {count} items of {item.name}, more than the file can hold")
        return item, count


def skip_value(cursor: Cursor, kind: ValueType, what: str, depth: int = 0) -> None:
    """Move over one value, checking that its bytes are a value."""
    if kind is ValueType.BOOL:
        start = cursor.skip(1, what)
        if cursor.data[start] > 1:
            cursor.at = start
            cursor.fail(f"{what} is the bool {cursor.data[start]}, neither 0 nor 1")
    elif kind is ValueType.STRING:
        (length,) = cursor.unpack(LENGTH, f"the length of {what}")
        cursor.skip(length, what)
    elif kind is ValueType.ARRAY:
        _skip_array(cursor, what, depth)
    else:
        cursor.skip(SMALLEST[kind], what)


def _skip_array(cursor: Cursor, what: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        cursor.fail(f"{what} is an array nested deeper than {MAX_DEPTH}")
    item, count = cursor.array_head(what)
    if item is ValueType.STRING:
        cursor.at = int(string_starts(cursor, count, what)[-1])
    elif item is ValueType.ARRAY:
        for _ in range(count):
            _skip_array(cursor, what, depth + 1)
    else:
        start = cursor.skip(count * SMALLEST[item], what)
        if item is ValueType.BOOL and count and int(cursor.data[start : cursor.at].max()) > 1:
            cursor.at = start
            cursor.fail(f"{what} has a bool that is neither 0 nor 1")


def string_starts(cursor: Cursor, count: int, what: str) -> Starts:
    """Return where each of `count` strings begins (its length field), and after them where the last one ends."""
    starts = np.empty(count + 1, np.int64)
    starts[0] = cursor.at
    done, until = 0, -1
    while done < count:
        if cursor.at >= until:
            until = cursor.at + _WINDOW
            begins, ends, breaks = _guess(cursor.data[cursor.at : until + 7], cursor.at)
        first = int(begins.searchsorted(cursor.at))
        if first < begins.size and begins[first] == cursor.at:
            last = int(breaks[breaks.searchsorted(first)])
            found = ends[first : min(last + 1, first + count - done)]
        else:
            found = np.array(_walk(cursor, min(_STEPS, count - done)), np.int64)
        after = done + len(found)
        starts[done + 1 : after + 1] = found
        if starts[after] > cursor.size:
            cursor.at = int(starts[after - 1])
            cursor.fail(f"string {after - 1} in {what} reaches past the end of the file at byte {cursor.size}")
        done, cursor.at = after, int(starts[after])
    return starts


def _walk(cursor: Cursor, steps: int) -> list[int]:
    """Return where each of the next strings ends; one that leaves the file is the last and ends just behind it."""
    ends: list[int] = []
    end = cursor.at
    for _ in range(steps):
        end += 8 + (LENGTH.unpack_from(cursor.view, end)[0] if end + 8 <= cursor.size else 0)
        if end > cursor.size:
            return [*ends, cursor.size + 1]
        ends.append(end)
    return ends


def _guess(window: Bytes, base: int) -> tuple[Starts, Starts, Starts]:
    """Return what looks like the begin of a string, where such a string ends, and at which of them the chain breaks."""
    zero = window == 0
    two = zero[:-1] & zero[1:]
    four = two[:-2] & two[2:]
    seven = four[:-3] & four[3:]
    size = max(window.size - 7, 0)
    mask = np.zeros(-(-size // 8) * 8, np.bool_)
    np.greater(seven[1:], zero[:size], out=mask[:size])
    # Two of them are at least 8 bytes apart, so a word of 8 flags holds one at most: far fewer flags to search.
    words = mask.view("<u8")
    found = np.flatnonzero(words != 0)
    begins: Starts = found * 8 + (np.bitwise_count(words[found] - np.uint64(1)) >> 3)
    ends: Starts = begins + 8 + window[begins]
    breaks: Starts = np.append(np.flatnonzero(ends[:-1] != begins[1:]), max(begins.size - 1, 0))
    return begins + base, ends + base, breaks


def decode_value(cursor: Cursor, kind: ValueType, what: str) -> Any:
    """Read one value that `skip_value` has checked: int, float, bool, str, list, or a read-only array of numbers."""
    if kind is ValueType.STRING:
        (length,) = cursor.unpack(LENGTH, what)
        start = cursor.skip(length, what)
        return str(cursor.view[start : cursor.at], "utf-8", "surrogateescape")
    if kind is ValueType.ARRAY:
        return _decode_array(cursor, what)
    dtype = SCALARS[kind]
    start = cursor.skip(dtype.itemsize, what)
    return cursor.data[start : cursor.at].view(dtype)[0].item()


def _decode_array(cursor: Cursor, what: str) -> Any:
    item, count = cursor.array_head(what)
    if item is ValueType.ARRAY:
        return [_decode_array(cursor, what) for _ in range(count)]
    if item is ValueType.STRING:
        starts = string_starts(cursor, count, what)
        return _decode_strings(cursor.data[starts[0] : starts[-1]], starts - starts[0])
    start = cursor.skip(count * SMALLEST[item], what)
    numbers = cursor.data[start : cursor.at].view(SCALARS[item]).copy()
    numbers.flags.writeable = False
    return numbers


def _decode_strings(stored: Bytes, starts: Starts) -> list[str]:
    """Decode all strings at once, their length fields turned into separators, unless one has a zero byte in it."""
    joined = stored.copy()
    for byte in range(8):
        joined[starts[:-1] + byte] = 0
    if np.count_nonzero(joined == 0) == 8 * (len(starts) - 1):
        return joined.tobytes().decode("utf-8", "surrogateescape").split("\0" * 8)[1:]
    raw = stored.tobytes()
    return [raw[begin + 8 : end].decode("utf-8", "surrogateescape") for begin, end in pairwise(starts.tolist())]


class _Place(NamedTuple):
    kind: ValueType
    start: int
    end: int


class Metadata(Mapping[str, Any]):
    """The key-value pairs of a GGUF file, in their order; a value is decoded when first asked for, then kept.

    Values are int, float, bool, str, list (of strings or of arrays) or a read-only NumPy array of numbers.
    """

    def __init__(self, file: MappedFile, places: dict[str, _Place]) -> None:
        self._file = file
        self._places = places
        self._values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            place = self._places[key]
            self._values[key] = decode_value(Cursor(self._file, place.start), place.kind, f"key {key!r}")
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __repr__(self) -> str:
        return f"Metadata({len(self)} keys of {self._file.name})"

    @property
    def types(self) -> dict[str, str]:
        """The type of each value, as `Typed` spells it: "UINT32", "ARRAY[STRING]"."""
        return {key: self._type_name(place) for key, place in self._places.items()}

    def _type_name(self, place: _Place) -> str:
        if place.kind is not ValueType.ARRAY:
            return place.kind.name
        return f"ARRAY[{Cursor(self._file, place.start).kind('an array').name}]"

    def exact(self) -> dict[str, Encoded]:
        """Return every value as its bytes, which `write_gguf` writes unchanged; `split.*` (shards) is left out."""
        data = self._file.data
        return {
            key: Encoded(place.kind, data[place.start : place.end].tobytes())
            for key, place in self._places.items()
            if not key.startswith("split.")
        }


def parse_metadata(cursor: Cursor, count: int) -> Metadata:
    """Check `count` pairs from here on and return them undecoded; FormatError names the byte and the key."""
    places: dict[str, _Place] = {}
    for index in range(count):
        begin = cursor.at
        key = cursor.name(f"metadata key {index}")
        if key in places:
            cursor.at = begin
            cursor.fail(f"the key {key!r} is there twice")
        kind = cursor.kind(f"key {key!r}")
        start = cursor.at
        skip_value(cursor, kind, f"key {key!r}")
        places[key] = _Place(kind, start, cursor.at)
    return Metadata(cursor.file, places)
