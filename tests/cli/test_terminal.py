"""`puna run` in a terminal: what is typed, shown and remembered."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

import pytest

from cli.tiny import END, metadata, weights
from puna.formats import write_gguf
from puna.server.settings import Settings
from server.conftest import Live

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PROMPT = ">>> Send a message (/? for help)"
UP, CTRL_C, CTRL_D, CTRL_G, ALT_ENTER = b"\x1b[A", b"\x03", b"\x04", b"\x07", b"\x1b\r"


class Terminal:
    """What a process writes to a terminal, and keys for it."""

    def __init__(self, descriptor, process):
        self._descriptor = descriptor
        self.process = process

    def expect(self, text, seconds=60):
        """Read until `text` is there; gives all that was read, without what moves the cursor."""
        end, seen = time.monotonic() + seconds, ""
        while text not in seen:
            ready, _, _ = select.select([self._descriptor], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{text!r} did not come; there was {seen!r}"
            seen += self._read(seen)
            seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
        return seen

    def _read(self, seen):
        """One byte, so that what comes after the text stays."""
        try:
            return os.read(self._descriptor, 1).decode(errors="replace")
        except OSError as error:
            raise AssertionError(f"it has ended; there was {seen!r}") from error

    def type(self, keys):
        os.write(self._descriptor, keys.encode() + b"\r" if isinstance(keys, str) else keys)

    def ask(self, line, answer):
        """Type a line at the prompt, and wait for its answer."""
        self.expect(PROMPT)
        self.type(line)
        return self.expect(answer)


def _take_terminal():
    """Make what is on standard input the terminal whose Ctrl-C this process gets."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(*words, **environ):
    """`puna run` with these words in a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environ}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "puna", "run", *map(str, words)]
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    process = subprocess.Popen(command, **ends, env=environment, start_new_session=True, preexec_fn=_take_terminal)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A model that goes on until its context is full."""
    tensors = weights()
    output, embedding = tensors["output.weight"], tensors["token_embd.weight"]
    output[ord("a")] += embedding[ord("z")] * 0.2  # after z comes a
    output[END] = 0
    path = tmp_path_factory.mktemp("endless") / "endless.gguf"
    changed = metadata(**{"llama.context_length": 30000})
    write_gguf(path, changed, [(name, array.shape, "F32", array) for name, array in tensors.items()])
    return path


def test_a_conversation_in_a_terminal(home, tiny):
    (home / ".puna").mkdir()
    (home / ".puna" / "history").touch(0o644)
    with terminal(tiny, "-p", "temperature=0", "--backend", "numpy") as session:
        session.ask("hello", ALPHABET)
        session.ask(CTRL_C, "Ctrl-D or /bye ends.")
        session.expect(PROMPT)
        session.type(CTRL_D)
        assert session.process.wait(30) == 0
    assert (home / ".puna" / "history").stat().st_mode & 0o777 == 0o600


def test_ctrl_c_stops_an_answer_and_the_session_goes_on(home, endless):
    with terminal(endless, "-p", "temperature=0", "--plain") as session:
        session.ask("hello", "abc")
        session.type(CTRL_C)
        session.expect(" ...")
        session.ask("/set parameter num_predict 3", "\n")
        session.ask("again", "abc\r\n")
        session.ask("/bye", "")
        assert session.process.wait(30) == 0


def test_ctrl_c_stops_the_answer_of_a_server(home, endless, puna):
    (home / "Modelfile").write_text(f"FROM {endless}\nPARAMETER temperature 0\n")
    assert puna("create", "endless").status == 0
    server = Live(Settings())
    try:
        with terminal("endless", "--plain", PUNA_HOST=f"127.0.0.1:{server.port}") as session:
            session.ask("hello", "abc")
            session.type(CTRL_C)
            session.expect(" ...")
            end = time.monotonic() + 30
            while any(model.leases for model in server.models.loaded) and time.monotonic() < end:
                time.sleep(0.02)
            assert [model.leases for model in server.models.loaded] == [0]
            session.ask("/set parameter num_predict 3", "\n")
            session.ask("again", "abc\r\n")
    finally:
        server.close()


def test_history_lasts_and_can_be_left_alone(home, tiny):
    words = (tiny, "-p", "temperature=0", "--backend", "numpy")
    with terminal(*words) as session:
        session.ask("first", ALPHABET)
        session.ask("/set nohistory", "\n")
        session.ask("secret", ALPHABET)
        session.ask("/bye", "")
        assert session.process.wait(30) == 0
    kept = (home / ".puna" / "history").read_text()
    assert "+first" in kept
    assert "secret" not in kept
    with terminal(*words, OLLAMA_NOHISTORY="1") as session:
        session.expect(PROMPT)
        session.type(UP + UP)  # above is /set nohistory
        session.type("")
        session.expect(ALPHABET)
        session.ask("/bye", "")
        assert session.process.wait(30) == 0
    assert (home / ".puna" / "history").read_text() == kept


def test_text_of_several_lines_is_one_question(home, tiny):
    said = f"{len('one') + 1 + len('two') + 19} tokens, "  # beside "hi" the template and its tokens are 19
    with terminal(tiny, "-p", "num_predict=1", "--backend", "numpy", "--verbose") as session:
        session.ask('"""one', "...")
        session.type('two"""')
        session.expect(said)
        session.ask("/clear", "")
        session.expect(PROMPT)
        session.type(b"one" + ALT_ENTER + b"tw")
        session.type("o")
        session.expect(said)


def test_an_editor_is_opened_for_a_long_question(home, tiny):
    editor = home / "editor"
    editor.write_text("#!/bin/sh\necho from the editor > $1\n")
    editor.chmod(0o755)
    with terminal(tiny, "-p", "temperature=0", "--backend", "numpy", VISUAL=str(editor)) as session:
        session.ask(CTRL_G, ALPHABET)
    assert "+from the editor" in (home / ".puna" / "history").read_text()


def test_commands_are_completed(home, tiny):
    with terminal(tiny, "--backend", "numpy") as session:
        session.expect(PROMPT)
        session.type(b"/sh\t")
        session.expect("ow")
        session.type(b" l\t")
        session.expect("icense")
        session.type("")
        session.expect("The model has no licence text.")
