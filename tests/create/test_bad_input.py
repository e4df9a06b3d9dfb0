"""Bad input to a conversion: one clear error, and nothing is left of what was begun."""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from create.adapters import modules_of, peft_tensors, write_peft
from golden.checkpoints import config_of, weights_of, write_checkpoint, write_safetensors
from puna.create.adapters.convert import convert_adapter
from puna.create.original import open_original
from puna.errors import ConversionError, FormatError, ModelError, PunaError
from puna.formats import write_gguf

UP = "model.layers.1.mlp.up_proj.weight"


def with_value(folder: Path, value: float, name: str = UP) -> Path:
    """A checkpoint whose weight `name` has `value` as its sixth."""
    write_checkpoint(folder, "llama3")
    weights = weights_of("llama3")
    weights[name].reshape(-1)[5] = value
    write_safetensors(folder / "model.safetensors", weights)
    return folder


def test_a_number_that_rounding_would_make_infinite_is_named(tmp_path: Path) -> None:
    source = with_value(tmp_path / "hf", 3.4028234e38)
    with pytest.raises(ConversionError, match=re.escape(f"'{UP}': BF16 cannot hold 3.40282e+38, at (0, 5); F32 would")):
        puna.convert(source, tmp_path / "m.gguf", dtype="bf16")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_copied_tensor_of_a_gguf_file_is_looked_at_too(bad: float, dtype: str, tmp_path: Path) -> None:
    values = np.ones((64, 32), np.float32)
    values[3, 7] = bad
    bits = {"F32": values, "F16": values.astype("<f2"), "BF16": (values.view("<u4") >> 16).astype("<u2")}[dtype]
    path, out = tmp_path / "a.gguf", tmp_path / "b.gguf"
    write_gguf(path, {"general.architecture": "x"}, [("w", values.shape, dtype, bits)])
    with pytest.raises(ConversionError, match=rf"'w': its value at \(3, 7\) is {bad:g}; .* damaged"):
        puna.convert(path, out)
    assert not out.exists()


def test_an_infinite_scale_of_a_quantized_tensor_is_not_unpacked(tmp_path: Path) -> None:
    raw = puna.quantize(np.ones((2, 32), np.float32), "Q8_0").reshape(-1).copy()
    raw[34:36] = np.array([np.inf], "<f2").view(np.uint8)
    path = tmp_path / "a.gguf"
    write_gguf(path, {"general.architecture": "x"}, [("blk.0.ffn_up.weight", (2, 32), "Q8_0", raw)])
    for kind in ("F32", "F16", "BF16", "Q4_0"):
        with pytest.raises(PunaError, match=r"ffn_up\.weight"):
            puna.convert(path, tmp_path / "b.gguf", quantize=kind)


def changed(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")


@pytest.mark.parametrize(
    ("meddle", "message"),
    [
        (lambda path: os.truncate(path, 10_000), r"model\.safetensors: it (was cut|ends)"),
        (changed, r"model\.safetensors: it is being written to"),
    ],
)
@pytest.mark.parametrize("quantize", [None, "Q8_0"])
def test_a_source_that_somebody_writes_to_meanwhile_is_one_error(
    quantize: str | None, meddle: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "hf", "llama3")

    opened = open_original(source, "auto")
    meddle(source / "model.safetensors")
    with pytest.raises(FormatError, match=message):
        puna.convert(opened, tmp_path / "m.gguf", quantize=quantize)
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_what_was_cut_after_it_was_opened_is_an_error_not_the_end_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, {"general.architecture": "x"}, [("w", (4096, 32), "F32", np.ones((4096, 32), np.float32))])
    with puna.open_gguf(path) as opened:
        os.truncate(path, 1000)
        with pytest.raises(FormatError, match=r"a\.gguf: it was cut from \d+ bytes to 1000"):
            opened.tensors["w"].numpy()


def test_a_file_that_was_replaced_is_read_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, {"general.architecture": "x"}, [("w", (4,), "F32", np.ones(4, np.float32))])
    with puna.open_gguf(path) as opened:
        write_gguf(path, {"general.architecture": "x"}, [])
        assert opened.tensors["w"].numpy().tolist() == [1.0] * 4


