"""What OpenAI's clients send, and what it means in Puna's own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from puna.server.errors import Refused
from puna.server.openai import fields
from puna.server.openai.messages import native_messages, part_of
from puna.server.tools import offered
from puna.worker.requests import Chat, Generate, Lora, Think


class StreamOptions(Struct, kw_only=True):
    """`include_usage`: figures in a last chunk of their own."""

    include_usage: bool | None = None


class Prediction(Struct, kw_only=True):
    """A text that the answer may be like: `content`, or parts of it."""

    content: str | list[dict[str, Any]]
    type: str = "content"


class Sampled(Struct, kw_only=True):
    """What both kinds of completion take; `lora` is not OpenAI's."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: Any = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = None
    user: str | None = None
    lora: list[Lora] | None = None


class ChatCompletion(Sampled, kw_only=True):
    """A request for an answer to messages, which is kept if it says `store`; fields from `functions` on are refused."""

    messages: list[dict[str, Any]] | None = None
    max_completion_tokens: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    prediction: Prediction | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: Any = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    verbosity: str | None = None


class Completion(Sampled, kw_only=True):
    """A request to go on from a text, or from token ids; or several of either.

    Of `best_of` answers to each the `n` are given whose tokens are the most probable.
    """

    prompt: Any = ""
    suffix: str | None = None
    logprobs: Any = None
    echo: bool | None = None
    best_of: int | None = None


class Embeddings(Struct, kw_only=True):
    """A request for vectors. OpenAI's own has nothing after `user`."""

    model: str = ""
    input: Any = None
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None
    prompt_name: str | None = None
    prompt: str | None = None
    input_type: str | None = None
    normalize: bool | None = None
    truncate: bool | None = None
    lora: list[Lora] | None = None


MOST_CHOICES = 32

EFFORTS: dict[str, Think] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
"""What a reasoning effort means for thinking."""


def to_chat(ask: ChatCompletion) -> Chat:
    """The same in Puna's words; Refused for what makes no sense."""
    if not ask.messages:
        raise Refused(400, "[] is too short - 'messages'")
    fields.check(ask, fields.CHAT, ask.metadata)
    if other := [kind for kind in ask.modalities or [] if kind != "text"]:
        raise Refused(400, f"modalities: {other[0]!r:.40} is not supported; text would work")
    if ask.top_logprobs and not ask.logprobs:
        raise Refused(400, "top_logprobs needs logprobs; true would work")
    if not isinstance(ask.stop, str | list | None):
        raise Refused(400, f"stop is {ask.stop!r:.40}; a text or a list of texts would work")
    if others := [tool.get("type") for tool in ask.tools or [] if not isinstance(tool.get("function"), Mapping)]:
        raise Refused(400, f"tools: type {others[0]!r:.40} is not supported; function, with a function, would work")
    more: dict[str, Any] = {"prediction": predicted_text(ask.prediction)} if ask.prediction else {}
    if (budget := (ask.reasoning or {}).get("max_tokens")) is not None:
        more["num_think"] = budget
    return Chat(
        model=ask.model,
        messages=native_messages(ask.messages),
        **offered(ask.tools, ask.tool_choice, ask.parallel_tool_calls)._asdict(),
        stream=bool(ask.stream),
        format=format_of(ask.response_format),
        think=effort((ask.reasoning or {}).get("effort") or ask.reasoning_effort),
        options=_options(ask, ask.max_tokens if ask.max_completion_tokens is None else ask.max_completion_tokens)
        | more,
        logprobs=ask.logprobs,
        top_logprobs=ask.top_logprobs if ask.logprobs else None,
        lora=ask.lora,
    )


def predicted_text(prediction: Prediction) -> str:
    """The text of a prediction; Refused for one of another type than `content`, or with parts that are no text."""
    if prediction.type != "content":
        raise Refused(400, f"prediction: type {prediction.type!r:.40} is unknown; content would work")
    if isinstance(prediction.content, str):
        return prediction.content
    return "".join(part_of(part)["content"] for part in prediction.content)


