"""Tiny checkpoints of three blocks, and GGUF files with one thing wrong."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from golden.cases import values
from golden.checkpoints import write_directory
from golden.families.shapes import DECODER
from puna.formats import write_gguf
from puna.formats.gguf import open_gguf

Array = np.ndarray[Any, Any]

BLOCKS, HIDDEN, FFN, HEADS, GROUPS = 3, 256, 512, 4, 2
"""Rows of 256 and 512, which every type takes."""

BLOCK = {
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // HEADS * GROUPS, HIDDEN),
    "self_attn.v_proj": (HIDDEN // HEADS * GROUPS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if tools %}{{ tools | length }} tools\n{% endif %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = "the rain on the roof is the oldest song that is still sung, and nobody asks it to stop " * 2


def three_blocks(folder: Path) -> Path:
    """A llama's checkpoint directory with a chat template."""
    config = {
        **{"architectures": ["LlamaForCausalLM"], **DECODER, "hidden_size": HIDDEN, "intermediate_size": FFN},
        **{"num_hidden_layers": BLOCKS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS},
    }
    shapes = {"model.embed_tokens": (320, HIDDEN), "model.norm": (HIDDEN,), "lm_head": (320, HIDDEN)}
    shapes |= {f"model.layers.{i}.{name}": shape for i in range(BLOCKS) for name, shape in BLOCK.items()}
    weights = {f"{name}.weight": values("llama", f"{name}.weight", shape) for name, shape in shapes.items()}
    write_directory(folder, config, weights, words=False)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def changed(
    path: Path,
    out: Path,
    tensors: Mapping[str, Callable[[Array], Array | None]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """A copy of a GGUF file in which some float32 tensors are what their function makes of them (None: left out)."""
    gguf, entries = open_gguf(path), []
    for name, tensor in gguf.tensors.items():
        array = tensor.numpy()
        if tensors and name in tensors:
            assert tensor.dtype.name == "F32", tensor.dtype
            array = tensors[name](array.copy())
            if array is None:
                continue
            entries.append((name, array.shape, "F32", np.ascontiguousarray(array)))
        else:
            entries.append((name, tensor.shape, tensor.dtype.name, tensor.raw))
    return _written(out, {**gguf.metadata.exact(), **(metadata or {})}, entries)


def _written(out: Path, metadata: Mapping[str, Any], entries: list[Any]) -> Path:
    write_gguf(out, metadata, entries)
    return out


def halves(rows: Array, heads: int = HEADS) -> Array:
    """Rows of each head from neighbours to halves: how the matrix was before conversion."""
    size = len(rows) // heads
    order = [head * size + i for head in range(heads) for i in (*range(0, size, 2), *range(1, size, 2))]
    return rows[order]
