"""The text part of a multimodal checkpoint: its config is one of several, its tensors' names are prefixed."""

from pathlib import Path

import numpy as np
import pytest

from arch.run import run
from golden.cases import CASES, ROWS, tokens
from golden.checkpoints import DATA, write_checkpoint
from puna.opened import open_model

INNER = ("language_model.model.", "model.language_model.")
CLASSES = {
    "mistral3": "Mistral3ForConditionalGeneration",
    "gemma3n": "Gemma3nForConditionalGeneration",
    "gemma4": "Gemma4ForConditionalGeneration",
    "mllama": "MllamaForConditionalGeneration",
    "llama4": "Llama4ForConditionalGeneration",
}
WRAPPED = [(case, wrapper, inner) for case, wrapper in CLASSES.items() for inner in INNER]
"""A case, the class that wraps it, and what its names begin with there."""


@pytest.mark.parametrize(("case", "wrapper", "inner"), WRAPPED)
def test_the_text_part_of_a_multimodal_model_is_converted(case: str, wrapper: str, inner: str, tmp_path: Path) -> None:
    text = {key: value for key, value in CASES[case].items() if key != "architectures"}
    head = "lm_head." if inner.startswith("model.") else "language_model.lm_head."
    rename = lambda name: head + name[8:] if name.startswith("lm_head.") else inner + name[6:]  # noqa: E731
    write_checkpoint(tmp_path, case, rename=rename, architectures=[wrapper], text_config=text, vision_config={})
    want = np.load(DATA / f"{case}.npy")
    got = run(open_model(tmp_path), "numpy", [(tokens(CASES[case]["vocab_size"]), list(ROWS))])
    assert np.abs(got - want).max() < 2e-5 * np.abs(want).max()
