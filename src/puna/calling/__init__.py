"""What an answer may call, or has to, and the grammar that holds it to that: see `calls` and `answers`."""

from puna.calling.answers import answer_rules
from puna.calling.calls import Calls, calls_of, function_of

__all__ = ["Calls", "answer_rules", "calls_of", "function_of"]
