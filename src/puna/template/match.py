"""Which built-in template stands for a model's Jinja template: the nearest of the published ones, as Ollama decides it.

Ollama takes the known Jinja template at the smallest edit distance, if that is below 100 characters. Here the known
ones are kept as fingerprints, one hexadecimal digit per character (the low four bits of its code point): they hold no
text, and keep edit distances nearly. A near text can still mean another format, so a model's own template, where the
engine can render it, is to be preferred to the match. Evaluates nothing.

    builtin/known.txt: lines of `name fingerprint`, in the order of Ollama's template/index.json (37 of them)
"""

import functools
from collections import defaultdict

from puna.template.builtin import FOLDER

_TOO_FAR = 100


def match_template(jinja: str) -> str | None:
    """The name of the built-in template that a Jinja chat template stands for, or None if none is near."""
    wanted = fingerprint(jinja)
    nearest, name = _TOO_FAR, None
    for candidate, known in _known():
        if abs(len(known) - len(wanted)) < nearest and (distance := edit_distance(wanted, known)) < nearest:
            nearest, name = distance, candidate
    return name


def fingerprint(text: str) -> str:
    """One hexadecimal digit per character: the low four bits of its code point."""
    return "".join("0123456789abcdef"[ord(character) & 15] for character in text)


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance, a column of the table per step in the bits of integers (Myers 1999, Hyyrö 2003)."""
    if not a:
        return len(b)
    where: defaultdict[str, int] = defaultdict(int)
    for i, character in enumerate(a):
        where[character] |= 1 << i
    mask = (1 << len(a)) - 1
    up, down, distance = mask, 0, len(a)  # bits: the cell is one more, one less than the cell above it
    for character in b:
        match = where.get(character, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        right, left = down | ~(diagonal | up) & mask, up & diagonal
        distance += (right >> len(a) - 1 & 1) - (left >> len(a) - 1 & 1)
        right, left = (right << 1 | 1) & mask, left << 1 & mask
        vertical = match | down
        up, down = left | ~(vertical | right) & mask, right & vertical
    return distance


@functools.cache
def _known() -> tuple[tuple[str, str], ...]:
    lines = (line.split() for line in (FOLDER / "known.txt").read_text("ascii").splitlines())
    return tuple((name, known) for name, known in lines)
