"""Every architecture held to transformers, block by block, and a fault found by it."""

from pathlib import Path

import numpy as np
import pytest

import puna
from arch.run import BACKENDS
from create.verifying import changed, three_blocks
from golden.cases import CASES
from golden.checkpoints import write_checkpoint
from golden.naive import NAIVE
from golden.stand_ins import STAND_INS
from puna.create.starting import start

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", [case for case in CASES if case not in STAND_INS | NAIVE])
def test_every_block_computes_what_transformers_does(case: str, backend: str, tmp_path: Path) -> None:
    found = puna.verify(write_checkpoint(tmp_path, case), reference="transformers", backend=backend, tokens=80)
    assert found.truth.startswith("transformers ")
    assert found.first_drift is None
    assert max(block.nmse for block in found.blocks) < 1e-10
    assert all(block.local < 1e-10 for block in found.blocks[1:])


def test_the_first_layer_that_differs_is_named(tmp_path: Path) -> None:
    source = three_blocks(tmp_path / "source")
    puna.convert(source, tmp_path / "m.gguf")
    assert puna.verify(tmp_path / "m.gguf", source, reference="transformers", tokens=60).ok
    broken = changed(tmp_path / "m.gguf", tmp_path / "b.gguf", {"blk.1.attn_k.weight": lambda w: w * np.float32(1.01)})
    found = puna.verify(broken, source, reference="transformers", tokens=60)
    assert (found.first_drift, found.blocks[2].tensors) == ("block 1", ("blk.1.attn_k.weight",))
    assert found.blocks[2].local > 1e-8
    assert found.blocks[3].local < 1e-10


@pytest.mark.parametrize(("like", "drift"), [("llama", "block 0"), ("ernie4_5", None)])
def test_a_checkpoint_taken_as_what_it_is_only_named_like_is_found_out(like: str, drift: str, tmp_path: Path) -> None:
    # Helium has Llama's tensors and config, and turns q and k in pairs as ERNIE does.
    source = write_checkpoint(
        tmp_path / "hf", "llama2", architectures=["HeliumForCausalLM"], model_type="helium", head_dim=32
    )
    begun = start("helium", source, like)
    assert begun.original is not None, begun.reasons
    puna.convert(begun.original, tmp_path / "m.gguf")
    found = puna.verify(tmp_path / "m.gguf", source, reference="transformers", tokens=60)
    assert found.first_drift == drift
    assert found.blocks[0].nmse < 1e-10
    assert all((block.local > 1e-6) is (drift is not None) for block in found.blocks[1:-1])
