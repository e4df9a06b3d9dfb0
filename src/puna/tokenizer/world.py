"""Reads the file of RWKV's World vocabulary.

    rwkv_vocab_v20230424.txt    one token a line: id, a Python literal (a text, or bytes), how many bytes it has

Id 0, which ends a text, has no line. How text becomes ids is `puna.tokenizer.longest`.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

from puna.errors import FormatError
from puna.tokenizer.draft import Draft
from puna.tokenizer.vocabulary import TokenType

FILE = re.compile(r"rwkv_vocab_\w+\.txt")
END = "<s>"
"""How llama.cpp's converter calls the end of a text, where no file says."""

TURN_ENDS = b"\n\n"

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}System: {% elif message['role'] == 'user' %}User: {% else %}Assistant: "
    "{% endif %}{{ message['content'].split('</think>')[-1] | trim }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""How World models are talked to, where a checkpoint does not say (https://huggingface.co/BlinkDL/rwkv-7-world)."""


def escaped(raw: bytes) -> str:
    """The bytes of a token as GGUF spells them: Python's own literal without b and quotes."""
    return repr(raw)[2:-1]


def parse_world(text: str, name: str, settings: Mapping[str, Any]) -> Draft:
    """The vocabulary in the text of a file called `name`; FormatError names the line that is none of it.

    `settings` is the tokenizer_config.json, which may say how the end of a text is spelled.
    """
    draft = Draft("rwkv", "default", [END], [TokenType.CONTROL])
    draft.source = name
    tokens: dict[bytes, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        identity, raw = _token(line, name, number)
        if raw in tokens:
            raise FormatError(
                f"reading {name}: line {number}: {raw!r} is token {tokens[raw]} already; one of each works"
            )
        tokens[raw] = identity
        draft.place(identity, escaped(raw), TokenType.NORMAL)
    said = (settings.get(f"{role}_token") for role in ("bos", "pad", "eos"))
    draft.tokens[0] = next((end for end in said if isinstance(end, str) and end.encode() not in tokens), END)
    draft.ids |= {"bos": 0, "eos": 0}
    if TURN_ENDS in tokens:
        draft.ids["eot"] = tokens[TURN_ENDS]
    return draft


def _token(line: str, name: str, number: int) -> tuple[int, bytes]:
    """The id and the bytes of a line."""
    try:
        identity, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        value = ast.literal_eval(literal)
        raw = value.encode() if isinstance(value, str) else value
        if not isinstance(raw, bytes) or len(raw) != int(length) or not raw:
            raise ValueError(f"{literal[:40]} is not a text or bytes of {length.strip()} bytes")
        if int(identity) < 1:
            raise ValueError(f"its id is {identity}, which is that of the end of a text or none")
        return int(identity), raw
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        what = str(error) or type(error).__name__
        raise FormatError(
            f"reading {name}: line {number}: {what}; an id, a Python literal and a length work"
        ) from error
