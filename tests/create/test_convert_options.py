"""Options of a conversion: shards, metadata, recipes, importance, targets, measuring, threads; and its limits."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from golden.checkpoints import weights_of, write_checkpoint, write_directory, write_safetensors, write_wide
from puna.create.checkpoint import open_checkpoint
from puna.create.edits import Text
from puna.errors import ConversionError, PunaError
from puna.formats.imatrix import Imatrix, write_imatrix
from puna.formats.mapped import MappedFile


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose rows are whole blocks of every type."""
    folder = tmp_path_factory.mktemp("wide") / "hf"
    write_wide(folder, "llama2")
    return folder


@pytest.fixture(scope="module")
def whole(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "m.gguf"
    puna.convert(wide, out)
    return out


def raws(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {n: (t.dtype.name, t.shape, t.raw.tobytes()) for n, t in puna.open_gguf(path).tensors.items()}


# ---- reproducible ---------------------------------------------------------------------------------------------------


def test_equal_checkpoints_make_equal_bytes_wherever_they_are_and_whatever_the_threads(tmp_path: Path) -> None:
    digests = set()
    for folder, threads in (("one", 1), ("two/deeper", 2), ("three", 5)):
        write_wide(tmp_path / folder, "llama2")
        out = tmp_path / f"{threads}.gguf"
        puna.convert(tmp_path / folder, out, quantize="Q4_K_M", threads=threads)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_digest_tells_other_weights_and_another_config(tmp_path: Path) -> None:
    def digest(change: str) -> str:
        folder = write_checkpoint(tmp_path / change, "llama2")
        weights = weights_of("llama2")
        if change == "weights":
            weights["model.norm.weight"][3] += 1
            write_safetensors(folder / "model.safetensors", weights)
        if change == "config":
            config = json.loads((folder / "config.json").read_text("utf-8"))
            (folder / "config.json").write_text(json.dumps({**config, "unheard_of": 1}), "utf-8")
        return puna.convert(folder, tmp_path / "m.gguf", dry_run=True).digest

    found = [digest(change) for change in ("none", "weights", "config", "nothing")]
    assert found[0] == found[3]
    assert len({*found[:3]}) == 3
    assert all(each.startswith("sha256:") and len(each) == 71 for each in found)


def test_the_name_and_the_size_follow_from_the_contents(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x", "llama2")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    names = []
    for change in ({}, {"_name_or_path": "meta-llama/Llama-3.2-1B"}, {"_name_or_path": "/home/me/llama"}):
        (folder / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
        puna.convert(folder, tmp_path / "m.gguf")
        metadata = puna.open_gguf(tmp_path / "m.gguf").metadata
        names.append(metadata["general.name"])
    assert metadata["general.size_label"] == f"{round(metadata['general.parameter_count'] / 1000)}K"
    assert names == ["llama", "Llama-3.2-1B", "llama"]


def test_only_what_has_the_tokens_of_phi_3_is_called_so(tmp_path: Path) -> None:
    """llama.cpp refuses a model by the name of phi3 without them."""
    folder = write_checkpoint(tmp_path / "x", "phi3")
    open_name = lambda: open_checkpoint(folder).metadata["general.name"]  # noqa: E731
    assert open_name() == "phi"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "me/tiny-Phi-3"}), "utf-8")
    assert open_name() == "tiny-Phi-3"
    assert any(
        "</s>, <unk>, <s>, <|endoftext|>" not in w and "</s>, <s>" in w for w in open_checkpoint(folder).warnings
    )
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    text = (folder / "tokenizer.json").read_text("utf-8")
    for ours, theirs in (("<bos>", "<s>"), ("<eos>", "</s>"), ("<pad>", "<|endoftext|>")):
        text = text.replace(ours, theirs)
    (folder / "tokenizer.json").write_text(text, "utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}), "utf-8")
    assert open_name() == "phi3"
    assert open_checkpoint(folder).warnings == ()


def test_a_scale_that_llama_cpp_does_not_know_is_said(tmp_path: Path) -> None:
    said = {scalar: _warnings(tmp_path, scalar) for scalar in (48, 60)}
    assert said[48] == ()
    assert "'query_pre_attn_scalar'" in said[60][0]


def _warnings(tmp_path: Path, scalar: int) -> tuple[str, ...]:
    return open_checkpoint(write_checkpoint(tmp_path, "gemma2", query_pre_attn_scalar=scalar)).warnings


# ---- shards ---------------------------------------------------------------------------------------------------------


def test_shards_are_named_and_numbered_as_gguf_split_does(wide: Path, whole: Path, tmp_path: Path) -> None:
    report = puna.convert(wide, tmp_path / "m.gguf", shard_size="600K")
    files = sorted(tmp_path.iterdir())
    count = len(files)
    assert count > 2
    assert [file.name for file in files] == [f"m-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
    assert report.files == tuple(map(str, files))
    total = len(puna.open_gguf(whole).tensors)
    for number, file in enumerate(files):
        reader = gguf.GGUFReader(file)
        fields = reader.fields
        split = {key: fields[f"split.{key}"] for key in ("no", "count", "tensors.count")}
        assert [field.types[0].name for field in split.values()] == ["UINT16", "UINT16", "INT32"]
        assert [int(field.parts[-1][0]) for field in split.values()] == [number, count, total]
        assert ("general.architecture" in fields) == (number == 0)
        assert 0 < sum(int(tensor.n_bytes) for tensor in reader.tensors) <= 600_000
    assert raws(files[0]) == raws(whole)
    puna.convert(files[0], tmp_path / "merged.gguf")
    assert (tmp_path / "merged.gguf").read_bytes() == whole.read_bytes()


def test_no_shard_appears_before_all_are_complete(wide: Path, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        puna.convert(wide, tmp_path / "m.gguf", shard_size="600K", on_progress=stop)
    assert list(tmp_path.iterdir()) == []


# ---- metadata -------------------------------------------------------------------------------------------------------


def test_keys_are_set_in_the_type_that_they_have_and_removed(whole: Path, tmp_path: Path) -> None:
    changes = {
        "general.name": Text("7"),
        "llama.context_length": Text("64"),
        "llama.rope.freq_base": Text("1e6"),
        "mine.list": Text("[1, 2]"),
        "mine.text": "x",
        "general.size_label": None,
    }
    puna.convert(whole, tmp_path / "m.gguf", metadata=changes)
    metadata = puna.open_gguf(tmp_path / "m.gguf").metadata
    assert metadata["general.name"] == "7"
    assert (metadata["llama.context_length"], metadata.types["llama.context_length"]) == (64, "UINT32")
    assert (metadata["llama.rope.freq_base"], metadata.types["llama.rope.freq_base"]) == (1e6, "FLOAT32")
    assert list(metadata["mine.list"]) == [1, 2]
    assert metadata["mine.text"] == "x"
    assert "general.size_label" not in metadata
    assert raws(tmp_path / "m.gguf") == raws(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.context_length": "many"}, "setting 'llama.context_length': .*'many'.*UINT32"),
        ({"llama.context_length": 2**40}, "'llama.context_length'"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "'tokenizer.ggml.tokens'"),
        ({"general.architecture": "qwen2"}, "cannot be changed"),
        ({"no.such.key": None}, "removing 'no.such.key': there is no such key"),
        ({"mine": {}}, "'mine'"),
    ],
)
def test_a_value_that_does_not_fit_is_named(changes: dict[str, Any], message: str, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=message):
        puna.convert(whole, tmp_path / "m.gguf", metadata=changes)
    assert list(tmp_path.iterdir()) == []


# ---- quantizing -----------------------------------------------------------------------------------------------------


def test_a_gguf_is_quantized_as_the_checkpoint_is(wide: Path, whole: Path, tmp_path: Path) -> None:
    puna.convert(wide, tmp_path / "a.gguf", quantize="Q4_K_M")
    puna.convert(whole, tmp_path / "b.gguf", quantize="Q4_K_M")
    assert raws(tmp_path / "a.gguf") == raws(tmp_path / "b.gguf")
    metadata = puna.open_gguf(tmp_path / "b.gguf").metadata
    assert (metadata["general.file_type"], metadata["puna.recipe"]) == (15, "Q4_K_M")


def test_a_recipe_decides_over_the_mix_and_is_recorded(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('base = "Q8_0"\n[[rule]]\nmatch = "ffn_down"\ntype = "Q6_K"\n', "utf-8")
    report = puna.convert(wide, tmp_path / "m.gguf", recipe=tmp_path / "r.toml")
    types = {name: kind for name, (kind, *_) in raws(tmp_path / "m.gguf").items()}
    assert types["blk.0.ffn_down.weight"] == "Q6_K"
    assert types["blk.0.ffn_up.weight"] == "Q8_0"
    metadata = puna.open_gguf(tmp_path / "m.gguf").metadata
    assert (metadata["general.file_type"], metadata["puna.recipe"]) == (7, "Q8_0 and a recipe")
    assert report.recipe == "Q8_0 and a recipe"


@pytest.fixture(scope="module")
def matrix(whole: Path) -> Imatrix:
    rng = np.random.default_rng(5)
    names = [n for n, t in puna.open_gguf(whole).tensors.items() if n.startswith("blk.") and len(t.shape) == 2]
    columns = {name: puna.open_gguf(whole).tensors[name].shape[-1] for name in names}
    sums = {name: rng.random((1, count), np.float32) + np.float32(0.1) for name, count in columns.items()}
    return Imatrix(sums, dict.fromkeys(names, np.array([7])), chunks=3, datasets=("words.txt",))


def test_importance_weighs_errors_and_is_recorded_as_llama_cpp_does(
    wide: Path, matrix: Imatrix, tmp_path: Path
) -> None:
    write_imatrix(tmp_path / "i.gguf", matrix)
    puna.convert(wide, tmp_path / "m.gguf", quantize="IQ2_XXS", imatrix=tmp_path / "i.gguf")
    file = puna.open_gguf(tmp_path / "m.gguf")
    name = "blk.1.ffn_down.weight"
    source = weights_source(wide)["model.layers.1.mlp.down_proj.weight"]
    want = puna.quantize(source, file.tensors[name].dtype.name, imatrix=matrix.sums[name][0] / np.float32(7))
    assert file.tensors[name].raw.tobytes() == want.tobytes()
    keys = {
        key: file.metadata[f"quantize.imatrix.{key}"] for key in ("file", "dataset", "entries_count", "chunks_count")
    }
    assert keys == {
        "file": "i.gguf",
        "dataset": "words.txt",
        "entries_count": len(matrix.sums),
        "chunks_count": 3,
    }
    assert file.metadata.types["quantize.imatrix.chunks_count"] == "UINT32"


def weights_source(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    from puna.formats.safetensors import open_safetensors

    return {name: tensor.numpy() for name, tensor in open_safetensors(folder).tensors.items()}


def test_a_type_that_needs_importance_and_has_none_is_refused_at_once(wide: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"'blk\.\d\.\w+\.weight' as IQ\w+ needs importance"):
        puna.convert(wide, tmp_path / "m.gguf", quantize="IQ2_XXS")
    assert list(tmp_path.iterdir()) == []


def test_a_target_is_kept_by_the_whole_file(wide: Path, tmp_path: Path) -> None:
    full = puna.convert(wide, tmp_path / "m.gguf", dry_run=True).nbytes
    puna.convert(wide, tmp_path / "m.gguf", target_size=full // 4)
    assert full // 6 < (tmp_path / "m.gguf").stat().st_size <= full // 4
    puna.convert(wide, tmp_path / "b.gguf", target_bpw=6)
    tensors = puna.open_gguf(tmp_path / "b.gguf").tensors.values()
    weights = sum(int(np.prod(tensor.shape)) for tensor in tensors)
    assert 5 < 8 * sum(tensor.dtype.nbytes(tensor.shape) for tensor in tensors) / weights <= 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "Q8_0", "target_bpw": 4.0}, "quantize or recipe and target_bpw decide the same"),
        ({"target_size": "1G", "target_bpw": 4.0}, "target_size and target_bpw decide the same"),
        ({"target_size": "none"}, "target size is 'none'"),
        ({"imatrix": "i.gguf"}, "imatrix is for quantizing"),
    ],
)
def test_options_that_do_not_go_together_are_named(
    options: dict[str, Any], message: str, wide: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=message):
        puna.convert(wide, tmp_path / "m.gguf", **options)


# ---- the report -----------------------------------------------------------------------------------------------------


def test_what_is_measured_is_what_was_written(wide: Path, tmp_path: Path) -> None:
    report = puna.convert(wide, tmp_path / "m.gguf", quantize="Q4_K_M", measure=True)
    file, source = puna.open_gguf(tmp_path / "m.gguf"), weights_source(wide)
    found = {tensor.name: tensor for tensor in report.tensors}
    for tensor in report.tensors:
        assert tensor.sha256 == hashlib.sha256(file.tensors[tensor.name].raw.tobytes()).hexdigest()
    down = found["blk.0.ffn_down.weight"]
    before = source["model.layers.0.mlp.down_proj.weight"].astype(np.float64)
    after = file.tensors["blk.0.ffn_down.weight"].numpy().astype(np.float64)
    assert down.drift is not None
    assert down.drift.rmse == pytest.approx(float(np.sqrt(((after - before) ** 2).mean())), rel=1e-4)
    assert down.drift.largest == pytest.approx(float(np.abs(after - before).max()), rel=1e-4)
    cosine = float((after * before).sum() / np.sqrt((after**2).sum() * (before**2).sum()))
    assert down.drift.cosine == pytest.approx(cosine, abs=1e-6)
    assert found["output_norm.weight"].drift is None
    assert found["blk.0.attn_norm.weight"].rule == "vectors stay F32: small, and read for every token"


def test_every_key_has_an_origin(wide: Path, tmp_path: Path) -> None:
    report = puna.convert(wide, tmp_path / "m.gguf", dry_run=True, metadata={"mine.key": 1})
    origins = {key.key: key.origin for key in report.keys}
    assert origins["llama.block_count"] == "config.json: num_hidden_layers"
    assert origins["llama.rope.freq_base"].startswith("config.json: rope")
    assert origins["tokenizer.ggml.tokens"] in ("tokenizer.json", "tokenizer.model")
    assert origins["mine.key"] == "asked for"
    assert all(origins.values())
    assert report.memory > 0
    assert report.estimate is not None


def test_a_tied_output_that_is_left_out_is_a_warning_that_names_the_key(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", "qwen3")
    weights = weights_of("qwen3")
    write_safetensors(
        folder / "model.safetensors", {**weights, "lm_head.weight": weights["model.embed_tokens.weight"].copy()}
    )
    report = puna.convert(folder, tmp_path / "m.gguf", dry_run=True)
    assert any("lm_head.weight is left out" in each and "'tie_word_embeddings'" in each for each in report.warnings)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["auto", "f32", "f16", "bf16"])
@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_weight_that_is_not_finite_is_named_with_its_place(
    bad: float, stored: str, dtype: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "hf", "llama2")
    weights = weights_of("llama2")
    weights["model.layers.1.self_attn.k_proj.weight"][5, 9] = bad
    turned = {
        "F32": lambda a: a,
        "F16": lambda a: a.astype(np.float16),
        "BF16": lambda a: (a.view(np.uint32) >> 16).astype(np.uint16),
    }[stored]
    write_safetensors(folder / "model.safetensors", {name: turned(array) for name, array in weights.items()})
    message = rf"'model\.layers\.1\.self_attn\.k_proj\.weight': its value at \(5, 9\) is {bad:g}"
    with pytest.raises(ConversionError, match=message):
        puna.convert(folder, tmp_path / "m.gguf", dtype=dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_cut_file_is_one_error(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", "llama2")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(PunaError, match=r"model\.safetensors"):
        puna.convert(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_a_file_that_is_cut_while_it_is_read_is_one_error(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hf"
    shutil.copytree(wide, folder)
    weights = folder / "model.safetensors"
    calls: list[int] = []
    read = MappedFile.read

    def cutting(file: MappedFile, start: int, stop: int) -> np.ndarray[Any, Any]:
        calls.append(start)
        if len(calls) == 3:
            with weights.open("r+b") as opened:
                opened.truncate(file.size // 8)
        return read(file, start, stop)

    monkeypatch.setattr(MappedFile, "read", cutting)
    with pytest.raises(PunaError, match=r"model\.safetensors: it (ends at byte|was cut|is being written to)"):
        puna.convert(folder, tmp_path / "m.gguf", threads=1)
    assert len(calls) >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_name_in_an_index_that_leaves_the_directory_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hf", "llama2")
    shutil.move(folder / "model.safetensors", tmp_path / "outside.safetensors")
    index = {"weight_map": dict.fromkeys(weights_of("llama2"), "../outside.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(PunaError):
        puna.convert(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


# ---- memory ---------------------------------------------------------------------------------------------------------

PEAK = """
import resource, subprocess, sys
code = "import puna, sys; puna.convert(*sys.argv[1:3], quantize=sys.argv[3] or None, threads=2)"
subprocess.run([sys.executable, "-c", code, *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Starts a conversion from a small process, as a process begins with the peak of the one that started it."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 280 MB, all but its header a hole, whose largest tensor has 8 MB."""
    size, blocks = 2048, 5
    config = {
        **{"architectures": ["LlamaForCausalLM"], "vocab_size": 1024, "hidden_size": size, "hidden_act": "silu"},
        **{"intermediate_size": size, "num_hidden_layers": blocks, "num_attention_heads": 16, "rms_norm_eps": 1e-5},
        **{"max_position_embeddings": 64, "rope_theta": 1e4, "tie_word_embeddings": True},
    }
    shapes = {"model.embed_tokens.weight": (1024, size), "model.norm.weight": (size,)}
    for i in range(blocks):
        for name in ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"):
            shapes[f"model.layers.{i}.{name}_proj.weight"] = (size, size)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{i}.{name}.weight"] = (size,)
    folder = write_directory(tmp_path_factory.mktemp("large") / "hf", config, {}, words=False)
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return folder


@pytest.mark.parametrize("quantize", ["", "Q8_0"])
def test_resident_memory_stays_at_the_largest_tensor_for_each_thread_and_100_mb(
    quantize: str, large: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PEAK, str(large), str(tmp_path / "m.gguf"), quantize]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = int(done.stdout) >> (10 if sys.platform == "darwin" else 0)  # kilobytes, on macOS bytes
    assert (large / "model.safetensors").stat().st_size > 250 << 20
    assert peak << 10 < 2 * (8 << 20) + (100 << 20)
