"""Which tensor of a model gets which type: every file type, asked of llama.cpp's own quantizer on models of headers."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puna.errors import ConversionError
from puna.formats import open_gguf, write_gguf
from puna.formats.file_types import FILE_TYPE_IDS
from puna.quants.mixes import FILE_TYPES
from puna.quants.recipe import plan_types

pytestmark = [pytest.mark.peer, pytest.mark.llama_cpp]

ROWS = 2
MIXES = [mix for mix in FILE_TYPES if mix != "NVFP4"]  # which no release of the peer writes yet


def model(
    arch: str = "llama", blocks: int = 9, heads: int = 4, kv: int = 2, experts: int = 0, width: int = 256,
    ffn: int = 512, tied: bool = False, fused: bool = False, shared: bool = False,
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:  # fmt: skip
    """Metadata and shapes of a model whose matrices have few rows."""
    metadata = {
        "general.architecture": arch,
        "general.file_type": 0,
        "general.quantization_version": 2,
        f"{arch}.block_count": blocks,
        f"{arch}.context_length": 64,
        f"{arch}.embedding_length": width,
        f"{arch}.feed_forward_length": ffn,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": kv,
        f"{arch}.attention.key_length": 64,
        f"{arch}.attention.value_length": 64,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.attention.layer_norm_epsilon": 1e-5,
        f"{arch}.vocab_size": ROWS,
    }
    if experts:
        metadata |= {f"{arch}.expert_count": experts, f"{arch}.expert_used_count": 2}
        metadata |= {f"{arch}.expert_feed_forward_length": ffn, f"{arch}.expert_shared_feed_forward_length": ffn}
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (ROWS, width), "output_norm.weight": (width,)}
    if not tied:
        shapes["output.weight"] = (ROWS, width)
    stack = (experts,) if experts else ()
    ending = "_exps" if experts else ""
    for i in range(blocks):
        parts = {"attn_norm": (width,), "ffn_norm": (width,), "attn_output": (ROWS, width)}
        parts |= {"attn_qkv": (ROWS, width)} if fused else {f"attn_{p}": (ROWS, width) for p in "qkv"}
        parts |= {f"ffn_{p}{ending}": (*stack, ROWS, ffn if p == "down" else width) for p in ("gate", "up", "down")}
        if shared:
            parts |= {f"ffn_{p}_shexp": (ROWS, ffn if p == "down" else width) for p in ("gate", "up", "down")}
        if experts:
            parts["ffn_gate_inp"] = (experts, width)
        shapes |= {f"blk.{i}.{part}.weight": shape for part, shape in parts.items()}
    return metadata, shapes


MODELS = {
    "llama": {},
    "llama with grouped heads": {"heads": 8, "kv": 2, "blocks": 32},
    "llama of 70B": {"heads": 8, "kv": 1, "blocks": 80},
    "llama with 8 experts": {"experts": 8, "blocks": 16},
    "llama with 4 experts": {"experts": 4, "blocks": 8},
    "rows that do not fit": {"width": 320, "ffn": 288, "tied": True},
    "rows that fit in part": {"width": 256, "ffn": 96, "blocks": 24},
    "qwen2": {"arch": "qwen2", "tied": True, "blocks": 24},
    "qwen2 of 72B": {"arch": "qwen2", "heads": 4, "kv": 2, "blocks": 80},
    "qwen2moe": {"arch": "qwen2moe", "experts": 6, "shared": True, "blocks": 16},
    "gemma": {"arch": "gemma", "tied": True, "kv": 1, "blocks": 18},
    "falcon": {"arch": "falcon", "fused": True, "kv": 1, "blocks": 32},
    "phi3": {"arch": "phi3", "fused": True, "kv": 4, "blocks": 32},
}


@pytest.fixture(scope="module", params=MODELS)
def described(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    metadata, shapes = model(**MODELS[request.param])
    path = tmp_path_factory.mktemp("types") / "model.gguf"
    random = np.random.default_rng(1)
    tensors = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    write_gguf(path, metadata, [(name, a.shape, "F32", a) for name, a in tensors.items()])
    return path, metadata, shapes


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """The peer says nothing while it quantizes; a callback that is not reset is called after it is gone."""
    import llama_cpp

    said = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(said, ctypes.c_void_p(0))
    yield
    llama_cpp.llama_log_set(ctypes.cast(None, llama_cpp.llama_log_callback), ctypes.c_void_p(0))


def types_of_peer(path: Path, mix: str, imatrix: dict[str, int] | None) -> dict[str, str] | None:
    """What llama.cpp writes; None where it refuses."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = FILE_TYPE_IDS[mix], 1
    if imatrix is not None:
        kind = llama_cpp.llama_cpp.llama_model_imatrix_data
        entries = (kind * (len(imatrix) + 1))()
        arrays = {name: (ctypes.c_float * size)(*[1.0] * size) for name, size in imatrix.items()}
        for entry, (name, array) in zip(entries, arrays.items(), strict=False):
            entry.name, entry.size = name.encode(), len(array)
            entry.data = ctypes.cast(array, ctypes.POINTER(ctypes.c_float))
        params.imatrix = entries
    out = path.with_name("out.gguf")
    if llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), ctypes.byref(params)):
        return None
    with open_gguf(out) as written:
        assert written.metadata["general.file_type"] == FILE_TYPE_IDS[mix]
        return {name: tensor.dtype.name for name, tensor in written.tensors.items()}


@pytest.mark.parametrize("imatrix", [False, True], ids=["without imatrix", "with imatrix"])
@pytest.mark.parametrize("mix", MIXES)
def test_every_tensor_has_the_type_that_llama_quantize_gives(described: Any, mix: str, imatrix: bool) -> None:
    path, metadata, shapes = described
    sizes = {name: shape[-1] * (shape[0] if len(shape) > 2 else 1) for name, shape in shapes.items()}
    theirs = types_of_peer(path, mix, sizes if imatrix else None)
    arguments = {"arch": metadata["general.architecture"], "metadata": metadata, "imatrix": imatrix}
    tensors = {name: (shape, "F32") for name, shape in shapes.items()}
    if theirs is None and mix == "Q1_0":  # the peer has nothing to fall back to where a row does not fit
        assert "F16" in plan_types(tensors, mix, **arguments).values()
    elif theirs is None:
        with pytest.raises(ConversionError, match="needs importance"):
            plan_types(tensors, mix, **arguments)
    else:
        assert plan_types(tensors, mix, **arguments) == theirs
