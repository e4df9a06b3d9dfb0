"""SmolLM2's real weights as a Hugging Face checkpoint, and back: names and the order of rows survive."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from golden.checkpoints import write_directory
from peers import downloads

pytestmark = pytest.mark.peer

BLOCK = {
    **{"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"},
    **{"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"},
    **{"attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"},
    "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
HEADS = {"attn_q": 9, "attn_k": 3}
SIZE = 64


def halves(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows of each head from neighbours to halves: 0 2 4 ... 1 3 5 ..."""
    order = [head * SIZE + i for head in range(heads) for i in (*range(0, SIZE, 2), *range(1, SIZE, 2))]
    return rows[order]


def hf_tensor(name: str, values: np.ndarray[Any, Any]) -> tuple[str, np.ndarray[Any, Any]]:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("blk."):
        return f"{WHOLE[stem]}.{kind}", values
    _, number, part = stem.split(".")
    values = halves(values, HEADS[part]) if part in HEADS else values
    return f"model.layers.{number}.{BLOCK[part]}.{kind}", values


def test_real_weights_come_back_to_the_bit(tmp_path: Path) -> None:
    original = puna.open_gguf(downloads.smollm2())
    weights = dict(hf_tensor(name, tensor.numpy()) for name, tensor in original.tensors.items())
    config = {
        **{"architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536},
        **{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_act": "silu"},
        **{"max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0},
        "tie_word_embeddings": "lm_head.weight" not in weights,
    }
    folder = write_directory(tmp_path / "hf", config, weights, words=False)
    puna.convert(folder, tmp_path / "back.gguf")
    back = puna.open_gguf(tmp_path / "back.gguf")
    assert back.tensors.keys() == original.tensors.keys()
    for name, tensor in original.tensors.items():
        np.testing.assert_array_equal(back.tensors[name].numpy(), tensor.numpy(), err_msg=name)
    shared = [key for key in back.metadata if key.startswith("llama.") and key in original.metadata]
    assert len(shared) > 8
    assert {key: back.metadata[key] for key in shared} == {key: original.metadata[key] for key in shared}
    ids = puna.load(downloads.smollm2()).tokenizer.encode("Why is the sky blue?\nBecause")
    want = puna.load(downloads.smollm2(), backend="numpy", context_length=64).logits(ids)
    for path in (tmp_path / "back.gguf", folder):
        got = puna.load(path, backend="numpy", context_length=64).logits(ids)
        assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()
