"""Conversion of checkpoint directories: names, types, metadata, the report, and what is refused beforehand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from formats.torch_files import storage, tensor, zip_file
from golden.cases import values
from golden.checkpoints import config_of, recorded, weights_of, write_checkpoint, write_safetensors, write_wide
from puna.create.convert import TensorReport
from puna.errors import ConversionError, ModelError, PunaError, UnknownArchitecture

UP = "model.layers.1.mlp.up_proj.weight"


def rewrite(folder: Path, case: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The checkpoint with its weights changed."""
    write_checkpoint(folder, case)
    weights = weights_of(case)
    change(weights)
    write_safetensors(folder / "model.safetensors", weights)
    return folder


def pairs(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Row i and i + D/2 of each head side by side, by a loop."""
    out, size = np.empty_like(rows), len(rows) // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = rows[head * size + i]
            out[head * size + 2 * i + 1] = rows[head * size + size // 2 + i]
    return out


def test_llama_is_renamed_and_its_rows_are_paired(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path, "llama3"), tmp_path / "m.gguf")
    got = {name: tensor.numpy() for name, tensor in puna.open_gguf(tmp_path / "m.gguf").tensors.items()}
    want = weights_of("llama3")
    assert len(got) == len(want) + 1
    np.testing.assert_array_equal(got["token_embd.weight"], want["model.embed_tokens.weight"])
    np.testing.assert_array_equal(got["blk.1.ffn_down.weight"], want["model.layers.1.mlp.down_proj.weight"])
    np.testing.assert_array_equal(got["blk.0.ffn_norm.weight"], want["model.layers.0.post_attention_layernorm.weight"])
    np.testing.assert_array_equal(got["blk.0.attn_v.bias"], want["model.layers.0.self_attn.v_proj.bias"])
    for hf, ours, heads in (("q", "attn_q", 4), ("k", "attn_k", 2)):
        for kind in ("weight", "bias"):
            source = want[f"model.layers.0.self_attn.{hf}_proj.{kind}"]
            np.testing.assert_array_equal(got[f"blk.0.{ours}.{kind}"], pairs(source, heads))
    assert got["rope_freqs.weight"].shape == (16,)


def test_gemma_stores_one_plus_each_norm(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path, "gemma3"), tmp_path / "m.gguf")
    tensors, want = puna.open_gguf(tmp_path / "m.gguf").tensors, weights_of("gemma3")
    for ours, hf in (("blk.3.post_ffw_norm", "post_feedforward_layernorm"), ("blk.3.attn_q_norm", "self_attn.q_norm")):
        np.testing.assert_array_equal(tensors[f"{ours}.weight"].numpy(), want[f"model.layers.3.{hf}.weight"] + 1)


def test_the_file_is_read_by_the_gguf_package_with_the_usual_types(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path, "gemma3"), tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    u32, f32, string, boolean = (getattr(gguf.GGUFValueType, n) for n in ("UINT32", "FLOAT32", "STRING", "BOOL"))
    want = {
        "general.architecture": [string],
        "general.file_type": [u32],
        "gemma3.block_count": [u32],
        "gemma3.context_length": [u32],
        "gemma3.embedding_length": [u32],
        "gemma3.feed_forward_length": [u32],
        "gemma3.attention.head_count": [u32],
        "gemma3.attention.head_count_kv": [u32],
        "gemma3.attention.key_length": [u32],
        "gemma3.attention.layer_norm_rms_epsilon": [f32],
        "gemma3.attention.sliding_window": [u32],
        "gemma3.attention.sliding_window_pattern": [gguf.GGUFValueType.ARRAY, boolean],
        "gemma3.rope.freq_base": [f32],
        "gemma3.rope.freq_base_swa": [f32],
        "gemma3.rope.scaling.type": [string],
        "gemma3.rope.scaling.factor": [f32],
        "tokenizer.ggml.tokens": [gguf.GGUFValueType.ARRAY, string],
    }
    assert {key: reader.fields[key].types for key in want} == want
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {"F32"}


def test_bert_says_that_it_sees_both_ways_and_how_it_pools(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    (tmp_path / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]')
    report = puna.convert(tmp_path, tmp_path / "m.gguf")
    metadata = puna.open_gguf(tmp_path / "m.gguf").metadata
    assert (metadata["bert.attention.causal"], metadata["bert.pooling_type"]) == (False, 2)
    assert (metadata["tokenizer.ggml.token_type_count"], metadata["bert.context_length"]) == (2, 128)
    assert report.left_out == ("pooler.dense.bias", "pooler.dense.weight")


@pytest.mark.parametrize(
    ("modules", "pooling", "named"),
    [
        ([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}], {}, "'2_Dense', which has no"),
        ([{"type": "x.Pooling", "path": "1_Pooling"}], {"pooling_mode": ["mean", "median"]}, "'mean', 'median'"),
        ([{"type": "x.Pooling", "path": "../elsewhere"}], {}, "elsewhere"),
    ],
)
def test_pooling_that_is_not_understood_is_named(
    modules: list[Any], pooling: dict[str, Any], named: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, "bert")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConversionError, match=named):
        puna.convert(tmp_path, tmp_path / "m.gguf")


# ---- types ----------------------------------------------------------------------------------------------------------

SOURCES: dict[str, Callable[[Any], Any]] = {
    "F32": lambda a: a,
    "F16": lambda a: a.astype(np.float16),
    "BF16": lambda a: (a.view(np.uint32) >> 16).astype(np.uint16),
}


@pytest.mark.parametrize(
    ("source", "dtype", "matrices", "file_type"),
    [
        ("F32", "auto", "F32", 0),
        ("F16", "auto", "F16", 1),
        ("BF16", "auto", "BF16", 32),
        ("BF16", "f32", "F32", 0),
        ("BF16", "f16", "F16", 1),
        ("F32", "f16", "F16", 1),
        ("F16", "bf16", "BF16", 32),
    ],
)
def test_matrices_take_the_type_asked_for_and_vectors_stay_f32(
    source: str, dtype: str, matrices: str, file_type: int, tmp_path: Path
) -> None:
    rewrite(tmp_path, "llama3", lambda w: w.update({name: SOURCES[source](a) for name, a in w.items()}))
    puna.convert(tmp_path, tmp_path / "m.gguf", dtype=dtype)
    opened = puna.open_gguf(tmp_path / "m.gguf")
    types = {name: tensor.dtype.name for name, tensor in opened.tensors.items()}
    assert {types[name] for name in types if len(opened.tensors[name].shape) == 2} == {matrices}
    assert {types[name] for name in types if len(opened.tensors[name].shape) == 1} == {"F32"}
    assert opened.metadata["general.file_type"] == file_type
    exact = weights_of("llama3")["model.layers.0.mlp.gate_proj.weight"]
    assert np.abs(opened.tensors["blk.0.ffn_gate.weight"].numpy() - exact).max() < 2**-9


def test_quantizing_is_done_from_the_source_and_by_the_mix(tmp_path: Path) -> None:
    report = puna.convert(write_wide(tmp_path, "llama2"), tmp_path / "m.gguf", quantize="Q4_K_M")
    types = {tensor.name: tensor.dtype for tensor in report.tensors}
    assert (types["output.weight"], types["blk.0.attn_q.weight"], types["blk.0.attn_norm.weight"]) == (
        "Q6_K",
        "Q4_K",
        "F32",
    )
    tensor = puna.open_gguf(tmp_path / "m.gguf").tensors["blk.0.ffn_up.weight"]
    source = values("llama2", "model.layers.0.mlp.up_proj.weight", (512, 256))
    np.testing.assert_array_equal(tensor.raw, puna.quantize(source, types["blk.0.ffn_up.weight"]).reshape(-1))
    assert puna.open_gguf(tmp_path / "m.gguf").metadata["general.file_type"] == 15


def test_a_gguf_file_is_quantized_like_the_directory_it_came_from(tmp_path: Path) -> None:
    write_wide(tmp_path, "qwen2")
    puna.convert(tmp_path, tmp_path / "plain.gguf")
    puna.convert(tmp_path, tmp_path / "one.gguf", quantize="Q4_0")
    puna.convert(tmp_path / "plain.gguf", tmp_path / "two.gguf", quantize="Q4_0")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dtype": "q4"}, "'q4'.*auto, f32, f16, bf16"),
        ({"quantize": "Q4_Z"}, "Q4_Z"),
        ({"recipe": {}}, "recipe"),
        ({"imatrix": {}}, "imatrix"),
        ({"threads": 0}, "threads is 0"),
        ({"shard_size": "large"}, "'large'"),
    ],
)
def test_an_unknown_option_is_named(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(PunaError, match=named):
        puna.convert(write_checkpoint(tmp_path, "llama2"), tmp_path / "m.gguf", **options)
    assert not (tmp_path / "m.gguf").exists()


# ---- the report -----------------------------------------------------------------------------------------------------


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    write_wide(tmp_path / "hf", "llama2")
    dry = puna.convert(tmp_path / "hf", tmp_path / "m.gguf", quantize="Q8_0", dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    real = puna.convert(tmp_path / "hf", tmp_path / "m.gguf", quantize="Q8_0")
    assert dry.tensors == real.tensors
    assert (dry.nbytes, dry.parameters, dry.architecture) == (real.nbytes, real.parameters, "llama")
    assert real.nbytes == sum(tensor.raw.nbytes for tensor in puna.open_gguf(tmp_path / "m.gguf").tensors.values())


def test_the_report_tells_what_became_of_a_tensor(tmp_path: Path) -> None:
    report = puna.convert(write_checkpoint(tmp_path, "llama2"), tmp_path / "m.gguf", dtype="f16")
    (found,) = [tensor for tensor in report.tensors if tensor.name == "blk.1.attn_k.weight"]
    name = "model.layers.1.self_attn.k_proj.weight"
    assert found == TensorReport(
        "blk.1.attn_k.weight",
        name,
        (128, 128),
        "F32",
        "F16",
        "permute_rope(4)",
        32768,
        why="ggml turns neighbours, HF turns halves",
        rule="dtype: what was asked for",
        sources=(name,),
    )
    assert json.loads(json.dumps(report.to_dict()))["parameters"] == report.parameters


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    report = puna.convert(
        write_checkpoint(tmp_path, "qwen3"), tmp_path / "m.gguf", on_progress=lambda *call: calls.append(call)
    )
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert calls[-1][1:] == (report.nbytes, report.nbytes)


# ---- checkpoints as they come ---------------------------------------------------------------------------------------


def converted(folder: Path) -> bytes:
    puna.convert(folder, folder / "m.gguf")
    return (folder / "m.gguf").read_bytes()


def test_an_output_that_is_there_though_tied_is_left_out(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a/model", "qwen3")
    rewrite(
        tmp_path / "b/model", "qwen3", lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].copy()})
    )
    for name in "ab":
        puna.convert(tmp_path / name / "model", tmp_path / f"{name}.gguf")
    one, two = (puna.open_gguf(tmp_path / f"{name}.gguf") for name in "ab")
    assert {n: t.raw.tobytes() for n, t in one.tensors.items()} == {n: t.raw.tobytes() for n, t in two.tensors.items()}
    assert one.metadata["puna.source.digest"] != two.metadata["puna.source.digest"]
    assert puna.convert(tmp_path / "b/model", tmp_path / "m.gguf", dry_run=True).left_out == ("lm_head.weight",)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    whole, parts = write_checkpoint(tmp_path / "a/model", "qwen2"), write_checkpoint(tmp_path / "b/model", "qwen2")
    (parts / "model.safetensors").unlink()
    weights, index = weights_of("qwen2"), {}
    for number, names in enumerate((list(weights)[::2], list(weights)[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        write_safetensors(parts / file, {name: weights[name] for name in names})
        index |= dict.fromkeys(names, file)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    puna.convert(whole, tmp_path / "whole.gguf")
    puna.convert(parts, tmp_path / "parts.gguf")
    one, two = (puna.open_gguf(tmp_path / f"{name}.gguf").tensors for name in ("whole", "parts"))
    assert {name: t.raw.tobytes() for name, t in one.items()} == {name: t.raw.tobytes() for name, t in two.items()}


def test_pytorch_weights_are_read_without_torch(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a/model", "llama2")
    folder = write_checkpoint(tmp_path / "b/model", "llama2")
    (folder / "model.safetensors").unlink()
    state, storages = {}, {}
    for number, (name, array) in enumerate(weights_of("llama2").items()):
        strides = tuple(step // 4 for step in array.strides)
        state[name] = tensor(storage(str(number), array.size), array.shape, strides)
        storages[str(number)] = array.tobytes()
    (folder / "pytorch_model.bin").write_bytes(zip_file(state, storages))
    assert converted(tmp_path / "a/model") == converted(folder)


def test_a_directory_with_a_gguf_file_means_that_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama2")
    puna.convert(tmp_path, tmp_path / "m.gguf")
    (tmp_path / "model.safetensors").unlink()
    puna.convert(tmp_path, tmp_path / "n.gguf")
    assert (tmp_path / "n.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()
    with pytest.raises(ConversionError, match=r"it holds 2 GGUF models, m\.gguf, n\.gguf; name one of them"):
        puna.convert(tmp_path, tmp_path / "o.gguf")


def test_weights_of_another_format_beside_safetensors_do_not_count(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama2")
    write_safetensors(tmp_path / "consolidated.safetensors", {"layers.0.wq": np.zeros((2, 2), np.float32)})
    assert len(puna.convert(tmp_path, tmp_path / "m.gguf").tensors) == 21


def test_an_embedding_with_more_rows_than_tokens_gets_unused_tokens(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama2")
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    tokenizer["added_tokens"] = tokenizer["added_tokens"][:-1]
    known = [token for token in tokenizer["model"]["vocab"] if token != "<unk>"]
    tokenizer["model"]["vocab"] = {token: i for i, token in enumerate(known)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    puna.convert(tmp_path, tmp_path / "m.gguf")
    metadata = puna.open_gguf(tmp_path / "m.gguf").metadata
    assert (len(metadata["tokenizer.ggml.tokens"]), metadata["llama.vocab_size"]) == (320, 320)
    assert metadata["tokenizer.ggml.tokens"][319] == "[PAD319]"


def test_old_buffers_are_ignored(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(tmp_path, "llama2", lambda w: w.update({name: np.zeros(16, np.float32)}))
    assert name in puna.convert(tmp_path, tmp_path / "m.gguf").left_out


def test_position_ids_of_bert_are_ignored(tmp_path: Path) -> None:
    rewrite(tmp_path, "bert", lambda w: w.update({"embeddings.position_ids": np.arange(128)[None]}))
    assert "embeddings.position_ids" in puna.convert(tmp_path, tmp_path / "m.gguf").left_out


def test_the_window_of_the_first_mistral_is_kept(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path, "mistral", sliding_window=64), tmp_path / "m.gguf")
    assert puna.open_gguf(tmp_path / "m.gguf").metadata["llama.attention.sliding_window"] == 64


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (lambda w: w.pop(UP), ModelError, "no tensor 'blk.1.ffn_up.weight'"),
        (lambda w: w.pop("lm_head.weight"), ConversionError, "'lm_head.weight'"),
        (lambda w: w.update({"model.layers.2.mlp.up_proj.weight": w[UP]}), ModelError, "'blk.2.ffn_up.weight'"),
        (lambda w: w.update({"model.extra": w[UP]}), ConversionError, "'model.extra'"),
        (lambda w: w.update({UP: w[UP][:, :-1].copy()}), ConversionError, "'blk.1.ffn_up.weight'"),
        (lambda w: w.update({UP: w[UP][:-1].copy()}), ConversionError, "shapes do not fit"),
        (lambda w: w.update({"lm_head.weight": w["lm_head.weight"][:-1].copy()}), ConversionError, "319 rows"),
        (lambda w: w.update({UP: w[UP].astype(np.int64)}), ConversionError, "'blk.1.ffn_up.weight'.*I64"),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_proj.weight": np.zeros((126, 128), np.float32)}),
            ConversionError,
            "shapes do not fit",
        ),
        (lambda w: w.update({"model.norm.weight": np.ones(127, np.float32)}), ConversionError, "shapes do not fit"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_written(
    change: Callable[[dict[str, Any]], Any], error: type[Exception], named: str, tmp_path: Path
) -> None:
    rewrite(tmp_path / "hf", "llama2", change)
    with pytest.raises(error, match=named):
        puna.convert(tmp_path / "hf", tmp_path / "m.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"architectures": ["QwenX"]}, UnknownArchitecture, "'QwenX' is unknown; closest by its tensors: "),
        ({"architectures": None}, ConversionError, "'architectures'"),
        ({"hidden_act": "relu"}, ConversionError, "'hidden_act' is 'relu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, ConversionError, "'quantization_config'"),
        ({"rope_scaling": {"type": "spiral", "factor": 2.0}}, ModelError, "'spiral'"),
        ({"num_hidden_layers": None}, ModelError, "'num_hidden_layers"),
        ({"num_hidden_layers": 3}, ModelError, "'blk.2.attn_norm.weight'"),
        ({"vocab_size": 321}, ConversionError, "320 rows; vocab_size is 321"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3}, ConversionError, "shapes do not fit"),
        ({"hidden_size": 64}, ConversionError, "'hidden_size' is 64, but 'token_embd.weight'"),
        ({"num_hidden_layers": 10**9}, ConversionError, "'num_hidden_layers' is 1000000000"),
        ({"hidden_size": "large"}, ModelError, "'hidden_size'"),
    ],
)
def test_a_config_that_does_not_fit_is_named(
    change: dict[str, Any], error: type[Exception], named: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=named):
        puna.convert(write_checkpoint(tmp_path, "llama2", **change), tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("text", "error"),
    [("{", ConversionError), ("[" * 100_000, ConversionError), ("[]", ConversionError), (None, ConversionError)],
)
def test_a_config_that_is_none_is_an_error(text: str | None, error: type[Exception], tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama2")
    (tmp_path / "config.json").unlink()
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(error, match=r"config\.json"):
        puna.convert(tmp_path, tmp_path / "m.gguf")


def test_a_directory_without_weights_is_an_error(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama2")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"no weights; model\*\.safetensors"):
        puna.convert(tmp_path, tmp_path / "m.gguf")


def test_a_gguf_file_has_no_dtype_to_choose(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path, "llama2"), tmp_path / "m.gguf")
    with pytest.raises(ConversionError, match="quantize='F16'"):
        puna.convert(tmp_path / "m.gguf", tmp_path / "n.gguf", dtype="f16")


def test_the_record_of_a_case_is_its_checkpoint() -> None:
    assert set(recorded("llama2")["tensors"]) == set(weights_of("llama2"))
    assert config_of("llama2", "current")["architectures"] == ["LlamaForCausalLM"]
