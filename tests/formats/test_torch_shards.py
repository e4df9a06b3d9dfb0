"""Meta's parallel shards: cut by hand as its code cuts them, and seen whole again."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from formats.torch_files import storage, tensor, zip_file
from puna.errors import FormatError
from puna.formats.torch_pickle import open_torch

DIM, HEADS, KEY_HEADS, FFN, VOCAB = 8, 4, 2, 12, 16


def weights(*, key_rows: int = 4) -> dict[str, NDArray[np.float32]]:
    shapes = {
        "tok_embeddings.weight": (VOCAB, DIM),
        "layers.0.attention.wq.weight": (DIM, DIM),
        "layers.0.attention.wk.weight": (key_rows, DIM),
        "layers.0.attention.wv.weight": (key_rows, DIM),
        "layers.0.attention.wo.weight": (DIM, DIM),
        "layers.0.feed_forward.w1.weight": (FFN, DIM),
        "layers.0.feed_forward.w2.weight": (DIM, FFN),
        "layers.0.feed_forward.w3.weight": (FFN, DIM),
        "layers.0.attention_norm.weight": (DIM,),
        "layers.0.ffn_norm.weight": (DIM,),
        "norm.weight": (DIM,),
        "output.weight": (VOCAB, DIM),
        "rope.freqs": (1,),
    }
    generator = np.random.default_rng(7)
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


CUT_BY_COLUMNS = ("wo.weight", "w2.weight")


def cut(whole: dict[str, NDArray[Any]], count: int, embeddings: int) -> list[dict[str, NDArray[Any]]]:
    parts: list[dict[str, NDArray[Any]]] = [{} for _ in range(count)]
    for name, array in whole.items():
        axis = embeddings if name == "tok_embeddings.weight" else 1 if name.endswith(CUT_BY_COLUMNS) else 0
        pieces = np.split(array, count, axis) if array.ndim == 2 else [array] * count
        for part, piece in zip(parts, pieces, strict=True):
            part[name] = piece
    return parts


def write(folder: Path, parts: list[dict[str, NDArray[Any]]], params: dict[str, Any] | None = None) -> None:
    for number, part in enumerate(parts):
        storages = {name: array.tobytes() for name, array in part.items()}
        value = {
            name: tensor(storage(name, array.size), array.shape, (array.shape[1], 1) if array.ndim == 2 else (1,))
            for name, array in part.items()
        }
        (folder / f"consolidated.{number:02}.pth").write_bytes(zip_file(value, storages))
    if params is not None:
        (folder / "params.json").write_text(json.dumps(params))


PARAMS = {"dim": DIM, "n_heads": HEADS, "n_kv_heads": KEY_HEADS}


@pytest.mark.parametrize(("count", "embeddings"), [(1, 0), (2, 1), (2, 0), (4, 1)])
def test_parallel_shards_are_the_whole_tensors(tmp_path: Path, count: int, embeddings: int) -> None:
    whole = weights()
    write(tmp_path, cut(whole, count, embeddings), PARAMS)
    with open_torch(tmp_path) as checkpoint:
        assert dict(checkpoint.params) == PARAMS
        assert list(checkpoint.tensors) == list(whole)
        for name, array in whole.items():
            found = checkpoint.tensors[name]
            assert found.shape == array.shape
            assert found.raw.tobytes() == array.tobytes()
            np.testing.assert_array_equal(found.numpy(), array)


def test_a_list_of_shards_is_joined_in_the_order_of_their_numbers_and_needs_no_params(tmp_path: Path) -> None:
    whole = weights()
    write(tmp_path, cut(whole, 2, 0))
    with open_torch([tmp_path / "consolidated.01.pth", tmp_path / "consolidated.00.pth"]) as checkpoint:
        assert dict(checkpoint.params) == {}
        np.testing.assert_array_equal(checkpoint.tensors["output.weight"].numpy(), whole["output.weight"])


def test_more_shards_than_key_heads_hold_copies_of_them(tmp_path: Path) -> None:
    whole = weights()
    parts = cut(whole, 4, 0)
    for kind in ("wk", "wv"):
        name = f"layers.0.attention.{kind}.weight"
        heads = np.split(whole[name], KEY_HEADS)
        for number, part in enumerate(parts):
            part[name] = heads[number // 2]
    write(tmp_path, parts, PARAMS)
    with open_torch(tmp_path) as checkpoint:
        for name, array in whole.items():
            np.testing.assert_array_equal(checkpoint.tensors[name].numpy(), array)


def test_a_tensor_of_one_file_only_is_that_file_s(tmp_path: Path) -> None:
    write(tmp_path, [{"layers.0.x": np.ones((2, 2), np.float32)}, {"layers.1.x": np.zeros(3, np.float32)}])
    with open_torch(tmp_path) as checkpoint:
        assert {name: each.shape for name, each in checkpoint.tensors.items()} == {
            "layers.0.x": (2, 2),
            "layers.1.x": (3,),
        }


def test_empty_slices_join(tmp_path: Path) -> None:
    write(tmp_path, [{"a.attention.wo.weight": np.zeros((0, 2), np.float32)}] * 2)
    with open_torch(tmp_path) as checkpoint:
        assert checkpoint.tensors["a.attention.wo.weight"].numpy().shape == (0, 4)


NO = np.zeros((2, 8), np.float32)
BAD: dict[str, tuple[list[dict[str, NDArray[Any]]], dict[str, Any] | None, str]] = {
    "unknown": ([{"a.lora.weight": NO}] * 2, None, "tensor 'a.lora.weight' is none of those whose slicing is known"),
    "lacking": ([{"output.weight": NO}] * 2 + [{}], None, r"tensor 'output.weight' is not in 'consolidated\.02\.pth'"),
    "shapes": ([{"output.weight": NO}, {"output.weight": NO[:1]}], None, "slices of different shapes"),
    "no matrix": ([{"output.weight": NO[0]}] * 2, None, r"slices of shape \(8,\); matrices are known"),
    "no norm": ([{"tok_embeddings.weight": NO}] * 2, None, "there is no norm.weight"),
    "odd norm": (
        [{"tok_embeddings.weight": NO, "norm.weight": np.zeros(5, np.float32)}] * 2,
        None,
        r"8 columns in each of 2 files, norm\.weight has \(5,\)",
    ),
    "key heads": ([{"a.attention.wk.weight": NO}] * 2, {"dim": 8, "n_heads": 1, "n_kv_heads": 3}, "says 24 rows"),
    "params": ([{"output.weight": NO}] * 2, None, r"reading params\.json: its JSON is no object"),
}


@pytest.mark.parametrize("case", BAD)
def test_shards_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    parts, params, message = BAD[case]
    write(tmp_path, parts, params)
    if case == "params":
        (tmp_path / "params.json").write_text("[]")
    with pytest.raises(FormatError, match=message):
        open_torch(tmp_path)


def test_shards_of_another_type_are_refused(tmp_path: Path) -> None:
    for number, kind in enumerate(("Float", "Int")):
        value = {"output.weight": tensor(storage("0", 2, f"torch.{kind}Storage"), (1, 2), (2, 1))}
        (tmp_path / f"consolidated.{number:02}.pth").write_bytes(zip_file(value, {"0": struct.pack("<2f", 1, 2)}))
    with pytest.raises(FormatError, match="different shapes or types"):
        open_torch(tmp_path)
