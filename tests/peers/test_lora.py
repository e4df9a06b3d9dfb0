"""GGUF adapters that Puna writes, in llama.cpp: it loads them, and computes the same with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from create.adapters import matrices, modules_of, peft_tensors, write_peft
from golden.cases import CASES, tokens
from golden.checkpoints import write_checkpoint
from peers.test_llama_cpp import distance, logits_of, peer_of
from puna.create.adapters.convert import convert_adapter
from puna.create.adapters.merge import merge

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

BUILT_IN = {"gemma": 1e-5, "gemma2": 1e-5, "gemma3": 1e-5}
"""Where the peer reads GELU from a table of float16; elsewhere nothing is rounded."""

CHANGES: dict[str, dict[str, Any]] = {"gemma2": {"query_pre_attn_scalar": 48}, "phi3": {"sliding_window": None}}
"""The peer knows no other scale than the head's size asks for, and takes no heed of phi3's window."""

CHANGED = ("llama3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "mixtral", "command_r", "olmo2", "phi3", "lfm2")


@pytest.mark.parametrize("case", CHANGED)
def test_logits_with_an_adapter_are_the_same(case: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", case, **CHANGES.get(case, {}))
    puna.convert(base, tmp_path / "base.gguf", dtype="f32")
    lora = write_peft(tmp_path / "lora", peft_tensors(modules_of(case, ("_proj", ".w1", ".w2", ".w3"))))
    convert_adapter(lora, tmp_path / "lora.gguf", base=tmp_path / "base.gguf")
    ids = tokens(CASES[case]["vocab_size"])[:24]
    theirs = logits_of(
        peer_of(tmp_path / "base.gguf", logits_all=True, lora_path=str(tmp_path / "lora.gguf"), lora_scale=0.5), ids
    )
    adapters: Any = [(tmp_path / "lora.gguf", 0.5)]
    ours = puna.load(tmp_path / "base.gguf", backend="numpy", kv_type="f32", adapters=adapters).logits(ids)
    assert distance(ours, theirs) < BUILT_IN.get(case, 1e-6)
    merge(tmp_path / "base.gguf", adapters, tmp_path / "merged.gguf")
    assert distance(logits_of(peer_of(tmp_path / "merged.gguf", logits_all=True), ids), theirs) < 1e-6


def test_a_changed_embedding_is_looked_up_the_same(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3", tie_word_embeddings=False)
    from golden.checkpoints import weights_of, write_safetensors

    weights = weights_of("llama3")
    write_safetensors(base / "model.safetensors", {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]})
    puna.convert(base, tmp_path / "base.gguf", dtype="f32")
    changed = {"model.embed_tokens": matrices((320, 128), 4, 1), "lm_head": matrices((320, 128), 4, 2)}
    convert_adapter(write_peft(tmp_path / "lora", peft_tensors(changed)), tmp_path / "lora.gguf", base=base)
    ids = tokens(320)[:24]
    theirs = logits_of(peer_of(tmp_path / "base.gguf", logits_all=True, lora_path=str(tmp_path / "lora.gguf")), ids)
    ours = puna.load(tmp_path / "base.gguf", backend="cpu", kv_type="f32", adapters=[tmp_path / "lora.gguf"])
    assert distance(np.asarray(ours.logits(ids)), theirs) < 1e-6
