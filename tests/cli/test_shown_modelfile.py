"""create, `show --modelfile`, create: the same model, byte for byte, whatever it is made of."""

import gguf
import numpy as np
import pytest

import puna as library
from cli.tiny import HIDDEN, write_tiny
from puna import formats


def write_adapter(path):
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    rng = np.random.default_rng(0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", rng.standard_normal((2, HIDDEN), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", rng.standard_normal((HIDDEN, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def files(home, tiny):
    (home / "tiny.gguf").write_bytes(tiny.read_bytes())
    write_tiny(home / "small.gguf", general__name="Small")
    formats.write_gguf(home / "clip.gguf", {"general.architecture": "clip"}, [("v.w", (1,), "I8", b"x")])
    write_adapter(home / "lora.gguf")
    return home


EVERYTHING = '''# a comment
FROM ./tiny.gguf
from ./clip.gguf
Draft ./small.gguf
ADAPTER ./lora.gguf
TEMPLATE """{{ .System }}
{{ .Prompt }} "quoted"
"""
SYSTEM "  spaces count  "
RENDERER qwen3-coder
PARSER qwen3
REQUIRES 0.14.0
PARAMETER stop "<|end|>"
PARAMETER stop """a
b"""
PARAMETER temperature 0.25
PARAMETER top_p 1
PARAMETER num_ctx 64
PARAMETER use_mmap false
LICENSE """MIT
License"""
LICENSE BSD
MESSAGE user Grüße "you" and you
MESSAGE assistant """
"""
'''


def again(puna, home, name):
    (home / "again").write_text(puna("show", name, "--modelfile").out, encoding="utf-8")
    outcome = puna("create", "again", "-f", home / "again")
    assert outcome.status == 0, outcome.err
    return library.Store().manifest("again")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_shown_modelfile_makes_a_model_of_the_same_digest(puna, files, encoding):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (files / "Modelfile").write_bytes((mark + EVERYTHING).encode(encoding))
    assert puna("create", "first").status == 0
    first = library.Store().manifest("first")
    assert [layer.kind for layer in first.layers] == [
        *("model", "projector", "adapter", "draft", "template", "system", "license", "license", "params", "messages")
    ]
    assert again(puna, files, "first").digest == first.digest
    assert puna("create", "child", "first").status == 0
    assert library.Store().manifest("child").digest == first.digest
    assert again(puna, files, "child").digest == first.digest


def test_what_a_child_changes_is_in_its_modelfile_too(puna, files):
    (files / "Modelfile").write_text(EVERYTHING, encoding="utf-8")
    puna("create", "first")
    (files / "Modelfile").write_text("FROM first\nSYSTEM other\nPARAMETER stop x\nLICENSE mine\n")
    assert puna("create", "child").status == 0
    child = library.Store().manifest("child")
    assert len(child.all("license")) == 3
    assert again(puna, files, "child").digest == child.digest


def test_a_model_is_the_same_wherever_its_checkpoint_lies(puna, home, tmp_path_factory):
    from golden.checkpoints import write_checkpoint

    digests = set()
    for folder in (home / "one", tmp_path_factory.mktemp("elsewhere") / "two"):
        write_checkpoint(folder, "llama3")
        assert puna("create", "m", folder, "-q", "Q8_0").status == 0
        digests.add(library.Store().manifest("m").digest)
    assert len(digests) == 1
    with library.open_gguf(library.Store().model_path("m")) as made:
        assert made.metadata["puna.source.digest"].startswith("sha256:")
        assert made.metadata["puna.recipe"] == "Q8_0"


def test_shards_that_convert_wrote_make_the_model_of_the_one_file(puna, home, tiny):
    library.convert(tiny, home / "whole.gguf")
    library.convert(tiny, home / "cut.gguf", shard_size="100K")
    assert len(list(home.glob("cut-*-of-*.gguf"))) > 2
    assert puna("create", "whole", home / "whole.gguf").status == 0
    first = sorted(home.glob("cut-*-of-*.gguf"))[0]
    assert puna("create", "cut", first).status == 0
    whole, cut = (library.Store().manifest(name) for name in ("whole", "cut"))
    assert cut.layers[0].digest == whole.layers[0].digest
    for source in (first, home / "cut-folder"):
        if not source.exists():
            source.mkdir()
            for path in home.glob("cut-*-of-*.gguf"):
                path.rename(source / path.name)
        asked = (source, "a", "-p", "temperature=0", "-p", "num_predict=2", "--raw", "--backend", "numpy")
        assert puna("run", *asked).out == "bc\n"
