"""RWKV-7 in other layouts than the recorded one, what a checkpoint is refused for, and the record itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import run
from golden import make
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import DATA, config_of, weights_of, write_checkpoint, write_directory
from puna.arch.rwkv7 import Hparams
from puna.create.checkpoint import open_checkpoint
from puna.errors import PunaError
from puna.formats import write_gguf
from puna.opened import Opened, open_model

Array = np.ndarray[Any, Any]


def is_recorded(opened: Opened) -> bool:
    want = np.load(DATA / "rwkv7.npy")
    got = run(opened, "numpy", [(tokens(320), list(ROWS))])
    return bool(np.abs(got - want).max() < 2e-5 * np.abs(want).max())


def written(folder: Path, weights: dict[str, Array], **changes: Any) -> Path:
    return write_directory(folder, {**config_of("rwkv7", "published"), **changes}, weights, words=False)


def test_the_record_is_what_the_published_formulas_give() -> None:
    got = make.outputs(make.model_of("rwkv7"), tokens(320))
    assert np.abs(got - np.load(DATA / "rwkv7.npy")).max() < 1e-6 * np.abs(got).max()


def test_shares_of_all_rows_in_one_tensor_are_those_of_each(tmp_path: Path) -> None:
    """As flash-linear-attention had them first."""
    weights = weights_of("rwkv7")
    for block in range(3):
        parts = [weights.pop(f"model.layers.{block}.attn.x_{name}") for name in "rwkvag"]
        weights[f"model.layers.{block}.attn.x_x"] = np.concatenate([part.reshape(1, -1) for part in parts])
    puna.convert(written(tmp_path, weights), tmp_path / "m.gguf")
    assert is_recorded(open_model(tmp_path / "m.gguf"))
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        assert file.tensors["blk.0.time_mix_lerp_fused.weight"].shape == (6, 1, 1, 256)


def test_what_the_first_block_has_to_take_over_values_is_left_out(tmp_path: Path) -> None:
    weights = weights_of("rwkv7")
    for name in [name for name in weights if name.startswith("model.layers.1.attn.v_lora")]:
        weights[name.replace("layers.1", "layers.0")] = weights[name] + 1
    puna.convert(written(tmp_path, weights), tmp_path / "m.gguf")
    assert is_recorded(open_model(tmp_path / "m.gguf"))
    with puna.open_gguf(tmp_path / "m.gguf") as file:
        for i in range(3):
            given, copied = (file.tensors[f"blk.0.time_mix_{part}{i}.weight"].numpy() for part in "av")
            np.testing.assert_array_equal(given, copied)


def test_a_file_without_those_copies_loads(tmp_path: Path) -> None:
    puna.convert(write_checkpoint(tmp_path / "hf", "rwkv7"), tmp_path / "new.gguf")
    with puna.open_gguf(tmp_path / "new.gguf") as file:
        tensors = {n: t.numpy() for n, t in file.tensors.items() if not n.startswith("blk.0.time_mix_v0")}
        metadata = dict(file.metadata.exact())
    for name in ("blk.0.time_mix_v1.weight", "blk.0.time_mix_v2.weight"):
        del tensors[name]
    write_gguf(tmp_path / "m.gguf", metadata, [(name, a.shape, "F32", a) for name, a in tensors.items()])
    assert is_recorded(open_model(tmp_path / "m.gguf"))


def test_sizes_that_the_config_leaves_out_are_computed(tmp_path: Path) -> None:
    changes = {"intermediate_size": None, "hidden_ratio": 1.9, "head_dim": None, "value_dim": None}
    assert is_recorded(open_model(written(tmp_path, weights_of("rwkv7"), **changes)))


def test_keys_of_the_older_class_mean_the_same(tmp_path: Path) -> None:
    old = {"head_dim": "head_size", "norm_eps": "layer_norm_epsilon", "decay_low_rank_dim": "lora_rank_decay"}
    old |= {"a_low_rank_dim": "lora_rank_iclr", "gate_low_rank_dim": "lora_rank_gate"}
    old |= {"v_low_rank_dim": "lora_rank_value_residual_mix"}
    config = {old.get(key, key): value for key, value in config_of("rwkv7", "published").items()}
    config = {**config, "architectures": ["Rwkv7ForCausalLM"], "layer_norm_epsilon": 1e-3}
    write_directory(tmp_path, config, weights_of("rwkv7"), words=False)
    hp = open_checkpoint(tmp_path).hparams
    assert isinstance(hp, Hparams)
    assert (hp.wkv_head_size, hp.layer_norm_eps) == (64, 1e-3)
    assert (hp.decay_rank, hp.rate_rank, hp.gate_rank, hp.value_mix_rank) == (32, 48, 64, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn": {"layers": [1]}}, "config key 'attn' is"),
        ({"hidden_act": "silu"}, "config key 'hidden_act' is 'silu'; what works: leaving it out, 'sqrelu'"),
        ({"norm_first": False}, "config key 'norm_first' is 'False'"),
        ({"value_dim": [256, 512, 256]}, r"config key 'value_dim' is \[256, 512, 256\]; what works: 256"),
        ({"value_dim": 512}, "config key 'value_dim' is 512"),
        ({"decay_low_rank_dim": None}, "has no 'decay_low_rank_dim"),
        ({"decay_low_rank_dim": 64}, "'decay_low_rank_dim' is 64, but .* has the shape"),
        ({"a_low_rank_dim": 32}, "'a_low_rank_dim' is 32, but"),
        ({"v_low_rank_dim": 32}, "'v_low_rank_dim' is 32, but"),
        ({"gate_low_rank_dim": 32}, "'gate_low_rank_dim' is 32, but"),
        ({"intermediate_size": 1024}, "'intermediate_size' is 1024, but"),
        ({"head_dim": 96}, "heads of 96 do not divide a hidden size of 256"),
    ],
)
def test_what_changes_numbers_and_is_not_computed_is_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(PunaError, match=message):
        open_model(written(tmp_path, weights_of("rwkv7"), **changes))


def test_a_later_block_needs_what_takes_over_values(tmp_path: Path) -> None:
    weights = {name: array for name, array in weights_of("rwkv7").items() if ".v_lora." not in name}
    with pytest.raises(PunaError, match="a block after the first needs 'time_mix_v0'"):
        open_model(written(tmp_path, weights))


def test_the_case_has_what_the_tests_are_about() -> None:
    ranks = {key: value for key, value in CASES["rwkv7"].items() if key.endswith("rank_dim")}
    assert len(set(ranks.values())) == 4
