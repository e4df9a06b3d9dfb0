"""RWKV-7 token by token and head by head, in float64, from the published formulas; nothing of it is Puna's.

What it computes was compared with the package rwkv 0.8.32, its authors' own: the same to 2e-6 of the largest logit.
https://arxiv.org/abs/2503.14456 (section 4), with the names that checkpoints for flash-linear-attention have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rwkv7:
    """A model: its config.json and its weights."""

    config: Mapping[str, Any]
    weights: Mapping[str, Array]

    def logits(self, ids: Sequence[int]) -> Array:
        """Of every position, (len(ids), vocabulary)."""
        blocks = [Block(self, i) for i in range(self.config["num_hidden_layers"])]
        return np.array([self.token(blocks, identity) for identity in ids])

    def token(self, blocks: "Sequence[Block]", identity: int) -> Array:
        x = self.norm(self.array("model.embeddings.weight")[identity], "model.layers.0.pre_norm")
        first = None
        for block in blocks:
            seen, first = block.time_mix(self.norm(x, f"{block.prefix}attn_norm"), first)
            x = x + seen
            x = x + block.channel_mix(self.norm(x, f"{block.prefix}ffn_norm"))
        return self.array("lm_head.weight") @ self.norm(x, "model.norm")

    def array(self, name: str) -> Array:
        return self.weights[name].astype(np.float64)

    def norm(self, x: Array, name: str) -> Array:
        scale, shift = self.array(f"{name}.weight"), self.array(f"{name}.bias")
        return (x - x.mean()) / np.sqrt(x.var() + self.config["norm_eps"]) * scale + shift


class Block:
    """One block, and what it remembers: the row before, for either part, and a matrix (value, key) for each head."""

    def __init__(self, model: Rwkv7, number: int) -> None:
        self.model, self.number, self.prefix = model, number, f"model.layers.{number}."
        size, self.head = model.config["hidden_size"], model.config["head_dim"]
        self.before = {"attn": np.zeros(size), "ffn": np.zeros(size)}
        self.memories = [np.zeros((self.head, self.head)) for _ in range(size // self.head)]

    def of(self, name: str) -> Array:
        array = self.model.array(self.prefix + name)
        return array.reshape(-1) if name.startswith(("attn.x_", "ffn.x_")) else array

    def mixed(self, part: str, x: Array, names: Sequence[str]) -> list[Array]:
        """The row, moved towards the one before it by different shares of the way."""
        before, self.before[part] = self.before[part], x
        return [x + (before - x) * self.of(f"{part}.x_{name}") for name in names]

    def lora(self, name: str, x: Array, activation: Any = lambda y: y) -> Array:
        down, up = self.of(f"attn.{name}_lora.lora.0.weight"), self.of(f"attn.{name}_lora.lora.2.weight")
        out: Array = up @ activation(down @ x)
        return out if name == "g" else out + self.of(f"attn.{name}_lora.lora.2.bias")

    def time_mix(self, x: Array, first: Array | None) -> tuple[Array, Array]:
        xr, xw, xk, xv, xa, xg = self.mixed("attn", x, "rwkvag")
        r, k, v = (self.of(f"attn.{name}_proj.weight") @ y for name, y in (("r", xr), ("k", xk), ("v", xv)))
        w = np.exp(-np.exp(-0.5) * sigmoid(self.lora("w", xw, np.tanh)))
        if first is None:
            first = v
        else:
            v = v + (first - v) * sigmoid(self.lora("v", xv))
        a, g = sigmoid(self.lora("a", xa)), self.lora("g", xg, sigmoid)
        removed, k = k * self.of("attn.k_k"), k * (1 + (a - 1) * self.of("attn.k_a"))
        heads = [self.head_of(i, r, w, k, v, a, removed) for i in range(len(self.memories))]
        read, own = (np.concatenate([head[part] for head in heads]) for part in (0, 1))
        read = read * self.of("attn.g_norm.weight") + self.of("attn.g_norm.bias")
        return self.of("attn.o_proj.weight") @ ((read + own) * g), first

    def head_of(self, i: int, *rows: Array) -> tuple[Array, Array]:
        """What one head reads, normed, and what it sees of the token itself."""
        r, w, k, v, a, removed = (row[i * self.head : (i + 1) * self.head] for row in rows)
        removed = removed / np.sqrt((removed * removed).sum())
        memory = self.memories[i]
        memory = memory * w - np.outer(memory @ removed, removed * a) + np.outer(v, k)
        self.memories[i] = memory
        y = memory @ r
        normed = (y - y.mean()) / np.sqrt(y.var() + self.head * self.model.config["norm_eps"])
        return normed, (r * k * self.of("attn.r_k")[i]).sum() * v

    def channel_mix(self, x: Array) -> Array:
        (mixed,) = self.mixed("ffn", x, "k")
        y: Array = self.of("ffn.value.weight") @ np.maximum(self.of("ffn.key.weight") @ mixed, 0) ** 2
        return y


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint, and its shape."""
    size, wide, words = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = size // config["head_dim"]
    ranks = {name: config[f"{key}_low_rank_dim"] for name, key in zip("wavg", ("decay", "a", "v", "gate"), strict=True)}
    out: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (words, size), "lm_head.weight": (words, size)}
    norms = ["model.norm", "model.layers.0.pre_norm"]
    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}."
        norms += [block + name for name in ("attn_norm", "ffn_norm", "attn.g_norm")]
        out |= {f"{block}attn.x_{name}": (1, 1, size) for name in "rwkvag"}
        out |= {
            f"{block}attn.k_k": (size,),
            f"{block}attn.k_a": (size,),
            f"{block}attn.r_k": (heads, config["head_dim"]),
        }
        out |= {f"{block}attn.{name}_proj.weight": (size, size) for name in "rkvo"}
        for name, rank in ranks.items():
            if i or name != "v":
                out |= {f"{block}attn.{name}_lora.lora.0.weight": (rank, size)}
                out |= {f"{block}attn.{name}_lora.lora.2.weight": (size, rank)}
                out |= {} if name == "g" else {f"{block}attn.{name}_lora.lora.2.bias": (size,)}
        out |= {
            f"{block}ffn.x_k": (size,),
            f"{block}ffn.key.weight": (wide, size),
            f"{block}ffn.value.weight": (size, wide),
        }
    return out | {f"{name}.{part}": (size,) for name in norms for part in ("weight", "bias")}
