"""What control groups and the system's memory say of how much may be taken."""

import pytest

from puna.backends.cpu import open_backend
from puna.backends.cpu.cgroup import settings
from puna.backends.cpu.memory import require
from puna.backends.cpu.threads import default_threads, quota
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


def test_threads_are_at_least_one_and_follow_the_cgroups_limit(tmp_path):
    assert default_threads() >= 1
    group(tmp_path, ".", cpu__max="150000 100000")
    assert quota(tmp_path) == 1.5
    group(tmp_path, ".", cpu__max="max 100000")
    assert quota(tmp_path) is None
    assert quota(tmp_path / "nowhere") is None


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("PUNA_THREADS", "3")
    assert open_backend().threads == 3
    assert open_backend(1).threads == 1
    for wrong, message in {"many": "PUNA_THREADS is 'many'; a whole", "0": "0 threads; 1 to 512 work"}.items():
        monkeypatch.setenv("PUNA_THREADS", wrong)
        with pytest.raises(BackendError, match=message):
            open_backend()


def test_the_least_limit_of_a_group_and_those_above_it_counts(tmp_path):
    root, mine = tmp_path / "root", own(tmp_path, "0::/system.slice/puna.service/inner")
    group(root, "system.slice/puna.service/inner", cpu__max="max 100000")
    group(root, "system.slice/puna.service", cpu__max="300000 100000")
    group(root, "system.slice", cpu__max="800000 100000")
    group(root, "other.slice", cpu__max="100000 100000")
    assert quota(root, mine) == 3
    group(root, "system.slice", cpu__max="200000 100000")
    assert quota(root, mine) == 2


def test_a_container_that_sees_the_path_of_its_host_has_the_limit_of_its_root(tmp_path):
    root, mine = tmp_path / "root", own(tmp_path, "0::/docker/0123abc")
    group(root, ".", cpu__max="250000 100000")
    assert quota(root, mine) == 2.5


def test_the_older_cgroups_limit_is_read(tmp_path):
    root, mine = tmp_path / "root", own(tmp_path, "5:memory:/other", "4:cpu,cpuacct:/jobs/1", "0::/")
    group(root, "cpu/jobs/1", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    group(root, "cpu/jobs", cpu__cfs_quota_us=400000, cpu__cfs_period_us=100000)
    assert quota(root, mine) == 4
    group(root, "cpu/jobs/1", cpu__cfs_quota_us=150000, cpu__cfs_period_us=100000)
    assert quota(root, mine) == 1.5


def test_settings_come_from_the_inside_out(tmp_path):
    root, mine = tmp_path / "root", own(tmp_path, "0::/a/b")
    group(root, "a/b", memory__max=1)
    group(root, "a", memory__max=2)
    assert list(settings("memory", "memory.max", root, mine)) == ["1", "2"]


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
