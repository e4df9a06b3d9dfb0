"""The prompt of a model that was opened: by its renderer, its template or its vocabulary; it knows no engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from puna.errors import RequestError, TemplateError
from puna.opened import Opened

if TYPE_CHECKING:
    from puna.template import Message
    from puna.tokenizer.vocabulary import Vocabulary

_MARKS = ("fim_pre", "fim_suf", "fim_mid")


def render_for(
    opened: Opened,
    vocabulary: Vocabulary,
    messages: Iterable[Message | Mapping[str, Any]],
    *,
    template: str | None = None,
    **more: Any,
) -> str:
    """The exact prompt for a model: by `template`, else its renderer, else its Modelfile's template or its file's."""
    from puna.template import parse_messages, render
    from puna.template.named import named_renderer, sized

    spelled = {role: vocabulary.tokens[i] for role, i in vocabulary.ids.items() if i < len(vocabulary.tokens)}
    if more.get("suffix") and not template and _fills_by_marks(opened, spelled):
        pre, suf, mid = (spelled[mark] for mark in _MARKS)
        return f"{pre}{more.get('prompt') or ''}{suf}{more['suffix']}{mid}"
    given = parse_messages(messages)
    if seen := [number for number, message in enumerate(given) if message.images]:
        raise RequestError(f"message {seen[0]} has an image, and the model reads text only; leave images out")
    system = None if given and given[0].role == "system" else opened.system
    given = [*parse_messages(opened.messages), *given]
    tokens = {f"{role}_token": spelled.get(role, "") for role in ("bos", "eos")}
    more = {"add_generation_prompt": None, **tokens, **more}
    if template or not opened.renderer:
        return render(template or template_of(opened), given, system=system, **more)
    parameters = sum(prod(tensor.shape) for tensor in opened.tensors.values())
    return render(named_renderer(sized(opened.renderer, parameters)), given, system=system, **more)


def prompt_alone(opened: Opened, messages: Iterable[Message | Mapping[str, Any]], **more: Any) -> str:
    """What a user says, for a model that answers a prompt as it is; RequestError where there is more than that."""
    from puna.template import parse_messages

    given = [*parse_messages(opened.messages), *parse_messages(messages)]
    there = [f"a message of role {message.role}" for message in given]
    there += ["a system message"] if opened.system else []
    there += [name for name in ("tools", "suffix") if more.get(name)]
    if [message.role for message in given] != ["user"] or len(there) > 1 or given[0].images:
        raise RequestError(
            f"chat: the model answers a prompt as it is, and there is {', '.join(there) or 'nothing'}; "
            "one message of the user, of text alone, works"
        )
    return given[0].content


def template_of(opened: Opened) -> str:
    """The text of a model's template, the Modelfile's first; TemplateError where it has none and no renderer either."""
    own = str(opened.metadata.get("tokenizer.chat_template") or "")
    if (template := opened.template or own) or opened.renderer:
        return template
    raise TemplateError(
        "chat: the model has no chat template; generate() (`puna run --raw`) continues plain text, "
        "and TEMPLATE in a Modelfile gives it one"
    )


def _fills_by_marks(opened: Opened, spelled: Mapping[str, str]) -> bool:
    """Whether the vocabulary has tokens around what is to be filled in, and no template of the Modelfile says how."""
    from puna.template import template_fields

    told = opened.template and not opened.renderer and "suffix" in template_fields(opened.template)
    return not told and all(mark in spelled for mark in _MARKS)
