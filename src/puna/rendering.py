"""`puna.render`: the prompt that messages make, by a template's text, a renderer's name or a model's own template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from puna.errors import InvalidName


def render(
    ref_or_template: str,
    messages: Iterable[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    think: bool | str | None = None,
    **more: Any,
) -> str:
    """The exact prompt. `ref_or_template`: template text (Go, Jinja), one of `puna.RENDERERS`, or as for `puna.load`.

    A model that is called as a renderer is meant with its tag: `cogito` is the renderer, `cogito:latest` the model.
    `more`: `prompt` and `suffix` for templates that take them, variables of a Jinja template. Raises TemplateError.
    """
    from puna.template import RENDERERS, named_renderer
    from puna.template import render as render_text

    if ref_or_template in RENDERERS:
        return render_text(named_renderer(ref_or_template), messages, tools=tools, think=think, **more)
    if is_reference(ref_or_template):
        from puna.loading import load

        return load(ref_or_template).render(messages, tools=tools, think=think, **more)
    return render_text(ref_or_template, messages, tools=tools, think=think, **more)


def is_reference(text: str) -> bool:
    """Whether a text without any template marks names a model or a file."""
    from puna.store.name import ModelName
    from puna.store.reference import is_path

    if "{{" in text or "{%" in text or "\n" in text:
        return False
    try:
        ModelName.parse(text)
    except InvalidName:
        return is_path(text)
    return True
