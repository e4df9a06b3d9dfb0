"""`puna backends`: what can compute on this machine, on which devices, and which ops it has of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from puna.graph import Tensor

OPS_HELP = "List each op: native (a core op), fused (a kernel of its own), lowered to core ops, or computed by numpy."


@click.command()
@click.option("--ops", is_flag=True, help=OPS_HELP)
@click.argument("names", nargs=-1, metavar="[BACKEND]...")
def command(names: tuple[str, ...], ops: bool) -> None:
    """List backends, their devices with the memory that is free, and how they run the ops of a graph.

    A name of this list, with a device behind it or not (torch, torch:cuda:1), is what --backend takes.
    """
    from puna.backends import MODULES
    from puna.backends.choosing import choose

    for name in names or [name for name in MODULES if name != "null"]:
        for line in described(name, ops):
            click.echo(line)
    if not names:
        choice = choose(lambda: 0)
        click.echo(f"auto is {choice.name}: {choice.why}")


def described(name: str, ops: bool) -> Iterator[str]:
    """The lines of one backend: its devices, and its ops counted or listed; or why it is not there."""
    from puna.backends import devices, open_backend, split
    from puna.backends.choosing import readable
    from puna.errors import BackendError

    backend_name, wanted = split(name)
    try:
        made = open_backend(name)
        found = [device for device in devices(backend_name) if wanted in ("", device.name)]
    except BackendError as error:
        yield f"{name}: {' '.join(str(error).split())}"
        return
    yield name
    for device in found:
        room = f", {readable(device.free)} of {readable(device.memory)} free" if device.memory else ""
        yield f"  {backend_name}:{device.name}  {device.what}{room}"
    kinds = kinds_of_ops(made.supports, getattr(made, "on_host", lambda op: False))
    for kind in dict.fromkeys(kinds.values()):
        listed = [op for op, its in kinds.items() if its == kind]
        yield f"  {kind}: {' '.join(listed) if ops else f'{len(listed)} ops'}"


def kinds_of_ops(
    supports: Callable[[Tensor], bool], on_host: Callable[[str], bool] = lambda op: False
) -> dict[str, str]:
    """How each op runs: by what a backend says of its cases, and of what it leaves to numpy."""
    from puna.graph.cases import CASES, cases
    from puna.graph.ops import OPS

    kinds = {}
    for op in CASES:
        runs = {supports(case.node) for case in cases(op)}
        if on_host(op):
            kinds[op] = "on the host"
        elif not OPS[op].fused:
            kinds[op] = "native"
        else:
            kinds[op] = "fused in part" if len(runs) == 2 else "fused" if runs == {True} else "lowered"
    return kinds
