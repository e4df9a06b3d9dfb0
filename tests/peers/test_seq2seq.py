"""An encoder-decoder's GGUF file in llama.cpp: what its decoder says after what its encoder has read."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from golden.checkpoints import write_checkpoint
from golden.families.seq2seq import source
from puna.opened import open_model

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

NEWS = 16
Array = np.ndarray[Any, Any]


@contextmanager
def peer_of(path: Path) -> Iterator[Any]:
    """A context of llama.cpp's, by its C functions: encoding is in none of its Python classes."""
    import llama_cpp as lib

    lib.llama_backend_init()
    silent = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    asked = lib.llama_context_default_params()
    asked.n_ctx = asked.n_batch = asked.n_ubatch = 256
    asked.n_threads = asked.n_threads_batch = 2
    asked.type_k = asked.type_v = 0
    context = lib.llama_init_from_model(model, asked)
    try:
        yield context
    finally:
        lib.llama_free(context)
        lib.llama_model_free(model)
        lib.llama_log_set(ctypes.cast(None, lib.llama_log_callback), ctypes.c_void_p(0))


def batch_of(ids: list[int], start: int = 0) -> Any:
    import llama_cpp as lib

    batch = lib.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, start + i, 1, 0, 1
    return batch


def greedy(context: Any, text: list[int]) -> tuple[list[int], Array]:
    """The tokens of its answer, from token 0 on, and the logits behind each but the last."""
    import llama_cpp as lib

    read = batch_of(text)
    assert lib.llama_encode(context, read) == 0
    lib.llama_batch_free(read)
    ids, logits = [0], []
    for i in range(NEWS):
        step = batch_of(ids[-1:], i)
        assert lib.llama_decode(context, step) == 0
        lib.llama_batch_free(step)
        logits.append(np.ctypeslib.as_array(lib.llama_get_logits(context), (320,)).copy())
        ids.append(int(logits[-1].argmax()))
    return ids, np.array(logits)


@pytest.mark.parametrize("case", ["t5", "t5_gated", "umt5"])
def test_the_peer_answers_alike(case: str, tmp_path: Path) -> None:
    """Its logits lack the scale that a shared output has: it reads none from the file; its GELU is one of float16."""
    puna.convert(write_checkpoint(tmp_path / "hf", case), tmp_path / "m.gguf")
    scale = open_model(tmp_path / "m.gguf").metadata["t5.logit_scale"]
    model, text = puna.load(tmp_path / "m.gguf", backend="cpu", kv_type="f32"), source([100])
    with peer_of(tmp_path / "m.gguf") as context:
        ids, theirs = greedy(context, text)
    ours = model.logits(ids[:-1], text=text)
    assert ((ours - theirs * scale) ** 2).sum() < 1e-5 * (ours**2).sum()
    said = model.generate(text, temperature=0, num_predict=NEWS, ignore_eos=True)
    assert [token for chunk in said for token in chunk.tokens] == ids[1:]
