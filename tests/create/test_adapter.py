"""PEFT adapters: what they become in GGUF, that they mean what was trained, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from create.adapters import folded, matrices, modules_of, peft_tensors, write_peft
from formats.torch_files import storage, tensor, zip_file
from golden.cases import CASES, tokens
from golden.checkpoints import weights_of, write_checkpoint, write_safetensors
from puna import arch as archs
from puna.arch.transform import Transform, permute_rope, rows, transpose
from puna.create.adapters.base import find_base, open_adapter, open_base
from puna.create.adapters.convert import convert_adapter
from puna.create.adapters.peft import open_peft
from puna.errors import ConversionError, ModelError, ModelNotFound, PunaError

Q = "model.layers.0.self_attn.q_proj"


def rows_by_pairs(rows: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Row i and i + D/2 of each head side by side."""
    half = len(rows) // heads // 2
    order = [h * 2 * half + i + part * half for h in range(heads) for i in range(half) for part in (0, 1)]
    return rows[order]


def checkpoint_with(folder: Path, case: str, weights: dict[str, Any], **changes: Any) -> Path:
    write_checkpoint(folder, case, **changes)
    write_safetensors(folder / "model.safetensors", weights)
    return folder


def logits(path: Path, backend: str, ids: list[int], adapters: Any = ()) -> np.ndarray[Any, Any]:
    return puna.load(path, backend=backend, kv_type="f32", adapters=adapters).logits(ids).copy()


