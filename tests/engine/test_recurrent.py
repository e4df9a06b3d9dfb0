"""Real models with memory per sequence: what one says does not depend on company, on room, or on what is kept."""

import numpy as np
import pytest

from golden.checkpoints import write_checkpoint
from puna import arch as archs
from puna.backends import open_backend
from puna.cache import BLOCK
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling
from puna.opened import open_model

CASES = ("lfm2", "mamba", "mamba2", "nemotron_h", "jamba", "rwkv7")
CONTEXT = 4 * BLOCK
GREEDY = Sampling(temperature=0.0, top_logprobs=0)
LENGTHS = (150, 3, 64, 200, 128, 90, 65, 1)


@pytest.fixture(scope="module", params=CASES)
def opened(request, tmp_path_factory):
    return open_model(write_checkpoint(tmp_path_factory.mktemp(request.param), request.param))


def engine(opened, *, states, blocks=32, tokens=96, threads=2):
    arch, backend = archs.find(opened.metadata["general.architecture"]), open_backend("cpu", threads=threads)
    hp = arch.hparams.from_gguf(arch.name, opened.metadata)
    size = Limits(slots=blocks * BLOCK, states=states, tokens=tokens, outputs=16, sequences=8, table=CONTEXT // BLOCK)
    return Engine(Runner(arch, hp, opened.tensors, backend, backend.load(opened.tensors), size, "f32"), CONTEXT)


def prompts():
    rng = np.random.default_rng(4)
    common = rng.integers(0, 316, 200).tolist()
    return [common[:n] if i % 2 else rng.integers(0, 316, n).tolist() for i, n in enumerate(LENGTHS)]


def said(made, several):
    sequences = [made.submit(prompt, GREEDY, limit=9) for prompt in several]
    while any(sequence.reason is None for sequence in sequences):
        made.step()
    return [[(c.token, c.logprob) for c in s.choices] for s in sequences], [s.cached for s in sequences]


def test_a_crowd_says_what_each_says_alone(opened):
    alone = [said(engine(opened, states=1, threads=1), [prompt])[0][0] for prompt in prompts()]
    for made in (engine(opened, states=20), engine(opened, states=3), engine(opened, states=9, blocks=7)):
        for _ in range(2):  # the second time, from what the first has left
            assert said(made, prompts())[0] == alone


def test_a_conversation_is_resumed_where_it_was_left(opened):
    made, first = engine(opened, states=6), prompts()[0]
    (answer,), _ = said(made, [first])
    longer = [*first, *(token for token, _ in answer), 5, 6, 7]
    (again,), (cached,) = said(made, [longer])
    assert cached == len(first) + len(answer) - 1
    assert [again] == said(engine(opened, states=1), [longer])[0]
