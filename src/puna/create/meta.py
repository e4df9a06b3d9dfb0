"""Meta's and Mistral's own layout, params.json and consolidated*.{pth,safetensors}, told in Hugging Face's terms.

    {"dim", "n_layers", "n_heads", "n_kv_heads"?, "head_dim"?, "hidden_dim"?, "norm_eps", "vocab_size", "rope_theta"?,
     "use_scaled_rope"?, "sliding_window"?, "moe": {"num_experts", "num_experts_per_tok"}? ...}

Rows of wq and wk lie in pairs there, as ggml has them; here they are seen in Hugging Face's halves, which conversion
turns into pairs again. It knows no GGUF names, and no tokenizers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.create.source import find_files
from puna.dtypes import DType, Stored
from puna.errors import ConversionError, FormatError
from puna.formats.mapped import Bytes, to_values
from puna.formats.safetensors import open_safetensors
from puna.formats.shard_index import parse_json

KEYS: Mapping[str, str] = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "sliding_window": "sliding_window",
    "max_position_embeddings": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "tied_embeddings": "tie_word_embeddings",
}
"""Keys of params.json that config.json has by another name."""

NEEDED = ("dim", "n_layers", "n_heads", "norm_eps")
FRACTIONS = ("norm_eps", "rope_theta", "rope_scaling_factor")
"""Keys whose numbers need not be whole."""

TOLD = ("vocab_size", "use_scaled_rope", "rope_scaling_factor", "moe")
"""Keys that `_config` translates."""

IGNORED = ("multiple_of", "ffn_dim_multiplier", "max_batch_size", "model_type", "causal", "model_parallel_size")
"""Keys that the tensors' shapes tell as well, or that change no numbers."""

NAMES: tuple[tuple[str, str], ...] = (
    (r"tok_embeddings\.(weight)", r"model.embed_tokens.\1"),
    (r"norm\.(weight)", r"model.norm.\1"),
    (r"output\.(weight)", r"lm_head.\1"),
    (r"layers\.(\d+)\.attention\.w([qkvo])\.(weight|bias)", r"model.layers.\1.self_attn.\2_proj.\3"),
    (r"layers\.(\d+)\.attention_norm\.(weight)", r"model.layers.\1.input_layernorm.\2"),
    (r"layers\.(\d+)\.ffn_norm\.(weight)", r"model.layers.\1.post_attention_layernorm.\2"),
    (r"layers\.(\d+)\.feed_forward\.w1\.(weight)", r"model.layers.\1.mlp.gate_proj.\2"),
    (r"layers\.(\d+)\.feed_forward\.w2\.(weight)", r"model.layers.\1.mlp.down_proj.\2"),
    (r"layers\.(\d+)\.feed_forward\.w3\.(weight)", r"model.layers.\1.mlp.up_proj.\2"),
    (
        r"layers\.(\d+)\.(?:feed_forward|block_sparse_moe)\.(gate|experts\.\d+\.w[123])\.(weight)",
        r"model.layers.\1.block_sparse_moe.\2.\3",
    ),
)
"""Names of tensors there and here, as regular expressions."""

NOT_NEEDED = re.compile(r"(?:layers\.\d+\.attention\.(?:inner_attention\.)?)?rope\.freqs|freqs_cis")
_PAIRED = re.compile(r"layers\.\d+\.attention\.w([qk])\.(?:weight|bias)")

SHAPES = "the tensors' shapes"
ASSUMED = "assumed, as of published models with such a params.json"

LLAMA_32 = 4096
"""Models of Meta below this hidden size that scale their positions are Llama 3.2: by 32; the others by 8."""


