"""What no other API has: tokens, prompts, rankings and decisions of a model; how the server is; what can be asked."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

from msgspec import Meta
from starlette.responses import Response

from puna.server.endpoints import Call, Endpoint
from puna.server.errors import Refused
from puna.server.metrics import exposed
from puna.server.shapes.own import DecisionAnswer, HealthAnswer, PromptAnswer, RankingAnswer, TextAnswer, TokensAnswer
from puna.server.shapes.shape import TEXT, Shape
from puna.server.wire import json_reply
from puna.worker.requests import Addressed, Decide, Detokenize, Lora, Render, Rerank, Tokenize

YES_OR_NO = ["yes", "no"]
MOST_SCORES = 101
"""How many whole numbers a score may be one of."""


class Decision(Addressed, kw_only=True):
    """`type` is choice, of `choices`; boolean, yes or no; or score, a whole number from `low` to `high`."""

    type: str = "choice"
    choices: list[str] | None = None
    low: int = 1
    high: int = 5
    prompt: str = ""
    messages: list[dict[str, Any]] | None = None
    lora: list[Lora] | None = None


class Ranking(Addressed, kw_only=True):
    """The best `top_n` alone, and with `return_documents` their texts; as Jina's and Cohere's clients ask.

    `documents` are texts, or objects with a `text`. `instruction` is for models that are asked in words.
    """

    query: str
    documents: list[str | dict[str, Any]]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False
    instruction: str | None = None
    truncate: bool = True


async def tokenize(call: Call, ask: Tokenize) -> Response:
    """The tokens of a text."""
    return json_reply(await call.server.value(ask, call.client))


async def detokenize(call: Call, ask: Detokenize) -> Response:
    """The text of tokens."""
    return json_reply(await call.server.value(ask, call.client))


async def apply_template(call: Call, ask: Render) -> Response:
    """The prompt that messages make, its tokens, and how many they are."""
    await call.server.check(ask)
    value = await call.server.value(ask, call.client)
    return json_reply(value | {"count": len(value["tokens"])})


async def rerank(call: Call, ask: Ranking) -> Response:
    """Documents in the order in which they answer a query, the best first."""
    texts = [given if isinstance(given, str) else given.get("text") for given in ask.documents]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(400, "rerank: a document is an object without a text; texts, or objects with one, would work")
    common = {name: getattr(ask, name) for name in Rerank.__struct_fields__ if name != "documents"}
    value = await call.server.value(Rerank(documents=texts, **common), call.client)  # type: ignore[arg-type]
    scores: list[float] = value["scores"]
    results: list[dict[str, Any]] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i])[: ask.top_n]:
        results.append({"index": i, "relevance_score": scores[i]})
        if ask.return_documents:
            results[-1]["document"] = {"text": texts[i]}
    usage = {"prompt_tokens": value["tokens"], "total_tokens": value["tokens"]}
    made = {"id": f"rerank-{uuid4().hex}", "object": "list", "model": ask.model}
    return json_reply(made | {"results": results, "usage": usage})


async def decide(call: Call, ask: Decision) -> Response:
    """What a model decides, and how probable it finds each possibility."""
    common = {"model": ask.model, "keep_alive": ask.keep_alive, "options": ask.options}
    said = {"prompt": ask.prompt, "messages": ask.messages, "lora": ask.lora}
    wanted = Decide(choices=_choices(ask), **said, **common)  # type: ignore[arg-type]
    made = await call.server.value(wanted, call.client)
    return json_reply({"model": ask.model, "value": _value(ask.type, made), **made})


def _choices(ask: Decision) -> list[str]:
    match ask.type:
        case "choice" if ask.choices:
            return ask.choices
        case "boolean":
            return YES_OR_NO
        case "score" if 0 < ask.high - ask.low < MOST_SCORES:
            return [str(number) for number in range(ask.low, ask.high + 1)]
    raise Refused(400, "decide: type choice with choices, boolean, or score with low below high would work")


def _value(kind: str, made: dict[str, Any]) -> Any:
    """A choice, a truth value, or of a score the value to be expected."""
    if kind == "boolean":
        return made["choice"] == YES_OR_NO[0]
    if kind == "score":
        return sum(int(choice) * p for choice, p in made["probabilities"].items())
    return made["choice"]


async def health(call: Call, ask: None) -> Response:
    """That the server answers, and the models that are loaded."""
    return json_reply({"status": "ok", "models": [model.wanted.name for model in call.server.models.loaded]})


async def metrics(call: Call, ask: None) -> Response:
    """Figures in Prometheus' form."""
    text, kind = exposed(call.server)
    return Response(text, media_type=kind)


ENDPOINTS = [
    Endpoint(
        method="POST",
        path="/api/tokenize",
        gives=Shape(TokensAnswer),
        run=tokenize,
        reads=Tokenize,
        about="The tokens of a text.",
    ),
    Endpoint(
        method="POST",
        path="/api/detokenize",
        gives=Shape(TextAnswer),
        run=detokenize,
        reads=Detokenize,
        about="The text of tokens.",
    ),
    Endpoint(
        method="POST",
        path="/api/apply-template",
        gives=Shape(PromptAnswer),
        run=apply_template,
        reads=Render,
        about="A prompt.",
    ),
    Endpoint(
        method="POST",
        path="/api/rerank",
        gives=Shape(RankingAnswer),
        run=rerank,
        reads=Ranking,
        about="Documents by how they answer.",
    ),
    Endpoint(method="POST", path="/rerank", gives=Shape(RankingAnswer), run=rerank, reads=Ranking, about="The same."),
    Endpoint(
        method="POST",
        path="/v1/rerank",
        gives=Shape(RankingAnswer),
        run=rerank,
        reads=Ranking,
        api="openai",
        about="The same.",
    ),
    Endpoint(
        method="POST",
        path="/v2/rerank",
        gives=Shape(RankingAnswer),
        run=rerank,
        reads=Ranking,
        api="openai",
        about="The same.",
    ),
    Endpoint(
        method="POST",
        path="/api/decide",
        gives=Shape(DecisionAnswer),
        run=decide,
        reads=Decision,
        about="A choice or a score.",
    ),
    Endpoint(
        method="GET",
        path="/health",
        gives=Shape(HealthAnswer),
        run=health,
        scope=None,
        about="That the server answers.",
    ),
    Endpoint(
        method="GET", path="/metrics", gives=Shape(others=(TEXT,)), run=metrics, about="Figures in Prometheus' form."
    ),
]
