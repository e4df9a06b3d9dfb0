"""`puna verify`: whether a converted model is its source."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from puna.cli.options import backend_option, threads_option

if TYPE_CHECKING:
    from puna.create.verify import BlockReport, Verification

BAR = 20
"""Characters of a bar that is full: an error at its limit."""
DECADES = 4
"""How many powers of ten below the limit a bar is empty."""
SHOWN = 8
"""Findings of one check that are told."""

_LIMIT = click.FloatRange(0)


@click.command()
@click.argument("model")
@click.option("--against", metavar="SOURCE", help="Its source: a checkpoint directory, a GGUF file or a name.")
@click.option("--reference", type=click.Choice(("transformers",)), help="Who runs the source in Puna's place.")
@click.option("--text", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A file of text to run on.")
@click.option("--tokens", type=click.IntRange(2), default=256, show_default=True, help="How many of the text's tokens.")
@backend_option
@threads_option
@click.option("--max-block", type=_LIMIT, help="The error that a block may have, relative to what it adds.")
@click.option("--max-tensor", type=_LIMIT, help="The error that a tensor may have, relative to its square.")
@click.option("--max-kl", type=_LIMIT, help="The mean divergence of next-token distributions, in nats.")
@click.option("--min-top1", type=click.FloatRange(0, 1), help="The part of best next tokens that must stay.")
@click.option("--force", is_flag=True, help="Run even if memory may not suffice.")
@click.option("--json", "as_json", is_flag=True, help="Everything that was measured, as JSON.")
def command(
    model: str,
    text: Path | None,
    max_block: float | None,
    max_tensor: float | None,
    max_kl: float | None,
    min_top1: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Verify that MODEL computes what its source does, layer by layer; status 1 where it does not.

    The status is 1 too where a check could not run. Without --against, what can be seen of MODEL alone is checked: its
    files, tensors, graph, tokenizer and template, and the native backend against numpy. What drift is follows from the
    types that tensors are stored in.
    """
    from puna.cli.progress import Progress
    from puna.create.verify import Limits
    from puna.verifying import verify

    with Progress() as progress:
        found = verify(
            model,
            text=text.read_text("utf-8", "replace") if text else None,
            limits=Limits(tensor=max_tensor, block=max_block, kl=max_kl, top1=min_top1),
            on_progress=progress,
            **options,
        )
    for line in [json.dumps(found.to_dict(), indent=1)] if as_json else lines(found):
        click.echo(line)
    if not found.ok:
        sys.exit(1)


def lines(found: Verification) -> Iterator[str]:
    """The page: each stage with its errors, then each check with what it found."""
    if found.blocks:
        yield f"{found.tokens} tokens on {found.backend}, against {found.truth}; errors are squared and relative"
        width = max(len(" ".join(block.types)) for block in found.blocks)
        yield f"{'':12} {'types':{width}} {'so far':>8} {'own':>8} {'limit':>8}"
        yield from (_block(block, width) for block in found.blocks)
        yield ""
    for check in found.checks:
        yield f"{check.name:16} {check.status:12} {check.detail}"
        yield from (f"{'':16} - {finding}" for finding in check.findings[:SHOWN])
        if len(check.findings) > SHOWN:
            yield f"{'':16}   and {len(check.findings) - SHOWN} more"
    yield ""
    yield _verdict(found)


def _block(block: BlockReport, width: int) -> str:
    own = "" if block.local is None else f"{block.local:.1e}"
    drawn = bar(block.nmse if block.local is None else block.local, block.limit)
    figures = f"{' '.join(block.types):{width}} {block.nmse:8.1e} {own:>8} {block.limit:8.1e}"
    return f"{block.name:12} {figures} {drawn}{' drifts' if block.drifts else ''}".rstrip()


def bar(error: float, limit: float) -> str:
    """How near to its limit an error is, by the number of its digits."""
    if not error > 0 or math.isinf(limit):
        return "" if error == 0 or math.isinf(limit) else "#" * BAR
    return "#" * round(BAR * min(max(1 + math.log10(error / limit) / DECADES, 0), 1)) if limit else "#" * BAR


def _verdict(found: Verification) -> str:
    skipped = [check.name for check in found.checks if check.status == "not checked"]
    note = f"; not checked: {', '.join(skipped)}" if skipped else ""
    if found.ok:
        return f"{found.model}: ok{note}"
    unable = ", ".join(check.name for check in found.checks if check.status == "could not run")
    drifting = ", ".join(check.name for check in found.checks if check.status == "drift")
    if not drifting:
        return f"{found.model}: not verified, for {unable} could not run{note}"
    first = f"; the first to drift is {found.first_drift}" if found.first_drift else ""
    return f"{found.model}: drift in {drifting}{first}{note}"
