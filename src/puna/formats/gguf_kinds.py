"""What a GGUF file holds, by its metadata: a model, or one of the things that go with models."""

from collections.abc import Mapping
from typing import Any

KINDS = {"mmproj": "projector", "adapter": "adapter", "imatrix": "imatrix"}
"""By `general.type`, whatever is no model."""

_USES = {
    "projector": "a projector, the image and audio part of a model; FROM beside the model's own file takes it",
    "adapter": "a LoRA adapter; `puna merge BASE {name} -o OUT` folds it into its base, "
    "and ADAPTER in a Modelfile or puna.load(base, adapters=[...]) runs both",
    "imatrix": "an importance matrix; --imatrix of what quantizes takes it",
}


def kind_of(metadata: Mapping[str, Any]) -> str:
    """One of 'projector', 'adapter', 'imatrix', else 'model'."""
    if metadata.get("general.architecture") == "clip":
        return "projector"
    return KINDS.get(str(metadata.get("general.type")), "model")


def no_model(name: str, metadata: Mapping[str, Any]) -> str | None:
    """What is to be said where the file `name` is taken for a model and is something else, and how that is used."""
    kind = kind_of(metadata)
    return None if kind == "model" else misused(name, kind)


def misused(name: str, kind: str) -> str:
    """What is to be said where `name`, of a kind that is no model, is taken for one."""
    return f"{name}: it is no model but {_USES[kind].format(name=name)}"
