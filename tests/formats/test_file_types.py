import gguf

from puna.formats.file_types import FILE_TYPE_IDS
from puna.quants.recipe import FILE_TYPES


def test_mixes_have_the_numbers_of_the_gguf_package() -> None:
    known = {kind.name.removeprefix("MOSTLY_").removeprefix("ALL_"): int(kind) for kind in gguf.LlamaFileType}
    known["MXFP4"] = known["MXFP4_MOE"]
    assert {name: known.get(name) for name in FILE_TYPE_IDS} == FILE_TYPE_IDS


def test_every_mix_that_can_be_asked_for_has_a_number() -> None:
    assert set(FILE_TYPES) - set(FILE_TYPE_IDS) == set()
