"""EXAONE 3 and 3.5, Deep: Llama with rotary positions in halves, under names of its own.

transformers has no such class: it is checked against Llama with the weights renamed. Reference:
https://arxiv.org/abs/2408.03541, https://huggingface.co/LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct `modeling_exaone.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Config
from puna.graph import Tensor

HF_CLASSES = ("ExaoneForCausalLM",)
KNOWN = (
    "LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct",
    "LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct",
    "LGAI-EXAONE/EXAONE-Deep-7.8B",
)
HF_DEFAULTS = {"activation_function": "silu", "layer_norm_epsilon": 1e-5, "rope_theta": 10000.0}
HF_REQUIRES = {"activation_function": ("silu",), "layer_types": (None, "full_attention")}
Hparams = llama.Hparams
Block = llama.Block
Network = llama.Network
caches = llama.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    return llama.decoder(net, hp, batch, cache, attention)


def attention(block: Any, hp: Hparams, x: Tensor, frequencies: Tensor, batch: Batch, kv: KV) -> Tensor:
    """(T, hidden) to (T, hidden)."""
    q, k, v = nn.qkv(x, block, hp.n_heads, hp.n_kv_heads)
    q, k = (nn.rope(y, batch.positions, frequencies, style="halves", scale=hp.rope.scale) for y in (q, k))
    return nn.linear(nn.attention(q, k, v, batch, kv, scale=hp.head_dim**-0.5), block.attn_output)


feed_forward = llama.feed_forward
HF_NAMES = {
    "transformer.wte": "token_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "transformer.h.{}.ln_1": "blk.{}.attn_norm",
    "transformer.h.{}.attn.attention.q_proj": "blk.{}.attn_q",
    "transformer.h.{}.attn.attention.k_proj": "blk.{}.attn_k",
    "transformer.h.{}.attn.attention.v_proj": "blk.{}.attn_v",
    "transformer.h.{}.attn.attention.out_proj": "blk.{}.attn_output",
    "transformer.h.{}.ln_2": "blk.{}.ffn_norm",
    "transformer.h.{}.mlp.c_fc_0": "blk.{}.ffn_gate",
    "transformer.h.{}.mlp.c_fc_1": "blk.{}.ffn_up",
    "transformer.h.{}.mlp.c_proj": "blk.{}.ffn_down",
}
HF_IGNORED = ("attn.attention.rotary.inv_freq", "attn.attention.rotary_emb.inv_freq", "transformer.rotary.inv_freq")
extra_tensors = llama.extra_tensors


def hparams_from_hf(config: Config) -> Hparams:
    """Its norms are RMS norms, whatever the name of their epsilon says; there is no window."""
    of_its_own = {"rms_norm_eps": config["layer_norm_epsilon"], "sliding_window": None}
    return Hparams.from_hf("exaone", {**config, **of_its_own})
