"""A verification from end to end: which checks are made, in which order, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from puna.backends import open_backend
from puna.backends.base import Backend
from puna.create.verify import files, templates, tensors, tokens
from puna.create.verify.forward import Forward, require_memory, staged, tokens_of
from puna.create.verify.limits import Limits
from puna.create.verify.report import (
    DRIFT,
    OK,
    SKIPPED,
    UNABLE,
    BlockReport,
    Check,
    OutputReport,
    TensorReport,
    Verification,
)
from puna.create.verify.running import Source, Staged, Truth, matching, memory
from puna.create.verify.sides import Side
from puna.create.verify.texts import TEXT
from puna.errors import BackendError, GraphError, ModelError, PunaError, RequestError
from puna.store.blobs import Progress, silent

if TYPE_CHECKING:
    from puna.create.verify.reference import Transformers

REFERENCES = ("transformers",)
"""Programs that can run a source in Puna's place."""


def verify(
    model: Side,
    source: Side | None = None,
    *,
    text: str | None = None,
    backend: str = "auto",
    reference: str | None = None,
    tokens: int = 256,
    limits: Limits | None = None,
    threads: int | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Verification:
    """Hold a model to its source, or without one to itself; `puna.verify` opens both and says the rest."""
    if reference not in (None, *REFERENCES):
        raise RequestError(f"verify: reference is {reference!r}; known: {', '.join(REFERENCES)}")
    if tokens < 2:
        raise RequestError(f"verify: tokens is {tokens}; at least 2 are needed")
    job = Job(
        model=model,
        source=model if reference and source is None else source,
        backend=open_backend(backend, threads=threads),
        reference=reference,
        limits=limits or Limits(),
        text=text,
        tokens=tokens,
        force=force,
        progress=on_progress or silent,
    )
    return job.verification()


@dataclass
class Job:
    """What was asked for, and what has been found so far."""

    model: Side
    source: Side | None
    backend: Backend
    reference: str | None
    limits: Limits
    text: str | None
    tokens: int
    force: bool
    progress: Progress
    begun: float = field(default_factory=time.monotonic)
    truth: str = "nothing"
    memory: int = 0
    tensors: tuple[TensorReport, ...] = ()
    blocks: tuple[BlockReport, ...] = ()
    output: OutputReport | None = None
    _transformers: Transformers | None = None

    def verification(self) -> Verification:
        """All checks, in order."""
        checks = tuple(self._alone() if self.source is None else self._against(self.source))
        return Verification(
            model=self.model.label,
            against=self.source.label if self.source else None,
            architecture=str(self.model.metadata.get("general.architecture")),
            truth=self.truth,
            backend=self.backend.name,
            text="built in" if self.text is None else "given",
            tokens=self.output.rows if self.output else 0,
            memory=self.memory,
            seconds=time.monotonic() - self.begun,
            checks=checks,
            tensors=self.tensors,
            blocks=self.blocks,
            output=self.output,
            first_drift=next((block.name for block in self.blocks if block.drifts), None),
        )

    def _against(self, source: Side) -> Iterator[Check]:
        yield files.integrity(self.model, self.progress)
        if self.model is source:
            yield Check("source", SKIPPED, f"the model is its own: whatever differs is Puna's or {self.reference}'")
        else:
            yield tensors.inventory(self.model, source)
            yield _guarded("hyperparameters", lambda: files.hyperparameters(self.model, source))
            self.tensors = tuple(tensors.compare(self.model, source, self.limits, self.progress))
            yield self._tensor_check()
        yield from self._forward(source)
        known = self._transformers
        yield _guarded("tokenizer", lambda: tokens.compare(self.model, source, known.encode if known else None))
        yield _guarded("template", lambda: templates.compare(self.model, source, known.render if known else None))

    def _alone(self) -> Iterator[Check]:
        yield files.integrity(self.model, self.progress)
        yield tensors.alone(self.model, self.progress)
        yield Check("source", SKIPPED, "no source was given (--against): whether the weights are right is not known")
        yield from self._forward(self.model)
        yield tokens.alone(self.model)
        yield templates.alone(self.model)

    def _tensor_check(self) -> Check:
        wrong = [t for t in self.tensors if t.drifts]
        found = tuple(f"'{t.name}' ({t.dtype}): error {t.nmse:.2g}, cosine {t.cosine:.4f}" for t in wrong)
        return Check("tensors", DRIFT if wrong else OK, f"{len(self.tensors)} compared with the source's", found)

    def _forward(self, source: Side) -> Iterator[Check]:
        """Run both sides; where the model cannot be built, that is what is found."""
        try:
            hp = self.model.hparams()
            ids = tokens_of(source, TEXT if self.text is None else self.text, min(self.tokens, hp.context_length))
            model = staged(self.model, self.backend, ids, floats=False)
        except (ModelError, GraphError) as error:
            yield Check("blocks", DRIFT, "the model's graph cannot be built", (str(error),))
            return
        if self.source is None and self.backend.name == "numpy":
            yield Check(
                "blocks", UNABLE, "numpy is the backend, and is what others are held to; --backend cpu or --against"
            )
            return
        self.memory = memory(model)
        require_memory(self.model.label, self.memory, force=self.force)
        try:
            truth = self._truth(source, ids, model)
        except (ModelError, GraphError) as error:
            yield Check("blocks", DRIFT, "the two cannot be run side by side", (str(error),))
            return
        forward = Forward(model, self.limits, self.tensors, same_weights=self.source is None, blocks=[])
        forward.run(truth, self.progress)
        self.blocks, self.output = tuple(forward.blocks), forward.output
        yield self._block_check()
        yield from self._output_check()

    def _truth(self, source: Side, ids: list[int], model: Staged) -> Truth:
        if self.reference:
            from puna.create.verify import reference

            self.memory += reference.memory(source)
            require_memory(self.model.label, self.memory, force=self.force)
            self._transformers = reference.open_transformers(source, ids)
            self.truth = self._transformers.name
            return self._transformers
        alone = self.source is None
        backend = open_backend("numpy") if alone else self.backend
        right = staged(source, backend, ids, floats=not alone)
        matching(model.stages, right.stages, (self.model.label, source.label))
        self.truth = "numpy on the stored weights" if alone else f"{backend.name} on the source's weights in float32"
        return Source(right)

    def _block_check(self) -> Check:
        drifting = [block for block in self.blocks if block.drifts]
        detail = f"{len(self.blocks)} stages, against {self.truth}"
        if not drifting:
            return Check("blocks", OK, detail)
        return Check(
            "blocks", DRIFT, f"{detail}; {drifting[0].name} is the first to drift", tuple(map(_told, drifting))
        )

    def _output_check(self) -> Iterator[Check]:
        out = self.output
        if out is None:
            return
        if out.kind == "hidden":
            yield Check("output", OK, f"hidden states of {out.rows} tokens: cosine {out.cosine_min:.6f} at least")
            return
        told = f"KL {out.kl_mean:.2g} mean, {out.kl_max:.2g} max; top-1 {out.top1:.1%}, top-{out.k} {out.topk:.1%}"
        limits = f"KL above {out.limits['kl']:.2g} or top-1 below {out.limits['top1']:.0%}"
        yield Check("output", DRIFT if out.drifts else OK, told, (limits,) if out.drifts else ())


def _told(block: BlockReport) -> str:
    error = block.nmse if block.local is None else block.local
    named = f": {', '.join(block.tensors)}" if block.tensors else ""
    return f"{block.name} errs by {error:.2g} (limit {block.limit:.2g}){named}"


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check that cannot be made because the model is broken has found that."""
    try:
        return check()
    except BackendError:
        raise
    except PunaError as error:
        return Check(name, DRIFT, "it cannot be read", (str(error),))
