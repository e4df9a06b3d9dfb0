"""Options that several commands have, each described once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

BACKENDS = ("auto", "cpu", "torch", "mlx", "onnx", "ggml", "numpy")

Command = Callable[..., Any]

dtype_option = click.option(
    "--dtype",
    type=click.Choice(("auto", "f32", "f16", "bf16"), case_sensitive=False),
    default="auto",
    show_default=True,
    help="What the matrices of a checkpoint become.",
)


def known_backend(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The name of a backend, with a device behind it or not; a usage error for any other."""
    if value.split(":")[0] not in BACKENDS:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(map(repr, BACKENDS))}")
    return value


backend_option = click.option(
    "--backend",
    callback=known_backend,
    metavar=f"[{'|'.join(BACKENDS)}][:DEVICE]",
    default="auto",
    show_default=True,
    help="What computes; `puna backends` lists the devices.",
)
threads_option = click.option(
    "-t", "--threads", type=click.IntRange(1), help="Threads; else $PUNA_THREADS, or one for each core."
)

_FILE = click.Path(path_type=Path)
_QUANTIZING = (
    click.option("-q", "--quantize", metavar="TYPE", help="A quantization type or mix: Q8_0, Q4_K_M ..."),
    click.option("--recipe", type=_FILE, help="A TOML file of rules: which tensor gets which type."),
    click.option("--imatrix", type=_FILE, help="An importance matrix (puna imatrix, llama-imatrix)."),
    click.option("--target-size", metavar="SIZE", help="Quantize so that the file has at most this size: 4G, 700M ..."),
    click.option("--target-bpw", type=float, metavar="BITS", help="Quantize to at most so many bits per weight."),
)


def quantizing_options(command: Command) -> Command:
    """The options that say which types tensors get: arguments of `puna.convert`."""
    for option in reversed(_QUANTIZING):
        command = option(command)
    return command
