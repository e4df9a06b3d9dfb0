"""The report's page: everything that the report says is in it, nothing outside is needed, and plots are well-formed."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import puna
from golden.checkpoints import write_wide
from puna.create.report import ConversionReport, Drift, KeyReport, TensorReport
from puna.create.report.html import to_html
from puna.create.report.plots import bars, lines


def tensor(name: str, dtype: str, nbytes: int, relative: float | None) -> TensorReport:
    drift = None if relative is None else Drift(0.01, relative, 0.5, 0.9999)
    return TensorReport(name, f"hf.{name}", (4, 256), "BF16", dtype, "", nbytes, sha256="ab12", drift=drift)


REPORT = ConversionReport(
    source="<here> & there",
    out="model.gguf",
    architecture="llama",
    parameters=2048,
    nbytes=3000,
    seconds=1.5,
    tensors=(
        tensor("blk.0.ffn_up.weight", "Q4_K", 1000, 0.05),
        tensor("blk.1.ffn_up.weight", "Q4_K", 1000, 0.07),
        tensor("output_norm.weight", "F32", 1000, None),
    ),
    left_out=("rotary.inv_freq",),
    keys=(KeyReport("llama.block_count", "config.json: num_hidden_layers", "2"),),
    warnings=("config.json: 'sliding_window' is <odd>",),
    recipe="Q4_K_M",
)


class Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in ("src", "href", "action")]


def test_the_page_says_what_the_report_says_and_escapes_it() -> None:
    page = to_html(REPORT)
    said = [REPORT.source, *REPORT.warnings, *REPORT.left_out, "Q4_K_M", "llama.block_count", "0.05", "11.72 bits"]
    said += [text for t in REPORT.tensors for text in (t.name, t.source, t.dtype, t.sha256)]
    assert [text for text in said if text not in unescape(page)] == []
    assert "<here>" not in page
    assert "<odd>" not in page


def test_the_page_needs_nothing_else() -> None:
    links = Links()
    links.feed(to_html(REPORT))
    assert links.found == []
    assert not re.search(r"url\(|@import|https?://", to_html(REPORT))


def test_sizes_and_errors_are_plotted() -> None:
    svgs = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", to_html(REPORT), re.DOTALL)]
    sizes, errors = svgs
    lengths = [float(rect.attrib["width"]) for rect in sizes.iter("rect")]
    assert lengths == [460.0, 230.0]
    assert [text.text for text in sizes.iter("text")][:2] == ["Q4_K", "2.0 kB, 66.7 %, 2 tensors"]
    assert [title.text for title in errors.iter("title")] == ["ffn_up, block 0: 0.05", "ffn_up, block 1: 0.07"]


def test_a_report_without_measurements_has_no_errors() -> None:
    plain = puna.ConversionReport("a", "b", "llama", 0, 0, 0.0, ())
    assert to_html(plain).count("<svg") == 1
    assert "sha256" not in to_html(plain)


def test_lines_place_values_by_their_logarithm() -> None:
    (one, two, three) = ElementTree.fromstring(lines({"a": {0: 1e-4, 5: 1e-3, 10: 1e-2, 11: 0}}, "x", "y")).iter(
        "circle"
    )
    heights = [float(dot.attrib["cy"]) for dot in (one, two, three)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert heights[0] > heights[1]
    assert lines({"a": {0: 0.0}}, "x", "y") == ""


def test_bars_of_nothing_are_a_plot() -> None:
    assert list(ElementTree.fromstring(bars([])).iter("rect")) == []


def test_a_conversion_reports_its_errors(tmp_path: Path) -> None:
    write_wide(tmp_path / "hf", "llama3")
    report = puna.convert(tmp_path / "hf", tmp_path / "m.gguf", quantize="Q4_K_M", measure=True)
    page = to_html(report)
    assert "Error by block" in page
    assert page.count("<tr>") > len(report.tensors)
