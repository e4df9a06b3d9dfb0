"""The names that a Go template may read, and the first one in a text that nothing would ever fill.

Go itself says nothing of `{{ .Promt }}`: what is not there is empty. Knows names, not what they hold.
"""

from difflib import get_close_matches

from puna.template import gosource

TOP = ("System", "Prompt", "Response", "Suffix", "Messages", "Tools", "Think", "ThinkLevel", "IsThinkSet")
MESSAGE = ("Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID")
CALL = ("ID", "Function", "Name", "Arguments", "Index")
TOOL = ("Type", "Items", "Description", "Parameters", "Properties", "Required", "Enum", "AnyOf", "Defs")
METHODS = ("String", "ToTypeScriptType", "PropertyType", "ToolFunction")
"""What Ollama's values can do besides having fields."""

KNOWN = frozenset((*TOP, *MESSAGE, *CALL, *TOOL, *METHODS))


def unknown_field(source: str) -> tuple[str, int, str] | None:
    """The first field that no value has: its name, its line from 1, and the closest name there is, or ''.

    Which of the values is looked into is not followed: a field that any of them has counts as known.
    """
    for body, line in gosource.actions(source):
        for path in gosource.paths(body):
            for name in path:
                if name not in KNOWN and not name.startswith("$"):
                    return name, line, next(iter(get_close_matches(name, sorted(KNOWN), n=1)), "")
    return None
