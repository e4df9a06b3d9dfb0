"""A tiny llama that says one script after every prompt, and another where the last message is the result of a tool.

Each piece of a script is a token. The block adds nothing to what it reads, so that the last token alone decides: the
direction of its embedding is the one that the output matrix has for what follows.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cli.tiny import metadata
from golden.checkpoints import alphabet
from puna.formats import write_gguf

HIDDEN, CONTEXT = 64, 4096
BYTES = 256
END = BYTES
ARGUMENTS = '"arguments": '
"""The piece of a script behind which the arguments of a call come."""
TEMPLATE = """{%- if tools %}<|im_start|>system
# Tools

<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% if messages and messages[-1].role == "tool" %}<|told|>{% endif %}{% endif %}"""


def write_scripted(path: Path, script: Sequence[str], told: Sequence[str]) -> Path:
    """A GGUF file of the model; the pieces are different texts of at least two bytes each."""
    byte = alphabet()
    pieces = ["".join(byte[b] for b in piece.encode()) for piece in (*script, *told)]
    tokens = [*byte, "<|im_end|>", *pieces, "<|im_start|>", "<|told|>"]
    first, last = END + 1, END + len(pieces)
    leads = dict.fromkeys(range(len(tokens)), first) | {len(tokens) - 1: first + len(script)}
    leads |= {token: token + 1 for token in range(first, last)} | {first + len(script) - 1: END, last: END}
    if ARGUMENTS in script:  # a grammar puts what must come before and behind them, byte by byte
        leads |= {ord(" "): first + script.index(ARGUMENTS) + 1, ord(">"): END}
    embedding = np.zeros((len(tokens), HIDDEN), np.float32)
    output = np.zeros_like(embedding)
    for token, after in leads.items():  # the direction of a token is the one of what follows it
        embedding[token, after - END] = 1
        output[after, after - END] = 4
    types = [1] * BYTES + [3] + [1] * len(pieces) + [3, 3]
    about = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.eos_token_id": END}
    sizes = {"llama.block_count": 1, "llama.context_length": CONTEXT}
    everything = metadata() | sizes | about | {"tokenizer.chat_template": TEMPLATE}
    tensors = {"token_embd.weight": embedding, "output.weight": output} | nothing()
    write_gguf(path, everything, [(n, t.shape, "F32", t) for n, t in tensors.items()])
    return path


def nothing() -> dict[str, np.ndarray]:
    """The weights of a block that adds nothing, and of norms."""
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    shapes |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
    norms = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
    one = np.ones(HIDDEN, np.float32)
    return dict.fromkeys(norms, one) | {f"blk.0.{n}.weight": np.zeros(s, np.float32) for n, s in shapes.items()}