def distance(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> float:
    return float(((got - want) ** 2).sum() / (want**2).sum())


def test_a_peft_adapter_becomes_what_llama_cpp_writes(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    modules = modules_of("llama3")
    source = write_peft(tmp_path / "tuned", peft_tensors(modules))
    report = convert_adapter(source, tmp_path / "a.gguf", base=base)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    values = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert values == {
        **{"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"},
        **{"general.name": "tuned", "general.quantization_version": 2, "general.file_type": 0},
        "adapter.lora.alpha": 6.0,
    }
    assert reader.fields["adapter.lora.alpha"].types == [gguf.GGUFValueType.FLOAT32]
    got = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(got) == 2 * len(modules) == len(report.tensors)
    a, b = modules[Q]
    np.testing.assert_array_equal(got["blk.0.attn_q.weight.lora_a"], a)
    np.testing.assert_array_equal(got["blk.0.attn_q.weight.lora_b"], rows_by_pairs(b, 4))
    np.testing.assert_array_equal(
        got["blk.0.attn_k.weight.lora_b"], rows_by_pairs(modules[Q.replace("q_", "k_")][1], 2)
    )
    np.testing.assert_array_equal(got["blk.0.attn_v.weight.lora_b"], modules[Q.replace("q_", "v_")][1])
    np.testing.assert_array_equal(got["blk.1.ffn_down.weight.lora_a"], modules["model.layers.1.mlp.down_proj"][0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["llama3", "qwen2", "qwen3", "gemma3"])
def test_a_model_with_an_adapter_computes_what_the_changed_weights_compute(
    case: str, backend: str, tmp_path: Path
) -> None:
    modules = modules_of(case)
    plain = write_checkpoint(tmp_path / "plain", case)
    tuned = checkpoint_with(tmp_path / "tuned", case, folded(weights_of(case), modules, 1.5))
    convert_adapter(write_peft(tmp_path / "lora", peft_tensors(modules)), tmp_path / "a.gguf", base=plain)
    ids = tokens(CASES[case].get("text_config", CASES[case])["vocab_size"])[:24]
    want = logits(tuned, backend, ids)
    assert distance(logits(plain, backend, ids, [tmp_path / "a.gguf"]), want) < 1e-8
    assert distance(logits(plain, backend, ids, [tmp_path / "lora"]), want) < 1e-8
    assert distance(logits(plain, backend, ids), want) > 1e-3


EXPERTS = tuple(f"experts.{i}.{w}" for i in range(8) for w in ("w1", "w2", "w3"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_expert_is_changed_by_its_own_matrices(backend: str, tmp_path: Path) -> None:
    modules = modules_of("mixtral", (*EXPERTS, "q_proj", "block_sparse_moe.gate"))
    plain = write_checkpoint(tmp_path / "plain", "mixtral")
    tuned = checkpoint_with(tmp_path / "tuned", "mixtral", folded(weights_of("mixtral"), modules, 1.5))
    source = write_peft(tmp_path / "lora", peft_tensors(modules))
    convert_adapter(source, tmp_path / "a.gguf", base=plain)
    stacked = puna.open_gguf(tmp_path / "a.gguf").tensors["blk.1.ffn_down_exps.weight.lora_b"].numpy()
    np.testing.assert_array_equal(stacked[2], modules["model.layers.1.block_sparse_moe.experts.2.w2"][1])
    ids = tokens(320)[:24]
    assert distance(logits(plain, backend, ids, [tmp_path / "a.gguf"]), logits(tuned, backend, ids)) < 1e-8


def test_a_change_of_some_experts_is_refused(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mixtral")
    modules = modules_of("mixtral", ("0.block_sparse_moe.experts.1.w1",))
    with pytest.raises(ConversionError, match=r"'blk\.0\.ffn_gate_exps\.weight': it changes some experts"):
        convert_adapter(write_peft(tmp_path / "lora", peft_tensors(modules)), tmp_path / "a.gguf", base=base)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_adapters_add_up_each_by_its_factor(backend: str, tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain", "qwen3")
    one, two = modules_of("qwen3", ("q_proj",)), modules_of("qwen3", ("q_proj", "up_proj"), rank=2)
    weights = folded(folded(weights_of("qwen3"), one, 1.5 * 0.5), two, 3.0 * -2.0)
    tuned = checkpoint_with(tmp_path / "tuned", "qwen3", weights)
    adapters = [
        (write_peft(tmp_path / "one", peft_tensors(one)), 0.5),
        (write_peft(tmp_path / "two", peft_tensors(two), r=2), -2),
    ]
    ids = tokens(CASES["qwen3"]["vocab_size"])[:24]
    assert distance(logits(plain, backend, ids, adapters), logits(tuned, backend, ids)) < 1e-8


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_embedding_and_the_output_are_changed_apart_though_they_are_tied(backend: str, tmp_path: Path) -> None:
    """What was trained: PEFT leaves the tied weight alone and changes the lookup, or the product."""
    modules = {"model.embed_tokens": matrices((320, 128), 4, 1), "lm_head": matrices((320, 128), 4, 2)}
    source = weights_of("qwen3")
    assert "lm_head.weight" not in source
    plain = write_checkpoint(tmp_path / "plain", "qwen3")
    untied = {**source, "lm_head.weight": source["model.embed_tokens.weight"]}
    tuned = checkpoint_with(tmp_path / "tuned", "qwen3", folded(untied, modules, 1.5), tie_word_embeddings=False)
    convert_adapter(write_peft(tmp_path / "lora", peft_tensors(modules)), tmp_path / "a.gguf", base=plain)
    shapes = {name: t.shape for name, t in puna.open_gguf(tmp_path / "a.gguf").tensors.items()}
    assert shapes["token_embd.weight.lora_a"] == (320, 4)
    assert shapes["token_embd.weight.lora_b"] == (128, 4)
    ids = tokens(320)[:24]
    assert distance(logits(plain, backend, ids, [tmp_path / "a.gguf"]), logits(tuned, backend, ids)) < 1e-8


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({"use_rslora": True}, {"q": 6 / 2, "o": 6 / 2}),
        ({"alpha_pattern": {"layers.1.self_attn.o_proj": 1}}, {"q": 6 / 4, "o": 1 / 4}),
        ({"alpha_pattern": {r".*\.(0|1)\.self_attn\.q_proj": 10}, "lora_alpha": 2}, {"q": 10 / 4, "o": 2 / 4}),
        ({"alpha_pattern": {"_proj": 3, "proj": 4}}, {"q": 6 / 4, "o": 6 / 4}),
        ({"use_rslora": True, "alpha_pattern": {"o_proj": 3}}, {"q": 6 / 2, "o": 3 / 2}),
    ],
)
def test_every_scale_that_peft_knows_is_kept(config: dict[str, Any], scales: dict[str, float], tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    modules = {name: ab for name, ab in modules_of("llama3").items() if name.endswith(("0.self_attn.q_proj", "o_proj"))}
    source = write_peft(tmp_path / "lora", peft_tensors(modules), **config)
    convert_adapter(source, tmp_path / "a.gguf", base=base)
    adapter = open_adapter(tmp_path / "a.gguf", open_base(base))
    for name, module, scale in (
        ("blk.0.attn_q.weight", Q, scales["q"]),
        ("blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj", scales["o"]),
    ):
        left, right = adapter.pairs[name].factors()
        a, b = modules[module]
        want = (rows_by_pairs(b, 4) if module == Q else b) @ a * scale
        np.testing.assert_allclose(left @ right, want, rtol=1e-5, atol=1e-6)


def test_ranks_may_differ_between_modules(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    modules = modules_of("llama3", ("k_proj",)) | modules_of("llama3", ("down_proj",), rank=2)
    source = write_peft(tmp_path / "lora", peft_tensors(modules), rank_pattern={"down_proj": 2})
    adapter = open_adapter(source, open_base(base))
    assert {pair.rank: pair.scale for pair in adapter.pairs.values()} == {4: 1.5, 2: 3.0}


def test_a_pytorch_file_of_16_bit_floats_stays_as_it_is(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    source = write_peft(tmp_path / "lora", {})
    (source / "adapter_model.safetensors").unlink()
    a, b = (m.astype(np.float16) for m in matrices((128, 128), 4, 0))
    records = {f"base_model.model.{Q}.lora_A.weight": a, f"base_model.model.{Q}.lora_B.weight": b}
    (source / "adapter_model.bin").write_bytes(
        zip_file(
            {
                n: tensor(storage(str(i), m.size, "torch.HalfStorage"), m.shape, (m.shape[1], 1))
                for i, (n, m) in enumerate(records.items())
            },
            {str(i): m.tobytes() for i, m in enumerate(records.values())},
        )
    )
    convert_adapter(source, tmp_path / "a.gguf", base=base)
    got = puna.open_gguf(tmp_path / "a.gguf").tensors
    assert {t.dtype.name for t in got.values()} == {"F16"}
    np.testing.assert_array_equal(got["blk.0.attn_q.weight.lora_b"].numpy(), rows_by_pairs(b, 4))
    convert_adapter(source, tmp_path / "b.gguf", base=base, dtype="bf16")
    assert {t.dtype.name for t in puna.open_gguf(tmp_path / "b.gguf").tensors.values()} == {"BF16"}


def vector(name: str, size: int) -> dict[str, Any]:
    return {f"base_model.model.{name}": np.full(size, 2, "f4")}


AB = dict(zip(("lora_A.weight", "lora_B.weight"), matrices((128, 128), 4, 0), strict=True))
PLAIN = {f"base_model.model.{Q}.{kind}": m for kind, m in AB.items()}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, PLAIN, "'peft_type' is 'IA3'"),
    ({"peft_type": None}, PLAIN, "'peft_type' is None"),
    ({"layer_replication": [[0, 2], [1, 2]]}, PLAIN, "'layer_replication' is"),
    ({"target_parameters": ["experts.w"]}, PLAIN, "'target_parameters' is"),
    ({"lora_bias": True}, PLAIN, "'lora_bias' is True"),
    ({"trainable_token_indices": [1]}, PLAIN, "'trainable_token_indices' is"),
    ({"init_lora_weights": "pissa_niter_4"}, PLAIN, "'pissa_niter_4': the base's weights were changed too"),
    ({"use_rslora": "false"}, PLAIN, "'use_rslora' is 'false'"),
    ({"r": 8}, PLAIN, "has rank 4, adapter_config.json says r = 8"),
    ({"lora_alpha": 0}, PLAIN, "lora_alpha of '.*q_proj' is 0"),
    ({"lora_alpha": "6"}, PLAIN, "is '6'"),
    ({"rank_pattern": ["q_proj"]}, PLAIN, "'rank_pattern' is"),
    ({"alpha_pattern": {"(": 1}}, PLAIN, r"'alpha_pattern' has '\(', no pattern"),
    ({}, {}, "the adapter has no tensors"),
    ({}, dict([*PLAIN.items()][:1]), "no lora_B"),
    ({}, {**PLAIN, f"base_model.model.{Q}.lora_A.default.weight": AB["lora_A.weight"]}, "is there twice"),
    ({}, {name.replace("q_proj", "z_proj"): m for name, m in PLAIN.items()}, "z_proj.weight', which the base"),
    ({}, {name.replace("layers.0", "layers.7"): m for name, m in PLAIN.items()}, "no tensor 'blk.7.attn_q.weight'"),
    (
        {},
        {name.replace("q_proj", "k_proj"): m for name, m in PLAIN.items()},
        r"\(128, 128\); the base's is \(64, 128\)",
    ),
    ({}, {**PLAIN, **vector(f"{Q}.lora_B.bias", 128)}, "'base_model.*lora_B.bias' is not understood"),
    ({}, {**PLAIN, **vector(f"{Q}.base_layer.bias", 128)}, "it replaces 'blk.0.attn_q.bias'"),
    ({}, {**PLAIN, **vector(f"{Q}.lora_magnitude_vector", 128)}, "cannot hold DoRA"),
    ({}, {**PLAIN, "base_model.model.lm_head.weight": np.zeros((320, 128), "f4")}, "it replaces 'output.weight'"),
    (
        {},
        {**PLAIN, "base_model.model.model.embed_tokens.base_layer.weight": np.zeros((330, 128), "f4")},
        "the vocabulary was resized",
    ),
]


@pytest.mark.parametrize(("config", "tensors", "said"), REFUSED, ids=[said for *_, said in REFUSED])
def test_an_adapter_that_is_not_understood_leaves_no_file(
    config: dict[str, Any], tensors: dict[str, Any], said: str, tmp_path: Path
) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    with pytest.raises(PunaError, match=said) as found:
        convert_adapter(write_peft(tmp_path / "lora", tensors, **config), tmp_path / "a.gguf", base=base)
    assert isinstance(found.value, ConversionError | ModelError)
    assert not (tmp_path / "a.gguf").exists()


def test_what_training_saved_of_the_base_as_it_is_is_left_out(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    kept = {"base_model.model.model.embed_tokens.base_layer.weight": np.zeros((320, 128), "f4")}
    report = convert_adapter(write_peft(tmp_path / "lora", {**PLAIN, **kept}), tmp_path / "a.gguf", base=base)
    assert [t.name for t in report.tensors] == ["blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"]


def open_with(folder: Path, transforms: dict[str, tuple[Transform, ...]], **config: Any) -> Any:
    """PLAIN for a llama whose q is made otherwise; the pairs by name."""
    arch = replace(
        archs.find("llama"),
        hf_names={"model.layers.{}.self_attn.q_proj": tuple(f"blk.{{}}.{name}" for name in transforms)},
        from_hf=lambda name, hp: transforms[name.split(".")[2]],
    )
    adapter = open_peft(write_peft(folder, PLAIN, **config), arch, None, {})
    return {name.split(".")[2]: (pair.a.numpy(), pair.b.numpy()) for name, pair in adapter.pairs.items()}


def test_a_base_that_is_split_splits_the_rows_of_b(tmp_path: Path) -> None:
    found = open_with(tmp_path, {"attn_q": (rows(0, 96),), "attn_k": (rows(96, 128), permute_rope(2))})
    a, b = AB["lora_A.weight"], AB["lora_B.weight"]
    np.testing.assert_array_equal(found["attn_q"][0], a)
    np.testing.assert_array_equal(found["attn_k"][0], a)
    np.testing.assert_array_equal(found["attn_q"][1], b[:96])
    np.testing.assert_array_equal(found["attn_k"][1], rows_by_pairs(b[96:], 2))


def test_a_base_stored_the_other_way_round_has_b_the_right_way(tmp_path: Path) -> None:
    found = open_with(tmp_path, {"attn_q": (transpose(), rows(0, 64))}, fan_in_fan_out=True)
    np.testing.assert_array_equal(found["attn_q"][1], AB["lora_B.weight"][:64])
    with pytest.raises(ConversionError, match=r"'blk\.0\.attn_q\.weight' cannot be converted, for transpose"):
        open_with(tmp_path, {"attn_q": (transpose(),)})


@pytest.mark.parametrize("backend", BACKENDS)
def test_norms_that_were_trained_take_the_place_of_the_bases(backend: str, tmp_path: Path) -> None:
    plain = write_checkpoint(tmp_path / "plain", "gemma3")
    norm = np.linspace(-0.5, 0.5, 128, dtype="f4")
    tuned = checkpoint_with(tmp_path / "tuned", "gemma3", {**weights_of("gemma3"), "model.norm.weight": norm})
    source = write_peft(tmp_path / "lora", {"base_model.model.model.norm.weight": norm})
    convert_adapter(source, tmp_path / "a.gguf", base=plain)
    np.testing.assert_array_equal(
        puna.open_gguf(tmp_path / "a.gguf").tensors["output_norm.weight"].numpy(), norm + np.float32(1)
    )
    ids = tokens(320)[:24]
    got = logits(plain, backend, ids, [tmp_path / "a.gguf"])
    np.testing.assert_array_equal(got, logits(tuned, backend, ids))


def test_modules_may_be_named_as_seen_from_the_model_without_its_head(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "qwen3")
    saved = peft_tensors(modules_of("qwen3", ("up_proj",)))
    bare = {name.replace("base_model.model.model.", "base_model.model."): m for name, m in saved.items()}
    adapter = open_adapter(write_peft(tmp_path / "lora", bare), open_base(base))
    assert list(adapter.pairs) == ["blk.0.ffn_up.weight", "blk.1.ffn_up.weight"]


def test_a_base_may_be_its_config_alone(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    source = write_peft(tmp_path / "lora", PLAIN)
    convert_adapter(source, tmp_path / "a.gguf", base=base)
    (base / "model.safetensors").unlink()
    convert_adapter(source, tmp_path / "b.gguf", base=base)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_the_base_is_a_gguf_file_as_well(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    puna.convert(base, tmp_path / "base.gguf", dtype="f16")
    source = write_peft(tmp_path / "lora", PLAIN)
    for ref in (base, tmp_path / "base.gguf"):
        convert_adapter(source, tmp_path / f"{ref.name}-a.gguf", base=ref)
    assert (tmp_path / "base-a.gguf").read_bytes() == (tmp_path / "base.gguf-a.gguf").read_bytes()


def test_the_base_is_found_where_the_adapter_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = write_checkpoint(tmp_path / "hf/hub/models--me--tiny/snapshots/0123", "llama3")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    source = write_peft(tmp_path / "lora", PLAIN, base_model_name_or_path="me/tiny")
    assert find_base(source) == snapshot
    convert_adapter(source, tmp_path / "a.gguf")
    write_peft(tmp_path / "lora", PLAIN, base_model_name_or_path=str(snapshot))
    assert find_base(source) == snapshot
    for missing in ("me/other", "../../etc", "", None, 3):
        write_peft(tmp_path / "lora", PLAIN, base_model_name_or_path=missing)
        with pytest.raises(ModelNotFound, match="name the base"):
            convert_adapter(source, tmp_path / "b.gguf")


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "not JSON"), ("[]", "holds a list"), ('{"lora_parameters": {}}', "no 'peft_type'"), (None, "there is no")],
)
def test_a_directory_that_is_no_peft_adapter_is_refused(content: str | None, said: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    source = write_peft(tmp_path / "lora", PLAIN)
    if content is None:
        (source / "adapter_config.json").unlink()
    else:
        (source / "adapter_config.json").write_text(content)
    with pytest.raises(ConversionError, match=said):
        convert_adapter(source, tmp_path / "a.gguf", base=base)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    source = write_peft(tmp_path / "lora", PLAIN)
    (source / "adapter_model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"neither adapter_model\.safetensors nor adapter_model\.bin"):
        convert_adapter(source, tmp_path / "a.gguf", base=base)
    with pytest.raises(ModelNotFound, match="no such file"):
        puna.load(base, adapters=[tmp_path / "nowhere"]).logits([1])
