"""Whole models whose matrices are of one stored type: products, experts and the tied embedding."""

from types import SimpleNamespace

import numpy as np
import pytest

from arch.run import run
from conformance.running import Values, raw
from puna.backends.cpu.supports import supports
from puna.dtypes import DTYPES
from puna.graph import T, input_, weight
from puna.graph.cases.making import LINEAR_TYPES
from puna.graph.ops import apply

METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.context_length": 512,
    "llama.vocab_size": 80,
    "llama.embedding_length": 256,
    "llama.feed_forward_length": 256,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 10000.0,
}
DENSE = {"ffn_gate": (256, 256), "ffn_up": (256, 256), "ffn_down": (256, 256)}
EXPERTS = {f"{name}_exps": (3, *shape) for name, shape in DENSE.items()}
ATTENTION = {"attn_q": (256, 256), "attn_k": (128, 256), "attn_v": (128, 256), "attn_output": (256, 256)}


def stored(values, dtype):
    return Values(values.shape, DTYPES[dtype], raw(values, dtype))


def model(dtype, experts):
    """A model of one block, all matrices but the router stored in one type."""
    rng = np.random.default_rng(3)
    blocks = ATTENTION | (EXPERTS if experts else DENSE)
    shapes = {"token_embd": (80, 256)} | {f"blk.0.{name}": shape for name, shape in blocks.items()}
    tensors = {f"{name}.weight": stored(rng.normal(0, 0.06, dims).astype("f4"), dtype) for name, dims in shapes.items()}
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        tensors[f"{name}.weight"] = stored(rng.normal(1, 0.1, 256).astype("f4"), "F32")
    if experts:
        tensors["blk.0.ffn_gate_inp.weight"] = stored(rng.normal(0, 0.06, (3, 256)).astype("f4"), "F32")
    # All are used, with weights that are not far apart: a choice between two could fall either way.
    counts = {"llama.expert_count": 3, "llama.expert_used_count": 3} if experts else {}
    return SimpleNamespace(metadata=METADATA | counts, tensors=tensors)


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.parametrize("dtype", LINEAR_TYPES)
def test_a_model_of_any_type_computes_what_its_values_do(dtype, experts):
    ids = [(7 * i * i + 3) % 80 for i in range(19)]
    got, want = (run(model(dtype, experts), backend, [(ids, list(range(19)))]) for backend in ("cpu", "numpy"))
    error = np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
    assert error < 0.04  # int8 activations cost half of that


@pytest.mark.parametrize("dtype", LINEAR_TYPES)
def test_no_type_is_unpacked_to_floats(dtype):
    x, ids = input_("x", (T, 256), DTYPES["F32"]), input_("ids", (T, 2), DTYPES["I32"])
    matrix, matrices = weight("w", (16, 256), DTYPES[dtype]), weight("e", (3, 16, 256), DTYPES[dtype])
    assert supports(apply("linear", x, matrix, None))
    assert supports(apply("embedding", input_("id", (T,), DTYPES["I32"]), matrix))
    assert supports(apply("experts", x, matrices, ids, None))
