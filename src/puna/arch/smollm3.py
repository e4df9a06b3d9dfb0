"""SmolLM 3: Llama in which each fourth block has no positions at all (NoPE).

Files do not say which blocks, so that other intervals, and windows, are refused. Reference:
https://huggingface.co/blog/smollm3, transformers `modeling_smollm3.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from puna import nn
from puna.arch import llama
from puna.arch.base import KV, Batch, Config
from puna.errors import ModelError
from puna.graph import Tensor

HF_CLASSES = ("SmolLM3ForCausalLM",)
KNOWN = ("HuggingFaceTB/SmolLM3-3B",)
HF_DEFAULTS = llama.HF_DEFAULTS | {"rope_theta": 2000000.0}
HF_REQUIRES = llama.HF_REQUIRES | {"use_sliding_window": (None, False)}
EVERY = 4
Hparams = llama.Hparams
Block = llama.Block
Network = llama.Network
attention = llama.attention
feed_forward = llama.feed_forward
caches = llama.caches


def forward(net: Network, hp: Hparams, batch: Batch, cache: Sequence[KV]) -> Tensor:
    """Logits (O, vocab)."""
    x = nn.embedding(batch.tokens, net.token_embd)
    frequencies = nn.frequencies(hp.rope, net.rope_freqs)
    for i, (block, kv) in enumerate(zip(net.blk, cache, strict=True)):
        turned = frequencies if turns(i) else None
        x = x + attention(block, hp, nn.rms_norm(x, block.attn_norm, hp.norm_eps), turned, batch, kv)
        x = x + feed_forward(block.ffn, nn.rms_norm(x, block.ffn_norm, hp.norm_eps))
    x = nn.rms_norm(nn.rows(x, batch.outputs), net.output_norm, hp.norm_eps)
    return nn.linear(x, net.output or net.token_embd)


def turns(block: int) -> bool:
    """Whether a block has rotary positions."""
    return (block + 1) % EVERY != 0


HF_NAMES = llama.HF_NAMES
HF_IGNORED = llama.HF_IGNORED
from_hf = llama.from_hf
extra_tensors = llama.extra_tensors


def hparams_from_hf(config: Config) -> Hparams:
    """No window; ModelError where other blocks than each fourth have no positions."""
    hp = Hparams.from_hf("smollm3", {**config, "sliding_window": None})
    every = config.get("no_rope_layer_interval") or EVERY
    said = config.get("no_rope_layers") or [(i + 1) % every != 0 for i in range(hp.n_blocks)]
    if [bool(each) for each in said[: hp.n_blocks]] != [turns(i) for i in range(hp.n_blocks)]:
        raise ModelError(f"smollm3: 'no_rope_layers' is {list(said)}; a 0 for each fourth block works")
    return hp
