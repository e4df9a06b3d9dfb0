"""InternLM 2 and 2.5: Llama with q, k and v of each group of heads in one matrix, which a file has apart.

transformers has no such class: it is checked against Llama with the weights rearranged. InternLM 3 is a Llama.
Reference: https://arxiv.org/abs/2403.17297, https://huggingface.co/internlm/internlm2-7b `modeling_internlm2.py`.
"""

from __future__ import annotations

from puna.arch import base, llama
from puna.arch.base import Config, Transform

HF_CLASSES = ("InternLM2ForCausalLM",)
KNOWN = (
    "internlm/internlm2-chat-7b",
    "internlm/internlm2_5-7b-chat",
    "internlm/internlm2-chat-1_8b",
)
HF_DEFAULTS = llama.HF_DEFAULTS
HF_REQUIRES = llama.HF_REQUIRES
Hparams = llama.Hparams
Block = llama.Block
Network = llama.Network
caches = llama.caches
forward = llama.forward
attention = llama.attention
feed_forward = llama.feed_forward
HF_NAMES = {
    "model.tok_embeddings": "token_embd",
    "model.norm": "output_norm",
    "output": "output",
    "model.layers.{}.attention_norm": "blk.{}.attn_norm",
    "model.layers.{}.attention.wqkv": ("blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"),
    "model.layers.{}.attention.wo": "blk.{}.attn_output",
    "model.layers.{}.ffn_norm": "blk.{}.ffn_norm",
    "model.layers.{}.feed_forward.w1": "blk.{}.ffn_gate",
    "model.layers.{}.feed_forward.w2": "blk.{}.ffn_down",
    "model.layers.{}.feed_forward.w3": "blk.{}.ffn_up",
}
HF_IGNORED = llama.HF_IGNORED


def from_hf(name: str, hp: Hparams) -> tuple[Transform, ...]:
    """q, k or v of all groups, from (q, ..., k, v) of each; then ggml's pairs."""
    part = name.split(".")[-2]
    if part not in ("attn_q", "attn_k", "attn_v"):
        return ()
    q, kv = hp.n_heads * hp.head_dim, hp.n_kv_heads * hp.head_dim
    begin, end, heads = {
        "attn_q": (0, q, hp.n_heads),
        "attn_k": (q, q + kv, hp.n_kv_heads),
        "attn_v": (q + kv, q + 2 * kv, 0),
    }[part]
    taken = (base.regroup(hp.n_kv_heads, q // hp.n_kv_heads, hp.head_dim, hp.head_dim), base.rows(begin, end))
    return (*taken, base.permute_rope(heads)) if heads else taken


def hparams_from_hf(config: Config) -> Hparams:
    """No window."""
    return Hparams.from_hf("internlm2", {**config, "sliding_window": None})
