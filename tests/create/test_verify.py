"""What verification finds, and names, in models with one thing wrong."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from create.verifying import TEXT, changed, halves, three_blocks
from golden.checkpoints import write_checkpoint
from puna import errors
from puna.create.verify import Limits, Verification
from puna.formats.gguf import open_gguf

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "IQ4_XS", "NVFP4", "TQ2_0")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_blocks(tmp_path_factory.mktemp("verify") / "source")


@pytest.fixture(scope="module")
def model(source: Path) -> Path:
    path = source.parent / "model.gguf"
    puna.convert(source, path)
    return path


def verified(model: Path, source: Path | None = None, **options: object) -> Verification:
    return puna.verify(model, source, text=TEXT, tokens=32, **options)


def drifting(found: Verification) -> list[str]:
    return [check.name for check in found.checks if check.status == "drift"]


@pytest.mark.parametrize(
    ("kind", "backend"), [*((kind, "cpu") for kind in TYPES), *((kind, "numpy") for kind in ("Q8_0", "Q4_K_M"))]
)
def test_a_sound_conversion_is_ok_in_every_type(kind: str, backend: str, source: Path, tmp_path: Path) -> None:
    puna.convert(source, tmp_path / "m.gguf", quantize=kind)
    found = verified(tmp_path / "m.gguf", source, backend=backend)
    assert (drifting(found), found.ok, found.first_drift) == ([], True, None)
    assert [block.name for block in found.blocks] == ["embedding", "block 0", "block 1", "block 2", "output"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_weights_give_the_same_numbers(backend: str, model: Path, source: Path) -> None:
    found = verified(model, source, backend=backend)
    assert [block.nmse for block in found.blocks] == [0.0] * 5
    assert (found.output.kl_mean, found.output.top1, found.output.topk) == (0.0, 1.0, 1.0)
    assert found.output.perplexity[0] == found.output.perplexity[1] > 1
    assert found.check("tokenizer").detail.endswith("texts, against the library of its files")
    assert {t.nmse for t in found.tensors} == {0.0}
    assert len(found.tensors) == 30


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("name", ["attn_q", "attn_output", "ffn_down", "ffn_norm"])
def test_one_tensor_in_the_wrong_order_is_named_with_its_block(
    name: str, kind: str, model: Path, source: Path, tmp_path: Path
) -> None:
    name = f"blk.1.{name}.weight"
    broken = changed(model, tmp_path / "broken.gguf", {name: halves})
    puna.convert(broken, tmp_path / "m.gguf", quantize=kind)
    found = verified(tmp_path / "m.gguf", source)
    assert not found.ok
    assert found.first_drift == "block 1"
    assert [t.name for t in found.tensors if t.drifts] == [name]
    assert found.blocks[2].tensors == (name,)
    assert [block.drifts for block in found.blocks] == [False, False, True, False, False]


def test_a_block_that_drifts_is_told_from_those_that_only_inherit(model: Path, source: Path, tmp_path: Path) -> None:
    broken = changed(model, tmp_path / "m.gguf", {"blk.1.ffn_down.weight": lambda w: w * 1.1})
    blocks = verified(broken, source, limits=Limits(tensor=1.0)).blocks
    assert [block.drifts for block in blocks] == [False, False, True, False, False]
    assert blocks[1].nmse == 0
    assert min(block.nmse for block in blocks[2:]) > 1e-5
    assert max(block.local for block in blocks[3:]) < 1e-9


def test_a_metadata_key_that_changes_numbers_is_named(model: Path, source: Path, tmp_path: Path) -> None:
    broken = changed(model, tmp_path / "m.gguf", metadata={"llama.attention.layer_norm_rms_epsilon": 0.1})
    found = verified(broken, source)
    assert drifting(found) == ["hyperparameters", "blocks", "output"]
    assert found.check("hyperparameters").findings[0].startswith("norm_eps is 0.1")
    assert (found.first_drift, found.blocks[1].tensors) == ("block 0", ())


def test_a_missing_tensor_and_one_too_many_are_named(model: Path, source: Path, tmp_path: Path) -> None:
    found = verified(changed(model, tmp_path / "m.gguf", {"blk.2.ffn_up.weight": lambda w: None}), source)
    assert found.check("inventory").findings == ("'blk.2.ffn_up.weight' is missing",)
    assert found.check("blocks").status == "drift"
    assert "blk.2.ffn_up.weight" in found.check("blocks").findings[0]
    assert found.blocks == ()


def test_an_output_that_repeats_the_embedding_is_no_difference(model: Path, source: Path, tmp_path: Path) -> None:
    same = lambda w: open_gguf(model).tensors["token_embd.weight"].numpy()  # noqa: E731
    whole = changed(model, tmp_path / "whole.gguf", {"output.weight": same})
    tied = changed(whole, tmp_path / "tied.gguf", {"output.weight": lambda w: None})
    assert verified(tied, whole).check("inventory").findings == ()
    assert verified(whole, tied).check("inventory").findings == ()
    assert verified(tied, model).check("inventory").findings == ("'output.weight' is missing",)


def test_tokens_that_changed_places_are_found(model: Path, source: Path, tmp_path: Path) -> None:
    tokens = list(open_gguf(model).metadata["tokenizer.ggml.tokens"])
    a, b = tokens.index("t"), tokens.index("e")
    tokens[a], tokens[b] = tokens[b], tokens[a]
    broken = changed(model, tmp_path / "m.gguf", metadata={"tokenizer.ggml.tokens": tokens})
    found = verified(broken, source).check("tokenizer")
    assert found.status == "drift"
    assert found.findings[-1].startswith("and ")


def test_another_end_token_is_named(model: Path, source: Path, tmp_path: Path) -> None:
    broken = changed(model, tmp_path / "m.gguf", metadata={"tokenizer.ggml.eos_token_id": np.uint32(5)})
    assert verified(broken, source).check("tokenizer").findings == (
        "'tokenizer.ggml.eos_token_id' is 5, the source's 317",
    )


def test_a_template_that_says_something_else_is_found_with_the_conversation(
    model: Path, source: Path, tmp_path: Path
) -> None:
    text = open_gguf(model).metadata["tokenizer.chat_template"].replace("tools | length", "tools | length + 1")
    broken = changed(model, tmp_path / "m.gguf", metadata={"tokenizer.chat_template": text})
    assert verified(model, source).check("template").status == "ok"
    found = verified(broken, source).check("template")
    assert [line.split(":")[0] for line in found.findings] == ["tools offered", "a tool called"]


def test_a_template_of_a_modelfile_is_held_to_the_source_s(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go's joins what one role says in a row, and this one knows no tools."""
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    go = "{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}\n{{ end }}<|assistant|>"
    puna.create("m", f'FROM {model}\nTEMPLATE """{go}"""\n')
    found = puna.verify("m", source, text=TEXT, tokens=8).check("template")
    assert "the Modelfile's template" in found.detail
    named = [line.split(":")[0] for line in found.findings]
    assert named == ["two users in a row", "tools offered", "a tool called"]