@dataclass(frozen=True, slots=True)
class Halved:
    """A tensor whose rows are in pairs, seen in halves (a `puna.dtypes.Stored`); copied when read."""

    source: Stored
    heads: int

    @property
    def name(self) -> str:
        """The source's own name."""
        return str(getattr(self.source, "name", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's."""
        return self.source.shape

    @property
    def dtype(self) -> DType:
        """The source's."""
        return self.source.dtype

    @property
    def raw(self) -> Bytes:
        """All bytes, the rows of each head moved from pairs (2i, 2i + 1) to halves (i, i + D/2)."""
        rows = self.source.raw.reshape(self.heads, self.shape[0] // self.heads // 2, 2, -1)
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)

    def numpy(self) -> NDArray[Any]:
        """The values, float32."""
        return to_values(self.raw, self.dtype, self.shape)


def is_meta(root: Path) -> bool:
    """Whether a directory's weights are in this layout: consolidated files, and a params.json."""
    return (root / "params.json").is_file() and find_files(root)[0].startswith("consolidated")


def open_meta(root: Path) -> tuple[dict[str, Any], Mapping[str, Stored], dict[str, str]]:
    """What config.json would say, the tensors by their Hugging Face names, and what each key was taken from.

    Nothing large is read.

    ConversionError names the key or tensor that is not understood; FormatError says what is broken.
    """
    path = root / "params.json"
    params = parse_json(path.read_bytes(), path.name)
    found = _open(root)
    config = _config(path, params, found)
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"]}
    tensors: dict[str, Stored] = {}
    for name, tensor in found.items():
        if NOT_NEEDED.fullmatch(name):
            continue
        paired = _PAIRED.fullmatch(name)
        tensors[_hf_name(path, name)] = _halved(name, tensor, heads[paired[1]]) if paired else tensor
    return config, tensors, _origins(params, config)


def _origins(params: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """What each key of the config was taken from, in words."""
    said = {KEYS[key]: f"params.json: {key}" for key, value in params.items() if key in KEYS and value is not None}
    others = {
        "num_key_value_heads": "params.json: n_heads",
        "rope_theta": "Meta's default",
        "intermediate_size": SHAPES,
        "vocab_size": SHAPES,
        "max_position_embeddings": ASSUMED,
        "tie_word_embeddings": "there is no output.weight",
        "rope_scaling": "params.json: use_scaled_rope",
        "num_local_experts": "params.json: moe",
        "num_experts_per_tok": "params.json: moe",
    }
    return {key: said.get(key) or others.get(key, "params.json") for key in config}


def _open(root: Path) -> Mapping[str, Stored]:
    paths = [root / name for name in find_files(root) if name.startswith("consolidated") and "index" not in name]
    if paths[0].suffix == ".safetensors":
        return open_safetensors(paths if len(paths) > 1 else paths[0]).tensors
    from puna.formats.torch_pickle import open_torch

    return open_torch(paths).tensors


def _hf_name(path: Path, name: str) -> str:
    for pattern, replacement in NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise ConversionError(f"converting {path.parent}: tensor {name!r} is none of Meta's layout that is known")


def _halved(name: str, tensor: Stored, heads: int) -> Stored:
    if not tensor.shape or tensor.shape[0] % (2 * heads):
        raise FormatError(f"reading '{name}': its shape {tensor.shape} is not {heads} heads of pairs; see params.json")
    return Halved(tensor, heads)


def _config(path: Path, params: Mapping[str, Any], tensors: Mapping[str, Stored]) -> dict[str, Any]:
    where = f"converting {path.parent}: params.json"
    if unknown := [key for key, value in params.items() if value is not None and key not in (*KEYS, *TOLD, *IGNORED)]:
        raise ConversionError(
            f"{where} has '{unknown[0]}', which is not understood; the same model in Hugging Face's layout may work"
        )
    for key in (*NEEDED, *(key for key in (*KEYS, "rope_scaling_factor") if params.get(key) is not None)):
        if not _fits(key, params.get(key)):
            raise ConversionError(f"{where}: '{key}' is {params.get(key)!r}; a number above 0 is needed")
    if not isinstance(params.get("moe") or {}, Mapping):
        raise ConversionError(f"{where}: 'moe' is {params['moe']!r}; an object is needed")
    config = {KEYS[key]: value for key, value in params.items() if key in KEYS and value is not None}
    config.setdefault("num_key_value_heads", params["n_heads"])
    config.setdefault("rope_theta", 10000.0)
    config.setdefault("intermediate_size", _rows(where, tensors, "w1.weight"))
    config.setdefault("max_position_embeddings", _context(params))
    config["vocab_size"] = _rows(where, tensors, "tok_embeddings.weight")
    config |= {"hidden_act": "silu", "architectures": [_class(params)], "model_type": "llama"}
    if "output.weight" not in tensors:
        config.setdefault("tie_word_embeddings", True)
    return config | _rope_scaling(params) | _experts(params.get("moe"))


def _fits(key: str, value: Any) -> bool:
    if key == "tied_embeddings":
        return isinstance(value, bool)
    kinds = int | float if key in FRACTIONS else int
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 < value < math.inf


def _rows(where: str, tensors: Mapping[str, Stored], ending: str) -> int:
    """The first size of the first tensor whose name ends so: what params.json may leave out, or say as -1."""
    found = next((tensor for name, tensor in tensors.items() if name.endswith(ending)), None)
    if found is None or not found.shape:
        raise ConversionError(f"{where}: there is no tensor '*{ending}' beside it; fetch all its files")
    return found.shape[0]


def _class(params: Mapping[str, Any]) -> str:
    if params.get("moe"):
        return "MixtralForCausalLM"
    return "MistralForCausalLM" if params.get("sliding_window") else "LlamaForCausalLM"


def _context(params: Mapping[str, Any]) -> int:
    """The longest context, which params.json does not say: by what tells the published models apart."""
    if "hidden_dim" in params:
        return 32768  # Mistral's
    if params.get("use_scaled_rope"):
        return 131072  # Llama 3.1 and later
    by_theta = {500000: 8192, 1000000: 16384}  # Llama 3, Code Llama
    return by_theta.get(int(params.get("rope_theta") or 0), 2048 if params["norm_eps"] < 5e-6 else 4096)


def _rope_scaling(params: Mapping[str, Any]) -> dict[str, Any]:
    if not params.get("use_scaled_rope"):
        return {}
    factor = params.get("rope_scaling_factor") or (32 if params["dim"] < LLAMA_32 else 8)
    scaling = {"rope_type": "llama3", "factor": float(factor), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return {"rope_scaling": scaling | {"original_max_position_embeddings": 8192}}


def _experts(moe: Mapping[str, Any] | None) -> dict[str, Any]:
    if not moe:
        return {}
    return {"num_local_experts": moe.get("num_experts"), "num_experts_per_tok": moe.get("num_experts_per_tok")}
