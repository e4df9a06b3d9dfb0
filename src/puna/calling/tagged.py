"""Arguments one by one in tags: texts as they are, anything else as JSON, and no text that would be read as another.

<parameter=a> text </parameter>        <arg_key>a</arg_key><arg_value>[1, 2]</arg_value>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from puna.calling.rules import Rules, Unheld
from puna.calling.schema import Schema, branches
from puna.calling.spelled import BOUNDS, NUMBERS, Values, other_key, properties_of
from puna.calling.texts import ANY, literal, text_of, without
from puna.template.parsing.style import KEY as NAMED
from puna.template.parsing.style import Spelled, Tagged
from puna.template.parsing.tools import Tools, typed

if TYPE_CHECKING:
    from puna.engine.constrain import Vocabulary

JSON = r'(?:["\\\/bfnrt]|u00[0-9a-f]{2})'
"""What may stand behind a backslash."""
READ = {
    "boolean": "/(?i:true|false)/",
    "integer": r"/[+\-]?\d+/",
    "number": r"/\s*[+\-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+\-]?\d+)?\s*/",
    "array": r"/\s*\[(?s:.*)/",
    "object": r"/\s*\{(?s:.*)/",
}
"""Texts that are read as values of another type where a schema has that too."""
BEGUN = r"/\s*[+\-.\d](?s:.*)/"


class Arguments:
    """Writes rules of the arguments of the tool `name`, whose values are read by `tools`."""

    def __init__(
        self, style: Tagged, root: Schema, words: Vocabulary, rules: Rules, *, tools: Tools, name: str
    ) -> None:
        self._style, self._root, self._words, self._rules = style, root, words, rules
        self._tools, self._name = tools, name
        self._values = Values(Spelled(escapes=JSON, never=style.never), root, words, rules)

    def arguments(self, schema: Schema) -> str:
        """The rule of the arguments of a call."""
        before, behind = self._style.before.split(NAMED)
        parts = [
            (f"{self._words.written(before + name + behind)} {self._value(name, part)}", required)
            for name, part, required in properties_of(schema)
        ]
        additional = schema.get("additionalProperties", True)
        more = ""
        if additional is not False:
            key = self._rules.lexeme(other_key(schema))
            written = f"{self._words.written(before)} {key} {self._words.written(behind)}"
            more = f"{written} {self._value('', additional)}"
        return self._rules.sequence(parts, more) or '""'

    def _value(self, argument: str, schema: Any) -> str:
        """A value and what stands behind it. What is a text needs to be one lexeme with that: it ends nowhere else."""
        texts: list[str] = []
        others: list[str] = []
        types = self._tools.types(self._name, argument)
        found = list(branches(schema, self._root))
        bounded = [branch for branch in found if branch.get("type") in NUMBERS and BOUNDS & set(branch)]
        for branch in found:
            kind = branch.get("type")
            if "const" in branch:
                texts.append(literal(self._constant(branch["const"], types)))
            elif kind in (None, "string"):
                texts.append(self._text(branch, types, [BEGUN] if bounded else []))
            else:
                whole = kind in ("array", "object") or branch in bounded
                (others if whole else texts).append(self._values.value(branch))
        return self._ended(texts, others)

    def _ended(self, texts: Sequence[str], others: Sequence[str]) -> str:
        behind = self._style.behind
        tag = next(iter(self._words.tags(behind)), None)
        head, rest = (behind[: behind.index(tag)], behind[behind.index(tag) :]) if tag else (behind, "")
        lexeme = self._rules.lexeme(f"({' | '.join(texts)}) {self._words.written(head)}", lazy=not tag) if texts else ""
        ended = [f"{lexeme} {self._words.written(rest)}"] if texts else []
        return f"({' | '.join([*ended, *(f'{other} {self._words.written(behind)}' for other in others)])})"

    def _text(self, schema: Schema, types: Sequence[str], more: Sequence[str]) -> str:
        """A text that is read as one."""
        null = "type" in schema and "null" not in types and _may_be(schema, "null")
        kept = ["/(?i:null)/"] if null else []
        kept += [READ[kind] for kind in types if kind in READ] + [*more]
        kept += [r"/\n(?s:.*)/", r"/(?s:.*)\n/"] if self._style.trims else []
        if kept and "pattern" in schema and self._words.tags(self._style.behind):
            self._rules.step_by_step()
        text = without(text_of(schema), self._style.never)
        return f"({text} & {ANY}{''.join(f' & ~{each}' for each in kept)})"

    def _constant(self, value: Any, types: Sequence[str]) -> str:
        text = value if isinstance(value, str) else self._values.spelled(value)
        read = typed(text, types)
        lost = self._style.trims and text != text.strip("\n")
        same = read == value and isinstance(read, bool) == isinstance(value, bool)
        if lost or not same or any(tag in text for tag in self._style.never):
            raise Unheld(f"{value!r:.60} cannot be written in this format; leaving it out of 'enum' would work")
        return text


def _may_be(schema: Schema, text: str) -> bool:
    """Whether a text may follow a schema's pattern, as far as Python understands that."""
    try:
        return re.search(schema.get("pattern", ""), text, re.IGNORECASE) is not None
    except re.error:
        return True
