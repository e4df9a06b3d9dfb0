"""The command line: one file a command, imported when it is called. Errors are one line on stderr and exit status 1."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from puna import __version__
from puna.cli.lazy import LazyGroup
from puna.errors import PunaError

COMMANDS = {
    "run": "Chat with a model, or answer one prompt.",
    "serve": "Serve models to clients of Ollama's, OpenAI's and Anthropic's APIs.",
    "ps": "List the models a server has loaded.",
    "stop": "Unload a model from a server.",
    "embed": "Print vectors of texts.",
    "create": "Make a model from a Modelfile.",
    "convert": "Convert a checkpoint to one GGUF file.",
    "export": "Write a model for other programs: ONNX, MLX.",
    "merge": "Fold LoRA adapters into their base.",
    "new-arch": "Begin an architecture that is not known yet.",
    "verify": "Check that a converted model computes what its source does.",
    "backends": "List what can compute here: backends, devices, memory, ops.",
    "bench": "Measure how fast a model, the kernels and this machine are.",
    "imatrix": "Measure which weights of a model matter, from a text.",
    "pull": "Fetch a model.",
    "list": "List the models in the store.",
    "show": "Show what a model is made of.",
    "cp": "Give a model a second name.",
    "rm": "Remove models.",
}
"""Every command with its one line of help; its file is `puna/cli/<name>.py`."""


@click.group(cls=LazyGroup, commands_of=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="puna", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback where something fails; may stand anywhere.")
def cli(debug: bool) -> None:
    """Puna turns any published model checkpoint into one GGUF file, and runs it."""


class Terminated(SystemExit):
    """SIGTERM came. A SystemExit, for event loops swallow what they do not know."""


def main(args: list[str] | None = None) -> NoReturn:
    """The `puna` command: 0 done, 1 failed, 2 called wrongly, 130 interrupted, 143 terminated."""
    words, debug = _without_debug(sys.argv[1:] if args is None else args)
    _catch_termination()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this: not wanted
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - lives as long as the process
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")  # a model may say what the terminal cannot show
    try:
        cli.main(args=words, prog_name="puna", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _end("interrupted", 130)
    except Terminated:
        _end("terminated", 143)
    except BrokenPipeError:
        _discard_output()  # who read is gone, and so is what is unwritten
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        _end(_one_line(error), 1)
    sys.exit(0)


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """The words without --debug, unless it stands behind `--`; and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _catch_termination() -> None:
    """From now on SIGTERM unwinds the program as Ctrl-C does, unless somebody decided otherwise."""

    def terminate(number: int, frame: object) -> NoReturn:
        raise Terminated

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with suppress(ValueError):  # not in the main thread, where no signal comes
            signal.signal(signal.SIGTERM, terminate)


def _end(line: str, status: int) -> NoReturn:
    if _output_stuck():
        _discard_output()  # or the interpreter tries again, and complains
    print(f"puna: {line}", file=sys.stderr)
    sys.exit(status)


def _output_stuck() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception) -> str:
    if isinstance(error, PunaError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or ("writing to standard output" if _output_stuck() else None)
        return f"{where}: {error.strerror}" if where else error.strerror
    if isinstance(error, MemoryError):
        return "out of memory; a smaller --context-length, or a smaller model, may fit"
    return f"a bug: {type(error).__name__}: {' '.join(str(error).split())}; --debug shows where"
