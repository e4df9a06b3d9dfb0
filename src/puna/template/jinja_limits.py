"""What keeps a hostile Jinja template from hanging or filling memory: a budget per render, asked at every step.

    loops, macros, calls, filters   count a step and look at the clock of the thread
    text that is made               is counted; each piece, and all of them together, are bounded
    containers that are made        are bounded by their size when written out, so doubling by reference fails early
    operators and widths            are refused before they compute something huge

No single operation handles more than MAX_TEXT characters, so the clock is looked at often enough. Knows no messages.
"""

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.visitor import NodeTransformer

from puna.errors import TemplateError

MAX_TEXT = 16_000_000  # characters of one value, and of the prompt
MAX_ITEMS = 1_000_000  # of a container, those of its parts included
MAX_TOTAL = 128_000_000  # characters that one render makes in all
MAX_STEPS = 1_000_000
MAX_SECONDS = 5.0  # of the rendering thread's own time
MAX_BITS = 4096  # of an integer
_WIDTH = re.compile(r"[%:][^%a-zA-Z{}]*?\d{4,}|%[^%a-zA-Z]*\*|\{[^{}]*\{")
_GROWING = {"join", "indent", "center", "ljust", "rjust", "zfill", "expandtabs", "batch", "slice", "wordwrap"}
_GROWING |= {"tojson", "translate", "truncate", "round"}


class Budget:
    """What one render may still spend."""

    def __init__(self) -> None:
        self.steps, self.text = MAX_STEPS, MAX_TOTAL
        self.deadline = time.thread_time() + MAX_SECONDS

    def spend(self, characters: int = 0) -> None:
        """Takes one step and so much text off; raises `TemplateError` when something is used up."""
        self.steps -= 1
        self.text -= characters
        if self.steps < 0:
            raise TemplateError(f"the template takes more than {MAX_STEPS} steps; loop less")
        if self.text < 0 or characters > MAX_TEXT:
            raise TemplateError(f"the template makes too much text (over {MAX_TEXT} characters); repeat less")
        if time.thread_time() > self.deadline:
            raise TemplateError(f"the template renders for more than {MAX_SECONDS:g} seconds; loop less")


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


def start_budget() -> Budget:
    """A fresh budget for the render that begins in this context."""
    budget = Budget()
    _budget.set(budget)
    return budget


def spend(characters: int = 0) -> None:
    """Takes a step of the running render's budget."""
    budget = _budget.get()
    if budget is not None:
        budget.spend(characters)


def checked(value: Any) -> Any:
    """The value, its size taken off the budget; refuses text, numbers and containers that are too large."""
    if isinstance(value, str):
        spend(len(value))
    elif isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise TemplateError(f"the template computes an integer of {value.bit_length()} bits; at most {MAX_BITS}")
        spend()
    else:
        written_size(value)
        spend()
    return value


def written_size(value: Any) -> int:
    """About how many characters a value takes when written out, shared parts each time; refuses what is too large."""
    size, items, pending = 0, 0, [value]
    while pending:
        item = pending.pop()
        items += 1
        size += len(item) if isinstance(item, str | bytes) else 1
        if isinstance(item, Mapping):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            pending += item
        if size > MAX_TEXT or items + len(pending) > MAX_ITEMS:
            raise TemplateError(
                f"the template builds a value of over {MAX_ITEMS} items or {MAX_TEXT} characters; build less"
            )
        if items % 65536 == 0:
            spend()
    return size


def check_operator(operator: str, left: Any, right: Any) -> None:
    """Refuses an operation whose result would be too large, before it is computed."""
    if operator == "%" and isinstance(left, str):
        check_call("format", left, (right,), {})
        return
    numbers = [n for n in (left, right) if isinstance(n, int)]
    if len(numbers) == 2:
        bits = left.bit_length() * (max(right, 1) if operator == "**" else 1) + right.bit_length()
        if operator in ("*", "**") and bits > MAX_BITS:
            raise TemplateError(f"the template computes {operator} with {bits} bits; at most {MAX_BITS}")
    elif operator == "*" and numbers:
        _check_product(left if numbers[0] is right else right, abs(numbers[0]), "*")


def check_call(name: str, value: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Refuses a filter or method that would make too much text, before it runs."""
    everything = [*arguments, *named.values()]
    if name == "replace" and isinstance(value, str):
        old, new = [*arguments, *(named[key] for key in ("old", "new") if key in named), "", ""][:2]
        if len(value) + value.count(str(old)) * len(str(new)) > MAX_TEXT:
            raise TemplateError(
                f"the template makes too much text with replace (over {MAX_TEXT} characters); repeat less"
            )
    elif name in ("format", "format_map") and isinstance(value, str):
        if _WIDTH.search(value):
            raise TemplateError(f"the template formats with {value!r:.60}; widths must be plain and below 1000")
        _check_product(everything, value.count("%") + value.count("{"), name)
    elif name == "sum" and any(isinstance(argument, list | tuple) for argument in everything):
        raise TemplateError("the template sums lists; only numbers can be summed")
    elif name in _GROWING:
        factors = (abs(a) if isinstance(a, int) else written_size(a) for a in everything)
        _check_product(value, max(factors, default=0), name)


def listed(value: Any) -> Any:
    """The value, or a list of what it yields if its size cannot be seen before."""
    plain = value is None or isinstance(value, str | bytes | int | float | list | tuple | Mapping | Undefined)
    return value if plain or not hasattr(value, "__iter__") else list(value)


def guard_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with its arguments and its result within the limits."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        spend()
        before, value, rest = arguments[:skipped], arguments[skipped], arguments[skipped + 1 :]
        value = listed(value) if name in _GROWING else value
        check_call(name, value, rest, named)
        return checked(function(*before, value, *rest, **named))

    return guarded


class Instrument(NodeTransformer):
    """Puts calls of `environment.spend`, `.concatenate` and `.checked` into a template's tree."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """Each turn of a loop takes a step and pays for its literal text."""
        return self._metered(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """So does each call of a macro."""
        return self._metered(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """And each use of a call block's body."""
        return self._metered(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """`a ~ b` is a call, so that its result is counted."""
        self.generic_visit(node)
        return self._call("concatenate", node.nodes, node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """A literal container is measured, unless it is made of constants."""
        return self._measured(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """The same for tuples that are read; targets of an assignment stay."""
        if node.ctx != "load":
            return node
        return self._measured(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802, the name is jinja2's
        """The same for dictionaries."""
        return self._measured(node, [pair.value for pair in node.items])

    def _measured(self, node: nodes.Expr, items: list[nodes.Expr]) -> nodes.Node:
        constant = all(isinstance(item, nodes.Const) for item in items)
        self.generic_visit(node)
        return node if constant else self._call("checked", [node], node.lineno)

    def _metered(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        step = self._call("spend", [nodes.Const(text)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node

    def _call(self, name: str, arguments: list[nodes.Expr], line: int) -> nodes.Call:
        function = nodes.EnvironmentAttribute(name, lineno=line)
        return nodes.Call(function, arguments, [], None, None, lineno=line)


def _check_product(value: Any, factor: int, name: str) -> None:
    if factor > 1 and written_size(value) * factor > MAX_TEXT:
        raise TemplateError(f"the template makes too much text with {name} (over {MAX_TEXT} characters); repeat less")
