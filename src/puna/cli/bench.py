"""`puna bench`: how fast a model, the kernels and this machine are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from puna.cli.options import Command, backend_option, threads_option
from puna.cli.progress import Progress

if TYPE_CHECKING:
    from puna.bench.work import Work

ALL = {"prefill": (512, 2048), "decode": (128,), "batched": (8, 32), "context": (8192, 32768)}
"""What --all measures."""
USUAL = {"prefill": (512,), "decode": (128,)}
"""What is measured where nothing is asked for."""


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers above zero with commas between."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers; a usage error for anything else."""
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
            self.fail(f"'{value}' is not a list like 512,2048", param, ctx)
        return tuple(int(word) for word in words)


def _numbers(name: str, text: str) -> Callable[[Command], Command]:
    return click.option(f"--{name}", type=Numbers(), metavar="N,...", help=text)


@click.command()
@click.argument("model", required=False)
@_numbers("prefill", "Prompts of so many tokens.")
@_numbers("decode", "So many tokens one after the other.")
@_numbers("batched", "A token at a time in so many sequences at once: 8,32 ...")
@_numbers("context", "A token at a time behind so many positions: 8192,32768 ...")
@click.option("--all", "everything", is_flag=True, help="All of these, at the sizes that others publish.")
@click.option(
    "--kv-type", default="f16", show_default=True, metavar="TYPE,...", help="How K/V is kept: f16, q8_0, f32."
)
@click.option("--peer", is_flag=True, help="Let an installed llama-cpp-python take turns, at its better setting.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns; their median is told.")
@backend_option
@threads_option
@click.option("--limits", is_flag=True, help="Measure only what this machine can do at most.")
@click.option("--ops", is_flag=True, help="Measure each kernel beside its own roofline instead.")
@click.option("--profile", is_flag=True, help="Say where the time goes instead: kernels, barriers, Python.")
@click.option("--svg", type=click.Path(path_type=Path), help="With --profile, write a roofline plot.")
@click.option("--json", "out", metavar="FILE", help="Every figure as JSON; - is standard output, without the table.")
def command(
    model: str | None, limits: bool, ops: bool, profile: bool, svg: Path | None, out: str | None, **options: Any
) -> None:
    """Measure how fast MODEL is: a name, a GGUF file or a checkpoint directory; or with an option, this machine alone.

    Each line says tokens a second (the median of all rounds, the least and the most), and which part that is of what
    the machine can do: of the bytes it reads a second in decoding, of its arithmetic in prefill. What is measured is
    what --prefill, --decode, --batched and --context ask for; without any of them, --prefill 512 --decode 128.
    """
    if svg and not profile:
        raise click.UsageError("--svg goes with --profile")
    for path in (svg, out and out != "-" and Path(out)):
        if path and not path.resolve().parent.is_dir():
            raise click.UsageError(f"'{path}' cannot be written: there is no folder '{path.resolve().parent}'")
    if model and (limits or ops):
        raise click.UsageError("--limits and --ops measure the machine: without MODEL")
    if limits or ops:
        (_ops if ops else _limits)(options["threads"], out)
    elif model is None:
        raise click.UsageError("which model? `puna list` shows those in the store; --limits and --ops need none")
    else:
        (_profile if profile else _compare)(model, _works(options), svg, out, options)


def _limits(threads: int | None, out: str | None) -> None:
    _need_native(threads)
    from puna.bench import limits as machine

    found = machine.measure(threads)
    _tell(machine.table(found), found.to_dict(), out)


def _ops(threads: int | None, out: str | None) -> None:
    _need_native(threads)
    from puna.bench import limits as machine
    from puna.bench import ops

    limits = machine.measure(threads)
    found = []
    with Progress(unit="kernels") as progress:
        for each in ops.measure(limits):
            found.append(each)
            progress("measuring", len(found), 0)
    figures = {"limits": limits.to_dict(), "kernels": [each.to_dict() for each in found]}
    _tell(ops.lines(found), figures, out)


def _works(options: dict[str, Any]) -> list[Work]:
    """What is to be measured; takes the options that say so out of `options`."""
    from puna.bench.work import works

    given = {name: numbers for name in ALL if (numbers := options.pop(name))}
    chosen = {**ALL, **given} if options.pop("everything") else given or USUAL
    return works(**{name: chosen.get(name, ()) for name in ALL}, kv_types=options.pop("kv_type").split(","))


def _compare(model: str, works: list[Work], svg: Path | None, out: str | None, options: dict[str, Any]) -> None:
    from puna.bench import compare
    from puna.bench.model import compared

    total = options["rounds"] * len(works) * (2 if options["peer"] else 1)
    done = count(1)
    with Progress(unit="pieces of work") as progress:
        found = compared(model, works, **options, tick=lambda: progress("measuring", next(done), total))
    _tell(compare.lines(found), found.to_dict(), out)


def _profile(model: str, works: list[Work], svg: Path | None, out: str | None, options: dict[str, Any]) -> None:
    if options["backend"] == "numpy" or options["peer"]:
        raise click.UsageError("--profile is of the cpu backend alone: without --backend numpy, and without --peer")
    _need_native(options["threads"])
    from puna.bench.model import profiles
    from puna.bench.profile import lines

    found = profiles(model, works, rounds=options["rounds"], threads=options["threads"])
    if svg:
        svg.write_text(found.plot(), "utf-8")
    _tell([*lines(found.found, found.engine), *([f"plot: {svg}"] if svg else [])], found.to_dict(), out)


def _need_native(threads: int | None) -> None:
    """An error that says how to get the native module, where it was not built."""
    from puna.backends import open_backend

    open_backend("cpu", threads=threads)


def _tell(table: Iterable[str], figures: dict[str, Any], out: str | None) -> None:
    """The table, and the figures where they are wanted."""
    if out == "-":
        click.echo(json.dumps(figures, indent=1))
        return
    for line in table:
        click.echo(line)
    if out:
        Path(out).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
