"""What can be seen of a model without running it: its files, its graph, and its numbers against the source's."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any

from puna.create.verify.report import DRIFT, OK, SKIPPED, Check
from puna.create.verify.sides import Side
from puna.store.blobs import Progress

_CHUNK = 1 << 22


def integrity(model: Side, progress: Progress) -> Check:
    """Whether the blobs of a model in a store hash to their names."""
    if not model.blobs:
        return Check("files", SKIPPED, "only a store records digests, and this is no name in one")
    findings = []
    for kind, path, digest in model.blobs:
        found = _digest(path, f"hashing the {kind}", progress)
        if found != digest:
            findings.append(f"the {kind}: {path} is damaged: it hashes to {found or 'nothing, it is not there'}")
    return Check("files", DRIFT if findings else OK, f"{len(model.blobs)} blobs against their digests", tuple(findings))


def _digest(path: Path, what: str, progress: Progress) -> str | None:
    hasher, done = hashlib.sha256(), 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                done += len(chunk)
                progress(what, done, size)
    except FileNotFoundError:
        return None
    return f"sha256:{hasher.hexdigest()}"


def hyperparameters(model: Side, source: Side) -> Check:
    """Whether both say the same numbers, as the engine reads them."""
    if model.arch.name != source.arch.name:
        return Check("hyperparameters", DRIFT, f"the model is {model.arch.name!r}, the source {source.arch.name!r}")
    mine, theirs = model.hparams(), source.hparams()
    findings = []
    for field in fields(theirs):
        found, right = getattr(mine, field.name), getattr(theirs, field.name)
        if not _alike(found, right) and not (field.name == "vocab_size" and 0 in (found, right)):
            findings.append(f"{field.name} is {found}, the source's {right}")
    count = len(fields(theirs))
    return Check("hyperparameters", DRIFT if findings else OK, f"{count} of {model.arch.name}", tuple(findings))


def _alike(a: Any, b: Any) -> bool:
    """Equal, as far as float32 in a file tells."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    if hasattr(a, "__dataclass_fields__") and type(a) is type(b):
        return all(_alike(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)
