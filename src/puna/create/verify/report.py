"""What a verification found, as data; the command line and other pages draw it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

OK, DRIFT, SKIPPED, UNABLE = "ok", "drift", "not checked", "could not run"
"""What a check can come to: `SKIPPED` where there is nothing to check, `UNABLE` where there is, but not with what."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, or not: `detail` in one line, `findings` with a line each."""

    name: str
    status: str
    detail: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockReport:
    """One stage of the model: the embedding, a block (or several that share a cache), the output.

    `nmse` and `nmse_max` (in row `nmse_max_row`): squared error of the hidden states that leave it, relative to their
    square, mean over the text's tokens and worst. `local`: the same where it was given the right input, relative to
    what the stage adds to that; None for the first. It drifts where `local` is above `limit`,
    or some of its `tensors` are far from their sources.
    """

    name: str
    blocks: tuple[int, ...]
    types: tuple[str, ...]
    nmse: float
    nmse_max: float
    nmse_max_row: int
    local: float | None
    limit: float
    tensors: tuple[str, ...]
    drifts: bool


@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor against its source: `nmse` relative squared error, `gain` the factor by which it is larger."""

    name: str
    source: str
    dtype: str
    shape: tuple[int, ...]
    nmse: float
    cosine: float
    gain: float
    max_error: float
    limit: float
    drifts: bool


@dataclass(frozen=True, slots=True)
class OutputReport:
    """What the differences come to: of next-token distributions (`kind` logits), or of hidden states (hidden).

    `top1`: part of the rows with the same best token; `topk`: mean part of the `k` best that is the same; `kl_*`:
    Kullback-Leibler divergence in nats; `perplexity` of the text, right and found; `cosine_min` of hidden states.
    """

    kind: str
    rows: int
    nmse: float
    top1: float | None = None
    k: int | None = None
    topk: float | None = None
    kl_mean: float | None = None
    kl_max: float | None = None
    kl_max_row: int | None = None
    perplexity: tuple[float, float] | None = None
    cosine_mean: float | None = None
    cosine_min: float | None = None
    limits: dict[str, float] = field(default_factory=dict)
    drifts: bool = False


@dataclass(frozen=True)
class Verification:
    """What was verified, how, and what came of it.

    `against`: the source, None where a model was verified by itself. `truth` computed what the model is held to, and
    `backend` the model. `first_drift`: the first stage of `blocks` that drifts. Sizes in bytes.
    """

    model: str
    against: str | None
    architecture: str
    truth: str
    backend: str
    text: str
    tokens: int
    memory: int
    seconds: float
    checks: tuple[Check, ...]
    tensors: tuple[TensorReport, ...] = ()
    blocks: tuple[BlockReport, ...] = ()
    output: OutputReport | None = None
    first_drift: str | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing drifts and all checks ran that there is something to check with."""
        return all(check.status not in (DRIFT, UNABLE) for check in self.checks)

    def check(self, name: str) -> Check:
        """The check of that name; KeyError where there is none."""
        found = next((check for check in self.checks if check.name == name), None)
        if found is None:
            raise KeyError(f"no check '{name}'; there are {', '.join(check.name for check in self.checks)}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The same in JSON's terms; what is not finite becomes a string."""
        out: dict[str, Any] = _plain({"ok": self.ok, **asdict(self)})
        return out


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
