"""Architectures nobody knows: which are built alike, a checkpoint taken as one of them, a file begun from one."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import puna
from golden.cases import CASES
from golden.checkpoints import config_of, recorded, weights_of, write_checkpoint, write_directory
from puna import arch as archs
from puna.arch.base import Architecture
from puna.cli import cli
from puna.create.structure import like_names, like_tensors
from puna.errors import ConversionError, PunaError, UnknownArchitecture
from puna.formats import write_gguf

FOO = {"architectures": ["FooForCausalLM"], "model_type": "foo"}


def renamed(folder: Path, case: str, **changes: object) -> Path:
    return write_checkpoint(folder, case, **FOO, **changes)


def with_more(folder: Path, **shapes: tuple[int, ...]) -> Path:
    """A renamed Llama whose blocks have further tensors."""
    weights = weights_of("llama2")
    for block in range(config_of("llama2", "published")["num_hidden_layers"]):
        weights |= {f"model.layers.{block}.{n.replace('__', '.')}": np.ones(s, np.float32) for n, s in shapes.items()}
    return write_directory(folder, {**config_of("llama2", "published"), **FOO}, weights, words=False)


def new_arch(*words: object) -> tuple[str, str]:
    """What the command says on stdout and stderr; its error where it fails."""
    result = CliRunner().invoke(cli, ["new-arch", *map(str, words)])
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def loaded(path: Path) -> Architecture:
    """A file that was begun, imported as what it would be in arch/."""
    spec = importlib.util.spec_from_file_location(f"puna.arch.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Architecture.of(module)


@pytest.mark.parametrize("case", CASES)
def test_every_checkpoint_is_built_like_its_own_architecture(case: str) -> None:
    own = archs.find_hf(CASES[case]["architectures"][0], CASES[case]).name
    assert own in [each.arch.name for each in like_names(recorded(case)["tensors"]) if each.share == 1]


def test_what_is_more_and_what_is_less_is_told() -> None:
    names = [n for n in recorded("qwen3")["tensors"] if "k_norm" not in n] + ["model.layers.0.mid_norm.weight"]
    found = {each.arch.name: str(each) for each in like_names(names)}
    assert found["qwen3"] == "qwen3 (1 more: model.layers.{}.mid_norm.weight; 1 less: blk.{}.attn_k_norm.weight)"


def test_an_unknown_class_is_an_error_that_names_the_closest_and_the_way(tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitecture) as error:
        puna.convert(renamed(tmp_path / "hf", "qwen3"), tmp_path / "out.gguf")
    text = str(error.value)
    assert text.startswith("Hugging Face class 'FooForCausalLM' is unknown; closest by its tensors: qwen3 (the same")
    assert f"`puna new-arch NAME --from {tmp_path / 'hf'}`" in text
    with pytest.raises(UnknownArchitecture, match="closest by its tensors: qwen3"):
        puna.load(tmp_path / "hf")


def test_an_unknown_architecture_of_a_gguf_file_is_an_error_that_names_the_closest(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "hf", "gemma2"), tmp_path / "known.gguf")
    known = puna.open_gguf(tmp_path / "known.gguf")
    kept = {**known.metadata, "general.architecture": "foo"}
    write_gguf(tmp_path / "foo.gguf", kept, list(known.tensors.items()))
    with pytest.raises(UnknownArchitecture) as error:
        _ = puna.load(tmp_path / "foo.gguf").arch
    text = str(error.value)
    assert text.startswith("foo.gguf: architecture 'foo' is unknown; closest by its tensors: gemma2 (the same tensors)")
    assert "docs/add-an-architecture.md" in text
    assert like_tensors(known.tensors)[0].arch.name == "gemma2"


def test_a_renamed_llama_is_converted_as_one_with_a_warning(tmp_path: Path) -> None:
    folder = renamed(tmp_path / "hf", "llama3")
    _, err = new_arch("foo", "--from", folder, "-o", tmp_path / "foo.gguf")
    assert "warning: 'FooForCausalLM' is unknown; tensors, shapes and config are those of 'llama'" in err
    puna.convert(write_checkpoint(tmp_path / "known", "llama3"), tmp_path / "known.gguf")
    found, expected = puna.open_gguf(tmp_path / "foo.gguf"), puna.open_gguf(tmp_path / "known.gguf")
    assert found.metadata["general.architecture"] == "llama"
    assert {n: t.raw.tobytes() for n, t in found.tensors.items()} == {
        n: t.raw.tobytes() for n, t in expected.tensors.items()
    }
    with pytest.raises(ConversionError, match=r"foo.gguf is there already; --out names another file"):
        new_arch("foo", "--from", folder, "-o", tmp_path / "foo.gguf")


def test_a_file_is_begun_where_one_is_asked_for_though_all_is_alike(tmp_path: Path) -> None:
    folder = renamed(tmp_path / "hf", "llama3")
    new_arch("foo", "--from", folder, "--like", "llama", "--file", tmp_path / "foo.py", "-o", tmp_path / "foo.gguf")
    begun = loaded(tmp_path / "foo.py")
    assert begun.hf_names == archs.find("llama").hf_names
    assert not (tmp_path / "foo.gguf").exists()


def test_what_was_converted_as_another_is_verified_as_that(tmp_path: Path) -> None:
    folder = renamed(tmp_path / "hf", "llama2")
    new_arch("foo", "--from", folder, "-o", tmp_path / "foo.gguf")
    assert puna.verify(tmp_path / "foo.gguf", folder, backend="numpy", tokens=20).ok
    with pytest.raises(UnknownArchitecture, match="FooForCausalLM"):
        puna.verify(folder)


def test_a_window_that_one_class_heeds_and_another_does_not_is_kept(tmp_path: Path) -> None:
    new_arch("foo", "--from", renamed(tmp_path / "hf", "mistral_window"), "-o", tmp_path / "foo.gguf")
    found = puna.open_gguf(tmp_path / "foo.gguf").metadata
    assert found["llama.attention.sliding_window"] == config_of("mistral_window", "published")["sliding_window"]


def test_a_config_key_that_nobody_heeds_stands_against_conversion(tmp_path: Path) -> None:
    folder = renamed(tmp_path / "hf", "llama2", embedding_swirl=12.0, unused_swirl=None)
    out, _ = new_arch("foo", "--from", folder, "--file", tmp_path / "foo.py")
    assert "not heeded: config.json's 'embedding_swirl'\n" in out
    assert "unused_swirl" not in out
    with pytest.raises(ConversionError, match=r"config key 'embedding_swirl' is '12\.0'"):
        loaded(tmp_path / "foo.py").understood({**config_of("llama2", "published"), "embedding_swirl": 12.0})


def test_a_llama_with_further_norms_begins_a_file_that_says_what_is_left(tmp_path: Path) -> None:
    size = config_of("llama2", "published")["hidden_size"]
    folder = with_more(tmp_path / "hf", mid_norm__weight=(size,), self_attn__q_norm__weight=(8,))
    path = tmp_path / "foo_bar.py"
    out, _ = new_arch("foo-bar", "--like", "llama", "--from", folder, "--file", path)
    assert "no place yet: model.layers.{}.mid_norm.weight\n" in out
    text = path.read_text("utf-8")
    assert f"    model.layers.{{}}.mid_norm.weight ({size},)\n" in text
    assert "    model.layers.{}.self_attn.q_norm.weight (8,): blk.{}.attn_q_norm.weight in" in text
    assert max(map(len, text.splitlines())) <= 120
    begun = loaded(path)
    assert (begun.name, begun.hf_classes) == ("foo-bar", ("FooForCausalLM",))
    assert begun.forward is archs.find("llama").forward
    with pytest.raises(
        ConversionError, match=r"nothing in this architecture is called 'model.layers.0.mid_norm.weight'"
    ):
        begun.targets("model.layers.0.mid_norm.weight")
    with pytest.raises(ConversionError, match=r"foo_bar.py is there already; --file names another one"):
        new_arch("foo-bar", "--like", "llama", "--from", folder, "--file", path)


def test_something_unrelated_is_like_nothing_unless_one_is_named(tmp_path: Path) -> None:
    config = {**config_of("llama2", "published"), **FOO}
    weights = {f"net.{i}.weight": np.ones((4, 4), np.float32) for i in range(3)}
    folder = write_directory(tmp_path / "hf", config, weights, words=False)
    with pytest.raises(ConversionError, match=r"new-arch: no architecture is built like it \(.*; --like ARCH begins"):
        new_arch("foo", "--from", folder, "--file", tmp_path / "foo.py")
    new_arch("foo", "--from", folder, "--file", tmp_path / "foo.py", "--like", "llama")
    assert "    net.{}.weight (4, 4)\n" in (tmp_path / "foo.py").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["llama"], "'llama' is known already"),
        (["Foo Bar"], "can be no architecture's name"),
        (["foo", "--like", "lama"], "architecture 'lama' is unknown; closest: llama"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(PunaError, match=message):
        new_arch(*words, "--from", renamed(tmp_path / "hf", "llama2"))


def test_a_known_class_needs_no_new_architecture(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="'LlamaForCausalLM' is converted already, as 'llama'"):
        new_arch("foo", "--from", write_checkpoint(tmp_path / "hf", "llama2"))
