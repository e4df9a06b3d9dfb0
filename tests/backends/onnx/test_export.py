"""An exported model runs in plain onnxruntime, with numpy and nothing of Puna."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import puna
from cli.tiny import write_tiny
from puna.errors import RequestError

RUN = Path(__file__).parents[3] / "docs" / "exporting.md"


def example() -> str:
    """The program of the page."""
    return RUN.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
def test_the_pages_program_says_what_numpy_says(tiny, tmp_path, kv_type):
    model, data, *texts = puna.export(tiny, tmp_path / "out", context_length=70, kv_type=kv_type)
    assert [model.name, data.name] == ["model.onnx", "model.onnx.data"]
    assert {each.name for each in texts} <= {"tokenizer.json", "tokenizer_config.json"}
    prompt, count = [3, 4, 5, 6], 12
    script = example().replace("PROMPT = [1, 2, 3]", f"PROMPT = {prompt}").replace("COUNT = 20", f"COUNT = {count}")
    done = subprocess.run([sys.executable, "-c", script], cwd=model.parent, capture_output=True, text=True, check=True)
    answer = [int(word) for word in done.stdout.split()]
    expected = puna.load(tiny, backend="numpy")
    chunks = expected.generate(prompt, temperature=0, num_predict=count, ignore_eos=True)
    assert answer == [i for chunk in chunks for i in chunk.tokens]
    assert "puna" not in script


def test_the_model_is_valid_and_says_what_it_was_made_for(tiny, tmp_path):
    model, *_ = puna.export(tiny, tmp_path, context_length=70, sequences=3)
    onnx.checker.check_model(str(model), full_check=False)
    found = onnx.load(model, load_external_data=False)
    said = {each.key: each.value for each in found.metadata_props}
    assert said["puna.architecture"] == "llama"
    assert said["puna.context_length"] == "70"
    assert said["puna.sequences"] == "3"
    cache = next(info for info in found.graph.input if info.name.startswith("cache."))
    assert cache.type.tensor_type.shape.dim[0].dim_value == 3 * 2 * 64 + 1


def test_sequences_side_by_side_and_chunks_give_what_each_gives_alone(tiny, tmp_path):
    import onnxruntime

    model, *_ = puna.export(tiny, tmp_path, context_length=128, sequences=2, kv_type="f32")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32}
    states = {i.name: np.zeros(i.shape, kinds[i.type]) for i in session.get_inputs() if i.name.startswith("cache.")}
    names = [output.name for output in session.get_outputs()]
    wanted = {info.name for info in session.get_inputs()}
    texts, rows = [[3, 4, 5, 6, 7], [8, 9, 10]], {0: [], 1: []}
    for begin, end in ((0, 2), (2, 5)):
        parts = [(s, list(range(begin, min(end, len(text))))) for s, text in enumerate(texts)]
        flat = [(s, p) for s, places in parts for p in places]
        given = {
            "tokens": [texts[s][p] for s, p in flat],
            "positions": [p for _, p in flat],
            "sequence": [s for s, _ in flat],
            "slots": [s * 128 + p for s, p in flat],
            "table": [[0, 1], [2, 3]],
            "lengths": [min(end, len(text)) for text in texts],
            "outputs": list(range(len(flat))),
        }
        inputs = {name: np.array(value, np.int32) for name, value in given.items() if name in wanted}
        found = dict(zip(names, session.run(None, inputs | states), strict=True))
        states = {name: found[f"{name}.after"] for name in states}
        for (s, _), row in zip(flat, found["output.0"], strict=True):
            rows[s].append(row)
    truth = puna.load(tiny, backend="numpy", kv_type="f32")
    for s, text in enumerate(texts):
        np.testing.assert_allclose(rows[s], truth.logits(text), rtol=2e-4, atol=2e-4)


def test_a_form_that_there_is_not_and_no_sequences_are_errors(tiny, tmp_path):
    with pytest.raises(RequestError, match="the form 'abacus' is unknown; known: onnx, mlx"):
        puna.export(tiny, tmp_path, "abacus")
    with pytest.raises(RequestError, match=r"0 sequences.*what works: 1 and more"):
        puna.export(tiny, tmp_path, sequences=0)
