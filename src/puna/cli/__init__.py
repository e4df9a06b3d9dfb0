"""The command line: one file a command, imported when it is called. Errors are one line on stderr and exit status 1."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from puna import __version__
from puna.cli.lazy import LazyGroup
from puna.errors import PunaError

COMMANDS = {
    "run": "Chat with a model, or answer one prompt.",
    "create": "Make a model from a Modelfile.",
    "convert": "Convert a checkpoint to one GGUF file.",
    "pull": "Fetch a model.",
    "list": "List the models in the store.",
    "show": "Show what a model is made of.",
    "cp": "Give a model a second name.",
    "rm": "Remove models.",
}
"""Every command with its one line of help; its file is `puna/cli/<name>.py`."""


@click.group(cls=LazyGroup, commands_of=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="puna", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback where something fails.")
def cli(debug: bool) -> None:
    """Puna turns any published model checkpoint into one GGUF file, and runs it."""


def main(args: list[str] | None = None) -> NoReturn:
    """The `puna` command: 0 done, 1 failed, 2 called wrongly, 130 interrupted."""
    words = sys.argv[1:] if args is None else args
    try:
        status = cli.main(args=words, prog_name="puna", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("puna: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stdout = None  # type: ignore[assignment]  # whoever read is gone: nothing more can be said
        sys.exit(1)
    except (PunaError, OSError) as error:
        if "--debug" in words:
            raise
        print(f"puna: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, PunaError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split())
