"""Conversion streams, and leaves nothing behind where it fails."""

import subprocess
import sys
from collections import namedtuple
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from golden.checkpoints import weights_of, write_checkpoint, write_directory, write_safetensors, write_wide
from puna.errors import ConversionError

MEASURE = """
import sys, tracemalloc, puna, puna.create.convert, puna.tokenizer, puna.quants.recipe
tracemalloc.start()
puna.convert(sys.argv[1], sys.argv[2], dtype=sys.argv[3], quantize=sys.argv[4] or None)
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 68 MB whose largest tensor has 4 MB."""
    size, blocks = 1024, 4
    config = {
        **{"architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": size, "hidden_act": "silu"},
        **{"intermediate_size": size, "num_hidden_layers": blocks, "num_attention_heads": 16, "rms_norm_eps": 1e-5},
        **{"max_position_embeddings": 64, "rope_theta": 1e4, "tie_word_embeddings": True},
    }
    matrix, vector = np.full((size, size), 0.01, np.float32), np.ones(size, np.float32)
    weights = {"model.embed_tokens.weight": matrix[:1024], "model.norm.weight": vector}
    for i in range(blocks):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            weights[f"model.layers.{i}.self_attn.{name}.weight"] = matrix
        for name in ("gate_proj", "up_proj", "down_proj"):
            weights[f"model.layers.{i}.mlp.{name}.weight"] = matrix
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{i}.{name}.weight"] = vector
    return write_directory(tmp_path_factory.mktemp("large") / "hf", config, weights, words=False)


@pytest.mark.parametrize(("dtype", "quantize"), [("auto", ""), ("f16", ""), ("auto", "Q8_0")])
def test_the_peak_of_memory_is_a_few_tensors(large: Path, dtype: str, quantize: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, str(large), str(tmp_path / "m.gguf"), dtype, quantize]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert (large / "model.safetensors").stat().st_size > 100 << 20
    assert peak < 6 * (4 << 20)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_K_M"])
def test_a_value_that_a_type_cannot_hold_is_named_and_nothing_is_left(bad: float, kind: str, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    write_wide(tmp_path / "hf", "llama2")
    weights = {key: tensor.numpy().copy() for key, tensor in _source(tmp_path / "hf").items()}
    weights[name][3, 5] = bad
    write_safetensors(tmp_path / "hf/model.safetensors", weights)
    with pytest.raises(ConversionError, match=rf"'{name}'.*\(3, 5\)"):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf", quantize=kind)
    assert left(tmp_path) == ["hf"]


def _source(folder: Path) -> Any:
    from puna.formats.safetensors import open_safetensors

    return open_safetensors(folder).tensors


def test_a_value_too_large_for_f16_is_named(tmp_path: Path) -> None:
    weights = weights_of("llama2")
    weights["model.embed_tokens.weight"][7, 7] = 1e5
    write_checkpoint(tmp_path / "hf", "llama2")
    write_safetensors(tmp_path / "hf/model.safetensors", weights)
    with pytest.raises(ConversionError, match=r"'model.embed_tokens.weight': F16 cannot hold 100000"):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf", dtype="f16")
    puna.convert(tmp_path / "hf", tmp_path / "m.gguf", dtype="bf16")


class Stop(BaseException):
    """As KeyboardInterrupt, which pytest takes for itself."""


@pytest.mark.parametrize("after", [0, 1, 7])
def test_an_interruption_leaves_the_folder_as_it_was(after: int, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "hf", "llama2")
    (tmp_path / "m.gguf").write_bytes(b"the file before")
    calls: list[int] = []

    def stop(*_: object) -> None:
        calls.append(1)
        if len(calls) > after:
            raise Stop

    with pytest.raises(Stop):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf", on_progress=stop)
    assert left(tmp_path) == ["hf", "m.gguf"]
    assert (tmp_path / "m.gguf").read_bytes() == b"the file before"


def test_a_disk_without_room_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "hf", "llama2")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(ConversionError, match=r"m\.gguf: [\d,]+ bytes are needed, 1,000 are free"):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf")
    assert left(tmp_path) == ["hf"]


def test_a_disk_that_fills_up_is_one_error_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "hf", "llama2")
    monkeypatch.setattr("os.pwrite", _full)
    with pytest.raises(ConversionError, match=r"writing .*m\.gguf: No space left on device"):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf")
    assert left(tmp_path) == ["hf"]


def _full(*_: object) -> None:
    raise OSError(ENOSPC, "No space left on device")


def test_a_folder_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "hf", "llama2")
    with pytest.raises(ConversionError, match=r"writing .*nowhere"):
        puna.convert(tmp_path / "hf", tmp_path / "nowhere/m.gguf")
