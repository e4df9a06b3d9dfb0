"""What a worker does for each kind of request, with a model that is open. It knows no pipe and no other request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from puna.calling.calls import Calls, calls_of
from puna.errors import RequestError
from puna.generation import KNOWN, LOAD_TIME, Answer
from puna.reranking import INSTRUCTION
from puna.worker.prompts import Prompt, prompt_of
from puna.worker.requests import (
    Chat,
    Decide,
    Detokenize,
    Embed,
    Generate,
    LoadPrefix,
    Measure,
    Render,
    RenderPrompt,
    Rerank,
    SavePrefix,
    Score,
    Tokenize,
)

if TYPE_CHECKING:
    from puna.model import Model
    from puna.template.parsing import Parser

_log = logging.getLogger("puna.worker")


def answer(model: Model, ask: Chat | Generate, adapters: Mapping[str, float] = {}) -> tuple[Prompt, Answer]:
    """A request's prompt and the answer to it, with `adapters` by their names in the model.

    RequestError where the model or the request is not fit for it.
    """
    options = _options(ask)
    room = min(int(options.pop("num_ctx", 0) or model.context_length), model.context_length)
    prompt = prompt_of(model, ask, room)
    if room < model.context_length and not model.reads:
        asked = options.get("num_predict", model.opened.params.get("num_predict", -1))
        left = room - len(prompt.tokens)
        options["num_predict"] = left if asked < 0 else min(asked, left)
    parser = _parser(model, ask, prompt.text)
    calls = _calls(ask)
    kept: dict[str, Any] = {"format": ask.format, "calls": calls, "adapters": adapters}
    return prompt, model.generate(prompt.tokens, parser=parser, **kept, **options)


def _calls(ask: Chat | Generate) -> Calls | None:
    """Which tools may be called, and whether one has to be."""
    if not isinstance(ask, Chat):
        return None
    return calls_of(ask.tools, ask.tool_choice, ask.parallel_tool_calls, ask.allowed_tools)


def _parser(model: Model, ask: Chat | Generate, prompt: str) -> Parser | None:
    """What tells thinking and tool calls from content; none where a text is continued as it is."""
    if isinstance(ask, Chat):
        return model.open_parser(ask.messages or [], tools=ask.tools, think=ask.think, prompt=prompt)
    plain = ask.raw or ask.suffix or not isinstance(ask.prompt, str)
    return None if plain else model.open_parser(think=ask.think, prompt=prompt)


def _options(ask: Chat | Generate) -> dict[str, Any]:
    """Those of the request's options that generating knows; the others are logged, as Ollama does."""
    given = dict(ask.options or {})
    for name in given.keys() - {*KNOWN, *LOAD_TIME, "num_ctx"}:
        _log.warning("option %r is unknown and has no effect", name)
    if ask.logprobs or ask.top_logprobs:
        given |= {"logprobs": True, "top_logprobs": ask.top_logprobs or 0}
    if ask.shift is not None:
        given["shift"] = ask.shift
    return {name: value for name, value in given.items() if name in KNOWN or name == "num_ctx"}


def embed(model: Model, ask: Embed, adapters: Mapping[str, float]) -> dict[str, Any]:
    """Vectors as float32 bytes, row after row, and how many tokens were read."""
    encoding, name = model.encoding, ask.prompt_name
    if name is None and ask.prompt is None and ask.input_type is not None:
        name = encoding.said.prompt_for(ask.input_type)
    encoded = encoding.tokens(ask.input, ask.truncate, name, ask.prompt, (ask.options or {}).get("num_ctx"))
    vectors = encoding.vectors(encoded, ask.dimensions, ask.normalize, adapters)
    return {"rows": len(vectors), "data": vectors.tobytes(), "tokens": sum(map(len, encoded.tokens))}


def rerank(model: Model, ask: Rerank) -> dict[str, Any]:
    """A score for each document, and how many tokens were read."""
    given = model.encoding.pairs(ask.query, ask.documents, ask.instruction or INSTRUCTION, ask.truncate)
    return {"scores": [float(score) for score in model.encoding.scores(given)], "tokens": sum(map(len, given.tokens))}


def tokenize(model: Model, ask: Tokenize) -> dict[str, Any]:
    """Token ids, and with `pieces` the text of each."""
    ids = model.tokenizer.encode(ask.text, ask.special)
    pieces = [model.tokenizer.bytes_of(i).decode("utf-8", "replace") for i in ids] if ask.pieces else None
    return {"tokens": ids} | ({"pieces": pieces} if pieces is not None else {})


def detokenize(model: Model, ask: Detokenize) -> dict[str, Any]:
    """The text of token ids."""
    size = model.tokenizer.vocab_size
    if wrong := [i for i in ask.tokens if not 0 <= i < size]:
        raise RequestError(f"token {wrong[0]} is outside the vocabulary; ids run from 0 to {size - 1}")
    return {"text": model.tokenizer.decode(ask.tokens)}


def score(model: Model, ask: Score) -> dict[str, Any]:
    """The tokens of a prompt, as texts, and from the second on how probable each is, and its best candidates."""
    ids = model.tokenizer.encode(ask.prompt) if isinstance(ask.prompt, str) else ask.prompt
    found = model.score(ids, top=ask.top_logprobs)
    return {
        "tokens": [model.tokenizer.bytes_of(i).decode("utf-8", "replace") for i in ids],
        "logprobs": [each.logprob for each in found],
        "top": [{other.text: other.logprob for other in each.top} for each in found],
    }


def decide(model: Model, ask: Decide, adapters: Mapping[str, float]) -> dict[str, Any]:
    """The choice, the probability of each, and of all together."""
    made = model.decide(ask.prompt if ask.messages is None else ask.messages, ask.choices, adapters=adapters)
    return {"choice": made.choice, "probabilities": made.probabilities, "mass": made.mass}


def rendered(model: Model, ask: Render | RenderPrompt) -> dict[str, Any]:
    """The prompt that messages or a text make, and its tokens."""
    prompt = prompt_of(model, ask, model.context_length)
    return {"prompt": prompt.text, "tokens": prompt.tokens, "dropped": prompt.dropped}


def save_prefix(model: Model, ask: SavePrefix) -> dict[str, Any]:
    """How many tokens were saved."""
    prompt: Any = ask.prompt
    if ask.messages:
        prompt = model.render(ask.messages, tools=ask.tools, add_generation_prompt=False)
    return {"tokens": model.save_prefix(ask.path, prompt)}


def load_prefix(model: Model, ask: LoadPrefix) -> dict[str, Any]:
    """How many tokens can be gone on from."""
    return {"tokens": len(model.load_prefix(ask.path))}


def measure(model: Model, ask: Measure) -> dict[str, Any]:
    """Bytes that the process takes."""
    import resource

    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


VALUES: dict[type, Callable[..., dict[str, Any]]] = {
    Embed: embed,
    Rerank: rerank,
    Tokenize: tokenize,
    Detokenize: detokenize,
    Score: score,
    Decide: decide,
    Render: rendered,
    RenderPrompt: rendered,
    SavePrefix: save_prefix,
    LoadPrefix: load_prefix,
    Measure: measure,
}
"""What gives one value of a model and a request; some also take adapters."""
