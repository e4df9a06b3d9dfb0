"""The feed-forward of mixtures of experts: its weights as ggml names them, its settings, HF names most models share.

It is part of architectures and none itself; which settings a model has, its `Hparams` say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from puna import nn
from puna.errors import ModelError
from puna.graph import Tensor
from puna.nn import Weight


@dataclass(frozen=True)
class Dense:
    """One feed-forward network."""

    ffn_gate: Weight
    ffn_up: Weight
    ffn_down: Weight


@dataclass(frozen=True)
class Experts:
    """Many of them, (experts, rows, columns) each, the router that chooses, its bias, and one that always serves.

    The one that always serves (shexp) may have a gate of its own, (1, hidden) or (hidden,).
    """

    ffn_gate_inp: Weight
    exp_probs_b: Annotated[Weight | None, "exp_probs_b.bias"]
    ffn_gate_exps: Weight
    ffn_up_exps: Weight
    ffn_down_exps: Weight
    ffn_gate_inp_shexp: Weight | None
    ffn_gate_shexp: Weight | None
    ffn_up_shexp: Weight | None
    ffn_down_shexp: Weight | None


SETTINGS = {
    "gating": "gating",
    "groups": "n_expert_groups",
    "groups_used": "n_expert_groups_used",
    "normed": "expert_norm",
    "scale": "expert_scale",
    "eps": "expert_norm_eps",
}
"""What `nn.route` takes, by the field that says it; without the field, what `nn.route` takes it to be."""


def feed_forward(ffn: Any, hp: Any, x: Tensor) -> Tensor:
    """(T, hidden) to (T, hidden), by the one network or by the chosen experts."""
    if not isinstance(ffn, Experts):
        return dense(x, ffn.ffn_gate, ffn.ffn_up, ffn.ffn_down)
    if not hp.n_experts_used:
        raise ModelError("there are experts, but the number that is used, 'expert_used_count', is not said")
    settings = {name: getattr(hp, field) for name, field in SETTINGS.items() if hasattr(hp, field)}
    ids, shares = nn.route(nn.linear(x, ffn.ffn_gate_inp), hp.n_experts_used, bias=ffn.exp_probs_b, **settings)
    y = nn.gated_experts(x, ids, shares, ffn.ffn_gate_exps, ffn.ffn_up_exps, ffn.ffn_down_exps)
    return y + shared(ffn, x) if ffn.ffn_gate_shexp else y


def dense(x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
    """Gated SiLU: (T, hidden) to (T, hidden)."""
    return nn.linear(nn.silu_mul(nn.linear(x, gate), nn.linear(x, up)), down)


def shared(ffn: Any, x: Tensor) -> Tensor:
    """The expert that always serves, times the sigmoid of its gate where it has one: (T, hidden) to (T, hidden)."""
    if not (ffn.ffn_up_shexp and ffn.ffn_down_shexp):
        raise ModelError(
            "the expert that always serves has a gate, but not both of 'ffn_up_shexp' and 'ffn_down_shexp'"
        )
    y = dense(x, ffn.ffn_gate_shexp, ffn.ffn_up_shexp, ffn.ffn_down_shexp)
    if ffn.ffn_gate_inp_shexp is None:
        return y
    gate = ffn.ffn_gate_inp_shexp
    by = nn.linear(x, gate) if len(gate.weight.shape) == 2 else (x * gate.weight).sum(1).reshape(x.shape[0], 1)
    return y * nn.sigmoid(by)


_PARTS = ("gate", "up", "down")
HF_NAMES: dict[str, str | tuple[str, ...]] = {
    "model.layers.{}.mlp.gate": "blk.{}.ffn_gate_inp",
    **{f"model.layers.{{}}.mlp.experts.{{}}.{part}_proj": f"blk.{{}}.ffn_{part}_exps" for part in _PARTS},
}
HF_SHARED = {f"model.layers.{{}}.mlp.shared_experts.{part}_proj": f"blk.{{}}.ffn_{part}_shexp" for part in _PARTS}
HF_TENSORS = {"model.layers.{}.mlp.gate.e_score_correction_bias": "blk.{}.exp_probs_b.bias"}