@pytest.mark.parametrize("case", ["llama3", "qwen2", "qwen3", "gemma3", "bert"])
def test_one_wrong_tensor_is_named_in_every_architecture(case: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", case)
    puna.convert(source, tmp_path / "m.gguf")
    assert puna.verify(tmp_path / "m.gguf", source, tokens=24).first_drift is None
    name = "blk.1.attn_output.weight"
    broken = changed(tmp_path / "m.gguf", tmp_path / "b.gguf", {name: lambda w: w[::-1]})
    found = puna.verify(broken, source, tokens=24, limits=Limits(tensor=9.0))
    assert (found.first_drift, [block.name for block in found.blocks if block.drifts]) == ("block 1", ["block 1"])
    found = puna.verify(broken, source, tokens=24)
    assert [tensor.name for tensor in found.tensors if tensor.drifts] == [name]


def test_another_model_is_said_to_be_one(model: Path, tmp_path: Path) -> None:
    names = [name for name in open_gguf(model).tensors if name.startswith("blk.2.")]
    less = {name: lambda w: None for name in names}
    short = changed(model, tmp_path / "m.gguf", less, metadata={"llama.block_count": np.uint32(2)})
    found = verified(short, model)
    assert "it has 4 stages" in found.check("blocks").findings[0]
    assert len(found.check("inventory").findings) == 9


# ---- alone ----------------------------------------------------------------------------------------------------------


def test_a_sound_model_alone_is_ok_and_what_was_not_checked_is_said(model: Path) -> None:
    found = verified(model)
    assert found.ok
    assert [check.name for check in found.checks if check.status == "not checked"] == ["files", "source"]
    assert found.truth == "numpy on the stored weights"
    assert max(block.nmse for block in found.blocks) < 1e-9


def test_alone_on_numpy_there_is_nothing_to_hold_blocks_to_and_the_model_is_not_verified(model: Path) -> None:
    found = verified(model, backend="numpy")
    assert [check.name for check in found.checks if check.status == "could not run"] == ["blocks"]
    assert not drifting(found)
    assert not found.ok


@pytest.mark.parametrize(
    "limits", [{"top1": 7}, {"top1": -0.1}, {"kl": -1}, {"tensor": math.nan}, {"block": -math.inf}], ids=str
)
def test_a_limit_that_bounds_nothing_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(errors.RequestError, match=f"verify: the limit {next(iter(limits))} is "):
        Limits(**limits)


def test_values_that_are_not_finite_are_found(model: Path, tmp_path: Path) -> None:
    def poisoned(w: np.ndarray) -> np.ndarray:
        w[3, 7] = np.nan
        return w

    found = verified(changed(model, tmp_path / "m.gguf", {"blk.0.ffn_up.weight": poisoned}))
    assert found.check("tensors").findings[0].startswith("'blk.0.ffn_up.weight' (F32) has values that are not finite")
    assert found.first_drift == "block 0"


def test_a_damaged_scale_is_found_without_a_source(model: Path, source: Path, tmp_path: Path) -> None:
    puna.convert(source, tmp_path / "m.gguf", quantize="Q8_0")
    tensor = open_gguf(tmp_path / "m.gguf").tensors["blk.1.ffn_up.weight"]
    data = bytearray((tmp_path / "m.gguf").read_bytes())
    at = bytes(data).index(tensor.raw[: 34 * 4].tobytes())
    data[at : at + 2] = np.float16(60000).tobytes()
    (tmp_path / "m.gguf").write_bytes(data)
    assert "'blk.1.ffn_up.weight' (Q8_0) has values up to" in verified(tmp_path / "m.gguf").check("tensors").findings[0]


def test_a_damaged_blob_of_a_store_is_found(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    puna.create("m", f"FROM {model}\n")
    assert puna.verify("m", text=TEXT, tokens=8).check("files").status == "ok"
    blob = puna.Store().model_path("m")
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    found = puna.verify("m", text=TEXT, tokens=8).check("files")
    assert found.status == "drift"
    assert "the model: " in found.findings[0]


def test_a_template_that_does_not_compile_is_found(model: Path, tmp_path: Path) -> None:
    broken = changed(model, tmp_path / "m.gguf", metadata={"tokenizer.chat_template": "{% for m in messages %}"})
    assert verified(broken).check("template").detail == "it cannot be used"


def test_a_renderer_is_held_to_the_source_s_template_and_has_to_be_known(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUNA_MODELS", str(tmp_path))
    puna.create("m", f"FROM {model}\nRENDERER olmo3\n")
    alone = puna.verify("m", text=TEXT, tokens=8).check("template")
    assert (alone.status, alone.detail) == ("ok", "renderer: renders 6 of 6 conversations")
    beside = puna.verify("m", source, text=TEXT, tokens=8).check("template")
    assert (beside.status, beside.detail) == ("drift", "6 conversations, against the source's; the renderer olmo3")
    puna.create("m", f"FROM {model}\nRENDERER olmo4\n")
    found = puna.verify("m", text=TEXT, tokens=8).check("template")
    assert (found.status, found.detail) == ("drift", "it cannot be used")
    assert "closest: olmo3" in found.findings[0]


# ---- the call -------------------------------------------------------------------------------------------------------


def test_a_verification_is_json(model: Path, source: Path) -> None:
    found = verified(model, source, backend="numpy")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (data["ok"], data["model"], data["against"], data["backend"]) == (True, str(model), str(source), "numpy")
    assert data["blocks"][2]["name"] == "block 1"
    assert data["tensors"][0].keys() >= {"name", "nmse", "cosine", "gain", "limit"}
    with pytest.raises(KeyError, match="no check 'colour'"):
        found.check("colour")


def test_what_is_not_finite_is_json_too(model: Path, source: Path, tmp_path: Path) -> None:
    broken = changed(model, tmp_path / "m.gguf", {"blk.0.ffn_up.weight": lambda w: w * math.inf})
    data = verified(broken, source).to_dict()
    assert json.loads(json.dumps(data, allow_nan=False))["blocks"][1]["nmse"] == "inf"


def test_limits_of_the_caller_replace_those_of_the_types(source: Path, tmp_path: Path) -> None:
    puna.convert(source, tmp_path / "m.gguf", quantize="Q8_0")
    one = tmp_path / "m.gguf"
    assert drifting(verified(one, source, limits=Limits(block=1e-6))) == ["blocks"]
    assert drifting(verified(one, source, limits=Limits(tensor=1e-6))) == ["tensors", "blocks"]
    assert drifting(verified(one, source, limits=Limits(kl=1e-6))) == ["output"]
    puna.convert(source, one, quantize="Q2_K")
    assert drifting(verified(one, source, limits=Limits(top1=1))) == ["output"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"tokens": 1}, errors.RequestError, "tokens is 1; at least 2"),
        ({"reference": "torch"}, errors.RequestError, "known: transformers"),
        ({"text": ""}, errors.RequestError, "text has 1 tokens; at least 2"),
        ({"backend": "abacus"}, errors.BackendError, "'abacus' is unknown"),
        ({"tokens": "x"}, errors.RequestError, "verify: tokens is 'x' (str); a whole number works"),
        ({"against": "no.gguf"}, errors.ModelNotFound, "no.gguf"),
    ],
)
def test_a_wrong_call_is_one_error(model: Path, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(words)):
        puna.verify(model, **options)


def test_a_model_that_does_not_fit_into_memory_is_refused_with_the_sizes(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.create.verify.forward.available_memory", lambda: 1000)
    with pytest.raises(errors.ModelError, match=r"takes about \d.* of memory, 1\.0 kB are free"):
        verified(model)
    assert verified(model, force=True).ok


def test_progress_goes_up_to_the_whole(model: Path, source: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    verified(model, source, on_progress=lambda what, done, total: seen.setdefault(what, []).append((done, total)))
    assert seen.keys() == {"comparing tensors", "running both sides"}
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1] > 0
