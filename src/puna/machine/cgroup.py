"""What the control groups of this process say: its own and those above it, each of which may set a limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
"""A line for each hierarchy, `number:controllers:path`; the controllers of version 2's are empty."""


def settings(controller: str, name: str, root: Path = ROOT, own: Path = OWN) -> Iterator[str]:
    """Texts of the files `name` (of version 2, or 1's) from this process' group up to the root, where there are any.

    A container may see the path of its host, which is not there: then what is mounted as the root counts.
    """
    for folder, path in [(root, _path("", own)), (root / controller, _path(controller, own))]:
        for place in [path, *path.parents]:
            try:
                yield (folder / place.relative_to("/") / name).read_text().strip()
            except (OSError, ValueError):
                continue


def _path(controller: str, own: Path) -> PurePosixPath:
    """Of the process' group in one hierarchy."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    found = [path for _, controllers, path in lines if controller in controllers.split(",")]
    return PurePosixPath(found[0] if found else "/")
