"""`python -m benchmarks COMMAND`, one file a command."""

import click

from benchmarks import backends, convert, embed, load, quantize, soak, speculate, start

FILES = {
    "backends": backends,
    "convert": convert,
    "embed": embed,
    "load": load,
    "quantize": quantize,
    "soak": soak,
    "speculate": speculate,
    "start": start,
}
click.Group("benchmarks", commands={name: file.command for name, file in FILES.items()})()
