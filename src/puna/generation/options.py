"""Options of an answer by name, as Ollama calls them: checked, with a model's own as defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from puna.engine.sampler import Sampling
from puna.engine.speculate import AHEAD, MOST, PREDICTED_MOST
from puna.errors import RequestError

NUM_KEEP = 4
"""Tokens at the beginning that a shift leaves, if nothing else is said: models lean on them."""


@dataclass(frozen=True, slots=True)
class Options:
    """Generate options: what the sampler needs, and when to end. `num_predict` below 0: until the context is full.

    With `shift` a full context loses half of what follows its first `num_keep` tokens (below 0: the prompt) and goes
    on; what is left is computed again, as a prompt would be. `draft_num_predict`: tokens that may be computed in
    advance, where that is worth while; it changes no text, and nor does `prediction`, a text that the answer may be
    like, which makes it come sooner where it is. Thinking takes at most `num_think` tokens, if that is not below 0 and
    the model's way to think has tags; then it is ended.
    """

    sampling: Sampling = field(default_factory=Sampling)
    num_predict: int = -1
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    shift: bool = False
    num_keep: int = NUM_KEEP
    draft_num_predict: int = MOST
    prediction: str = ""
    num_think: int = -1


SAMPLING = {f.name for f in fields(Sampling)}
LOAD_TIME = {"num_ctx": "context_length", "num_thread": "threads", "num_batch": "", "num_gpu": "", "main_gpu": "",
             "use_mmap": ""}  # fmt: skip
"""Options of Ollama's that concern loading, with the argument of `puna.load` that does the same ("": nothing to do)."""

OTHERS = (
    "num_predict",
    "stop",
    "ignore_eos",
    "logprobs",
    "shift",
    "num_keep",
    "draft_num_predict",
    "prediction",
    "num_think",
)
KNOWN = sorted({*SAMPLING, *OTHERS})


def parse_options(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Options:
    """Options from a model's stored defaults and a caller's; RequestError names an unknown or impossible one."""
    for name in given:
        if name in LOAD_TIME:
            use = f"; pass {LOAD_TIME[name]} to puna.load" if LOAD_TIME[name] else ""
            raise RequestError(f"option '{name}' belongs to loading, not to generating{use}")
        if name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.0)
            raise RequestError(f"option '{name}' is unknown; closest: {close[0]}; known: {', '.join(KNOWN)}")
    merged = {name: value for name, value in {**defaults, **given}.items() if name in KNOWN and value is not None}
    sampling = {name: merged[name] for name in SAMPLING & merged.keys()}
    if merged.get("logprobs"):
        sampling.setdefault("top_logprobs", 0)
    if "logit_bias" in sampling:
        sampling["logit_bias"] = _bias(sampling["logit_bias"])
    return Options(
        Sampling(**sampling),
        _count(merged, "num_predict", -1, "-1 for no limit"),
        _stops(merged),
        ignore_eos=bool(merged.get("ignore_eos")),
        shift=bool(merged.get("shift")),
        num_keep=_count(merged, "num_keep", NUM_KEEP, "-1 for the prompt"),
        draft_num_predict=_ahead(merged),
        prediction=_prediction(merged),
        num_think=_count(merged, "num_think", -1, "-1 for no limit"),
    )


def _count(options: Mapping[str, Any], name: str, default: int, below: str) -> int:
    count = options.get(name, default)
    if not isinstance(count, int) or isinstance(count, bool):
        raise RequestError(f"option '{name}' is {count!r}; it must be a whole number, or {below}")
    return count


def _prediction(options: Mapping[str, Any]) -> str:
    text = options.get("prediction", "")
    if not isinstance(text, str):
        raise RequestError(f"option 'prediction' is {text!r:.80}; it must be a text")
    return text


def _ahead(options: Mapping[str, Any]) -> int:
    count = options.get("draft_num_predict", PREDICTED_MOST if options.get("prediction") else MOST)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= AHEAD:
        raise RequestError(f"option 'draft_num_predict' is {count!r}; it must be a whole number from 0 to {AHEAD}")
    return count


def _bias(given: object) -> tuple[tuple[int, float], ...]:
    """Token ids, which JSON writes as text, with what is added to their logits."""
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    try:
        return tuple((int(token), float(bias)) for token, bias in pairs)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise RequestError(f"option 'logit_bias' is {given!r:.80}; token ids with numbers would work") from error


def _stops(options: Mapping[str, Any]) -> tuple[str, ...]:
    stops = options.get("stop") or ()
    stops = (stops,) if isinstance(stops, str) else stops
    if not isinstance(stops, list | tuple) or not all(isinstance(s, str) and s for s in stops):
        raise RequestError(f"option 'stop' is {stops!r}; it must be non-empty strings")
    return tuple(stops)
