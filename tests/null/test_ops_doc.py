"""docs/ops.md is generated; it must say what the table says."""

import runpy
from pathlib import Path

TOOL = Path(__file__).parent.parent.parent / "tools" / "ops_doc.py"


def test_the_page_of_ops_is_fresh():
    tool = runpy.run_path(str(TOOL))
    assert tool["PAGE"].read_text() == tool["page"](), "run: python tools/ops_doc.py"


def test_the_page_names_every_op_once():
    tool = runpy.run_path(str(TOOL))
    lines = tool["PAGE"].read_text().splitlines()
    named = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert sorted(named) == sorted(tool["OPS"])
