"""RWKV's own layout, rwkv*.pth and nothing beside it but the vocabulary, told in Hugging Face's terms.

    emb.weight, head.weight, ln_out.{weight,bias}, blocks.N.{ln0,ln1,ln2}.{weight,bias}
    blocks.N.att: x_r..x_g, k_k, k_a (1, 1, hidden); r_k (heads, size); {receptance,key,value,output,ln_x}.weight
                  {w,a,v}0 (1, 1, hidden); {w,a,v,g}{1,2} (in, out)
    blocks.N.ffn: x_k (1, 1, hidden), {key,value}.weight

What config.json would say follows from names and shapes. It knows no GGUF names, and no tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from puna.create.source import RWKV, find_files
from puna.dtypes import DType, Stored
from puna.errors import ConversionError
from puna.formats.mapped import Bytes, to_values

_AT = r"blocks\.(\d+)\."
_TO = r"model.layers.\1."
NAMES: tuple[tuple[str, str], ...] = (
    (r"emb\.weight", "model.embeddings.weight"),
    (r"head\.weight", "lm_head.weight"),
    (r"ln_out\.(weight|bias)", r"model.norm.\1"),
    (_AT + r"ln0\.(weight|bias)", _TO + r"pre_norm.\2"),
    (_AT + r"ln1\.(weight|bias)", _TO + r"attn_norm.\2"),
    (_AT + r"ln2\.(weight|bias)", _TO + r"ffn_norm.\2"),
    (_AT + r"att\.(x_[rwkvag]|k_k|k_a|r_k)", _TO + r"attn.\2"),
    (_AT + r"att\.ln_x\.(weight|bias)", _TO + r"attn.g_norm.\2"),
    (_AT + r"att\.receptance\.weight", _TO + "attn.r_proj.weight"),
    (_AT + r"att\.key\.weight", _TO + "attn.k_proj.weight"),
    (_AT + r"att\.value\.weight", _TO + "attn.v_proj.weight"),
    (_AT + r"att\.output\.weight", _TO + "attn.o_proj.weight"),
    (_AT + r"att\.([wav])0", _TO + r"attn.\2_lora.lora.2.bias"),
    (_AT + r"att\.([wavg])1", _TO + r"attn.\2_lora.lora.0.weight"),
    (_AT + r"att\.([wavg])2", _TO + r"attn.\2_lora.lora.2.weight"),
    (_AT + r"ffn\.(x_k|key\.weight|value\.weight)", _TO + r"ffn.\2"),
)
"""Names of tensors there and here, as regular expressions."""

SIZES = {
    "hidden_size": ("emb.weight", 1),
    "vocab_size": ("emb.weight", 0),
    "intermediate_size": ("blocks.0.ffn.key.weight", 0),
    "head_dim": ("blocks.0.att.r_k", 1),
    "decay_low_rank_dim": ("blocks.0.att.w1", 1),
    "a_low_rank_dim": ("blocks.0.att.a1", 1),
    "gate_low_rank_dim": ("blocks.0.att.g1", 1),
    "v_low_rank_dim": ("blocks.1.att.v1", 1),
}
"""Keys of config.json, and the tensors and axes that tell them."""

SHAPES = "the tensors' shapes"
_TURNED = re.compile(_AT + r"att\.[wavg][12]")


@dataclass(frozen=True, slots=True)
class Turned:
    """A matrix that is stored as (in, out), seen as (out, in) (a `puna.dtypes.Stored`); copied when read."""

    source: Stored

    @property
    def name(self) -> str:
        """The source's own name."""
        return str(getattr(self.source, "name", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """The source's, the other way."""
        return self.source.shape[::-1]

    @property
    def dtype(self) -> DType:
        """The source's."""
        return self.source.dtype

    @property
    def raw(self) -> Bytes:
        """All bytes."""
        rows = self.source.raw.view(self.dtype.numpy).reshape(self.source.shape)
        return np.ascontiguousarray(rows.T).reshape(-1).view(np.uint8)

    def numpy(self) -> NDArray[Any]:
        """The values, float32."""
        return to_values(self.raw, self.dtype, self.shape)


def is_rwkv(root: Path) -> bool:
    """Whether a directory's weights are in this layout: a file of that name, and no config.json."""
    if (root / "config.json").is_file() or not any(RWKV.fullmatch(path.name) for path in root.glob("*.pth")):
        return False
    return bool(RWKV.fullmatch(find_files(root)[0]))


def open_rwkv(root: Path) -> tuple[dict[str, Any], Mapping[str, Stored], dict[str, str]]:
    """What config.json would say, the tensors by their Hugging Face names, and what each key was taken from.

    Nothing large is read. ConversionError names the tensor that is not understood, or the files of which one is wanted.
    """
    from puna.formats.torch_pickle import open_torch

    files = [name for name in find_files(root) if RWKV.fullmatch(name)]
    if len(files) > 1:
        raise ConversionError(f"converting {root}: which of {', '.join(files)}? a directory with one of them works")
    path = root / files[0]
    found = open_torch(path).tensors
    tensors = {_hf_name(path, name): _seen(path, name, tensor) for name, tensor in found.items()}
    config = {"architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7", "layer_norm_epsilon": 1e-5}
    config |= {key: _size(path, found, *place) for key, place in SIZES.items()}
    blocks = {int(name.split(".")[1]) for name in found if name.startswith("blocks.")}
    config |= {"num_hidden_layers": len(blocks), "tie_word_embeddings": False}
    return config, tensors, dict.fromkeys(config, SHAPES) | {"layer_norm_epsilon": "RWKV-7's own"}


def _hf_name(path: Path, name: str) -> str:
    for pattern, replacement in NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise ConversionError(f"converting {path}: tensor '{name}' is none of RWKV-7's layout, which works")


def _seen(path: Path, name: str, tensor: Stored) -> Stored:
    if not _TURNED.fullmatch(name):
        return tensor
    if len(tensor.shape) != 2 or not tensor.dtype.is_float:
        raise ConversionError(f"converting {path}: '{name}' is {tensor.dtype} {tensor.shape}; a matrix of floats works")
    return Turned(tensor)


def _size(path: Path, tensors: Mapping[str, Stored], name: str, axis: int) -> int:
    shape = tensors[name].shape if name in tensors else ()
    if len(shape) <= axis:
        raise ConversionError(f"converting {path}: there is no '{name}', or it is no matrix; fetch the file again")
    return shape[axis]
