"""Merging: the folded weights are those worked out by hand, in whatever form base and adapter come."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from create.adapters import folded, matrices, modules_of, peft_tensors, write_peft
from golden.cases import CASES, tokens
from golden.checkpoints import weights_of, write_checkpoint, write_safetensors, write_wide
from puna.create.adapters.convert import convert_adapter
from puna.create.adapters.merge import merge
from puna.errors import ConversionError, ModelError, ModelNotFound

Array = np.ndarray[Any, Any]
Q = "model.layers.0.self_attn.q_proj"


def values(path: Path) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in puna.open_gguf(path).tensors.items()}


def written(folder: Path, case: str, weights: dict[str, Array], **changes: Any) -> dict[str, Array]:
    """The values of a checkpoint with these weights, converted."""
    write_checkpoint(folder, case, **changes)
    write_safetensors(folder / "model.safetensors", weights)
    puna.convert(folder, folder / "model.gguf")
    return values(folder / "model.gguf")


def assert_close(got: dict[str, Array], want: dict[str, Array]) -> None:
    assert got.keys() == want.keys()
    for name, array in got.items():
        np.testing.assert_allclose(array, want[name], rtol=2e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("case", ["llama3", "qwen2", "qwen3", "gemma3", "phi3", "bert", "mixtral"])
def test_a_checkpoint_and_a_peft_adapter_become_the_folded_weights(case: str, tmp_path: Path) -> None:
    targets = ("_proj", ".query", ".dense", ".w1", ".w2", ".w3")
    modules = {name: ab for name, ab in modules_of(case, targets).items() if "pooler" not in name}
    base = write_checkpoint(tmp_path / "base", case)
    lora = write_peft(tmp_path / "lora", peft_tensors(modules))
    report = merge(base, [lora], tmp_path / "m.gguf")
    changed = [t for t in report.tensors if t.source.endswith(" + lora")]
    assert sum(len(t.sources) for t in changed) == len(modules)
    assert_close(values(tmp_path / "m.gguf"), written(tmp_path / "t", case, folded(weights_of(case), modules, 1.5)))


@pytest.mark.parametrize("base_form", ["gguf", "directory"])
@pytest.mark.parametrize("adapter_form", ["gguf", "peft"])
def test_every_form_of_base_and_adapter_gives_the_same(base_form: str, adapter_form: str, tmp_path: Path) -> None:
    modules = modules_of("llama3")
    base: Path = write_checkpoint(tmp_path / "base", "llama3")
    adapter = write_peft(tmp_path / "lora", peft_tensors(modules))
    if adapter_form == "gguf":
        convert_adapter(adapter, tmp_path / "lora.gguf", base=base)
        adapter = tmp_path / "lora.gguf"
    if base_form == "gguf":
        puna.convert(base, tmp_path / "base.gguf")
        base = tmp_path / "base.gguf"
    merge(base, [adapter], tmp_path / "m.gguf")
    want = written(tmp_path / "tuned", "llama3", folded(weights_of("llama3"), modules, 1.5))
    assert_close(values(tmp_path / "m.gguf"), want)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_K_M"])
def test_a_quantized_base_stays_in_its_own_types(kind: str, tmp_path: Path) -> None:
    base = write_wide(tmp_path / "base", "llama3")
    puna.convert(base, tmp_path / "base.gguf", quantize=kind)
    shape = (256, 256)
    a, b = matrices(shape, 4, 0)
    lora = write_peft(tmp_path / "lora", peft_tensors({Q.replace("q_proj", "o_proj"): (a, b)}))
    merge(tmp_path / "base.gguf", [lora], tmp_path / "m.gguf")
    before, after = (puna.open_gguf(tmp_path / f"{name}.gguf") for name in ("base", "m"))
    assert {n: t.dtype for n, t in after.tensors.items()} == {n: t.dtype for n, t in before.tensors.items()}
    assert after.metadata["general.file_type"] == before.metadata["general.file_type"]
    for name, tensor in after.tensors.items():
        if name != "blk.0.attn_output.weight":
            assert bytes(tensor.raw) == bytes(before.tensors[name].raw), name
            continue
        whole = (before.tensors[name].numpy() + 1.5 * (b @ a)).astype(np.float32)
        want = puna.dequantize(puna.quantize(whole, tensor.dtype.name), tensor.dtype.name, shape)
        step = (
            np.abs(whole).max() / 8
        )  # what one step of rounding may differ by, where the sums differ in their last bit
        assert np.abs(tensor.numpy() - want).max() <= step
        assert (tensor.numpy() != want).mean() < 1e-3


def test_it_is_quantized_once_from_the_folded_values(tmp_path: Path) -> None:
    base = write_wide(tmp_path / "base", "qwen3")
    a, b = matrices((256, 384), 4, 0)
    lora = write_peft(tmp_path / "lora", peft_tensors({Q.replace("q_proj", "o_proj"): (a, b)}))
    report = merge(base, [lora], tmp_path / "m.gguf", quantize="Q8_0")
    puna.convert(base, tmp_path / "plain.gguf", quantize="Q8_0")
    got, plain = puna.open_gguf(tmp_path / "m.gguf"), puna.open_gguf(tmp_path / "plain.gguf")
    assert {n: t.dtype for n, t in got.tensors.items()} == {n: t.dtype for n, t in plain.tensors.items()}
    assert got.metadata["general.file_type"] == plain.metadata["general.file_type"] == 7
    assert {t.name: t.dtype for t in report.tensors}["blk.0.attn_output.weight"] == "Q8_0"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_merged_model_computes_what_the_base_with_the_adapter_computes(backend: str, tmp_path: Path) -> None:
    modules = modules_of("qwen3") | {"model.embed_tokens": matrices((320, 128), 4, 9)}
    base = write_checkpoint(tmp_path / "base", "qwen3")
    lora = write_peft(tmp_path / "lora", peft_tensors(modules))
    merge(base, [(lora, 0.5)], tmp_path / "m.gguf")
    assert "output.weight" in puna.open_gguf(tmp_path / "m.gguf").tensors  # tied to the embedding as it was
    ids = tokens(CASES["qwen3"]["vocab_size"])[:24]
    options: dict[str, Any] = {"backend": backend, "kv_type": "f32"}
    want = puna.load(base, adapters=[(lora, 0.5)], **options).logits(ids)
    got = puna.load(tmp_path / "m.gguf", **options).logits(ids)
    assert ((got - want) ** 2).sum() < 1e-8 * (want**2).sum()


def test_dora_sets_the_length_of_every_row(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    a, b = matrices((128, 128), 4, 0)
    lengths = np.linspace(1, 2, 128, dtype="f4")
    saved = peft_tensors({Q: (a, b)}) | {f"base_model.model.{Q}.lora_magnitude_vector": lengths}
    merge(base, [write_peft(tmp_path / "lora", saved, use_dora=True)], tmp_path / "m.gguf")
    weights = weights_of("llama3")
    changed = (weights[f"{Q}.weight"] + 1.5 * (b @ a)).astype("f8")
    long = np.array([sum(float(x) ** 2 for x in row) ** 0.5 for row in changed])
    weights[f"{Q}.weight"] = (changed * (lengths / long)[:, None]).astype("f4")
    assert_close(values(tmp_path / "m.gguf"), written(tmp_path / "tuned", "llama3", weights))


def test_whole_tensors_take_the_place_of_the_bases(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    bias, head = np.linspace(-1, 1, 128, dtype="f4"), matrices((1, 128), 320, 5)[0]
    saved = {
        f"base_model.model.{Q}.base_layer.bias": bias,
        "base_model.model.lm_head.modules_to_save.default.weight": head,
    }
    merge(base, [write_peft(tmp_path / "lora", saved, bias="all")], tmp_path / "m.gguf")
    weights = {**weights_of("llama3"), f"{Q}.bias": bias, "lm_head.weight": head}
    assert_close(values(tmp_path / "m.gguf"), written(tmp_path / "tuned", "llama3", weights, tie_word_embeddings=False))


def test_several_adapters_are_folded_in_order_and_by_their_factors(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    one, two = modules_of("llama3", ("q_proj",)), modules_of("llama3", ("q_proj", "up_proj"), rank=2)
    adapters: Any = [
        write_peft(tmp_path / "one", peft_tensors(one)),
        (write_peft(tmp_path / "two", peft_tensors(two), r=2), -1),
    ]
    merge(base, adapters, tmp_path / "m.gguf")
    weights = folded(folded(weights_of("llama3"), one, 1.5), two, -3.0)
    assert_close(values(tmp_path / "m.gguf"), written(tmp_path / "tuned", "llama3", weights))


def test_a_band_of_rows_is_folded_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    lora = write_peft(tmp_path / "lora", peft_tensors(modules_of("llama3")))
    merge(base, [lora], tmp_path / "whole.gguf")
    monkeypatch.setattr("puna.create.adapters.merge.BAND", 128 * 7)
    merge(base, [lora], tmp_path / "bands.gguf")
    assert_close(values(tmp_path / "bands.gguf"), values(tmp_path / "whole.gguf"))


def test_progress_counts_every_byte(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    seen: list[tuple[str, int, int]] = []
    lora = write_peft(tmp_path / "lora", peft_tensors(modules_of("llama3", ("q_proj",))))
    report = merge(base, [lora], tmp_path / "m.gguf", on_progress=lambda *step: seen.append(step))
    assert seen[-1][1:] == (report.nbytes, report.nbytes)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_what_cannot_be_merged_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "llama3")
    good = peft_tensors({Q: matrices((128, 128), 4, 0)})
    lora = write_peft(tmp_path / "lora", good)
    other = write_peft(tmp_path / "other", peft_tensors({Q: matrices((128, 64), 4, 0)}))
    broken = write_peft(tmp_path / "broken", {n: np.full_like(t, np.inf) for n, t in good.items()})
    lengths = {f"base_model.model.{Q}.lora_magnitude_vector": np.ones(128, "f4")}
    dora = write_peft(tmp_path / "dora", {**good, **lengths}, use_dora=True)
    out = tmp_path / "m.gguf"
    for adapters, kind, said in (
        ([], ConversionError, "there is no adapter"),
        ([tmp_path / "none"], ModelNotFound, "no such file"),
        ([other], ModelError, "the base's is"),
        ([broken], ConversionError, "'blk.0.attn_q.weight': row 0 becomes"),
        ([(dora, 0.5)], ConversionError, "a DoRA, which has no factor"),
    ):
        with pytest.raises(kind, match=said):
            merge(base, adapters, out)
    with pytest.raises(ModelNotFound, match="not in the store"):
        merge("nowhere", [lora], out)
    (base / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match="no weights"):
        merge(base, [lora], out)
    assert not out.exists()
