"""GGUF adapters: what is read, and what is refused with the tensor's or key's name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puna.errors import FormatError, ModelError
from puna.formats import write_gguf
from puna.formats.gguf import open_gguf
from puna.formats.lora import check_fits, open_lora

METADATA = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": np.float32(8),
}
A, B = np.arange(12, dtype="f4").reshape(2, 6), np.arange(10, dtype="f4").reshape(5, 2)


def write(path: Path, tensors: dict[str, Any], **changes: Any) -> Path:
    metadata = {**METADATA, **{k.replace("__", "."): v for k, v in changes.items()}}
    kept = {key: value for key, value in metadata.items() if value is not None}
    write_gguf(path, kept, [(name, t.shape, "F32", t) for name, t in tensors.items()])
    return path


def pair(name: str, a: Any = A, b: Any = B) -> dict[str, Any]:
    return {f"{name}.lora_a": a, f"{name}.lora_b": b}


def test_the_change_is_alpha_over_rank_times_b_a(tmp_path: Path) -> None:
    adapter = open_lora(write(tmp_path / "a.gguf", pair("blk.0.attn_q.weight")))
    (found,) = adapter.pairs.values()
    assert (found.rank, found.shape, found.scale) == (2, (5, 6), 4.0)
    left, right = found.factors()
    assert (left @ right)[1, 2] == 4 * (2 * 2 + 3 * 8)


def test_an_embedding_has_a_row_of_a_for_each_token(tmp_path: Path) -> None:
    adapter = open_lora(write(tmp_path / "a.gguf", pair("token_embd.weight", np.ones((7, 2), "f4"), B)))
    assert adapter.pairs["token_embd.weight"].shape == (7, 5)
    left, right = adapter.pairs["token_embd.weight"].factors()
    assert (left @ right)[6].tolist() == [4.0, 20.0, 36.0, 52.0, 68.0]


def test_an_alpha_of_zero_stands_for_a_scale_of_one(tmp_path: Path) -> None:
    adapter = open_lora(write(tmp_path / "a.gguf", pair("blk.0.attn_q.weight"), adapter__lora__alpha=None))
    assert adapter.pairs["blk.0.attn_q.weight"].scale == 1.0


def test_a_norm_is_whole(tmp_path: Path) -> None:
    adapter = open_lora(write(tmp_path / "a.gguf", {"blk.0.attn_norm.weight": np.ones(6, "f4")}))
    assert list(adapter.whole) == ["blk.0.attn_norm.weight"]


@pytest.mark.parametrize(
    ("tensors", "changes", "said"),
    [
        (pair("x.weight"), {"general__type": "model"}, "'general.type' is 'model'"),
        (pair("x.weight"), {"adapter__type": "ia3"}, "'adapter.type' 'ia3'"),
        (pair("x.weight"), {"general__architecture": None}, "no 'general.architecture'"),
        (pair("x.weight"), {"adapter__lora__alpha": "8"}, "'adapter.lora.alpha' is '8'"),
        (pair("x.weight"), {"adapter__lora__alpha": np.float32("nan")}, "'adapter.lora.alpha' is nan"),
        (pair("x.weight"), {"adapter__alora_invocation_tokens": [1, 2]}, "aLoRA"),
        ({}, {}, "no tensors"),
        ({"x.weight.lora_a": A}, {}, "'x.weight.lora_b' is missing"),
        (pair("x.weight", b=np.ones((5, 3), "f4")), {}, "ranks do not agree"),
        (pair("x.weight", a=np.ones(6, "f4")), {}, "ranks do not agree"),
        (pair("x.weight", a=np.ones((3, 2, 6), "f4")), {}, "ranks do not agree"),
        (pair("token_embd.weight"), {}, "ranks do not agree"),
        ({"blk.0.attn_q.bias": B[:, 0].copy()}, {}, "'blk.0.attn_q.bias' is no part of a LoRA"),
    ],
)
def test_a_file_that_is_no_adapter_is_refused(
    tensors: dict[str, Any], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(FormatError, match=said):
        open_lora(write(tmp_path / "a.gguf", tensors, **changes))


@pytest.mark.parametrize(
    ("tensors", "arch", "said"),
    [
        (pair("blk.0.attn_q.weight"), "qwen2", "made for 'llama', the base is 'qwen2'"),
        (pair("blk.9.attn_q.weight"), "llama", "the base has no tensor 'blk.9.attn_q.weight'"),
        (pair("blk.0.attn_q.weight", b=np.ones((4, 2), "f4")), "llama", r"of \(4, 6\); the base's is \(5, 6\)"),
        (
            pair("output.weight", b=np.ones((4, 2), "f4")),
            "llama",
            r"'output.weight' of \(4, 6\); the base's is \(7, 6\)",
        ),
    ],
)
def test_an_adapter_of_another_base_is_refused(tensors: dict[str, Any], arch: str, said: str, tmp_path: Path) -> None:
    base = {"token_embd.weight": np.ones((7, 6), "f4"), "blk.0.attn_q.weight": np.ones((5, 6), "f4")}
    tensors_of = open_gguf(write(tmp_path / "base.gguf", base)).tensors
    with pytest.raises(ModelError, match=said):
        check_fits(open_lora(write(tmp_path / "a.gguf", tensors)), arch, tensors_of)


def test_without_an_output_of_its_own_the_embedding_takes_the_change(tmp_path: Path) -> None:
    base = open_gguf(write(tmp_path / "base.gguf", {"token_embd.weight": np.ones((5, 6), "f4")})).tensors
    adapter = open_lora(write(tmp_path / "a.gguf", pair("output.weight")))
    check_fits(adapter, "llama", base)
    assert adapter.pairs["output.weight"].shape == (5, 6)
