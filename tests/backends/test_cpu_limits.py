"""What the system's memory and control groups say of how much may be taken."""

import pytest

from puna.backends.cpu.memory import require
from puna.errors import BackendError

GB = 10**9


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def own(tmp_path, *lines):
    file = tmp_path / "own"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def machine(tmp_path, total=16, available=8, swap=0):
    kilobytes = {"MemTotal": total, "MemAvailable": available, "SwapTotal": swap, "SwapFree": swap}
    file = tmp_path / "meminfo"
    file.write_text(
        "".join(f"{name}: {value * GB // 1024} kB\n" for name, value in kilobytes.items()) + "HugePages: 0\n"
    )
    return file, tmp_path / "root", own(tmp_path, "0::/job")


def test_more_than_the_machine_has_is_refused_with_both_figures(tmp_path):
    with pytest.raises(BackendError, match=r"weights take 17.0 GB of memory, and this machine has 16.0 GB; a"):
        require(17 * GB, "the weights", *machine(tmp_path))


def test_more_than_the_control_group_grants_is_refused(tmp_path):
    places = machine(tmp_path)
    group(tmp_path / "root", "job", memory__max=4 * GB)
    with pytest.raises(BackendError, match=r"take 5.0 GB of memory, and its control group grants 4.0 GB"):
        require(5 * GB, "the weights", *places)
    require(3 * GB, "the weights", *places)


def test_swap_counts(tmp_path):
    require(17 * GB, "the weights", *machine(tmp_path, swap=4, available=14))


def test_more_than_is_free_now_is_a_warning(tmp_path, caplog):
    require(9 * GB, "the weights", *machine(tmp_path))
    assert "the weights take 9.0 GB of memory, and 8.0 GB are free" in caplog.text


def test_what_fits_and_what_nobody_knows_is_not_mentioned(tmp_path, caplog):
    require(7 * GB, "the weights", *machine(tmp_path))
    require(99999 * GB, "the weights", tmp_path / "nothing here")
    assert caplog.text == ""
