"""Progress of loading: on a terminal only, after a moment only, and gone when it is done."""

import io
import threading

import pytest

from puna.cli import progress
from puna.cli.progress import loading, waiting


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def shown(terminal, *times):
    """What a screen holds after a tenth more is done at each of `times`, the clock at the beginning being 0."""
    moments = iter([0.0, *times])
    out = Screen(terminal)
    show = loading(out, lambda: next(moments))
    for done in range(1, len(times) + 1):
        show(100_000_000 * done, 1_000_000_000)
    return out, show


def test_loading_that_takes_a_moment_is_not_shown():
    out, show = shown(True, 0.1, 0.2, 0.4)
    show(1_000_000_000, 1_000_000_000)
    assert out.getvalue() == ""


def test_loading_that_takes_longer_is_one_line_that_goes_away():
    out, show = shown(True, 0.3, 0.6)
    assert out.getvalue().startswith("\r\033[Kloading  200 MB of 1.0 GB  20 % [####................]")
    show(1_000_000_000, 1_000_000_000)
    assert out.getvalue().endswith("\r\033[K")
    assert "\n" not in out.getvalue()


def test_loading_says_nothing_where_no_terminal_is():
    out, show = shown(False, 0.6, 2.0, 9.0)
    show(1_000_000_000, 1_000_000_000)
    assert out.getvalue() == ""


@pytest.mark.parametrize("so", [True, False])
def test_who_waits_for_a_server_that_loads_is_told_until_an_answer_comes(monkeypatch, so):
    monkeypatch.setattr(progress, "MOMENT", 0.0)
    out, asked = Screen(True), threading.Event()

    def loads():
        asked.set()
        return so

    with waiting(loads, out) as came:
        assert asked.wait(30)
        came()
        came()
        assert out.getvalue() == ("\r\033[Kloading\r\033[K" if so else "")


def test_who_waits_no_longer_than_a_moment_or_at_no_terminal_is_told_nothing():
    for terminal in (True, False):
        out = Screen(terminal)
        with waiting(lambda: True, out) as came:
            came()
        assert out.getvalue() == ""
