"""`python -m benchmarks generate MODEL.gguf`, `python -m benchmarks start MODEL`."""

import click

from benchmarks import generate, start

group = click.Group("benchmarks", commands={"generate": generate.command, "start": start.command})
group()
