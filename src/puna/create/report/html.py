"""A conversion's report as one HTML page that needs nothing else: facts, plots, and tables that sort and filter."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files

from puna.create.report import ConversionReport, encodable
from puna.create.report.plots import bars, lines
from puna.store.blobs import readable_size

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.weight")


def to_html(report: ConversionReport) -> str:
    """The page as text; of a report without measurements, one without errors and checksums."""
    from jinja2 import Environment

    page = Environment(autoescape=True).from_string((files(__package__) / "page.html.jinja").read_text("utf-8"))
    text = page.render(
        title=f"{report.architecture}: {report.source}",
        report=report,
        facts=list(_facts(report)),
        sizes=bars(_sizes(report)),
        errors=lines(_errors(report), "block", "relative error"),
        measured=any(tensor.sha256 for tensor in report.tensors),
    )
    return encodable(text)


def _facts(report: ConversionReport) -> Iterator[tuple[str, str]]:
    yield "source", report.source
    yield "written to", ", ".join(report.files) or report.out
    yield "architecture", report.architecture
    yield "parameters", f"{report.parameters:,}"
    bits = 8 * report.nbytes / report.parameters if report.parameters else 0
    yield "size of the tensors", f"{readable_size(report.nbytes)} ({report.nbytes:,} bytes, {bits:.2f} bits a weight)"
    if report.recipe:
        yield "recipe", report.recipe
    if report.digest:
        yield "digest of the source", report.digest
    yield "time", f"{report.seconds:.1f} s"


def _sizes(report: ConversionReport) -> list[tuple[str, float, str]]:
    """A bar for each type, the largest first."""
    sizes: dict[str, int] = defaultdict(int)
    counts: dict[str, int] = defaultdict(int)
    for tensor in report.tensors:
        sizes[tensor.dtype] += tensor.nbytes
        counts[tensor.dtype] += 1
    order = sorted(sizes, key=lambda name: -sizes[name])
    share = {name: 100 * sizes[name] / max(1, report.nbytes) for name in order}
    text = "{}, {:.1f} %, {} tensors"
    return [(name, sizes[name], text.format(readable_size(sizes[name]), share[name], counts[name])) for name in order]


def _errors(report: ConversionReport) -> dict[str, dict[int, float]]:
    """Relative error by kind of tensor and block."""
    series: dict[str, dict[int, float]] = defaultdict(dict)
    for tensor in report.tensors:
        if tensor.drift and (found := _BLOCK.fullmatch(tensor.name)):
            series[found[2]][int(found[1])] = tensor.drift.relative
    return dict(series)
