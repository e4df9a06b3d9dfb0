"""`puna run`: one answer, or a conversation."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from puna.generation import Stats
    from puna.model import Model


@click.command()
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="As in a Modelfile.")
@click.option("--system", help="A system message.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without a chat template.")
@click.option("--backend", default="auto", show_default=True, help="auto, cpu or numpy.")
@click.option("--threads", type=click.IntRange(1), help="Threads; else one for each core.")
@click.option("--context-length", type=click.IntRange(1), help="Positions of context.")
@click.option("--kv-type", default="f16", show_default=True, help="Type of the K/V cache: f32, f16, q8_0.")
@click.option("--verbose", is_flag=True, help="Print figures after the answer.")
def command(
    model: str, prompt: tuple[str, ...], parameters: tuple[str, ...], system: str | None, raw: bool, verbose: bool,
    **load_options: Any,
) -> None:  # fmt: skip
    """Answer PROMPT and what comes on standard input; without either, chat.

    MODEL is a name in the store, a GGUF file, or a checkpoint directory.
    """
    from puna.model import load

    begun = time.perf_counter()
    options = parse_parameters(parameters)
    loaded = load(model, **load_options)
    text = "\n\n".join(part for part in (" ".join(prompt), piped()) if part)
    if not text and sys.stdin.isatty():
        from puna.cli.chat import Chat

        Chat(loaded, options, system=system, verbose=verbose).loop()
        return
    if not text:
        raise click.UsageError("no prompt: give one as an argument or on standard input")
    messages = [{"role": "system", "content": system}] if system else []
    chunks = (
        loaded.generate(text, **options)
        if raw
        else loaded.chat([*messages, {"role": "user", "content": text}], **options)
    )
    stats = write(chunks)
    if verbose:
        click.echo("\n".join(figures(loaded, stats, begun)), err=True)


def piped() -> str:
    """What comes on standard input, if it is not a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return sys.stdin.read().strip("\n")


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs, typed as in a Modelfile; `stop` may come several times."""
    from puna.create.modelfile import parse_option

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--parameter {pair}: NAME=VALUE is needed")
        if name == "stop":
            options.setdefault("stop", []).append(value)
        else:
            options[name] = parse_option(name, value)
    return options


def write(chunks: Any) -> Stats:
    """Write an answer as it comes; its figures."""
    last = None
    for chunk in chunks:
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
        last = chunk
    sys.stdout.write("\n")
    sys.stdout.flush()
    return last.stats  # type: ignore[union-attr,no-any-return]  # a generation ends with a chunk that has figures


def figures(model: Model, stats: Stats, begun: float) -> list[str]:
    """What --verbose prints."""
    computed = stats.prompt_tokens - stats.cached_tokens
    return [
        f"prompt  {computed} tokens ({stats.cached_tokens} cached) in {stats.prompt_seconds:.2f} s, "
        f"{stats.prompt_rate:.1f} tokens/s with loading" if not stats.cached_tokens else
        f"prompt  {computed} tokens ({stats.cached_tokens} cached) in {stats.prompt_seconds:.2f} s",
        f"answer  {stats.tokens} tokens in {stats.seconds:.2f} s, {stats.rate:.1f} tokens/s",
        f"total   {time.perf_counter() - begun:.2f} s on {model.backend}",
    ]  # fmt: skip
