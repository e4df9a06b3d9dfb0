"""Meta's and Mistral's own layout: the same model written in it and in Hugging Face's gives the same GGUF tensors."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import puna
from formats.test_torch_shards import cut, write
from golden.cases import values
from golden.checkpoints import weights_of, write_checkpoint, write_safetensors
from puna.errors import ConversionError, FormatError, PunaError

Weights = dict[str, NDArray[Any]]

NAMES = (
    ("model.embed_tokens", "tok_embeddings"),
    ("model.norm", "norm"),
    ("lm_head", "output"),
    ("model.layers", "layers"),
    ("self_attn.q_proj", "attention.wq"),
    ("self_attn.k_proj", "attention.wk"),
    ("self_attn.v_proj", "attention.wv"),
    ("self_attn.o_proj", "attention.wo"),
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "feed_forward.w1"),
    ("mlp.down_proj", "feed_forward.w2"),
    ("mlp.up_proj", "feed_forward.w3"),
)
PARAMS = {"dim": 128, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5, "vocab_size": -1}
CONFIG = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 224, "rms_norm_eps": 1e-5},
    **{"max_position_embeddings": 4096, "rope_theta": 10000.0, "vocab_size": 320, "hidden_act": "silu"},
}


def as_meta(name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """A tensor by its other name; rows of q and k from halves to pairs, by a loop."""
    for ours, theirs in NAMES:
        name = name.replace(ours, theirs)
    heads = {"attention.wq.weight": 4, "attention.wk.weight": 2}.get(name.partition(".")[2].partition(".")[2], 0)
    if not heads:
        return name, array
    out, size = np.empty_like(array), len(array) // heads
    for head in range(heads):
        for i in range(size // 2):
            out[head * size + 2 * i] = array[head * size + i]
            out[head * size + 2 * i + 1] = array[head * size + size // 2 + i]
    return name, out


def weights() -> Weights:
    found = {name: array for name, array in weights_of("llama3").items() if not name.endswith(".bias")}
    return found | {"lm_head.weight": values("meta", "lm_head.weight", (320, 128))}


def hf_directory(folder: Path, **changes: Any) -> Path:
    write_checkpoint(folder, "llama3")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    write_safetensors(folder / "model.safetensors", weights())
    return folder


def meta_directory(folder: Path, params: dict[str, Any], files: int | None = 1) -> Path:
    """`files` parallel .pth files; None: one .safetensors file."""
    write_checkpoint(folder, "llama3")
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    whole = dict(as_meta(name, array) for name, array in weights().items())
    if files is None:
        write_safetensors(folder / "consolidated.safetensors", whole)
        (folder / "params.json").write_text(json.dumps(params))
    else:
        write(folder, cut(whole, files, embeddings=0), params)
    return folder


def content(folder: Path, out: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """What becomes of a directory: metadata that come from its configuration, and every tensor with its bytes."""
    puna.convert(folder, out)
    with puna.open_gguf(out) as gguf:
        config = {key: value for key, value in gguf.metadata.items() if key.startswith("llama.")}
        return config, {n: (t.shape, t.dtype.name, t.raw.tobytes()) for n, t in gguf.tensors.items()}


@pytest.mark.parametrize("files", [1, 2, None])
def test_meta_s_files_give_the_same_tensors_and_hyperparameters(tmp_path: Path, files: int | None) -> None:
    want = content(hf_directory(tmp_path / "hf"), tmp_path / "hf.gguf")
    got = content(meta_directory(tmp_path / "meta", PARAMS, files), tmp_path / "meta.gguf")
    assert got[0] == want[0]
    assert got[1] == want[1]


def test_mistral_s_params_say_more(tmp_path: Path) -> None:
    params = {**PARAMS, "hidden_dim": 224, "head_dim": 32, "rope_theta": 1e6, "sliding_window": 16, "vocab_size": 320}
    config, tensors = content(meta_directory(tmp_path / "mistral", params, None), tmp_path / "mistral.gguf")
    changes = {"rope_theta": 1e6, "sliding_window": 16, "head_dim": 32, "max_position_embeddings": 32768}
    hf = hf_directory(tmp_path / "hf", architectures=["MistralForCausalLM"], **changes)
    want = content(hf, tmp_path / "hf.gguf")
    assert config == want[0]
    assert config["llama.attention.sliding_window"] == 16
    assert tensors == want[1]


def test_llama_3_scales_its_positions(tmp_path: Path) -> None:
    params = {**PARAMS, "rope_theta": 500000.0, "use_scaled_rope": True, "multiple_of": 32, "ffn_dim_multiplier": 1.5}
    got = content(meta_directory(tmp_path / "meta", params), tmp_path / "meta.gguf")
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 8192
    changes = {"rope_theta": 500000.0, "rope_scaling": scaling, "max_position_embeddings": 131072}
    want = content(hf_directory(tmp_path / "hf", **changes), tmp_path / "hf.gguf")
    assert "rope_freqs.weight" in got[1]
    assert got == want


@pytest.mark.parametrize(
    ("more", "length", "said"),
    [
        ({}, 4096, True),
        ({"norm_eps": 1e-6}, 2048, True),
        ({"rope_theta": 500000.0}, 8192, True),
        ({"rope_theta": 500000.0, "use_scaled_rope": True}, 131072, True),
        ({"max_seq_len": 512}, 512, False),
    ],
)
def test_the_longest_context_is_assumed_aloud_where_params_do_not_say_it(
    tmp_path: Path, more: dict[str, Any], length: int, said: bool
) -> None:
    report = puna.convert(meta_directory(tmp_path / "meta", {**PARAMS, **more}), tmp_path / "m.gguf", dry_run=True)
    keys = {each.key: (each.value, each.origin) for each in report.keys}
    assumed = "assumed, as of published models with such a params.json"
    assert keys["llama.context_length"] == (str(length), assumed if said else "params.json: max_seq_len")
    warning = f"params.json does not say the longest context: {length} is {assumed}; --set llama.context_length=N "
    assert [each.startswith(warning) for each in report.warnings] == [True] * said


def test_origins_are_of_params_and_shapes_where_there_is_no_config(tmp_path: Path) -> None:
    report = puna.convert(meta_directory(tmp_path / "meta", PARAMS), tmp_path / "m.gguf", dry_run=True)
    origins = {each.key: each.origin for each in report.keys}
    assert origins["llama.embedding_length"] == "params.json: dim"
    assert origins["llama.feed_forward_length"] == "the tensors' shapes"
    assert origins["llama.rope.freq_base"] == "Meta's default"
    assert origins["general.architecture"] == "params.json"
    assert not [origin for key, origin in origins.items() if key.startswith("llama.") and "config.json" in origin]


def test_a_config_beside_consolidated_files_counts(tmp_path: Path) -> None:
    folder = meta_directory(tmp_path / "meta", PARAMS, None)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 77}))
    assert content(folder, tmp_path / "m.gguf")[0]["llama.context_length"] == 77


def test_hugging_face_s_files_come_before_consolidated_ones(tmp_path: Path) -> None:
    folder = meta_directory(tmp_path / "both", {"dim": "nonsense"}, None)
    hf = hf_directory(tmp_path / "hf")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(hf / name, folder / name)
    assert content(folder, tmp_path / "m.gguf") == content(hf, tmp_path / "hf.gguf")


BAD: list[tuple[dict[str, Any], type[PunaError], str]] = [
    ({"quantization": {"qformat_weight": "fp8"}}, ConversionError, r"params\.json has 'quantization', which is not"),
    ({"dim": None}, ConversionError, r"params\.json: 'dim' is None; a number above 0 is needed"),
    ({"n_kv_heads": 48}, FormatError, r"attention\.wk\.weight': its shape \(64, 128\) is not 48 heads"),
    ({"n_kv_heads": 0}, ConversionError, r"params\.json: 'n_kv_heads' is 0; a number above 0 is needed"),
    ({"n_heads": 4.0}, ConversionError, r"params\.json: 'n_heads' is 4\.0"),
    ({"rope_theta": "x"}, ConversionError, r"params\.json: 'rope_theta' is 'x'"),
    ({"rope_theta": math.nan}, ConversionError, r"params\.json: 'rope_theta' is nan"),
    ({"moe": [1]}, ConversionError, r"params\.json: 'moe' is \[1\]; an object is needed"),
    ({"use_scaled_rope": True, "rope_scaling_factor": "x"}, ConversionError, r"'rope_scaling_factor' is 'x'"),
]


@pytest.mark.parametrize(("change", "kind", "reason"), BAD)
def test_params_that_are_not_understood_are_named(
    tmp_path: Path, change: dict[str, Any], kind: type[PunaError], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        puna.convert(meta_directory(tmp_path / "meta", {**PARAMS, **change}), tmp_path / "m.gguf")


def test_a_tensor_of_another_layout_is_named(tmp_path: Path) -> None:
    folder = meta_directory(tmp_path / "meta", PARAMS, None)
    more = {"vision_encoder.patch.weight": np.zeros((2, 2), np.float32)}
    whole = dict(as_meta(name, array) for name, array in weights().items())
    write_safetensors(folder / "consolidated.safetensors", {**whole, **more})
    with pytest.raises(ConversionError, match=re.escape("tensor 'vision_encoder.patch.weight' is none of Meta's")):
        puna.convert(folder, tmp_path / "m.gguf")
