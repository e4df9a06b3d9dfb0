"""What `puna export --mlx` writes, in mlx-lm (pip install mlx-lm)."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import puna
from exporting.test_mlx import EXPORTED
from golden.checkpoints import write_checkpoint
from peers import downloads

pytestmark = pytest.mark.peer
ROUNDED = {"gemma": 1e-3, "gemma3": 1e-3, "starcoder2": 1e-3}
"""What mlx-lm itself rounds: Gemma's factor of embeddings to bfloat16, gelu by another formula."""


def in_mlx_lm(folder, ids):
    from mlx_lm.utils import load_model

    with mx.stream(mx.cpu):
        model, _ = load_model(Path(folder))
        logits = model(mx.array(ids)[None])[0].astype(mx.float32)
        return np.array(logits)


@pytest.mark.parametrize("quantize", [None, "Q8_0"])
@pytest.mark.parametrize("case", EXPORTED)
def test_mlx_lm_computes_what_numpy_does(case, quantize, tmp_path):
    puna.convert(write_checkpoint(tmp_path / "source", case), tmp_path / "model.gguf", quantize=quantize)
    puna.export(tmp_path / "model.gguf", tmp_path / "out", "mlx")
    ids = [5, 9, 33, 70, 2, 8, 101, 44]
    expected = puna.load(tmp_path / "model.gguf", backend="numpy", kv_type="f32").logits(ids)
    error = np.abs(in_mlx_lm(tmp_path / "out", ids) - expected).max() / np.abs(expected).max()
    assert error < ROUNDED.get(case, 1e-5)


def test_a_real_model_and_its_tokenizer(tmp_path):
    from mlx_lm.utils import load_tokenizer

    puna.export(downloads.smollm2(), tmp_path, "mlx")
    truth = puna.load(downloads.smollm2(), backend="numpy", kv_type="f32")
    text = "Why is the sky blue? Πόσο κάνει 12345; 你好 👍🏽"
    ids = truth.tokenizer.encode(text)
    assert load_tokenizer(tmp_path).encode(text, add_special_tokens=False) == ids
    expected = truth.logits(ids)
    assert np.abs(in_mlx_lm(tmp_path, ids) - expected).max() < 1e-4 * np.abs(expected).max()