NEUTRAL = {"frequency_penalty": 0.0, "presence_penalty": 0.0}


def to_generate(ask: Completion, prompt: str | list[int]) -> Generate:
    """The same in Puna's words, for one of its prompts: as it is, unless a suffix wants the template for it."""
    counted = isinstance(ask.logprobs, int) and not isinstance(ask.logprobs, bool)
    if ask.logprobs and not counted:
        raise Refused(400, f"logprobs is {ask.logprobs!r:.40}; how many for each token, 0 to 20, would work")
    if counted and ask.echo and (ask.stream or ask.lora):
        raise Refused(
            400, f"echo with logprobs and {'stream' if ask.stream else 'lora'} is not supported; without works"
        )
    return Generate(
        model=ask.model,
        prompt=prompt,
        suffix=ask.suffix or "",
        raw=not ask.suffix,
        stream=bool(ask.stream),
        options=NEUTRAL | _options(ask, ask.max_tokens) | {"top_p": ask.top_p or 1.0},  # 0 is none, as to Ollama
        logprobs=counted or candidates(ask) > (ask.n or 1) or None,
        top_logprobs=ask.logprobs if counted else None,
        lora=ask.lora,
    )


def candidates(ask: Completion) -> int:
    """How many answers to each prompt are computed; Refused for fewer than are given, and where they are streamed."""
    given = _choices(ask)
    count = given if ask.best_of is None else ask.best_of
    if not given <= count <= MOST_CHOICES:
        raise Refused(400, f"best_of is {count}; n, which is {given}, to {MOST_CHOICES} would work")
    if ask.stream and count > given:
        raise Refused(
            400, f"best_of is {count}, n {given}: the best are known at the end, so without stream it would work"
        )
    return count


def _choices(ask: Sampled) -> int:
    if ask.n is not None and not 1 <= ask.n <= MOST_CHOICES:
        raise Refused(400, f"n is {ask.n}; 1 to {MOST_CHOICES} would work")
    return ask.n or 1


def _options(ask: Sampled, most: int | None) -> dict[str, Any]:
    _choices(ask)
    if most is not None and most < 1:
        raise Refused(400, f"max_tokens is {most}; 1 or more would work")
    given = {
        "num_predict": most,
        "seed": ask.seed,
        "stop": stops(ask.stop),
        "temperature": 1.0 if ask.temperature is None else ask.temperature,
        "top_p": 1.0 if ask.top_p is None else ask.top_p,
        "frequency_penalty": ask.frequency_penalty,
        "presence_penalty": ask.presence_penalty,
        "logit_bias": ask.logit_bias,
    }
    return {name: value for name, value in given.items() if value is not None}


def stops(stop: Any) -> list[str] | None:
    """Stop texts, of a text or a list of texts; anything else that is no list means none."""
    if isinstance(stop, list) and (wrong := [text for text in stop if not isinstance(text, str)]):
        raise Refused(400, f"invalid type for 'stop' field: {wrong[0]!r}; texts would work")
    return [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else None


def effort(text: str | None) -> Think:
    """How much to think."""
    if text is None:
        return None
    if text not in EFFORTS:
        raise Refused(400, f"invalid reasoning value: {text!r}; {', '.join(EFFORTS)} would work")
    return EFFORTS[text]


def format_of(response_format: Mapping[str, Any] | None) -> Any:
    """What an answer must be like: "json", a JSON Schema, or nothing."""
    kind = (response_format or {}).get("type", "text")
    if kind == "json_schema":
        schema = (response_format or {}).get("json_schema")
        if not isinstance(schema, Mapping) or not isinstance(schema.get("schema"), Mapping):
            raise Refused(
                400, "response_format: json_schema has no schema; {'json_schema': {'schema': {...}}} would work"
            )
        return schema["schema"]
    if kind not in ("text", "json_object"):
        raise Refused(400, f"response_format: type {kind!r} is unknown; text, json_object and json_schema would work")
    return "json" if kind == "json_object" else None
