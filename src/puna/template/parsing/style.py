"""How a format writes the arguments of a call, where it does not as one JSON object.

Tagged      <parameter=a>\\ntext\\n</parameter>        Spelled     a=1, b="text"        a:1,b:<|"|>text<|"|>
"""

from dataclasses import dataclass

KEY = "KEY"


@dataclass(frozen=True, slots=True)
class Tagged:
    """Arguments one by one, each between two texts; what is no text is written as JSON.

    `before`: what stands before a value, with `KEY` for its name. `never`: what no value can have in it. `trims`: a
    line break at either end is no part of a value.
    """

    before: str
    behind: str
    never: tuple[str, ...]
    trims: bool = False

    def example(self, keys: tuple[str, ...]) -> str:
        """Arguments of these names, with a text."""
        return "".join(f"{self.before.replace(KEY, key)}x{self.behind}" for key in keys)


@dataclass(frozen=True, slots=True)
class Spelled:
    """Arguments as a list of names and values, spelled as in JSON but for what is said here.

    `equals` stands behind the name of an argument, `mark` around a text, in which `escapes` is a regular expression of
    what is behind a backslash; none if that stands for itself. `bare`: inner names are no texts. `spaced`: there may
    be a space behind a comma or a colon. `never`: what no text can have in it.
    """

    equals: str = ":"
    mark: str = '"'
    escapes: str = ""
    bare: bool = False
    spaced: bool = True
    never: tuple[str, ...] = ()

    def example(self, keys: tuple[str, ...]) -> str:
        """Arguments of these names, with a number."""
        return ",".join(f"{key}{self.equals}1" for key in keys)


Style = Tagged | Spelled

PARAMETERS = Tagged(
    "<parameter=KEY>\n", "\n</parameter>\n", ("</parameter>", "<parameter=", "</function>", "<function=")
)
PAIRS = Tagged(
    "<arg_key>KEY</arg_key><arg_value>",
    "</arg_value>",
    ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "</tool_call>"),
)
PARAMS = Tagged('<param name="KEY">', "</param>", ("</param>", "</function>"), trims=True)
ATEM = Tagged('<atem:parameter name="KEY">', "</atem:parameter>\n", ("</atem:parameter>", "</atem:function_calls>"))
PYTHON = Spelled("=", escapes=r'["\\ntr]', never=("</function_calls>",))
PYTHON_RAW = Spelled("=", never=("<|tool_call_end|>",))


def braces(mark: str, close: str) -> Spelled:
    """Gemma's, whose texts stand between `mark`s, in calls that `close` ends."""
    return Spelled(mark=mark, bare=True, spaced=False, never=(mark, close))
