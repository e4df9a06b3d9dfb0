"""`puna imatrix`: an importance matrix from a text, or from others."""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click

from puna.cli.options import backend_option, threads_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from puna.formats.imatrix import Imatrix

SAVE_SECONDS = 60
"""Between two savings of what was measured so far."""


@click.command()
@click.argument("model")
@click.argument("text", type=click.Path(path_type=Path), required=False)
@click.option(
    *("-o", "--out"),
    type=click.Path(path_type=Path),
    default=Path("imatrix.gguf"),
    show_default=True,
    help="The file to write; one that ends in .dat has llama.cpp's older form.",
)
@click.option("--chunks", type=click.IntRange(1), help="Chunks to read at most.")
@click.option(
    "--chunk-size",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Tokens of a chunk; also of those that --in-file counts in the older form.",
)
@click.option("--from-chunk", type=click.IntRange(0), default=0, help="Chunks to pass over first.")
@click.option("--process-output", is_flag=True, help="Measure the output matrix too.")
@click.option(
    *("--in-file", "in_files"),
    multiple=True,
    type=click.Path(path_type=Path),
    help="An importance matrix of the same model to add to; may be given several times.",
)
@backend_option
@threads_option
def command(
    model: str,
    text: Path | None,
    out: Path,
    chunks: int | None,
    chunk_size: int,
    from_chunk: int,
    process_output: bool,
    in_files: tuple[Path, ...],
    **load_options: Any,
) -> None:
    """Measure how much each column of MODEL's weights matters to the text in the file TEXT.

    The result makes quantization better, above all below four bits. What was read is saved every minute, and where
    Ctrl-C stops it; without TEXT, the files of --in-file are added up. MODEL is a name in the store, a GGUF file, or a
    checkpoint directory; the more bits it has, the better.
    """
    from puna.formats.imatrix import merge_imatrices

    if text is None and not in_files:
        raise click.UsageError("neither TEXT nor --in-file is given; one of them is needed")
    words = None if text is None else _text(text)
    _check_writable(out)
    found = _opened(model, in_files, chunk_size)

    def save(matrix: Imatrix) -> Imatrix:
        whole = merge_imatrices([*found, matrix]) if found else matrix
        _write(out, whole)
        return whole

    if text is not None:
        options: dict[str, Any] = {"chunks": chunks, "chunk_size": chunk_size, "from_chunk": from_chunk}
        options |= {"output": process_output, "dataset": text.name}
        whole = _measured(model, str(words), _Saving(save, out, bool(found)), load_options, options)
    else:
        whole = merge_imatrices(found)
        _write(out, whole)
    click.echo(f"{counted(len(whole.sums), 'weight')} over {_read(whole.chunks, whole.chunk_size)} are in {out}")


def counted(number: int, what: str) -> str:
    """How many there are of something whose plural ends in s."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _read(chunks: int, size: int) -> str:
    return f"{counted(chunks, 'chunk')} of {counted(size, 'token')}"


def _text(path: Path) -> str:
    from puna.errors import RequestError

    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: byte {error.start} is not UTF-8; a text in UTF-8 would work") from error


def _opened(model: str, paths: tuple[Path, ...], chunk_size: int) -> list[Imatrix]:
    """The matrices that are there; FormatError where one is of another model."""
    from puna.errors import FormatError
    from puna.formats.imatrix import open_imatrix
    from puna.opened import open_model

    found = [open_imatrix(path, chunk_size) for path in paths]
    shapes = {name: tensor.shape for name, tensor in open_model(model).tensors.items()} if found else {}
    for path, matrix in zip(paths, found, strict=True):
        try:
            matrix.check_model(shapes)
        except FormatError as error:
            raise FormatError(f"adding {path} to that of {model}: {error}") from error
    return found


def _check_writable(out: Path) -> None:
    """Measuring takes long: that its result cannot be written is said before."""
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if out.exists() and not out.is_file():
            raise OSError(errno.EINVAL, "Not an ordinary file")
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise _unwritable(out, error) from error


def _write(out: Path, matrix: Imatrix) -> None:
    from puna.formats.imatrix import write_imatrix

    try:
        write_imatrix(out, matrix)
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> Exception:
    from puna.errors import RequestError

    return RequestError(f"writing {out}: {error.strerror or error}; -o with a file in a folder that takes files works")


class _Saving:
    """Saves a measurement in between and where a signal stops it, which is then obeyed; a second one is at once."""

    def __init__(self, save: Callable[[Imatrix], Imatrix], out: Path, adds: bool) -> None:
        self.save = save
        self._out, self._adds = out, adds
        self._saved = time.monotonic()
        self._signal = 0
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """From now on there is something to lose."""
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if number not in self._before and before not in (None, signal.SIG_IGN):
                with suppress(ValueError):  # not in the main thread, where no signal comes
                    signal.signal(number, self._caught)
                    self._before[number] = before

    def release(self) -> None:
        """Signals do again what they did."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.release()
        with suppress(OSError):  # not by sys.stderr, in whose middle the signal may have come
            os.write(2, b"\nstopping after this chunk; once more stops at once\n")

    def after_chunk(self, done: int, total: int, options: dict[str, Any], so_far: Callable[[], Imatrix]) -> None:
        """Save where it is time to, or end with what the signal does."""
        if self._signal and done < total:
            self.save(so_far())
            click.echo(self._how_to_resume(done, total, options), err=True)
            signal.raise_signal(self._signal)
        elif not self._signal:
            self.catch()
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.save(so_far())
                self._saved = time.monotonic()

    def _how_to_resume(self, done: int, total: int, options: dict[str, Any]) -> str:
        rest = f"--in-file {self._out} --from-chunk {options['from_chunk'] + done}"
        rest += f" --chunks {total - done}" if options["chunks"] else ""
        instead = ", instead of those it had," if self._adds or options["from_chunk"] else ""
        read = _read(done, options["chunk_size"])
        return f"{read} of this text are in {self._out}; the same command with {rest}{instead} reads the rest"


def _measured(model: str, text: str, saving: _Saving, load_options: dict[str, Any], options: dict[str, Any]) -> Imatrix:
    """What was measured and saved, added to what there was."""
    from puna.cli.progress import Progress
    from puna.loading import load

    size = options["chunk_size"]
    with Progress(unit="tokens") as progress:

        def on_chunk(done: int, total: int, so_far: Callable[[], Imatrix]) -> None:
            progress("measuring", done * size, total * size)
            saving.after_chunk(done, total, options, so_far)

        try:
            return saving.save(load(model, **load_options).imatrix(text, on_chunk=on_chunk, **options))
        finally:
            saving.release()
