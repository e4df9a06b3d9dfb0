"""Importance matrices beside llama.cpp's own activations on a real model, and transformers' on a tiny one."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from golden.cases import tokens
from golden.checkpoints import write_checkpoint

CHUNK = 128


class GgmlTensor(ctypes.Structure):
    """ggml.h's struct ggml_tensor."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    )


def multiplied(path: Path, chunks: list[list[int]]) -> dict[str, list[np.ndarray[Any, Any]]]:
    """What llama.cpp multiplies with each matrix of a block: name -> (T, columns) for each chunk, as llama-imatrix."""
    import llama_cpp

    ggml = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so"))))
    ggml.ggml_op_name.restype, ggml.ggml_op_name.argtypes = ctypes.c_char_p, [ctypes.c_int]
    seen: dict[str, list[np.ndarray[Any, Any]]] = {}

    @ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
    def look(pointer: int, ask: bool, _: object) -> bool:
        node = GgmlTensor.from_address(pointer)
        if ggml.ggml_op_name(node.op) != b"MUL_MAT":
            return not ask
        weight, x = (GgmlTensor.from_address(node.src[i]) for i in (0, 1))
        wanted = weight.name.startswith(b"blk.") and x.type == 0
        if not ask and wanted:
            columns, rows = x.ne[:2]
            flat = (ctypes.c_float * (columns * rows)).from_address(x.data)
            seen.setdefault(weight.name.decode(), []).append(np.array(flat, np.float32).reshape(rows, columns))
        return wanted if ask else True

    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CHUNK
    params.n_threads = params.n_threads_batch = 2
    params.cb_eval = ctypes.cast(look, type(params.cb_eval)) if params.cb_eval is not None else look
    context = llama_cpp.llama_init_from_model(model, params)
    for chunk in chunks:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = llama_cpp.llama_batch_init(len(chunk), 0, 1)
        batch.n_tokens = len(chunk)
        for i, token in enumerate(chunk):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        assert llama_cpp.llama_decode(context, batch) == 0
        llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return seen


@pytest.mark.peer
@pytest.mark.llama_cpp
def test_llama_cpp_multiplies_with_the_same_inputs(smollm2: Path, long_text: str) -> None:
    model = puna.load(smollm2, backend="cpu", threads=2)
    ids = model.tokenizer.encode(long_text, parse_special=False)[: 4 * CHUNK]
    begin = [model.tokenizer.bos_id] if model.tokenizer.vocabulary.add_bos else []
    ours = model.imatrix(ids, chunk_size=CHUNK)
    chunks = [[*begin, *ids[i + len(begin) : i + CHUNK]] for i in range(0, 4 * CHUNK, CHUNK)]
    theirs = multiplied(smollm2, chunks)
    assert sorted(theirs) == sorted(ours.values)
    for name, inputs in theirs.items():
        want = np.mean(np.concatenate(inputs).astype(np.float64) ** 2, 0)
        off = np.abs(ours.values[name] - want).sum() / want.sum()
        assert off < 0.03, (name, off)


@pytest.mark.reference
def test_transformers_multiplies_with_the_same_inputs(tmp_path: Path) -> None:
    from golden import make

    model = puna.load(write_checkpoint(tmp_path / "m", "llama3"), backend="numpy", kv_type="f32")
    ids = [model.tokenizer.bos_id, *tokens(320)[1:]]
    theirs: dict[str, np.ndarray[Any, Any]] = {}
    network = make.model_of("llama3")
    for name, module in hooked(network):
        module.register_forward_hook(
            lambda _, inputs, __, name=name: theirs.update({name: inputs[0][0].double().square().mean(0).numpy()})
        )
    make.outputs(network, ids)
    ours = model.imatrix(ids, chunk_size=len(ids))
    parts = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    parts |= {f"{part}_proj": f"ffn_{part}" for part in ("gate", "up", "down")}
    assert len(theirs) == len(ours.values)
    for name, want in theirs.items():
        block, part = name.split(".")[2], name.split(".")[-1]
        np.testing.assert_allclose(ours.values[f"blk.{block}.{parts[part]}.weight"], want, rtol=1e-3, err_msg=name)


def hooked(network: Any) -> Iterator[tuple[str, Any]]:
    """The matrices of blocks."""
    return ((name, module) for name, module in network.named_modules() if name.endswith("_proj"))
