"""`python -m benchmarks COMMAND`, one file a command."""

import click

from benchmarks import generate, kernels, program, quantize, start

FILES = {"generate": generate, "start": start, "program": program, "kernels": kernels, "quantize": quantize}
click.Group("benchmarks", commands={name: file.command for name, file in FILES.items()})()
