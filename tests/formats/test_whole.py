"""Files that appear only when complete: what is refused at once, and what a killed process leaves."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from puna.whole import whole_file, whole_files

WRITER = """
import sys, time
from puna.whole import whole_file
with whole_file(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    time.sleep(60)
"""


def begun(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing `path`."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begun\n"
    return writer


def killed(writer: subprocess.Popen[str]) -> None:
    writer.send_signal(signal.SIGKILL)
    writer.communicate()


def test_what_a_killed_process_left_is_removed_by_the_next_writer_of_that_name(tmp_path: Path) -> None:
    for name in ("m[1].gguf", "other"):
        killed(begun(tmp_path / name))
    with whole_file(tmp_path / "m[1].gguf") as file:
        file.write(b"whole")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "m[1].gguf").read_bytes() == b"whole"
    assert len(left) == 2
    assert left[0].startswith(".other.")


def test_what_a_live_process_writes_is_left_alone(tmp_path: Path) -> None:
    writer = begun(tmp_path / "m")
    with whole_file(tmp_path / "m") as file:
        file.write(b"whole")
    assert len(list(tmp_path.glob(".m.*.partial"))) == 1
    killed(writer)


def test_writers_of_one_name_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    errors = []

    def write(text: bytes) -> None:
        try:
            for _ in range(20):
                with whole_files([tmp_path / "a", tmp_path / "b"]) as files:
                    for file in files:
                        file.write(text)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(bytes([65 + i]) * 9,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_or_a_device_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for target, reason in (
        (tmp_path, "Is a directory"),
        (Path("."), "Is a directory"),
        (tmp_path / "pipe", "ordinary"),
    ):
        with pytest.raises(OSError, match=reason), whole_file(target):
            pytest.fail("it was opened")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path: Path) -> None:
    name = "é" * 127
    with whole_file(tmp_path / name) as file:
        file.write(b"x")
    assert (tmp_path / name).read_bytes() == b"x"
