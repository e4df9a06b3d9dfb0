"""How many threads there are to use: what the environment, the cores and control groups say; and who asks."""

import os
import threading

import pytest

import puna
from golden.checkpoints import write_wide
from puna.backends.cpu import open_backend
from puna.create import convert
from puna.errors import BackendError, RequestError
from puna.machine import threads
from puna.machine.cgroup import settings
from puna.machine.threads import default_threads, quota
from puna.quants import budget


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def own(tmp_path, *lines):
    file = tmp_path / "own"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


@pytest.fixture
def cores(monkeypatch):
    """A machine of eight cores with two hardware threads each, all of which this process may use."""
    monkeypatch.delenv("PUNA_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(threads, "_siblings", lambda cpu: f"{cpu % 8},{cpu % 8 + 8}")


def test_a_thread_for_each_physical_core_unless_the_control_group_grants_less(cores, tmp_path):
    root, mine = tmp_path / "root", own(tmp_path, "0::/job")
    assert default_threads(root, mine) == 8
    for granted, expected in {"max": 8, "1200000": 8, "300000": 3, "260000": 3, "240000": 2, "20000": 1}.items():
        group(root, "job", cpu__max=f"{granted} 100000")
        assert default_threads(root, mine) == expected, granted


def test_a_group_without_a_limit_and_no_group_at_all_grant_everything(tmp_path):
    group(tmp_path, ".", cpu__max="150000 100000")
    assert quota(tmp_path) == 1.5
    group(tmp_path, ".", cpu__max="max 100000")
    assert quota(tmp_path) is None
    assert quota(tmp_path / "nowhere") is None


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("PUNA_THREADS", "3")
    assert open_backend().threads == 3
    assert open_backend(1).threads == 1
    for wrong in ("many", "0", "-1", "1.5"):
        monkeypatch.setenv("PUNA_THREADS", wrong)
        with pytest.raises(RequestError, match=f"PUNA_THREADS is '{wrong}'; a whole number above zero works"):
            open_backend()
    monkeypatch.setenv("PUNA_THREADS", "513")
    with pytest.raises(BackendError, match="513 threads; 1 to 512 work"):
        open_backend()


def test_converting_and_measuring_errors_take_as_many_threads_as_the_group_grants(cores, tmp_path, monkeypatch):
    root, mine = tmp_path / "root", own(tmp_path, "0::/job")
    group(root, "job", cpu__max="300000 100000")
    for module in (convert, budget):
        monkeypatch.setattr(module, "default_threads", lambda: default_threads(root, mine))
    write_wide(tmp_path / "hf", "llama2")
    began, workers = [], []
    start, pool = threading.Thread.start, budget.ThreadPoolExecutor
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (began.append(thread.name), start(thread))[1])
    monkeypatch.setattr(budget, "ThreadPoolExecutor", lambda count: (workers.append(count), pool(count))[1])

    convert.convert(tmp_path / "hf", tmp_path / "out.gguf")
    assert [name for name in began if name.startswith("convert-")] == ["convert-0", "convert-1", "convert-2"]

    budget.measure(puna.open_gguf(tmp_path / "out.gguf").tensors, candidates=["Q8_0"])
    assert workers == [3]


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
