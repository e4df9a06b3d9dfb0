"""What files of other converters say of mixtures of experts in their own way, and blocks that no one runs."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from arch.run import run
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import config_of, weights_of, write_checkpoint, write_directory
from puna import nn
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.errors import ModelError, PunaError
from puna.formats import write_gguf
from puna.graph import constant
from puna.opened import Opened, open_model

Array = np.ndarray[Any, Any]
DEEPSEEK = ("deepseek_v3", "deepseek_v3_yarn", "deepseek_v2")
BACKENDS = ("numpy", "cpu")


def is_recorded(opened: Opened, case: str, backend: str = "numpy") -> bool:
    want = np.load(Path(__file__).parent.parent / f"golden/data/{case}.npy")
    got = run(opened, backend, [(tokens(CASES[case]["vocab_size"]), list(ROWS))])
    return bool(np.abs(got - want).max() < 2e-5 * np.abs(want).max())


def converted(folder: Path, case: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Metadata and tensors of a case's file."""
    puna.convert(write_checkpoint(folder / "hf", case), folder / "new.gguf")
    tensors = {t.name: np.array(t.data) for t in gguf.GGUFReader(folder / "new.gguf").tensors}
    return dict(open_model(folder / "new.gguf").metadata), tensors


def written(path: Path, metadata: dict[str, Any], tensors: dict[str, Array]) -> Opened:
    write_gguf(path, metadata, [(name, a.shape, "F32", a) for name, a in tensors.items()])
    return open_model(path)


