"""SentencePiece's table of replacements (`precompiled_charsmap`), which normalizes text.

    charsmap := u32 size of the trie in bytes, trie (u32 units), replacements (UTF-8, each ended by a zero byte)
    unit     := bits 0-7 label, 8 has a value, 9 wide offset, 10-31 offset to the children; a value: bits 0-30, 31 set

The trie is Darts' double array: the child of node n for byte b is unit `offset(n) ^ b`, and is one if its label is b.
It does not know vocabularies.
"""

from collections.abc import Callable

from puna.errors import TokenizerError

_VALUE = (1 << 31) - 1
_LABEL = (1 << 31) | 0xFF


def replacer(charsmap: bytes) -> Callable[[str], str]:
    """The function that makes the replacements of `charsmap`, of several at one place the one of the longest text."""
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 8 or size % 4 or not size or 4 + size >= len(charsmap) or charsmap[-1]:
        raise TokenizerError(
            f"tokenizer: a table of characters of {len(charsmap)} bytes cannot hold a trie of {size} bytes and what it "
            "points to; the precompiled_charsmap of a SentencePiece model would work"
        )
    units = [int.from_bytes(charsmap[at : at + 4], "little") for at in range(4, 4 + size, 4)]
    texts = charsmap[4 + size :]

    def replace(text: str) -> str:
        data = text.encode()
        out = bytearray()
        at = 0
        while at < len(data):
            length, value = _longest(units, data, at)
            if length:
                end = texts.find(0, value)
                if end < 0:
                    raise TokenizerError(
                        f"tokenizer: the table of characters points outside itself, to byte {value} of {len(texts)}; "
                        "a whole precompiled_charsmap would work"
                    )
                out += texts[value:end]
            else:
                length = _width(data[at])
                out += data[at : at + length]
            at += length
        return out.decode("utf-8", "replace")

    return replace


def _longest(units: list[int], data: bytes, at: int) -> tuple[int, int]:
    """Length in bytes and value of the longest key at `at`; (0, 0) where there is none."""
    found = (0, 0)
    node = _offset(units[0])
    for end in range(at, len(data)):
        byte = data[end]
        node ^= byte
        if not byte or node >= len(units) or units[node] & _LABEL != byte:
            break
        unit = units[node]
        node ^= _offset(unit)
        if unit >> 8 & 1 and node < len(units):
            found = (end + 1 - at, units[node] & _VALUE)
    return found


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


def _width(first: int) -> int:
    """Bytes of the UTF-8 character that begins with `first`."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
