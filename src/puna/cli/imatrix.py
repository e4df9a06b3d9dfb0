"""`puna imatrix`: an importance matrix from a text, or from others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from puna.cli.options import backend_option, threads_option

if TYPE_CHECKING:
    from collections.abc import Callable

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
@click.option("--chunk-size", type=click.IntRange(1), default=512, show_default=True, help="Tokens of a chunk.")
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

    The result makes quantization better, above all below four bits. What was read is saved every minute; without TEXT,
    the files of --in-file are added up. MODEL is a name in the store, a GGUF file, or a checkpoint directory; the more
    bits it has, the better.
    """
    from puna.errors import RequestError
    from puna.formats.imatrix import merge_imatrices, open_imatrix, write_imatrix

    if text is None and not in_files:
        raise click.UsageError("neither TEXT nor --in-file is given; one of them is needed")
    found = [open_imatrix(path) for path in in_files]

    def save(matrix: Imatrix) -> Imatrix:
        whole = merge_imatrices([*found, matrix]) if found else matrix
        write_imatrix(out, whole)
        return whole

    if text is not None:
        try:
            words = text.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(f"{text}: byte {error.start} is not UTF-8; a text in UTF-8 would work") from error
        options: dict[str, Any] = {"chunks": chunks, "chunk_size": chunk_size, "from_chunk": from_chunk}
        options |= {"output": process_output, "dataset": text.name}
        whole = save(_measured(model, words, save, load_options, options))
    else:
        whole = merge_imatrices(found)
        write_imatrix(out, whole)
    click.echo(f"{len(whole.sums)} weights over {whole.chunks} chunks of {whole.chunk_size} tokens are in {out}")


def _measured(
    model: str,
    text: str,
    save: Callable[[Imatrix], Imatrix],
    load_options: dict[str, Any],
    options: dict[str, Any],
) -> Imatrix:
    from puna.cli.progress import Progress
    from puna.model import load

    saved, size = time.monotonic(), options["chunk_size"]
    with Progress(unit="tokens") as progress:

        def on_chunk(done: int, total: int, so_far: Callable[[], Imatrix]) -> None:
            nonlocal saved
            progress("measuring", done * size, total * size)
            if time.monotonic() - saved > SAVE_SECONDS:
                save(so_far())
                saved = time.monotonic()

        return load(model, **load_options).imatrix(text, on_chunk=on_chunk, **options)