def older(folder: Path, case: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """A file as converters wrote it once: kv_b as the checkpoint has it, and the sizes of heads only."""
    metadata, tensors = converted(folder, case)
    for block in range(CASES[case]["num_hidden_layers"]):
        for part in ("k", "v"):
            del tensors[f"blk.{block}.attn_{part}_b.weight"]
        whole = weights_of(case)[f"model.layers.{block}.self_attn.kv_b_proj.weight"]
        tensors[f"blk.{block}.attn_kv_b.weight"] = whole
    for part in ("key", "value"):
        metadata[f"deepseek2.attention.{part}_length"] = metadata.pop(f"deepseek2.attention.{part}_length_mla")
    return metadata | {"deepseek2.attention.head_count_kv": 4}, tensors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", DEEPSEEK)
def test_older_files_of_deepseek_with_kv_b_whole_compute_the_same(case: str, backend: str, tmp_path: Path) -> None:
    metadata, tensors = older(tmp_path, case)
    assert (metadata["deepseek2.attention.key_length"], metadata["deepseek2.attention.value_length"]) == (40, 32)
    assert is_recorded(written(tmp_path / "old.gguf", metadata, tensors), case, backend)


def test_ollama_s_files_of_glm4_moe_lite_compute_the_same(tmp_path: Path) -> None:
    """Its keys, by its own converter: `key_length` is a head's, `key_length_mla` what is cached; no groups."""
    metadata, tensors = converted(tmp_path, "glm4_moe_lite")
    config = CASES["glm4_moe_lite"]
    spelled = {key.replace("deepseek2.", "glm4moelite."): value for key, value in metadata.items()}
    spelled |= {"general.architecture": "glm4moelite", "glm4moelite.attention.head_count_kv": 4}
    for group in ("expert_group_count", "expert_group_used_count", "vocab_size"):
        spelled.pop(f"glm4moelite.{group}", None)
    head = config["qk_nope_head_dim"] + config["qk_rope_head_dim"]
    cached = config["kv_lora_rank"] + config["qk_rope_head_dim"]
    sizes = {"key_length": head, "value_length": config["v_head_dim"]}
    sizes |= {"key_length_mla": cached, "value_length_mla": config["kv_lora_rank"]}
    spelled |= {f"glm4moelite.attention.{key}": value for key, value in sizes.items()}
    opened = written(tmp_path / "ollama.gguf", spelled, tensors)
    assert is_recorded(opened, "glm4_moe_lite")
    assert len(puna.load(tmp_path / "ollama.gguf", backend="numpy").logits([1, 2])) == 2


def test_sizes_of_heads_without_their_matrices_are_an_error(tmp_path: Path) -> None:
    metadata, _ = older(tmp_path, "deepseek_v3")
    _, tensors = converted(tmp_path / "other", "deepseek_v3")
    opened = written(tmp_path / "odd.gguf", metadata, tensors)
    with pytest.raises(ModelError, match=r"'attention\.key_length_mla' goes with 'attn_k_b'"):
        run(opened, "numpy", [([1, 2, 3], [2])])


@pytest.mark.parametrize("case", ["deepseek_v3", "glm4moe", "glm4_moe_lite"])
def test_blocks_of_a_checkpoint_that_predict_further_tokens_are_left_out(case: str, tmp_path: Path) -> None:
    weights, count = weights_of(case), CASES[case]["num_hidden_layers"]
    last = {name: a for name, a in weights.items() if name.startswith(f"model.layers.{count - 1}.")}
    further = {name.replace(f".{count - 1}.", f".{count}.", 1): a for name, a in last.items()}
    size = CASES[case]["hidden_size"]
    for name, shape in (("eh_proj", (size, 2 * size)), ("enorm", (size,)), ("embed_tokens", (320, size))):
        further[f"model.layers.{count}.{name}.weight"] = np.zeros(shape, np.float32)
    for name, shape in (("head", (320, size)), ("norm", (size,))):
        further[f"model.layers.{count}.shared_head.{name}.weight"] = np.zeros(shape, np.float32)
    config = {**config_of(case, "published"), "num_nextn_predict_layers": 1}
    write_directory(tmp_path / "hf", config, weights | further, words=False)
    assert is_recorded(open_model(tmp_path / "hf"), case)
    puna.convert(tmp_path / "hf", tmp_path / "m.gguf")
    assert not any(name.startswith(f"blk.{count}.") for name in open_model(tmp_path / "m.gguf").tensors)
    assert is_recorded(open_model(tmp_path / "m.gguf"), case)


@pytest.mark.parametrize("case", ["deepseek_v3", "glm4moe"])
def test_blocks_of_a_file_that_predict_further_tokens_are_left_out(case: str, tmp_path: Path) -> None:
    metadata, tensors = converted(tmp_path, case)
    name, count = metadata["general.architecture"], CASES[case]["num_hidden_layers"]
    size = CASES[case]["hidden_size"]
    assert metadata[f"{name}.block_count"] == count
    last = {key: a for key, a in tensors.items() if key.startswith(f"blk.{count - 1}.")}
    further = {key.replace(f".{count - 1}.", f".{count}.", 1): a for key, a in last.items()}
    for part, shape in (("eh_proj", (size, 2 * size)), ("enorm", (size,)), ("hnorm", (size,))):
        further[f"blk.{count}.nextn.{part}.weight"] = np.zeros(shape, np.float32)
    metadata |= {f"{name}.block_count": count + 1, f"{name}.nextn_predict_layers": 1}
    assert is_recorded(written(tmp_path / "m.gguf", metadata, tensors | further), case)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts_per_tok": 1}, "'num_experts_per_tok' is '1'; what works: 2"),
        ({"router_jitter_noise": 0.1}, "'router_jitter_noise' is '0.1'; what works"),
        ({"rope_scaling": {"type": "longrope", "short_mscale": 1.0, "long_mscale": 1.2}}, "equal ones would work"),
    ],
)
def test_what_phimoe_does_not_compute_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PunaError, match=message):
        puna.convert(write_checkpoint(tmp_path / "hf", "phimoe", **changes), tmp_path / "m.gguf")


def test_an_expert_is_weighed_among_those_not_better_and_nearly_as_good() -> None:
    outputs = constant([[4.0, 3.95, 1.0, 3.9], [-1.0, 2.0, 1.99, -3.0], [1.0, 8.0, -9.0, 0.5]])
    backend = open_backend("numpy")
    program = backend.compile(list(nn.route_sparsely(outputs, 0.02)), backend.load({}), Bounds(T=3, O=3, S=3))
    ids, shares = program.run({})
    assert ids.tolist() == [[0, 1], [1, 2], [1, 0]]
    e = np.exp(-0.05), np.exp(-0.01)  # 3.95 is near 4, 3.9 is not; 3.9 is near 3.95, 1.99 near 2
    want = [[1 / (1 + e[0]), 1 / (1 + e[0])], [1 / (1 + e[1]), 1.0], [1.0, 1.0]]
    assert np.abs(shares - want).max() < 1e-6
