"""Models that transformers does not have, as others that compute the same: a config, and weights in its arrangement.

What is rearranged how is written out here from the published code, by name and row; nothing of it is Puna's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden.families.dense import EXAONE, INTERNLM2

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StandIn:
    """`config` of the model that transformers has; `tensors` of the published one; `weights` makes the former's."""

    config: dict[str, Any]
    tensors: dict[str, tuple[int, ...]]
    weights: Callable[[Mapping[str, Array]], dict[str, Array]]


def internlm2(published: Mapping[str, Array]) -> dict[str, Array]:
    """Llama's weights. In wqkv the q of a group of heads come first, then their k, then their v."""
    names = {"feed_forward.w1": "mlp.gate_proj", "feed_forward.w3": "mlp.up_proj", "feed_forward.w2": "mlp.down_proj"}
    names |= {"attention.wo": "self_attn.o_proj", "attention_norm": "input_layernorm"}
    names |= {"ffn_norm": "post_attention_layernorm", "model.tok_embeddings": "model.embed_tokens", "output": "lm_head"}
    out = {}
    for name, array in published.items():
        if "wqkv" in name:
            parts: dict[str, list[Array]] = {"q": [], "k": [], "v": []}
            for group in range(2):
                begin = group * 128  # two q of 32 rows, one k, one v
                parts["q"].append(array[begin : begin + 64])
                parts["k"].append(array[begin + 64 : begin + 96])
                parts["v"].append(array[begin + 96 : begin + 128])
            for part, rows in parts.items():
                out[name.replace("attention.wqkv", f"self_attn.{part}_proj")] = np.concatenate(rows)
            continue
        old = next((old for old in names if old in name), "")
        out[name.replace(old, names[old]) if old else name] = array
    return out


def exaone(published: Mapping[str, Array]) -> dict[str, Array]:
    """Llama's weights, which have other names only."""
    names = {"transformer.h.": "model.layers.", "transformer.wte": "model.embed_tokens", ".ln_1": ".input_layernorm"}
    names |= {"transformer.ln_f": "model.norm", ".ln_2": ".post_attention_layernorm", "c_fc_0": "gate_proj"}
    names |= {"c_fc_1": "up_proj", "mlp.c_proj": "mlp.down_proj", "attn.attention.": "self_attn.", "out_proj": "o_proj"}
    out = {}
    for name, array in published.items():
        renamed = name
        for old, new in names.items():
            renamed = renamed.replace(old, new)
        out[renamed] = array
    return out


def _tensors(blocks: int, of_block: dict[str, tuple[int, ...]], others: dict[str, tuple[int, ...]]) -> Any:
    return others | {name.format(i): shape for i in range(blocks) for name, shape in of_block.items()}


STAND_INS = {
    "internlm2": StandIn(
        config={**INTERNLM2, "architectures": ["LlamaForCausalLM"]},
        tensors=_tensors(
            2,
            {
                "model.layers.{}.attention.wqkv.weight": (256, 128),
                "model.layers.{}.attention.wo.weight": (128, 128),
                "model.layers.{}.attention_norm.weight": (128,),
                "model.layers.{}.ffn_norm.weight": (128,),
                "model.layers.{}.feed_forward.w1.weight": (224, 128),
                "model.layers.{}.feed_forward.w2.weight": (128, 224),
                "model.layers.{}.feed_forward.w3.weight": (224, 128),
            },
            {"model.tok_embeddings.weight": (320, 128), "model.norm.weight": (128,), "output.weight": (320, 128)},
        ),
        weights=internlm2,
    ),
    "exaone": StandIn(
        config={**EXAONE, "architectures": ["LlamaForCausalLM"]},
        tensors=_tensors(
            2,
            {
                "transformer.h.{}.attn.attention.q_proj.weight": (128, 128),
                "transformer.h.{}.attn.attention.k_proj.weight": (64, 128),
                "transformer.h.{}.attn.attention.v_proj.weight": (64, 128),
                "transformer.h.{}.attn.attention.out_proj.weight": (128, 128),
                "transformer.h.{}.ln_1.weight": (128,),
                "transformer.h.{}.ln_2.weight": (128,),
                "transformer.h.{}.mlp.c_fc_0.weight": (224, 128),
                "transformer.h.{}.mlp.c_fc_1.weight": (224, 128),
                "transformer.h.{}.mlp.c_proj.weight": (128, 224),
            },
            {"transformer.wte.weight": (320, 128), "transformer.ln_f.weight": (128,), "lm_head.weight": (320, 128)},
        ),
        weights=exaone,
    ),
}
