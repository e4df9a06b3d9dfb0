"""`python -m benchmarks COMMAND`, one file a command."""

import click

from benchmarks import convert, generate, kernels, program, quantize, start

FILES = {
    **{"convert": convert, "generate": generate, "kernels": kernels, "program": program, "quantize": quantize},
    "start": start,
}
click.Group("benchmarks", commands={name: file.command for name, file in FILES.items()})()
