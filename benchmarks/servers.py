"""Servers to measure, each a process of its own on a free port: Puna's, and llama.cpp's. They know no client."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
MODEL = "measured"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    name: str
    pid: int
    port: int

    def resident(self) -> int:
        """Bytes of memory that it and its children have, pages of files included."""
        return sum(map(resident, family(self.pid)))


def family(pid: int) -> list[int]:
    """A process, and all that came of it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 where there is none."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


@contextmanager
def puna(
    model: str, clients: int, log: str = os.devnull, *, more: Mapping[str, str] | None = None, commands: str = ""
) -> Iterator[Running]:
    """`puna serve` with a store of its own, which has the model; `more` are variables, `commands` of its Modelfile."""
    with tempfile.TemporaryDirectory() as home:
        modelfile = Path(home, "Modelfile")
        modelfile.write_text(f"FROM {Path(model).resolve()}\n{commands}")
        environ = os.environ | {"PUNA_MODELS": f"{home}/models", "PUNA_NUM_PARALLEL": str(clients), **(more or {})}
        create = [sys.executable, "-m", "puna", "create", MODEL, "-f", str(modelfile)]
        subprocess.run(create, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = free_port()
        with _started("puna", [sys.executable, "-m", "puna", "serve", "--port", str(port)], port, environ, log) as it:
            yield it


@contextmanager
def llama_server(
    binary: str, model: str, clients: int, threads: int, more: str = "", log: str = os.devnull
) -> Iterator[Running]:
    """llama.cpp's server with room for as many sequences, 2,048 positions each."""
    port = free_port()
    command = [binary, "-m", model, "--host", HOST, "--port", str(port), "--alias", MODEL]
    command += ["-np", str(clients), "-c", str(2048 * clients), "-t", str(threads), "-fa", "on", *more.split()]
    with _started("llama-server", command, port, os.environ, log) as it:
        yield it


@contextmanager
def _started(name: str, command: list[str], port: int, environ: Mapping[str, str], log: str) -> Iterator[Running]:
    with open(log, "a") as sink:
        process = subprocess.Popen(command, env=environ, stdout=sink, stderr=sink)
    try:
        _wait(process, port)
        yield Running(name, process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    """Until it says that it is well."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{process.args}: it did not come up")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
