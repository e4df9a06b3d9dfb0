"""Which files of a repository are wanted, by names as publishers write them."""

import pytest

from puna.create.hub.files import checkpoint_files, choose_gguf, listed_weights, quant_of
from puna.errors import StoreError


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.Q5_K_S.gguf", "Q5_K_S"),
        ("model-IQ2_XXS-00001-of-00003.gguf", "IQ2_XXS"),
        ("gemma-3-1b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("BF16/DeepSeek-R1-BF16-00002-of-00030.gguf", "BF16"),
        ("Q8_0/weights.gguf", "Q8_0"),
        ("smollm2.fp16.gguf", "F16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("q4_0.gguf", "Q4_0"),
        ("tinyllama.gguf", ""),
        ("model-v1.0_q.gguf", ""),
    ],
)
def test_the_quantization_is_read_from_a_file_s_name(name: str, quant: str) -> None:
    assert quant_of(name) == quant


NAMES = ["README.md", "a-Q2_K.gguf", "a-Q4_K_S.gguf", "a-Q8_0.gguf", "mmproj-a-f16.gguf", "a.imatrix.gguf"]


def test_the_default_is_q4_k_m_then_what_comes_close() -> None:
    assert choose_gguf([*NAMES, "a-Q4_K_M.gguf"], None, "w") == ["a-Q4_K_M.gguf"]
    assert choose_gguf(NAMES, None, "w") == ["a-Q4_K_S.gguf"]
    assert choose_gguf(["a-Q2_K.gguf", "a-Q8_0.gguf"], "latest", "w") == ["a-Q8_0.gguf"]
    assert choose_gguf(["b.gguf", "a.gguf"], None, "w") == ["a.gguf"]


def test_a_quant_may_be_a_type_in_any_case_a_dynamic_one_or_a_file_s_name() -> None:
    assert choose_gguf(NAMES, "q8_0", "w") == ["a-Q8_0.gguf"]
    assert choose_gguf([*NAMES, "a-UD-Q4_K_XL.gguf"], "Q4_K_XL", "w") == ["a-UD-Q4_K_XL.gguf"]
    assert choose_gguf(NAMES, "a-Q2_K.gguf", "w") == ["a-Q2_K.gguf"]
    shards = [f"BF16/a-BF16-0000{number}-of-00002.gguf" for number in (1, 2)]
    assert choose_gguf([*NAMES, *reversed(shards)], "BF16", "w") == shards


def test_what_is_not_there_or_not_clear_lists_what_is() -> None:
    with pytest.raises(StoreError, match=r"^w: there is no Q6_K; there are Q2_K, Q4_K_S, Q8_0$"):
        choose_gguf(NAMES, "Q6_K", "w")
    with pytest.raises(StoreError, match=r"Q2_K may be a-Q2_K\.gguf, b-Q2_K\.gguf"):
        choose_gguf([*NAMES, "b-Q2_K.gguf"], "Q2_K", "w")


def test_of_a_checkpoint_only_what_conversion_reads_is_wanted() -> None:
    names = ["model-1.safetensors", "model-2.safetensors", "model.fp16.safetensors", "model.safetensors.index.json"]
    others = ["config.json", "tokenizer.model", "merges.txt", "README.md", "1_Pooling/config.json"]
    unneeded = ["pytorch_model.bin", "onnx/model.onnx", "assets/cat.png", ".gitattributes", "train.py"]
    wanted = checkpoint_files([*names, *others, *unneeded], "w")
    assert set(wanted) == {*names, *others}
    index = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    assert set(listed_weights(wanted, index)) == {*names, *others} - {"model.fp16.safetensors"}
