"""What room for many sequences costs before they come."""

import subprocess
import sys
from pathlib import Path

import pytest

import puna
from cli.tiny import write_tiny
from golden.checkpoints import write_checkpoint
from puna.errors import ModelError, RequestError

ANSWER = """
import resource, sys, puna
unit = 1 if sys.platform == "darwin" else 1024
model = puna.load(sys.argv[1], context_length=int(sys.argv[2]))
model.prepare()
[*model.generate([1, 2, 3], num_predict=4, ignore_eos=True)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, model._runtime.engine.runner.memory.states)
"""


def peak_and_states(source, context):
    environment = {"PYTHONPATH": str(Path(puna.__file__).parent.parent), "PATH": ""}
    run = [sys.executable, "-P", "-c", ANSWER, str(source), str(context)]
    return map(int, subprocess.run(run, capture_output=True, check=True, text=True, env=environment).stdout.split())


def test_sequences_that_do_not_run_take_no_memory(tmp_path):
    source = write_checkpoint(tmp_path, "llama2", max_position_embeddings=1 << 18)
    small, least = peak_and_states(source, 64)
    large, most = peak_and_states(source, 1 << 18)
    assert most == 4096 * least > 1 << 28
    assert large - small < most / 4


@pytest.mark.parametrize(("kv_type", "bytes_of_a_value"), [("f32", 4), ("f16", 2), ("q8_0", 34 / 32)])
def test_room_is_as_large_as_its_type(kv_type, bytes_of_a_value, tmp_path):
    model = puna.load(write_checkpoint(tmp_path, "llama2"), kv_type=kv_type, context_length=256)
    states = model._runtime.engine.runner.memory.states
    values = 4 * 256 * model.hparams.n_blocks * 2 * model.hparams.n_kv_heads * model.hparams.head_dim
    assert states == values * bytes_of_a_value


def test_a_type_that_is_unknown_or_does_not_fit_is_named(tmp_path):
    source = write_tiny(tmp_path / "tiny.gguf")
    with pytest.raises(RequestError, match="kv_type 'q4_0' is unknown; known: f32, f16, q8_0"):
        puna.load(source, kv_type="q4_0")
    with pytest.raises(ModelError, match="kv_type 'q8_0' keeps 32 values at a time, and this model's heads have 16"):
        puna.load(source, kv_type="q8_0").prepare()
