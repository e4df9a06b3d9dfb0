"""A published PyTorch checkpoint, read without torch."""

import json

import numpy as np
import pytest

from peers.downloads import fetch_wheel_file
from puna.formats.mapped import MappedTensor
from puna.formats.torch_pickle import open_torch

pytestmark = pytest.mark.peer

FOLDER = "mgm/resources/general_model"
WEIGHTS = "7a83b442dcb0cbe2a4248ea9922de58e15edfa3a1ad71d07519dc8594f4511b8"


def test_a_published_gpt2_opens_with_the_shapes_of_its_config() -> None:
    path = fetch_wheel_file("microformer-mgm", "0.5.8", f"{FOLDER}/pytorch_model.bin", WEIGHTS)
    config = json.loads((path.parent / "config.json").read_bytes())
    width, vocabulary = config["n_embd"], config["vocab_size"]
    with open_torch(path.parent) as checkpoint:
        tensors = checkpoint.tensors
        assert tensors["transformer.wte.weight"].shape == (vocabulary, width)
        assert tensors["transformer.wpe.weight"].shape == (config["n_positions"], width)
        for layer in range(config["n_layer"]):
            assert tensors[f"transformer.h.{layer}.attn.c_attn.weight"].shape == (width, 3 * width)
            assert tensors[f"transformer.h.{layer}.mlp.c_proj.weight"].shape == (4 * width, width)
        assert all(isinstance(tensor, MappedTensor) for tensor in tensors.values())
        assert {str(tensor.dtype) for tensor in tensors.values()} <= {"F32", "U8", "BOOL"}
        norms = np.stack([tensors[f"transformer.h.{layer}.ln_1.weight"].numpy() for layer in range(config["n_layer"])])
        assert 0.1 < norms.mean() < 2
        assert 0.001 < tensors["transformer.wte.weight"].numpy().std() < 1
