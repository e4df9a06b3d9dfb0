"""Chat templates against each other, and one by itself, rendered on several conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from puna.create.verify.report import DRIFT, OK, SKIPPED, Check
from puna.create.verify.sides import Side
from puna.create.verify.texts import CONVERSATIONS
from puna.errors import PunaError, TemplateError

if TYPE_CHECKING:
    from puna.template import Template

Render = Callable[[Mapping[str, Any]], str]
OWN = "tokenizer.chat_template"


def text_of(side: Side) -> str:
    """The template that a model chats with: its Modelfile's, else the file's own; empty where there is none."""
    return side.template or str(side.metadata.get(OWN) or "")


def renderer(side: Side) -> Render:
    """A function from one of CONVERSATIONS to its prompt."""
    from puna.template import render

    tokens = side.metadata.get("tokenizer.ggml.tokens")
    spelled = {}
    for role in ("bos", "eos"):
        identity = side.metadata.get(f"tokenizer.ggml.{role}_token_id")
        known = tokens is not None and isinstance(identity, int) and 0 <= identity < len(tokens)
        spelled[f"{role}_token"] = str(tokens[identity]) if known and tokens is not None else ""
    return lambda said: render(
        _compiled(side), said["messages"], tools=said.get("tools"), system=side.system, **spelled
    )


def _compiled(side: Side) -> Template:
    """What writes a model's prompts; TemplateError if its Modelfile names a renderer that is unknown."""
    from puna.template import compile_template, named_renderer

    return named_renderer(side.renderer) if side.renderer else compile_template(text_of(side))


def compare(model: Side, source: Side, reference: Render | None = None) -> Check:
    """Whether both give the same prompts; what one refuses the other must refuse."""
    mine, theirs = text_of(model), text_of(source)
    if not theirs:
        found = "; the model has one all the same" if mine else ""
        return Check("template", SKIPPED, f"the source has none{found}")
    if not mine and not model.renderer:
        return Check("template", DRIFT, "the source has one, the model none")
    said = _conversations(source)
    right = reference or renderer(source)
    findings = [line for name in said if (line := _difference(name, renderer(model), right))]
    by = "transformers" if reference else "the source's"
    whose = "the Modelfile's template" if model.template else "same text" if mine == theirs else "another text"
    whose = f"the renderer {model.renderer}" if model.renderer else whose
    return Check(
        "template", DRIFT if findings else OK, f"{len(said)} conversations, against {by}; {whose}", tuple(findings)
    )


def _conversations(side: Side) -> list[str]:
    """Those that a template can be asked for: with tools only where it reads them."""
    try:
        tools = "tools" in _compiled(side).fields
    except TemplateError:
        tools = False
    return [name for name, said in CONVERSATIONS.items() if tools or "tools" not in said]


def _difference(name: str, found: Render, right: Render) -> str:
    (want, refused), (got, refuses) = (_outcome(render, CONVERSATIONS[name]) for render in (right, found))
    if refused or refuses:
        return "" if refused and refuses else f"{name}: refused by {'the source' if refused else 'the model'} only"
    if want == got:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), min(len(want), len(got)))
    return f"{name}: from character {at} on {got[at : at + 30]!r}, the source {want[at : at + 30]!r}"


def _outcome(render: Render, said: Mapping[str, Any]) -> tuple[str, bool]:
    try:
        return render(said), False
    except PunaError:
        return "", True


def alone(model: Side) -> Check:
    """Whether the template compiles and renders a plain conversation; which others it refuses is told."""
    if not model.renderer and not text_of(model):
        return Check("template", SKIPPED, "there is none")
    try:
        kind = _compiled(model).kind
        renderer(model)(CONVERSATIONS["one question"])
    except PunaError as error:
        return Check("template", DRIFT, "it cannot be used", (str(error),))
    said = _conversations(model)
    refused = [name for name in said if _outcome(renderer(model), CONVERSATIONS[name])[1]]
    note = f"; it refuses: {', '.join(refused)}" if refused else ""
    return Check("template", OK, f"{kind}: renders {len(said) - len(refused)} of {len(said)} conversations{note}")
