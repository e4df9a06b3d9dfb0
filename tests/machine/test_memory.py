"""How much memory may still be taken, as the machine and control groups say."""

from machine.test_threads import group, own
from puna.machine.memory import UNKNOWN, free_memory

MIB = 1 << 20


def free(tmp_path, lines=("0::/box",)):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 4096 kB\nMemAvailable:    {8 * 1024} kB\nodd line\n")
    return free_memory(meminfo, tmp_path, own(tmp_path, *lines))


def test_without_a_limit_what_the_machine_has_is_free(tmp_path):
    group(tmp_path, "box", memory__max="max", memory__current=MIB, memory__stat="inactive_file 0")
    assert free(tmp_path) == 8 * MIB


def test_of_a_limit_what_is_left_is_free_and_cached_files_are_not_taken(tmp_path):
    group(tmp_path, "box", memory__max=4 * MIB, memory__current=3 * MIB, memory__stat=f"anon 5\ninactive_file {MIB}")
    assert free(tmp_path) == 2 * MIB


def test_a_machine_that_does_not_say_has_enough(tmp_path):
    assert free_memory(tmp_path / "none", tmp_path, own(tmp_path, "0::/")) == UNKNOWN
