"""Command R7B and A: Command R with a window on three of four blocks; the fourth sees everything, without positions.

Reference: https://docs.cohere.com/docs/command-r7b, transformers `modeling_cohere2.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import nn
from puna.arch import command_r
from puna.arch.base import KV, Batch, Config, Spec
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("Cohere2ForCausalLM",)
KNOWN = ("CohereLabs/c4ai-command-r7b-12-2024", "CohereLabs/c4ai-command-a-03-2025")
HF_DEFAULTS = command_r.HF_DEFAULTS | {"sliding_window": 4096}
HF_REQUIRES = {
    "hidden_act": ("silu",),
    "layer_types": (None, "full_attention", "sliding_attention"),
    "use_qk_norm": (None, False),
    "rotary_pct": (None, 1.0),
    "position_embedding_type": (None, "rope_gptj"),
    "use_parallel_block": (None, True),
    "use_gated_activation": (None, True),
    "order_of_interleaved_layers": (None, "local_attn_first"),
}
EVERY = 4
"""Each fourth block sees everything, where a file does not say."""


@dataclass(frozen=True, kw_only=True)
class Hparams(command_r.Hparams):
    """Cohere's own. `sliding_window_pattern`: whether each block sees a window only, and knows positions."""

    sliding_window: int
    sliding_window_pattern: tuple[bool, ...] | None = None

    def slides(self, block: int) -> bool:
        """Whether a block sees a window only."""
        pattern = self.sliding_window_pattern
        if pattern and len(pattern) != self.n_blocks:
            raise ModelError(f"cohere2: the window pattern has {len(pattern)} blocks, the model {self.n_blocks}")
        return pattern[block] if pattern else (block + 1) % EVERY != 0


Block = command_r.Block
Network = command_r.Network


def caches(hp: Hparams) -> list[Spec]:
    """A window for the blocks that slide."""
    windows = (hp.sliding_window if hp.slides(i) else 0 for i in range(hp.n_blocks))
    return [Spec(hp.n_kv_heads, hp.head_dim, hp.head_dim, window) for window in windows]


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        y = nn.layer_norm(x, block.attn_norm, hp.layer_norm_eps)
        x = x + attention(block, hp, y, batch, kv, turns=hp.slides(i)) + feed_forward(block, y)
    x = nn.layer_norm(nn.rows(x, batch.outputs), net.output_norm, hp.layer_norm_eps)
    return nn.linear(x, net.output or net.token_embd) * hp.logit_scale


attention = command_r.attention
feed_forward = command_r.feed_forward
HF_NAMES = command_r.HF_NAMES


def hparams_from_hf(config: Config) -> Hparams:
    """The blocks that slide, in either spelling; said in a file only where it is not three of four."""
    blocks = range(config["num_hidden_layers"])
    every = config.get("sliding_window_pattern") or config.get("layer_switch") or EVERY
    types = config.get("layer_types") or ["sliding_attention" if (i + 1) % every else "full_attention" for i in blocks]
    pattern = [kind == "sliding_attention" for kind in types]
    usual = pattern == [(i + 1) % EVERY != 0 for i in blocks]
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    of_its_own = {"sliding_window_pattern": None if usual else pattern, "head_dim": head_dim}
    return Hparams.from_hf("cohere2", {**config, **of_its_own})
