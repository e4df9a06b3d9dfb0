"""The run of both sides: which tokens, in what memory, and what the measurements of each stage come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from puna.backends.base import Backend
from puna.create.verify import measures
from puna.create.verify.limits import Limits, rounds_activations
from puna.create.verify.report import BlockReport, OutputReport, TensorReport
from puna.create.verify.running import Measured, Staged, Truth, run
from puna.create.verify.sides import Side
from puna.create.verify.stages import Stage, block_of
from puna.errors import ModelError, PunaError, RequestError
from puna.store.blobs import Progress, readable_size


def tokens_of(side: Side, text: str, most: int) -> list[int]:
    """The text's first tokens; where there is no usable tokenizer, numbers that stand for tokens."""
    from puna.tokenizer import load_tokenizer

    try:
        ids = load_tokenizer(side.metadata).encode(text)
    except PunaError:
        rows = int(side.tensors["token_embd.weight"].shape[0])
        ids = [(i * i * 31 + 7 * i + 3) % rows for i in range(most)]
    if len(ids) < 2:
        raise RequestError(f"verify: the text has {len(ids)} tokens; at least 2 are needed")
    return ids[:most]


def available_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":", 1) for line in file)
        return int(sizes["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None


def require_memory(what: str, needed: int, *, force: bool) -> None:
    """ModelError with both sizes where a run would not fit."""
    free = available_memory()
    if free is not None and needed > free and not force:
        raise ModelError(
            f"verifying {what}: running it takes about {readable_size(needed)} of memory, {readable_size(free)} are "
            "free; fewer tokens, a larger machine, or force (--force) would work"
        )


@dataclass
class Forward:
    """Stage reports and the report of the output, filled as stages are measured."""

    model: Staged
    limits: Limits
    tensors: Sequence[TensorReport]
    same_weights: bool  # both sides compute on the model's own weights
    blocks: list[BlockReport]
    output: OutputReport | None = None

    def run(self, truth: Truth, progress: Progress) -> None:
        """Measure every stage."""
        total = sum(self.model.nbytes(stage) for stage in self.model.stages)
        done = 0
        for measured in run(truth, self.model):
            self.blocks.append(self._block(measured))
            if measured.place == len(self.model.stages) - 1:
                self.output = self._output(measured)
            done += self.model.nbytes(measured.stage)
            progress("running both sides", done, total)

    def _types(self, stage: Stage) -> tuple[str, ...]:
        """The types of a stage's matrices."""
        stored = [self.model.side.tensors[name] for name in stage.weights]
        return tuple(sorted({t.dtype.name for t in stored if len(t.shape) > 1})) or ("F32",)

    def _rounded(self, types: Sequence[str]) -> bool:
        return self.model.backend.name != "numpy" and any(map(rounds_activations, types))

    def _judged(self, types: Sequence[str]) -> Sequence[str]:
        return ("F32",) if self.same_weights else types

    def _block(self, measured: Measured) -> BlockReport:
        stage, types = measured.stage, self._types(measured.stage)
        limit = self.limits.of_block(self._judged(types), rounded=self._rounded(types))
        errors = measured.errors
        local = None if measured.local is None else float(measured.local.mean())
        named = tuple(t.name for t in self.tensors if t.drifts and self._is_in(t.name, stage))
        worst = int(errors.argmax())
        own = float(errors.mean()) if local is None else local
        return BlockReport(
            name=stage.name,
            blocks=stage.blocks,
            types=types,
            nmse=float(errors.mean()),
            nmse_max=float(errors[worst]),
            nmse_max_row=worst,
            local=local,
            limit=limit,
            tensors=named,
            drifts=bool(named) or not own <= limit,
        )

    def _is_in(self, name: str, stage: Stage) -> bool:
        return block_of(name) in stage.blocks if stage.blocks else name in stage.weights

    def _output(self, measured: Measured) -> OutputReport:
        stages = self.model.stages
        want, got = measured.want, measured.got
        cosines = measures.cosines(want, got)
        common: dict[str, Any] = {
            "rows": len(want),
            "nmse": float(measured.errors.mean()),
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
        }
        if stages[-1].blocks or self.model.encodes:
            return OutputReport("hidden", **common)
        types = {name for stage in stages for name in self._types(stage)}
        limits = self.limits.of_output(self._judged(sorted(types)), rounded=self._rounded(sorted(types)))
        found = measures.compare_logits(want, got, np.asarray(self.model.ids))
        kl, top1 = float(np.mean(found.kl)), float(np.mean(found.top1))
        worst = int(np.argmax(found.kl))
        return OutputReport(
            "logits",
            **common,
            top1=top1,
            k=found.k,
            topk=float(np.mean(found.topk)),
            kl_mean=kl,
            kl_max=found.kl[worst],
            kl_max_row=worst,
            perplexity=(_perplexity(found.loss[0]), _perplexity(found.loss[1])),
            limits=limits,
            drifts=not (kl <= limits["kl"] and top1 >= limits["top1"]),
        )


def _perplexity(losses: Sequence[float]) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(np.mean(losses)))


def staged(side: Side, backend: Backend, ids: list[int], *, floats: bool) -> Staged:
    """A side ready to run."""
    return Staged(side, side.hparams(), backend, ids, floats)
