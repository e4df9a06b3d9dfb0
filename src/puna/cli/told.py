"""A model as `/api/show` of a server tells it, in the form that one has which is opened here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from puna.opened import Opened


class Kind(NamedTuple):
    """The type of a tensor, by its name."""

    name: str


class Told(NamedTuple):
    """A tensor."""

    dtype: Kind
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ToldModel:
    """A model of a server."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, Told]
    template: str | None
    system: str | None
    renderer: str | None
    params: Mapping[str, Any]
    licenses: Sequence[str]
    adapters: Sequence[tuple[Path, float]]
    made: str
    source: Path | None = None

    def modelfile(self) -> object:
        """What would make it again, there."""
        return self.made


Shown: TypeAlias = "Opened | ToldModel"
"""What is shown: a model that is opened here, or one of a server."""


def told(facts: Mapping[str, Any]) -> ToldModel:
    """What `/api/show` with `verbose` says."""
    from puna.cli.answer import parameters
    from puna.create.modelfile import parse_modelfile

    metadata = {key: value for key, value in facts["model_info"].items() if key != "general.parameter_count"}
    template, made = facts.get("template"), str(facts.get("modelfile", ""))
    shapes = {
        each["name"]: Told(Kind(each["type"]), tuple(reversed(each["shape"]))) for each in facts.get("tensors") or ()
    }
    return ToldModel(
        metadata,
        shapes,
        None if template == metadata.get("tokenizer.chat_template") else template,
        facts.get("system"),
        facts.get("renderer"),
        parameters(facts),
        [facts["license"]] if facts.get("license") else [],
        [(Path(text), 1.0) for text in parse_modelfile(made).texts("adapter")] if made else [],
        made,
    )
