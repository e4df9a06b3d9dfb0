"""Values of config.json that would be no use: of another kind than is read, or sizes that no tensor beside it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from puna.arch.hparams import FIELDS
from puna.dtypes import Stored
from puna.errors import ConversionError, ModelError, PunaError

SIZES = [key for name in ("n_blocks", "hidden_size", "n_heads", "head_dim") for key in FIELDS[name].hf.split()]
SIZES += ["qk_rope_head_dim"]
"""Keys that say how long lists are that are made before shapes are compared."""

PACKED = 64
"""How many times smaller a packed weight's dimension may be."""


def check_sizes_of(config: Mapping[str, Any], weights: Mapping[str, Stored]) -> None:
    """ConversionError where a size is far beyond what the tensors can have, before anything is made of that size."""
    most = PACKED * max(len(weights), *(max(tensor.shape, default=1) for tensor in weights.values()), 1)
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in SIZES:
            value = part.get(key)
            if isinstance(value, int | float) and not value <= most:
                raise ConversionError(
                    f"config.json: '{key}' is {value}, which is beyond every tensor of the checkpoint"
                )


@contextmanager
def reading_config(arch: str) -> Iterator[None]:
    """Turns what a value of a wrong kind sets off in an architecture's file into a ModelError."""
    try:
        yield
    except PunaError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"{arch}: config.json has a value of another kind than this architecture reads: {error}; "
            "the file as it was published works"
        ) from error
