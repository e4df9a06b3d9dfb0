from pathlib import Path

import pytest

from puna.facts import capabilities
from puna.opened import Opened

TOOLS = "{{ if .Tools }}{{ .Tools }}{{ end }}{{ .Prompt }}"


@pytest.mark.parametrize(
    ("named", "able"),
    [
        ({}, ["completion"]),
        ({"template": TOOLS}, ["completion", "tools"]),
        ({"template": TOOLS, "parser": "qwen3"}, ["completion", "tools", "thinking"]),
        ({"renderer": "glm-4.7"}, ["completion", "tools", "thinking"]),
        ({"renderer": "qwen3-coder", "template": "{{ .Prompt }}"}, ["completion", "tools"]),
        ({"renderer": "lfm2", "parser": "lfm2"}, ["completion", "tools"]),
        ({"renderer": "olmo3-32b-think", "parser": "olmo3-think"}, ["completion", "thinking"]),
        ({"renderer": "of-tomorrow", "template": TOOLS}, ["completion"]),
    ],
)
def test_what_a_model_can_do_is_said_by_its_renderer_and_its_parser(named, able):
    metadata = {"general.architecture": "llama"}
    assert capabilities(Opened(Path("m.gguf"), metadata, {}, **named)) == able


def test_a_vocabulary_with_tokens_for_it_can_fill_in_the_middle():
    marks = {f"tokenizer.ggml.{key}_token_id": 1 for key in ("fim_pre", "suffix", "fim_mid")}
    metadata = {"general.architecture": "llama", **marks}
    assert capabilities(Opened(Path("m.gguf"), metadata, {})) == ["completion", "insert"]
    del metadata["tokenizer.ggml.suffix_token_id"]
    assert capabilities(Opened(Path("m.gguf"), metadata, {})) == ["completion"]