@pytest.mark.parametrize("bad", ["x", [1], {"a": 1}, True, -1, math.nan, math.inf, 10**400])
@pytest.mark.parametrize("key", ["rope_theta", "factor", "high_freq_factor", "partial_rotary_factor"])
def test_a_rope_setting_that_is_no_number_is_named(key: str, bad: Any, tmp_path: Path) -> None:
    config = config_of("llama3", "published")
    changes = {"rope_scaling": config["rope_scaling"] | {key: bad}} if key in config["rope_scaling"] else {key: bad}
    with pytest.raises(ModelError, match=f"config.json: rope key '{key}' is "):
        puna.convert(write_checkpoint(tmp_path, "llama3", **changes), tmp_path / "m.gguf")


@pytest.mark.parametrize("said", ["x", 2.5, [1], {"rope_type": ["llama3"]}])
def test_rope_settings_of_another_kind_are_an_error(said: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: (the rope settings are|rope type)"):
        puna.convert(write_checkpoint(tmp_path, "llama3", rope_scaling=said), tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("case", "key", "bad"),
    [
        ("gemma3", "query_pre_attn_scalar", "x"),
        ("gemma3", "query_pre_attn_scalar", 0),
        ("gemma3", "sliding_window_pattern", 0),
        ("gemma3", "num_hidden_layers", None),
        ("deepseek_v3", "kv_lora_rank", [1]),
        ("deepseek_v3", "n_group", 0),
        ("lfm2", "block_multiple_of", None),
    ],
)
def test_a_config_value_of_another_kind_is_one_error(case: str, key: str, bad: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        puna.convert(write_checkpoint(tmp_path, case, **{key: bad}), tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("case", "key"), [("gemma3", "num_hidden_layers"), ("llama3", "hidden_size"), ("deepseek_v3", "qk_rope_head_dim")]
)
@pytest.mark.parametrize("size", [10**9, 10**30, math.inf, math.nan])
def test_a_size_that_no_tensor_has_is_refused_before_anything_is_made_of_it(
    case: str, key: str, size: float, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=rf"config\.json: '{key}' is .*, which is beyond every tensor"):
        puna.convert(write_checkpoint(tmp_path, case, **{key: size}), tmp_path / "m.gguf")


@pytest.mark.parametrize(("value", "dtype"), [(math.nan, "auto"), (math.inf, "f32"), (1e6, "f16")])
def test_an_adapter_that_is_not_finite_is_named_with_its_place(value: float, dtype: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "hf", "llama3")
    tensors = peft_tensors(modules_of("llama3"))
    tensors["base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight"][2, 3] = value
    write_peft(tmp_path / "adapter", tensors, base_model_name_or_path=str(base))
    with pytest.raises(ConversionError, match=r"'blk\.1\.attn_v\.weight\.lora_a' is not finite at \(2, 3\) as F"):
        convert_adapter(tmp_path / "adapter", tmp_path / "a.gguf", dtype=dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "hf"]


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "chat_template.jinja"])
def test_a_text_of_the_tokenizer_that_is_not_utf_8_is_named(name: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, "llama3")
    if name != "chat_template.jinja":
        (source / "tokenizer.json").unlink()
        (source / "vocab.json").write_text("{}" if name == "merges.txt" else "", "utf-8")
    (source / name).write_bytes(b"ab\xff")
    with pytest.raises(FormatError, match=rf"reading {re.escape(name)}: byte 2 is not UTF-8"):
        puna.convert(source, tmp_path / "m.gguf")


@pytest.mark.parametrize("entry", [1, {"name": "default"}, {"name": "default", "template": 5}, {"template": "x"}])
def test_a_chat_template_without_a_name_or_text_is_an_error(entry: Any, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, "llama3")
    (source / "chat_template.json").write_text(json.dumps({"chat_template": [entry]}), "utf-8")
    with pytest.raises(FormatError, match=r"chat_template\.json: chat_template: .* has no texts 'name' and 'template'"):
        puna.convert(source, tmp_path / "m.gguf")


@pytest.mark.parametrize("count", ["x", {"a": 1}, -1, 2.5, 2**40])
def test_a_count_of_token_types_that_is_none_is_named(count: Any, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path, "bert", type_vocab_size=count)
    with pytest.raises(FormatError, match=r"config\.json: 'type_vocab_size' is "):
        puna.convert(source, tmp_path / "m.gguf")
