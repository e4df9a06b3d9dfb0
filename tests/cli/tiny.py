"""A tiny llama whose answers are known: a newline is followed by a, a letter by the next one, z by the end.

Its blocks are random but weak, so that everything before a token moves the probabilities and never the best token.
"""

from pathlib import Path

import numpy as np

from golden.checkpoints import alphabet
from puna.formats import write_gguf

HIDDEN, FFN, HEADS, HEAD_DIM, BLOCKS, CONTEXT = 64, 96, 4, 16, 2, 256
SPECIAL = ("<|end|>", "<|start|>")
END, START = 256, 257
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


PATH = [ord("\n"), *range(ord("a"), ord("z") + 1), END]
CYCLE = PATH + [token for token in range(256 + len(SPECIAL)) if token not in PATH]
SUCCESSOR = dict(zip(CYCLE, [*CYCLE[1:], CYCLE[0]], strict=True))


def metadata(**more: object) -> dict[str, object]:
    sizes = {
        "block_count": BLOCKS,
        "context_length": CONTEXT,
        "embedding_length": HIDDEN,
        "feed_forward_length": FFN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": 2,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    return {
        "general.architecture": "llama",
        "general.name": "Tiny",
        **{f"llama.{name}": value for name, value in sizes.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*alphabet(), *SPECIAL],
        "tokenizer.ggml.token_type": [1] * 256 + [3] * len(SPECIAL),
        "tokenizer.ggml.merges": ["q q"],
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
        **more,
    }


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.1).astype(np.float32)

    vocabulary = 256 + len(SPECIAL)
    embedding = rng.standard_normal((vocabulary, HIDDEN)).astype(np.float32)
    output = np.zeros((vocabulary, HIDDEN), np.float32)
    for token, after in SUCCESSOR.items():
        output[after] = embedding[token] * 0.2
    one = np.ones(HIDDEN, np.float32)
    tensors = {"token_embd.weight": embedding, "output_norm.weight": one, "output.weight": output}
    for i in range(BLOCKS):
        tensors |= {f"blk.{i}.attn_norm.weight": one, f"blk.{i}.ffn_norm.weight": one}
        shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
        shapes |= {"ffn_gate": (FFN, 64), "ffn_up": (FFN, 64), "ffn_down": (64, FFN)}
        tensors |= {f"blk.{i}.{name}.weight": random(*shape) for name, shape in shapes.items()}
    return tensors


def write_tiny(path: Path, **more: object) -> Path:
    """The model as a GGUF file; `more` are metadata to add or replace, by their keys with `__` for dots."""
    changed = {key.replace("__", "."): value for key, value in more.items()}
    write_gguf(path, metadata(**changed), [(n, t.shape, "F32", t) for n, t in weights().items()])
    return path
