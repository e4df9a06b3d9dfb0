"""One model in two processes, which sum over gloo: the same logits as in one."""

import gc

import numpy as np
import pytest

import arch.run
from arch.run import run
from arch.test_forward import close, text
from cli.tiny import write_tiny
from golden.checkpoints import write_checkpoint
from puna import dtypes, load
from puna.backends import open_backend
from puna.backends.base import Bounds
from puna.backends.torch.parallel import names_of
from puna.backends.torch.sending import built, flat
from puna.errors import BackendError
from puna.graph import T, input_, weight
from puna.graph.ops import apply
from puna.opened import open_model

CASES = ("llama3", "qwen2", "mixtral", "gpt_oss", "qwen35", "bart", "bert")


@pytest.fixture(scope="module")
def pair():
    backend = open_backend("torch:cpu,cpu", threads=2)
    yield backend
    backend.close()


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_logits_of_one(case, pair, tmp_path, monkeypatch):
    opened = open_model(write_checkpoint(tmp_path / case, case))
    sequences = [(text(40), list(range(40))), (text(5, 3), [4, 0])]
    expected = run(opened, "numpy", sequences)
    monkeypatch.setattr(arch.run, "backend_of", lambda name: pair)
    assert close(run(opened, "torch:cpu,cpu", sequences), expected)


def test_a_model_runs_on_two_processes_and_they_end_with_it(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("puna.backends.open_backend", lambda *_, **__: pair)
    path = write_tiny(tmp_path / "tiny.gguf")
    model = load(path, backend="torch:cpu,cpu")
    said = "".join(chunk.text for chunk in model.generate("a", temperature=0, num_predict=8))
    one = load(path, backend="numpy")
    assert said == "".join(chunk.text for chunk in one.generate("a", temperature=0, num_predict=8))
    assert model.backend == "torch:cpu,cpu"


def test_a_second_group_in_one_process_is_refused(pair):
    with pytest.raises(BackendError, match="takes part in a group already"):
        open_backend("torch:cpu,cpu", threads=2)
    gc.collect()


def test_a_weight_that_is_missing_is_said_by_all(pair):
    node = apply("linear", input_("x", (T, 8), dtypes.F32), weight("w", (8, 8), dtypes.F32), None)
    with pytest.raises(BackendError, match=r"weight 'w' of shape .* was not loaded"):
        pair.compile([node], pair.load({}), Bounds(T=4, O=1, S=1))


def test_numbers_behind_a_device_are_more_of_its_kind():
    assert names_of("cuda:0,1,xpu:2") == ["cuda:0", "cuda:1", "xpu:2"]
    assert names_of("mps") == ["mps"]
    assert names_of("") == [""]


def test_a_graph_is_the_same_after_its_journey():
    x = input_("x", (T, 8), dtypes.F32)
    node = apply("rms_norm", x.cast(dtypes.I32).cast(dtypes.F32), None, eps=1e-6)
    (other,) = built(flat([node]))
    assert (other.op, other.attrs, other.shape, other.dtype) == (node.op, node.attrs, node.shape, node.dtype)
    assert other.inputs[1] is None
    assert other.inputs[0].attrs["dtype"] is dtypes.F32
    assert np.array_equal([i.op for i in (other.inputs[0], other.inputs[0].inputs[0])], ["cast", "cast"])
