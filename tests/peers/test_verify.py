"""Real models held to their sources: what is sound is found sound, at figures that are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import puna
from create.verifying import changed
from golden.checkpoints import write_directory
from peers import downloads
from peers.test_round_trip import hf_tensor

pytestmark = pytest.mark.peer


def smollm2_directory(folder: Path) -> Path:
    """SmolLM2's weights, tokenizer and template as the checkpoint they came from."""
    original = puna.open_gguf(downloads.smollm2())
    weights = dict(hf_tensor(name, np.asarray(t.numpy())) for name, t in original.tensors.items())
    config = {
        **{"architectures": ["LlamaForCausalLM"], "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536},
        **{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_act": "silu"},
        **{"max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "model_type": "llama"},
        **{"tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2},
    }
    write_directory(folder, config, weights, words=False)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(original.metadata)), "utf-8")
    settings = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    settings["chat_template"] = original.metadata["tokenizer.chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def tokenizer_json(metadata: Any) -> dict[str, Any]:
    """Byte-level BPE that splits digits, as SmolLM2's own file says."""
    tokens, types = list(metadata["tokenizer.ggml.tokens"]), list(metadata["tokenizer.ggml.token_type"])
    flags = {"special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}
    added = [{"id": i, "content": text, **flags} for i, text in enumerate(tokens) if types[i] == 3]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = [{"type": "Digits", "individual_digits": True}, bytes_]
    model = {
        **{"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None},
        **{"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False},
        "vocab": {text: i for i, text in enumerate(tokens)},
        "merges": list(metadata["tokenizer.ggml.merges"]),
    }
    return {
        **{"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None},
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": split},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": model,
    }


@pytest.fixture(scope="module")
def smollm2_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smollm2_directory(tmp_path_factory.mktemp("smollm2") / "hf")


def test_smollm2_is_held_to_the_checkpoint_that_it_came_from(smollm2_source: Path) -> None:
    found = puna.verify(downloads.smollm2(), smollm2_source)
    assert [check.name for check in found.checks if check.status == "drift"] == []
    assert {tensor.nmse for tensor in found.tensors} == {0.0}
    assert found.check("tokenizer").detail.endswith("the library of its files")
    assert len(found.blocks) == 32
    assert max(block.local for block in found.blocks[1:]) < 2e-3  # activations in 8 bits, and nothing else
    assert (found.output.kl_mean, found.output.top1) < (0.02, 1.0)
    exact = puna.verify(downloads.smollm2(), smollm2_source, backend="numpy", tokens=32)
    assert max(block.nmse for block in exact.blocks) < 1e-9


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M", "Q2_K"])
def test_smollm2_quantized_keeps_its_limits_and_one_wrong_tensor_breaks_them(
    kind: str, smollm2_source: Path, tmp_path: Path
) -> None:
    puna.convert(smollm2_source, tmp_path / "m.gguf", quantize=kind)
    found = puna.verify(tmp_path / "m.gguf", smollm2_source, tokens=128)
    assert [check.name for check in found.checks if check.status == "drift"] == []
    puna.convert(smollm2_source, tmp_path / "f32.gguf", dtype="f32")
    name = "blk.17.attn_q.weight"
    changed(tmp_path / "f32.gguf", tmp_path / "broken.gguf", {name: lambda w: np.roll(w, 32, axis=0)})
    puna.convert(tmp_path / "broken.gguf", tmp_path / "m.gguf", quantize=kind)
    found = puna.verify(tmp_path / "m.gguf", smollm2_source, tokens=128)
    assert (found.ok, found.first_drift) == (False, "block 17")
    assert [tensor.name for tensor in found.tensors if tensor.drifts] == [name]


@pytest.mark.parametrize(("kind", "cosine"), [("F32", 1 - 1e-9), ("F16", 1 - 1e-5), ("Q8_0", 0.997), ("Q4_0", 0.8)])
def test_minilm_is_held_to_its_directory(kind: str, cosine: float, tmp_path: Path) -> None:
    puna.convert(downloads.minilm(), tmp_path / "m.gguf", quantize=kind)
    found = puna.verify(tmp_path / "m.gguf", downloads.minilm())
    assert [check.name for check in found.checks if check.status == "drift"] == []
    assert found.output.kind == "hidden"
    assert found.output.cosine_min > cosine
    left = "; not needed: embeddings.position_ids, pooler.dense.bias, pooler.dense.weight"
    assert found.check("inventory").detail.endswith(left)
