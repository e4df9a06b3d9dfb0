import json
from pathlib import Path

import pytest

from puna.backends.cpu import _native as native
from puna.bench import limits
from puna.bench.limits import Limits

GIVEN = Limits(
    threads=2,
    isa="avx2",
    read={"L2": {1: 2e11, 2: 4e11}, "memory": {1: 2e10, 2: 3.35e10}},
    peaks={"generic": {"f32": {1: 6e10, 2: 1e11}}, "avx2": {"int8": {1: 3e11, 2: 6e11}, "f32": {1: 1e11, 2: 2e11}}},
    barrier=1.25e-6,
)


def test_every_limit_of_this_machine_is_a_number_above_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY", 4 << 20)
    found = limits.measure(2)
    assert found.threads == 2
    assert set(found.read) == {"L2", "L3", "memory"}
    assert list(found.peaks) == native.isas()
    assert all(value > 0 for of in found.read.values() for value in of.values())
    assert all(value > 0 for kinds in found.peaks.values() for of in kinds.values() for value in of.values())
    assert found.barrier > 0


def test_every_instruction_set_has_a_peak_of_floats() -> None:
    assert all("f32" in native.peak_names(isa) for isa in native.isas())


def test_a_peak_that_an_instruction_set_does_not_have_is_another_ones() -> None:
    assert GIVEN.peak("int8") == 6e11
    assert GIVEN.peak("bf16") == 6e11  # whose products are of integers
    assert GIVEN.peak("bf16", isa="generic") == 1e11
    assert GIVEN.peak("int16", threads=1) == 3e11
    assert GIVEN.peak("int16", isa="generic") == 1e11


def test_the_table_of_limits_has_a_line_for_each() -> None:
    assert list(limits.table(GIVEN)) == [
        "limit        1 thread  2 threads",
        "read L2           200        400   GB/s",
        "read memory      20.0       33.5   GB/s",
        "generic f32      60.0        100  GOP/s",
        "avx2 int8         300        600  GOP/s",
        "avx2 f32          100        200  GOP/s",
        "barrier                     1.25     us",
    ]


def test_limits_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(GIVEN.to_dict()))["read"]["memory"] == {"1": 2e10, "2": 3.35e10}


def test_reading_refuses_memory_that_is_smaller_than_its_threads_need() -> None:
    with pytest.raises(ValueError, match="4096 bytes for each thread"):
        native.time_reading(native.Pool(2), "auto", native.allocate(4096, True))


def test_an_unknown_peak_is_named() -> None:
    with pytest.raises(ValueError, match="generic has no 'int3'"):
        native.time_peak(native.Pool(1), "generic", "int3")


@pytest.mark.parametrize("streams", [1, 2, 4, 8])
@pytest.mark.parametrize("isa", native.isas())
def test_reading_takes_time_in_every_form(isa: str, streams: int) -> None:
    times = native.time_reading(native.Pool(2), isa, native.allocate(1 << 20, True), 2, streams, 1024, 3)
    assert len(times) == 3
    assert all(seconds > 0 for seconds in times)


def test_the_size_of_a_cache_is_that_of_its_data(tmp_path: Path) -> None:
    for i, (level, kind, size) in enumerate([(1, "Data", "48K"), (2, "Instruction", "64K"), (2, "Unified", "1024K")]):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    assert limits.cache_size(2, tmp_path) == 1 << 20
    assert limits.cache_size(3, tmp_path) is None
