"""Models that transformers does not have, written out from published formulas: float64, a token and a head at a time.

Plain on purpose, and nothing of it is Puna's: names and the arrangement of weights are those of the published code.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from golden import rwkv
from golden.cases import CASES

Array = np.ndarray[Any, Any]
Weights = Mapping[str, Array]


@dataclass(frozen=True)
class Naive:
    """`tensors`: names and shapes as published; `compute`: the last hidden states or logits (T, D) of token ids."""

    tensors: dict[str, tuple[int, ...]]
    compute: Callable[[Weights, Mapping[str, Any], list[int]], Array]


def affine(w: Weights, name: str, x: Array) -> Array:
    """x times a matrix, plus its bias if there is one."""
    y = w[f"{name}.weight"].astype(np.float64) @ x
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w: Weights, name: str, x: Array, eps: float) -> Array:
    """https://arxiv.org/abs/1607.06450"""
    mean = sum(x) / len(x)
    variance = sum((each - mean) ** 2 for each in x) / len(x)
    normed: Array = (x - mean) / math.sqrt(variance + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]
    return normed


def gelu(x: Array) -> Array:
    """https://arxiv.org/abs/1606.08415, exactly"""
    return np.array([0.5 * each * (1 + math.erf(each / math.sqrt(2))) for each in x])


def softmax(x: Array) -> Array:
    """Shares that sum to 1."""
    powers = [math.exp(each - max(x)) for each in x]
    return np.array([each / sum(powers) for each in powers])


def attended(q: list[Array], k: list[Array], v: list[Array], slope: float) -> list[Array]:
    """One head's outputs, each token seeing all; a score falls by `slope` with each position between (ALiBi)."""
    out = []
    for i, query in enumerate(q):
        scores = [query @ key / math.sqrt(len(query)) - slope * abs(i - j) for j, key in enumerate(k)]
        out.append(sum(share * value for share, value in zip(softmax(np.array(scores)), v, strict=True)))
    return out


def heads(x: list[Array], count: int) -> list[list[Array]]:
    """Vectors (T) of D as those of each head."""
    size = len(x[0]) // count
    return [[row[h * size : (h + 1) * size] for row in x] for h in range(count)]


def turned(x: Array, position: int, base: float) -> Array:
    """Rotary positions of halves, https://arxiv.org/abs/2104.09864"""
    half = len(x) // 2
    out = x.copy()
    for i in range(half):
        angle = position * base ** (-2 * i / len(x))
        out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
        out[i + half] = x[i] * math.sin(angle) + x[i + half] * math.cos(angle)
    return out


def embedded(w: Weights, norm: str, ids: list[int], eps: float) -> list[Array]:
    """A token's embedding, plus that of the first type, normed."""
    words, types = (w[f"embeddings.{kind}_embeddings.weight"].astype(np.float64) for kind in ("word", "token_type"))
    return [layer_norm(w, norm, words[i] + types[0], eps) for i in ids]


def nomic_bert_moe(w: Weights, config: Mapping[str, Any], ids: list[int]) -> Array:
    """https://arxiv.org/abs/2502.07972: every second block's network is two of several, chosen by a router."""
    eps, base, count = config["layer_norm_epsilon"], config["rotary_emb_base"], config["n_head"]
    x = embedded(w, "emb_ln", ids, eps)
    for block in range(config["n_layer"]):
        name = f"encoder.layers.{block}"
        qkv = [affine(w, f"{name}.attn.Wqkv", row).reshape(3, -1) for row in x]
        q, k, v = (heads([row[part] for row in qkv], count) for part in range(3))
        q, k = ([[turned(row, i, base) for i, row in enumerate(head)] for head in each] for each in (q, k))
        mixed = [attended(q[h], k[h], v[h], 0.0) for h in range(count)]
        for i, row in enumerate(x):
            y = affine(w, f"{name}.attn.out_proj", np.concatenate([head[i] for head in mixed]))
            y = layer_norm(w, f"{name}.norm1", row + y, eps)
            experts = block % config["moe_every_n_layers"] == 1
            z = chosen(w, f"{name}.mlp", config, y) if experts else network(w, f"{name}.mlp", y)
            x[i] = layer_norm(w, f"{name}.norm2", y + z, eps)
    return np.array(x)


def network(w: Weights, name: str, x: Array) -> Array:
    """A feed-forward network."""
    return affine(w, f"{name}.fc2", gelu(affine(w, f"{name}.fc1", x)))


def chosen(w: Weights, name: str, config: Mapping[str, Any], x: Array) -> Array:
    """The best experts, each times its share of all; their bias, which ggml has no place for, is not added."""
    shares = softmax(affine(w, f"{name}.router.layer", x))
    size, out = config["n_inner"], np.zeros(len(x))
    for expert in sorted(range(len(shares)), key=lambda e: -shares[e])[: config["moe_top_k"]]:
        ups, downs = (w[f"{name}.experts.mlp.{each}"][expert * size : (expert + 1) * size] for each in ("w1", "w2"))
        out += shares[expert] * (gelu(ups.astype(np.float64) @ x) @ downs)
    return out


