"""Real models whose blocks forget what is out of reach: they say, to the bit, what they say when everything is kept."""

import numpy as np
import pytest

from golden.checkpoints import write_checkpoint
from puna import arch as archs
from puna.backends import open_backend
from puna.cache import BLOCK, reaches
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling
from puna.engine.scheduler import Scheduler
from puna.opened import open_model
from puna.runtime import Runtime

CASES = {
    "gemma3": {"sliding_window": 70},
    "gemma3n": {"sliding_window": 64},  # whose last blocks read what earlier ones remember
    "gpt_oss": {"sliding_window": 80},
    "llama4": {"attention_chunk_size": 96},
    "mistral_window": {"sliding_window": 100},  # all blocks
}
CONTEXT = 6 * BLOCK
GREEDY = Sampling(temperature=0.0, top_logprobs=0)
LENGTHS = (250, 3, 64, 290, 128, 190, 65, 1)
TOKENS = {"cpu": 96, "numpy": 300}
"""In one step."""


@pytest.fixture(scope="module", params=CASES)
def opened(request, tmp_path_factory):
    return open_model(write_checkpoint(tmp_path_factory.mktemp(request.param), request.param, **CASES[request.param]))


def engine(opened, *, windows=None, blocks=50, backend="cpu", threads=2, sequences=8):
    """An engine with so many blocks within reach; None: all positions are kept."""
    arch, made = archs.find(opened.metadata["general.architecture"]), open_backend(backend, threads=threads)
    hp = arch.hparams.from_gguf(arch.name, opened.metadata)
    near = reaches(arch.caches(hp))
    assert len(near) == 1
    size = Limits(
        slots=blocks * BLOCK,
        states=0,
        tokens=TOKENS[backend],
        outputs=16,
        sequences=sequences,
        table=CONTEXT // BLOCK,
        windows={} if windows is None else {near[0]: windows * BLOCK},
    )
    runner = Runner(arch, hp, opened.tensors, made, made.load(opened.tensors), size, "f32")
    return Engine(runner, CONTEXT, clock=lambda: 0.0)  # steps that take no time are as large as can be


def prompts():
    rng = np.random.default_rng(4)
    common = rng.integers(0, 316, 300).tolist()
    return [common[:n] if i % 2 else rng.integers(0, 316, n).tolist() for i, n in enumerate(LENGTHS)]


def said(made, several, limit=9):
    sequences = [made.submit(prompt, GREEDY, limit=limit) for prompt in several]
    while any(sequence.reason is None for sequence in sequences):
        made.step()
    return [[(c.token, c.logprob) for c in s.choices] for s in sequences], [s.cached for s in sequences]


def test_a_crowd_says_what_each_says_alone_with_everything_kept(opened):
    alone = [said(engine(opened, threads=1), [prompt])[0][0] for prompt in prompts()]
    for made in (engine(opened, windows=40), engine(opened, windows=6), engine(opened, windows=12, blocks=9)):
        for _ in range(2):  # the second time, from what the first has left
            assert said(made, prompts())[0] == alone


def test_what_was_computed_in_advance_is_the_same_to_the_bit(opened):
    told, repeating = [], [(prompt[:9] * 40)[: len(prompt)] for prompt in prompts()]
    for ahead in (0, 7):
        made = engine(opened, windows=40)
        sequences = [made.submit(prompt, GREEDY, limit=60, ahead=ahead) for prompt in repeating]
        while any(sequence.reason is None for sequence in sequences):
            made.step()
        told.append([[(c.token, c.logprob) for c in s.choices] for s in sequences])
    assert told[0] == told[1]
    assert sum(s.foresight.proposed for s in sequences) > 0


def test_who_lost_its_window_says_the_same(opened, monkeypatch):
    lost, give_up = [], Scheduler._preempt
    monkeypatch.setattr(Scheduler, "_preempt", lambda self, s: lost.append(s.computed) or give_up(self, s))
    some = [prompt[:40] for prompt in prompts() if len(prompt) > 40][:3]  # a block each; more, once they are longer
    alone = [said(engine(opened, threads=1), [prompt], limit=90)[0][0] for prompt in some]
    assert said(engine(opened, windows=5), some, limit=90)[0] == alone
    assert max(lost) > 0


def test_a_conversation_is_resumed_where_it_was_left(opened):
    made, first = engine(opened, windows=12), prompts()[0]
    (answer,), _ = said(made, [first], limit=90)
    longer = [*first, *(token for token, _ in answer), 5, 6, 7]
    (again,), (cached,) = said(made, [longer])
    assert cached == len(first) + len(answer) - 1
    assert [again] == said(engine(opened), [longer])[0]


def test_the_definition_says_the_same_in_the_same_steps(opened):
    some = [prompts()[0], prompts()[3][:120]]
    everything, _ = said(engine(opened, backend="numpy"), some, limit=4)
    made = engine(opened, windows=10, backend="numpy")
    assert said(made, some, limit=4)[0] == everything
    memory = made._scheduler.memory
    near, full = (pool.count - len(pool.free) for pool in (*memory.windows.values(), memory.blocks))
    assert near < full == 4 + 2


def test_a_loaded_model_forgets_where_that_saves_memory(tmp_path):
    found = open_model(write_checkpoint(tmp_path, "gemma3", sliding_window=256, max_position_embeddings=32768))
    loaded = {
        context: Runtime(found, backend="cpu", context_length=context, kv_type="f16", threads=1)
        for context in (1024, 8192)
    }
    near = {context: made.engine._runner.limits.windows for context, made in loaded.items()}
    assert near == {1024: {}, 8192: {256: 32 * 3 * BLOCK + 512}}
    ids = prompts()[0] * 24  # 6000 tokens, for which there are blocks of all positions only
    assert np.isfinite(loaded[8192].embedder.embed([ids])).all()
