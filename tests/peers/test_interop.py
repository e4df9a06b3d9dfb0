"""What either of Puna and llama.cpp writes, the other runs: every file type, shards, edited files, importance."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import tokens
from golden.checkpoints import write_checkpoint, write_wide
from peers.test_llama_cpp import distance, logits_of, peer_of
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.imatrix import Imatrix, write_imatrix
from puna.opened import open_model
from puna.quants.mixes import FILE_TYPES

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

Array = np.ndarray[Any, Any]

LIMITS = {"F32": 1e-6, "F16": 1e-5, "BF16": 5e-4}
"""Squared error as a part of the squared logits: the peer rounds activations to 16 bits where weights have as many,"""

QUANTIZED = 3e-3
"""... and to 8 bits where they have less. A wrong reading of any of a model's matrices is more than 1e-1."""

IDS = tokens(320)[:48]


def logits_here(path: Path) -> Array:
    """Puna's numpy run."""
    return run(open_model(path), "numpy", [(IDS, list(range(len(IDS))))])


def logits_there(path: Path) -> Array:
    """llama.cpp's."""
    return logits_of(peer_of(path, logits_all=True), IDS)


def importance(path: Path) -> Imatrix:
    """Some for every matrix of a file."""
    random, sums, counts = np.random.default_rng(0), {}, {}
    with puna.open_gguf(path) as file:
        for name, tensor in file.tensors.items():
            if len(tensor.shape) > 1:
                stacked = tensor.shape[0] if len(tensor.shape) > 2 else 1
                sums[name] = (random.standard_normal((stacked, tensor.shape[-1])) ** 2 + 0.1).astype(np.float32) * 512
                counts[name] = np.full(stacked, 512)
    return Imatrix(sums, counts, chunks=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama whose rows are whole blocks of every type, in float32."""
    folder = tmp_path_factory.mktemp("plain")
    puna.convert(write_wide(folder / "hf", "llama2"), folder / "plain.gguf")
    return folder / "plain.gguf"


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with experts, all of which are used: rounding would send some rows to others."""
    folder = tmp_path_factory.mktemp("routed")
    puna.convert(write_wide(folder / "hf", "mixtral", num_experts_per_tok=5), folder / "routed.gguf")
    return folder / "routed.gguf"


@pytest.mark.parametrize("mix", FILE_TYPES)
def test_every_file_type_computes_the_same(mix: str, plain: Path, tmp_path: Path) -> None:
    puna.convert(plain, tmp_path / "m.gguf", quantize=mix, imatrix=importance(plain))
    assert distance(logits_here(tmp_path / "m.gguf"), logits_there(tmp_path / "m.gguf")) < LIMITS.get(mix, QUANTIZED)


@pytest.mark.parametrize("mix", ["MXFP4_MOE", "NVFP4", "Q4_K_M", "IQ2_XXS", "IQ4_XS"])
def test_experts_of_a_type_compute_the_same(mix: str, routed: Path, tmp_path: Path) -> None:
    puna.convert(routed, tmp_path / "m.gguf", quantize=mix, imatrix=importance(routed))
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.tensors["blk.0.ffn_up_exps.weight"].dtype.name == FILE_TYPES[mix]
    assert distance(logits_here(tmp_path / "m.gguf"), logits_there(tmp_path / "m.gguf")) < QUANTIZED


# ---- shards, and edited files ---------------------------------------------------------------------------------------


def test_shards_load_from_the_first_and_merge_again(plain: Path, tmp_path: Path) -> None:
    puna.convert(plain, tmp_path / "m.gguf", shard_size="1M")
    shards = sorted(tmp_path.glob("m-*.gguf"))
    assert len(shards) > 2
    want = logits_there(plain)
    assert np.array_equal(logits_there(shards[0]), want)
    puna.convert(shards[0], tmp_path / "merged.gguf")
    assert np.array_equal(logits_there(tmp_path / "merged.gguf"), want)


def test_a_file_with_edited_metadata_loads(plain: Path, tmp_path: Path) -> None:
    changes = {"general.name": "Edited", "llama.context_length": 128, "tokenizer.ggml.padding_token_id": None}
    puna.convert(plain, tmp_path / "m.gguf", metadata={**changes, "tokenizer.chat_template": "{{ messages }}"})
    peer = peer_of(tmp_path / "m.gguf", logits_all=True)
    assert peer.metadata["general.name"] == "Edited"
    assert peer.metadata["tokenizer.chat_template"] == "{{ messages }}"
    assert peer.metadata["llama.context_length"] == "128"
    assert "tokenizer.ggml.padding_token_id" not in peer.metadata
    assert np.array_equal(logits_of(peer, IDS), logits_there(plain))


# ---- files that llama.cpp writes ------------------------------------------------------------------------------------


def quantized_there(
    path: Path, out: Path, mix: str, imatrix: Mapping[str, Array] | None = None, **options: Any
) -> None:
    """llama.cpp's own quantizer, with values of importance by name."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPE_IDS[mix], 2
    for name, value in options.items():
        setattr(params, name, value)
    arrays = {name: np.ascontiguousarray(values, np.float32).reshape(-1) for name, values in (imatrix or {}).items()}
    entries = (llama_cpp.llama_cpp.llama_model_imatrix_data * (len(arrays) + 1))()
    for entry, (name, values) in zip(entries, arrays.items(), strict=False):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if arrays:
        params.imatrix = entries
    assert not llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), ctypes.byref(params))


@pytest.mark.parametrize("mix", ["Q4_0", "Q8_0", "Q4_K_M", "IQ3_M", "TQ2_0"])
def test_what_llama_quantize_writes_runs_here(mix: str, plain: Path, tmp_path: Path) -> None:
    quantized_there(plain, tmp_path / "m.gguf", mix)
    assert distance(logits_here(tmp_path / "m.gguf"), logits_there(tmp_path / "m.gguf")) < QUANTIZED


def test_shards_that_llama_cpp_writes_run_here(plain: Path, tmp_path: Path) -> None:
    puna.convert(plain, tmp_path / "m.gguf", shard_size="1M")
    first = min(tmp_path.glob("m-*.gguf"))
    quantized_there(first, tmp_path / "theirs", "Q8_0", keep_split=True)
    theirs = sorted(tmp_path.glob("theirs-*.gguf"))
    assert len(theirs) == len(list(tmp_path.glob("m-*.gguf")))
    puna.convert(plain, tmp_path / "whole.gguf", quantize="Q8_0")
    with puna.open_gguf(theirs[0]) as got, puna.open_gguf(tmp_path / "whole.gguf") as want:
        assert {n: (t.dtype.name, t.raw.tobytes()) for n, t in got.tensors.items()} == {
            n: (t.dtype.name, t.raw.tobytes()) for n, t in want.tensors.items()
        }
    assert np.array_equal(logits_here(theirs[0]), logits_here(tmp_path / "whole.gguf"))


@pytest.mark.parametrize("case", ["llama3", "qwen3", "gemma3", "mixtral", "deepseek_v3", "lfm2"])
def test_what_llama_cpp_saves_of_a_model_runs_here(case: str, tmp_path: Path) -> None:
    import llama_cpp

    path = tmp_path / "m.gguf"
    puna.convert(write_checkpoint(tmp_path / "hf", case), path)
    peer = peer_of(path)
    llama_cpp.llama_model_save_to_file(peer.model, str(tmp_path / "saved.gguf").encode())
    got, want = (puna.load(each, backend="numpy").logits(IDS) for each in (tmp_path / "saved.gguf", path))
    assert np.array_equal(got, want)


# ---- importance -----------------------------------------------------------------------------------------------------


def means_of_gguf(path: Path) -> dict[str, Array]:
    """An importance matrix as llama-quantize takes it from a GGUF file: sums over counts."""
    fields = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    names = [name.removesuffix(".in_sum2") for name in fields if name.endswith(".in_sum2")]
    return {name: fields[f"{name}.in_sum2"] / fields[f"{name}.counts"].reshape(-1, 1) for name in names}


def means_of_dat(path: Path) -> dict[str, Array]:
    """The same of the older form: each entry's values over its number of chunks."""
    data, out, at = path.read_bytes(), {}, 4

    def number() -> int:
        nonlocal at
        at += 4
        return int.from_bytes(data[at - 4 : at], "little")

    for _ in range(int.from_bytes(data[:4], "little")):
        length = number()
        name, at = data[at : at + length].decode(), at + length
        chunks, count = number(), number()
        out[name], at = np.frombuffer(data, "<f4", count, at) / chunks, at + 4 * count
    return out


@pytest.mark.parametrize("ending", ["gguf", "dat"])
@pytest.mark.parametrize("mix", ["Q4_0", "Q4_K_M", "IQ2_XXS", "IQ3_S", "IQ4_XS"])
def test_importance_from_our_file_makes_the_same_bytes_there(
    mix: str, ending: str, routed: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"importance.{ending}"
    write_imatrix(file, importance(routed))
    means = means_of_gguf(file) if ending == "gguf" else means_of_dat(file)
    quantized_there(routed, tmp_path / "theirs.gguf", mix, means)
    puna.convert(routed, tmp_path / "ours.gguf", quantize=mix, imatrix=file)
    with puna.open_gguf(tmp_path / "theirs.gguf") as theirs, puna.open_gguf(tmp_path / "ours.gguf") as ours:
        assert ours.tensors.keys() == theirs.tensors.keys()
        for name, tensor in ours.tensors.items():
            assert tensor.dtype == theirs.tensors[name].dtype, name
            assert tensor.raw.tobytes() == theirs.tensors[name].raw.tobytes(), name