def slopes(count: int) -> list[float]:
    """Of ALiBi's heads, https://arxiv.org/abs/2108.12409: a geometric series; 12 are those of 8, and 4 of 16."""
    whole = 2 ** int(math.log2(count))
    first = [2 ** (-8 / whole * (i + 1)) for i in range(whole)]
    return first if whole == count else first + slopes(2 * whole)[::2][: count - whole]


def jina_bert_v2(w: Weights, config: Mapping[str, Any], ids: list[int]) -> Array:
    """https://arxiv.org/abs/2310.19923; the model of code has further norms, and the gate in the second half."""
    eps, count = config["layer_norm_eps"], config["num_attention_heads"]
    x = embedded(w, "embeddings.LayerNorm", ids, eps)
    for block in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{block}"
        q, k, v = ([affine(w, f"{name}.attention.self.{part}", row) for row in x] for part in ("query", "key", "value"))
        of_code = f"{name}.layer_norm_1.weight" in w
        if of_code:
            q = [layer_norm(w, f"{name}.attention.self.layer_norm_q", row, eps) for row in q]
            k = [layer_norm(w, f"{name}.attention.self.layer_norm_k", row, eps) for row in k]
        parts = zip(*(heads(each, count) for each in (q, k, v)), slopes(count), strict=True)
        mixed = [attended(*part) for part in parts]
        for i, row in enumerate(x):
            y = affine(w, f"{name}.attention.output.dense", np.concatenate([head[i] for head in mixed]))
            y = layer_norm(w, f"{name}.attention.output.LayerNorm", row + y, eps)
            x[i] = of_the_code(w, name, row, y, eps) if of_code else of_texts(w, name, y, eps)
    return np.array(x)


def of_texts(w: Weights, name: str, y: Array, eps: float) -> Array:
    """The second half of a block: the gate is the first half of the matrix."""
    gate, up = affine(w, f"{name}.mlp.gated_layers", y).reshape(2, -1)
    return layer_norm(w, f"{name}.mlp.layernorm", y + affine(w, f"{name}.mlp.wo", gelu(gate) * up), eps)


def of_the_code(w: Weights, name: str, x: Array, y: Array, eps: float) -> Array:
    """The same in the model of code, where `x` is what the block began with."""
    y = layer_norm(w, f"{name}.layer_norm_1", x + y, eps)
    up, gate = affine(w, f"{name}.mlp.up_gated_layer", y).reshape(2, -1)
    return layer_norm(w, f"{name}.layer_norm_2", y + affine(w, f"{name}.mlp.down_layer", up * gelu(gate)), eps)


def _with_bias(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    ends = (("weight", 2), ("bias", 1))
    return {f"{name}.{end}": shape[:size] for name, shape in shapes.items() for end, size in ends}


def _blocks(prefix: str, *blocks: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{i}.{name}": shape for i, block in enumerate(blocks) for name, shape in block.items()}


F, E = 256, 4
"""The width of networks, and how many experts there are."""


def _embeddings(norm: str, d: int) -> dict[str, tuple[int, ...]]:
    tables = {"embeddings.word_embeddings.weight": (320, d), "embeddings.token_type_embeddings.weight": (2, d)}
    return tables | _with_bias({norm: (d,)})


def _nomic(d: int) -> dict[str, tuple[int, ...]]:
    every = _with_bias({"attn.Wqkv": (3 * d, d), "attn.out_proj": (d, d), "norm1": (d,), "norm2": (d,)})
    dense = every | _with_bias({"mlp.fc1": (F, d), "mlp.fc2": (d, F)})
    experts = every | {"mlp.router.layer.weight": (E, d), "mlp.experts.bias": (d,)}
    experts |= {"mlp.experts.mlp.w1": (E * F, d), "mlp.experts.mlp.w2": (E * F, d)}
    return _embeddings("emb_ln", d) | _blocks("encoder.layers", *[dense, experts] * 2)


def _jina(d: int, vectors: str, gated: str, down: str) -> dict[str, tuple[int, ...]]:
    block = _with_bias({f"attention.self.{part}": (d, d) for part in ("query", "key", "value")})
    block |= _with_bias({"attention.output.dense": (d, d), "attention.output.LayerNorm": (d,), down: (d, F)})
    block |= _with_bias(dict.fromkeys(vectors.split(), (d,))) | {f"{gated}.weight": (2 * F, d)}
    return _embeddings("embeddings.LayerNorm", d) | _blocks("encoder.layer", *[block] * 2)


OF_CODE = "attention.self.layer_norm_q attention.self.layer_norm_k layer_norm_1 layer_norm_2"
NAIVE = {
    "nomic_bert_moe": Naive(_nomic(256), nomic_bert_moe),
    "jina_bert_v2": Naive(_jina(256, "mlp.layernorm", "mlp.gated_layers", "mlp.wo"), jina_bert_v2),
    "jina_bert_v2_code": Naive(_jina(192, OF_CODE, "mlp.up_gated_layer", "mlp.down_layer"), jina_bert_v2),
    "rwkv7": Naive(rwkv.tensors(CASES["rwkv7"]), lambda w, config, ids: rwkv.Rwkv7(config, w).logits(ids)),
}
"""By case."""


def outputs(case: str, weights: Weights, ids: list[int]) -> Array:
    """The hidden states or logits (T, D) of a case, float32."""
    out: Array = NAIVE[case].compute(weights, CASES[case], ids).astype(np.float32)
    return out
