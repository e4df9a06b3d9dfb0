"""The same sequence says the same alone and in a crowd: on each instruction set."""

import signal
from functools import cache

import numpy as np
import pytest

from cli.tiny import metadata, weights
from puna import arch as archs
from puna import quants
from puna.backends.cpu import _native, open_backend
from puna.cache import BLOCK
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.runner import Runner
from puna.engine.sampler import Sampling
from puna.engine.scheduler import Scheduler
from puna.formats import write_gguf
from puna.opened import open_model

CONTEXT = 256
GREEDY = Sampling(temperature=0.0)
LIMIT = 10
LENGTHS = [1, 2, 3, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129, 150, 190]


@pytest.fixture(scope="module", params=["F32 f32", "F16 q8_0", "Q4_0 f16"])
def model(request, tmp_path_factory):
    path, tensors = tmp_path_factory.mktemp("crowd") / request.param, []
    kind, _ = request.param.split()
    rng = np.random.default_rng(7)
    for name, values in weights().items():
        if "blk" in name and values.ndim == 2:
            values = rng.standard_normal(values.shape).astype(np.float32) * 0.3  # so that the past decides what follows
        stored = kind if values.ndim == 2 else "F32"
        tensors.append((name, values.shape, stored, quants.quantize(values, stored)))
    heads = {"llama.attention.head_count": 2, "llama.attention.head_count_kv": 1}
    write_gguf(path, metadata(**heads), tensors)
    return path


opened_at = cache(open_model)


class Watched(Runner):
    """Notes the sizes of its steps."""

    def step(self, parts, outputs):
        self.steps.append([len(part.tokens) for part in parts])
        return super().step(parts, outputs)


def engine(model, isa, *, threads=2, tokens=64, blocks=80, sequences=20):
    opened, arch = opened_at(model), archs.find("llama")
    backend = open_backend(threads, isa)
    size = Limits(
        slots=blocks * BLOCK,
        states=sequences,
        tokens=tokens,
        outputs=min(tokens, 32),
        sequences=sequences,
        table=CONTEXT // BLOCK,
    )
    hp = arch.hparams.from_gguf("llama", opened.metadata)
    runner = Watched(arch, hp, opened.tensors, backend, backend.load(opened.tensors), size, model.name.split()[1])
    runner.steps = []
    return Engine(runner, CONTEXT), runner


def prompts():
    rng = np.random.default_rng(2)
    common = rng.integers(0, 256, 250).tolist()
    return [common[:n] if i % 3 else rng.integers(0, 256, n).tolist() for i, n in enumerate(LENGTHS)]


def said(engine, several, limit=LIMIT):
    sequences = [engine.submit(prompt, GREEDY, limit=limit) for prompt in several]
    while any(sequence.reason is None for sequence in sequences):
        engine.step()
    return [[choice.token for choice in sequence.choices] for sequence in sequences], sequences


@cache
def alone(model, isa):
    """Each by itself, from an empty cache, its prompt in one step, on one thread."""
    _, runner = engine(model, isa, threads=1, tokens=CONTEXT, blocks=4, sequences=1)
    answers = [said(Engine(runner, CONTEXT), [prompt])[0][0] for prompt in prompts()]
    assert len({tuple(answer) for answer in answers}) > 10  # they do say different things
    return answers


@pytest.mark.parametrize("isa", _native.isas())
def test_a_sequence_says_the_same_alone_and_among_seventeen(model, isa):
    expected = alone(model, isa)
    for threads, tokens in ((1, 64), (2, 33), (3, 250)):
        crowd, runner = engine(model, isa, threads=threads, tokens=tokens)
        assert said(crowd, prompts())[0] == expected
        assert max(map(len, runner.steps)) > 8


@pytest.mark.parametrize("isa", _native.isas())
def test_a_sequence_that_lost_its_blocks_says_the_same(model, isa, monkeypatch):
    lost, give_up = [], Scheduler._preempt
    monkeypatch.setattr(Scheduler, "_preempt", lambda self, s: lost.append(s.computed) or give_up(self, s))
    crowd, _ = engine(model, isa, blocks=6)
    assert said(crowd, prompts())[0] == alone(model, isa)
    assert max(lost) > 0  # what was computed again


@pytest.mark.parametrize("isa", _native.isas())
def test_a_sequence_that_takes_over_a_beginning_says_the_same(model, isa):
    crowd, _ = engine(model, isa, threads=3, blocks=60)
    expected = alone(model, isa)
    first, _ = said(crowd, prompts())
    again, sequences = said(crowd, prompts()[::-1])
    assert first == again[::-1] == expected
    assert max(sequence.cached for sequence in sequences) >= 2 * BLOCK


def test_an_interrupt_ends_the_step_and_nothing_else(model):
    """Ctrl-C while a long prompt is read: the step at work is the last one, and the engine goes on with others."""
    crowd, runner = engine(model, "auto", tokens=16)
    other = crowd.submit(prompts()[5], GREEDY, limit=LIMIT)
    crowd.step()
    stream = crowd.tokens(crowd.submit(prompts()[-1], GREEDY, limit=LIMIT))
    step = runner.step

    def interrupted(parts, outputs):
        result = step(parts, outputs)
        if len(runner.steps) == 4:
            signal.raise_signal(signal.SIGINT)
        return result

    runner.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert len(runner.steps) == 4
    answer = [choice.token for choice in crowd.tokens(other)]
    assert [answer, *said(crowd, [prompts()[-1]])[0]] == [alone(model, "auto")[i] for i in (5, -1)]
