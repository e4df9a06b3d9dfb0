"""Writes PEFT adapters with nothing but NumPy, and works out what they mean by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golden.checkpoints import weights_of, write_safetensors

Array = np.ndarray[Any, Any]
LAYER = "model.layers.{}."
TARGETS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj")
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "use_dora": False, "use_rslora": False}


def matrices(shape: tuple[int, ...], rank: int, seed: int) -> tuple[Array, Array]:
    """A (rank, columns) and B (rows, rank) for a weight of `shape`."""
    rng = np.random.default_rng(seed)
    return tuple((rng.standard_normal(s) * 0.2).astype(np.float32) for s in ((rank, shape[1]), (shape[0], rank)))  # type: ignore[return-value]


def modules_of(case: str, targets: tuple[str, ...] = TARGETS, rank: int = 4) -> dict[str, tuple[Array, Array]]:
    """A and B for the targets of every block of a case, and whatever else `targets` name in full."""
    shapes = {name.removesuffix(".weight"): w.shape for name, w in weights_of(case).items() if name.endswith("weight")}
    chosen = [name for name in shapes if name.endswith(targets)]
    return {name: matrices(shapes[name], rank, i) for i, name in enumerate(chosen)}


def peft_tensors(modules: Mapping[str, tuple[Array, Array]]) -> dict[str, Array]:
    """Names and shapes as PEFT saves them; of an embedding, A has a column for each token."""
    out: dict[str, Array] = {}
    for module, (a, b) in modules.items():
        lookup = module.endswith("embed_tokens")
        first, second = (b.T, a.T) if lookup else (a, b)
        kinds = ("lora_embedding_A", "lora_embedding_B") if lookup else ("lora_A.weight", "lora_B.weight")
        out |= {f"base_model.model.{module}.{kind}": m for kind, m in zip(kinds, (first, second), strict=True)}
    return out


def write_peft(folder: Path, tensors: Mapping[str, Array], **config: Any) -> Path:
    """An adapter's directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}), "utf-8")
    write_safetensors(folder / "adapter_model.safetensors", {n: np.ascontiguousarray(t) for n, t in tensors.items()})
    return folder


def folded(
    weights: Mapping[str, Array], modules: Mapping[str, tuple[Array, Array]], scales: Mapping[str, float] | float
) -> dict[str, Array]:
    """The checkpoint's weights with every change added, element for element."""
    out = dict(weights)
    for module, (a, b) in modules.items():
        scale = scales if isinstance(scales, float) else scales[module]
        change = np.einsum("or,ri->oi", b.astype(np.float64), a.astype(np.float64)) * scale
        out[f"{module}.weight"] = (weights[f"{module}.weight"] + change).astype(np.float32)
    return out
