"""docs/models.md is what the architectures say."""

import runpy
from pathlib import Path

TOOL = Path(__file__).parent.parent.parent / "tools" / "models_doc.py"


def test_the_page_of_models_is_up_to_date() -> None:
    tool = runpy.run_path(str(TOOL))
    assert tool["PAGE"].read_text("utf-8") == tool["page"](), "run: python tools/models_doc.py"
