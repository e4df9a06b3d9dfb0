"""What Puna's conversion writes is what llama.cpp's converter writes: every key, its kind and value, every byte.

`data/llama_cpp/<case>.json` is what `convert_hf_to_gguf.py --outtype f32` of the llama.cpp in llama-cpp-python 0.3.36
made of the case, in the current dialect (granitehybrid: the published one, as it does not know today's names of
blocks): metadata besides names and vocabulary, and the SHA-256 of each tensor.
"""

import hashlib
import json
from typing import Any

import gguf
import numpy as np
import pytest

import puna
from golden.checkpoints import DATA, write_checkpoint

RECORD: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((DATA / "llama_cpp").iterdir())
}

NOT_WRITTEN = {
    "modern-bert.attention.layer_norm_rms_epsilon": "the model has no such norm",
    "modern-bert.rope.scaling.type": "it says none, which is what its absence says",
    "command-r.attention.layer_norm_rms_epsilon": "the model has no such norm",
    "cohere2.rope.scaling.type": "it says none, which is what its absence says",
    "command-r.rope.scaling.type": "it says none, which is what its absence says",
    "gemma3n.activation_sparsity_scale": "it computes them in float32: 1.2815515 where 1.2815516 is right",
    "hunyuan-dense.rope.scaling.factor": "1, which is what its absence says",
    "hunyuan-dense.rope.scaling.original_context_length": "a guess, as the converter says itself; nothing is stretched",
    "hunyuan-dense.rope.scaling.type": "it says none, which is what its absence says",
    "exaone.attention.layer_norm_epsilon": "the norms are RMS norms; llama.cpp, too, reads theirs only",
    "glm4moe.nextn_predict_layers": "blocks that predict further tokens are left out",
    "llama.rope.scaling.yarn_attn_factor": "said as a part of yarn's own, `rope.scaling.attn_factor`, which it runs by",
    "nemotron.attention.layer_norm_rms_epsilon": "the model has no such norm",
    "nemotron.rope.scaling.type": "it says none, which is what its absence says",
    "nemotron_h.rope.dimension_count": "nothing is turned",
    "nemotron_h_moe.rope.dimension_count": "nothing is turned",
    **dict.fromkeys(
        (f"{name}.full_attention_interval" for name in ("qwen3next", "qwen35", "qwen35moe")),
        "it says 4 where the config has the blocks one by one, which `attention.recurrent_layers` says too",
    ),
    "t5.attention.layer_norm_epsilon": "the model has no such norm",
    "olmo2.rope.freq_base_swa": "it says what `rope.freq_base` says, which is what its absence says",
}


COMPUTED = ("rope_freqs.weight", "ssm_a")
"""Computed in float32 by another library's exp; tests/arch holds to the former, recorded outputs to both."""


@pytest.fixture(scope="module", params=RECORD)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[gguf.GGUFReader, Any]:
    """Puna's file, read by the gguf package, and the record."""
    path = tmp_path_factory.mktemp("both") / "m.gguf"
    puna.convert(write_checkpoint(path.parent / "hf", request.param, "current"), path)
    return gguf.GGUFReader(path), RECORD[request.param]


def test_every_key_has_the_same_kind_and_value(both: tuple[gguf.GGUFReader, Any]) -> None:
    reader, record = both
    ours = {key: [*(kind.name for kind in field.types), field.contents()] for key, field in reader.fields.items()}
    for key, value in record["metadata"].items():
        if key not in NOT_WRITTEN:
            assert ours.get(key) == value, key


def test_every_tensor_has_the_same_bytes(both: tuple[gguf.GGUFReader, Any]) -> None:
    reader, record = both
    ours = {tensor.name: tensor for tensor in reader.tensors}
    assert ours.keys() == record["tensors"].keys()
    for name, (kind, *shape, digest) in record["tensors"].items():
        tensor = ours[name]
        assert (tensor.tensor_type.name, *map(int, reversed(tensor.shape))) == (kind, *shape), name
        if not name.endswith(COMPUTED):
            assert hashlib.sha256(np.ascontiguousarray(tensor.data).tobytes()).hexdigest()[:16] == digest, name
