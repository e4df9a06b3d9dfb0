"""Texts a second that are embedded: Puna beside sentence-transformers and llama.cpp, each in a process of its own.

The others need a Python that has them. All have the model loaded and warm; they take turns, round by round.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from pathlib import Path

import click

SERVE = """
import json, sys, time
model, threads = sys.argv[1], int(sys.argv[2])
{load}
for line in sys.stdin:
    texts = json.loads(line)
    begun = time.perf_counter()
    embed(texts)
    print(time.perf_counter() - begun, flush=True)
"""

LOADS = {
    "puna": (
        "import puna\nloaded = puna.load(model, threads=threads)\n"
        "embed = lambda texts: loaded.embed(texts, truncate=True)"
    ),
    "sentence-transformers": (
        "import torch\ntorch.set_num_threads(threads)\nfrom sentence_transformers import SentenceTransformer\n"
        "embed = SentenceTransformer(model, device='cpu').encode"
    ),
    "llama.cpp": (
        "import llama_cpp\nloaded = llama_cpp.Llama(model, embedding=True, n_ctx=512, n_batch=512, n_ubatch=512, "
        "n_threads=threads, n_threads_batch=threads, verbose=False)\n"
        "embed = lambda texts: loaded.embed(texts, normalize=True, truncate=True)"
    ),
}


@click.command()
@click.argument("directory")
@click.option("--gguf", help="The same model for llama.cpp; Puna reads it too.")
@click.option("--st", "st_python", help="A Python with sentence-transformers.")
@click.option("--llama", "llama_python", help="A Python with llama-cpp-python.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--count", default=128, show_default=True, help="Texts in a call.")
def command(
    directory: str,
    gguf: str | None,
    st_python: str | None,
    llama_python: str | None,
    threads: int,
    rounds: int,
    count: int,
) -> None:
    """Texts a second of the sentence-transformers model in DIRECTORY; medians of the rounds, and their range."""
    running = {"puna": _start("puna", sys.executable, gguf or directory, threads)}
    if st_python:
        running["sentence-transformers"] = _start("sentence-transformers", st_python, directory, threads)
    if llama_python and gguf:
        running["llama.cpp"] = _start("llama.cpp", llama_python, gguf, threads)
    for kind, texts in _texts(Path(directory), count).items():
        found: dict[str, list[float]] = {name: [] for name in running}
        for name, process in [*running.items()] * (rounds + 1):
            found[name].append(count / _seconds(process, texts))
        for name, speeds in found.items():
            kept = speeds[1:]
            click.echo(
                f"{kind:6} {name:22} {statistics.median(kept):8.1f} texts/s ({min(kept):.1f} to {max(kept):.1f})"
            )
    for process in running.values():
        process.communicate()


def _start(name: str, python: str, model: str, threads: int) -> subprocess.Popen[str]:
    code = SERVE.format(load=LOADS[name])
    command = [python, "-c", code, model, str(threads)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _seconds(process: subprocess.Popen[str], texts: list[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(texts) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _texts(directory: Path, count: int) -> dict[str, list[str]]:
    """Short texts of 12 words of the vocabulary, and mixed ones of 4 to 160."""
    words = list(json.loads((directory / "tokenizer.json").read_text("utf-8"))["model"]["vocab"])
    words, chance = [word for word in words if word.isalpha() and len(word) > 3], random.Random(0)
    lengths = {"short": [12] * count, "mixed": [chance.choice((4, 8, 16, 40, 160)) for _ in range(count)]}
    return {kind: [" ".join(chance.choices(words, k=n)) for n in each] for kind, each in lengths.items()}
