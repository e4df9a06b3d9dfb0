import importlib.util
from pathlib import Path

TOOL = Path(__file__).parent.parent.parent / "tools" / "server_doc.py"


def test_the_page_about_the_server_is_fresh():
    spec = importlib.util.spec_from_file_location("server_doc", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.PAGE.read_text("utf-8") == tool.page(), "run: python tools/server_doc.py"
