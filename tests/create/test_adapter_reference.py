"""Adapters that PEFT itself makes and saves: Puna computes what PEFT computes, and merges to what PEFT merges to."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from golden.cases import tokens
from golden.checkpoints import write_checkpoint
from puna.create.adapters.merge import merge

pytestmark = [
    pytest.mark.reference,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Setting `save_embedding_layers`"),  # PEFT says so
]

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ALL},
    "rslora": {"target_modules": ALL, "use_rslora": True},
    "patterns": {
        "target_modules": ALL,
        "rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 8},
        "alpha_pattern": {"^model.layers.0.mlp.up_proj": 5, "q_proj": 3},
    },
    "dora": {"target_modules": ALL, "use_dora": True},
    "embedding": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "input_layernorm"]},
    "biases": {"target_modules": ["q_proj", "o_proj"], "bias": "all"},
}
RUNS = {"plain", "rslora", "patterns", "embedding"}
"""What needs no merging."""


def tuned(folder: Path, case: str, kind: str) -> Any:
    """A PEFT model of random matrices on a base in `folder`/base, saved in `folder`/lora; the lookup stays untied."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    write_checkpoint(folder / "tied", case, "current")
    base = AutoModelForCausalLM.from_pretrained(folder / "tied", dtype=torch.float32, attn_implementation="eager")
    if kind in ("embedding", "saved"):
        base.config.tie_word_embeddings = False
        base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().clone())
    base.save_pretrained(folder / "base")
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **KINDS[kind]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.normal_(std=0.1)
            elif "lora_" in name or "modules_to_save" in name or (kind == "biases" and name.endswith("bias")):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "lora")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / "tied" / name, folder / "base" / name)
    return model.eval()


def logits_of(model: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.tensor([ids])).logits[0].float().numpy())


def distance(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    return float(((got - want) ** 2).sum() / (want**2).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["llama3", "qwen2"])
def test_puna_computes_and_merges_as_peft_does(case: str, kind: str, tmp_path: Path) -> None:
    model = tuned(tmp_path, case, kind)
    ids = tokens(320)[:24]
    want = logits_of(model, ids)
    if kind in RUNS:
        ours = puna.load(tmp_path / "base", backend="numpy", kv_type="f32", adapters=[tmp_path / "lora"])
        assert distance(ours.logits(ids), want) < 1e-9
    merge(tmp_path / "base", [tmp_path / "lora"], tmp_path / "m.gguf")
    merged = puna.load(tmp_path / "m.gguf", backend="numpy", kv_type="f32")
    assert distance(merged.logits(ids), want) < 1e-9
    model.merge_and_unload().save_pretrained(tmp_path / "theirs")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "tied" / name, tmp_path / "theirs" / name)
    puna.convert(tmp_path / "theirs", tmp_path / "theirs.gguf")
    theirs = puna.open_gguf(tmp_path / "theirs.gguf").tensors
    for name, tensor in puna.open_gguf(tmp_path / "m.gguf").tensors.items():
        np.testing.assert_allclose(tensor.numpy(), theirs[name].numpy(), rtol=1e-5, atol=2e-6, err_msg=name)
