"""Small vocabularies in the form of RWKV's World file, and the plain algorithm that goes with them.

Written from https://github.com/BlinkDL/ChatRWKV `rwkv_tokenizer.py`: ids from 1, Python literals, lengths in bytes.
"""

from collections.abc import Mapping, Sequence

BYTES = tuple(bytes([byte]) for byte in range(256))
PIECES = (
    *("\t\n", "\n\t", "\n\n\n", "\r\n", "\n\n", "\n\n\n\n", "  ", "   ", " a", " the", "the", "'s", "it's", '"', "\\n"),
    *(
        "\\x00",
        "\\",
        "\\\\",
        "é",
        "日",
        "日本",
        "本語",
        "ab",
        "abc",
        "abcdef",
        "bcd",
        "cde",
        "def",
        "fed",
        "aaa",
        "aaaaa",
    ),
    *("User", "User:", " User", "Assistant:", "<s", "s>", "</", "'\"", "�", "🦙", "🦙🦙", "0", "00", "000", "1"),
    *(b"\xe6\x97", b"\xf0\x9f", b"\xf0\x9f\xa6", b"\xa6\x99", b"\xc3\x28", b"\xff\xfe", b" \xe6", b"\xad\xe6\x9c"),
)
"""Overlapping in every way; some are parts of characters, and the fifth has the id 261 as in the real file."""


def tokens() -> list[bytes]:
    """All tokens by id, from 1 on: the bytes, then `PIECES`, none of them twice."""
    pieces = [piece if isinstance(piece, bytes) else piece.encode() for piece in PIECES]
    return list(dict.fromkeys([*BYTES, *pieces]))


def lines(of: Sequence[bytes]) -> str:
    """The file: texts as texts where they are some, bytes as bytes."""
    out = []
    for identity, raw in enumerate(of, 1):
        try:
            literal = repr(raw.decode())
        except UnicodeDecodeError:
            literal = repr(raw)
        out.append(f"{identity} {literal} {len(raw)}\n")
    return "".join(out)


def greedy(raw: bytes, ids: Mapping[bytes, int]) -> list[int]:
    """Always the longest token that `raw` goes on with, every length tried."""
    out = []
    while raw:
        length = max(n for n in range(1, len(raw) + 1) if raw[:n] in ids)
        out.append(ids[raw[:length]])
        raw = raw[length:]
    return out
