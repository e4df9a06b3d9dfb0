"""JSON files that may be absent or broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from puna.errors import ConversionError


def read_json(path: Path, kind: type = dict) -> Any:
    """What a JSON file holds, None where there is no file; ConversionError where it is broken or no `kind`."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"reading {path}: it is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise ConversionError(f"reading {path}: it holds a {type(value).__name__}, not a {kind.__name__}")
    return value
