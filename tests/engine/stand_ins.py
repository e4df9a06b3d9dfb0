"""Stand-ins for a compiled model: what they say depends on all that was said before, and on nothing else."""

import zlib

import numpy as np

from puna.backends.selection import best
from puna.cache import BLOCK
from puna.engine.engine import Engine
from puna.engine.limits import Limits
from puna.engine.sampler import Sampler, Sampling

VOCAB = 50


def answer_to(history):
    """The logits that a history of tokens has: any function of all of it will do."""
    seed = zlib.crc32(np.asarray(history, np.int32).tobytes())
    return np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32)


class Model:
    """Stands in for a compiled model: keeps tokens in slots, and answers from what it reads back through the blocks."""

    best = staticmethod(best)
    recurrent = False
    said = staticmethod(answer_to)

    def __init__(self, limits):
        self.limits, self.width = limits, VOCAB
        self.slots = np.full(limits.slots, -1)
        self.steps = []

    def copy(self, reach, block, other):
        slots = self.near[reach] if reach else self.slots
        slots[other * BLOCK : (other + 1) * BLOCK] = slots[block * BLOCK : (block + 1) * BLOCK]

    def step(self, parts, outputs):
        assert sum(len(part.tokens) for part in parts) <= self.limits.tokens
        assert len(parts) <= self.limits.sequences
        assert len(outputs) <= self.limits.outputs
        self.steps.append([len(part.tokens) for part in parts])
        rows = [row for part in parts for row in self.histories(part)]
        return np.stack([self.said(rows[o]) for o in outputs]) if outputs else np.empty((0, VOCAB), np.float32)

    def histories(self, part):
        """What each new token has before it, and itself."""
        tokens, start, blocks, *_ = part
        where = [blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(start + len(tokens))]
        self.slots[where[start:]] = tokens
        return [self.slots[where[: start + i + 1]] for i in range(len(tokens))]


class Recurrent(Model):
    """The same, where a sequence's memory is all that is known of its past, as well as its blocks."""

    recurrent = True

    def __init__(self, limits):
        super().__init__(limits)
        self.memories = [None] * limits.states

    def step(self, parts, outputs):
        written = [part.state for part in parts]
        assert len(set(written)) == len(written)
        assert not any(part.start and part.before in written[:s] + written[s + 1 :] for s, part in enumerate(parts))
        return super().step(parts, outputs)

    def histories(self, part):
        before = self.memories[part.before] if part.start else []
        assert len(before) == part.start
        found = super().histories(part)
        assert list(found[0][:-1]) == before
        self.memories[part.state] = [*before, *part.tokens]
        return [np.array([*before, *part.tokens[: i + 1]]) for i in range(len(part.tokens))]


class Near(Model):
    """The same, that also keeps tokens by reach, and reads back the latest: (reach, blocks) in `windows`."""

    def __init__(self, limits):
        super().__init__(limits)
        self.near = {reach: np.full(slots, -1) for reach, slots in limits.windows.items()}

    def histories(self, part):
        found = super().histories(part)
        for reach, slots in self.near.items():
            row, end = part.windows[reach], part.start + len(part.tokens)
            assert len(row) == len(part.blocks)
            place = {p: row[p // BLOCK] * BLOCK + p % BLOCK for p in range(max(part.start - reach + 1, 0), end)}
            slots[[place[p] for p in range(part.start, end)]] = part.tokens
            for p, history in enumerate(found, part.start):
                latest = range(max(p - reach + 1, 0), p + 1)
                assert slots[[place[i] for i in latest]].tolist() == history[-len(latest) :].tolist()
        return found


class NearAndRecurrent(Near, Recurrent):
    """Both at once."""


def engine_of(context=256, blocks=8, tokens=64, sequences=4, *, states=0, windows=(), copies=True):
    """An engine on a stand-in; `windows` are (reach, blocks); `copies`: whether blocks can be copied."""
    kind = {(0, 0): Model, (0, 1): Recurrent, (1, 0): Near, (1, 1): NearAndRecurrent}[bool(windows), bool(states)]
    model = kind(
        Limits(
            slots=blocks * BLOCK,
            states=states,
            tokens=tokens,
            outputs=16,
            sequences=sequences,
            table=context // BLOCK,
            windows={reach: count * BLOCK for reach, count in windows},
        )
    )
    if not copies:
        model.copy = None
    return Engine(model, context), model


def expected(prompt, count, sampling):
    """What one sequence by itself has to say, by the definition."""
    sampler, history = Sampler(sampling), list(prompt)
    for _ in range(count):
        history.append(sampler.choose(answer_to(history), history).token)
    return history[len(prompt) :]


def talk(engine, prompts, limit=12):
    """What several say at once, each with a sampler of its own."""
    several = [engine.submit(p, Sampling(temperature=1.0, seed=i), limit=limit) for i, p in enumerate(prompts)]
    while any(s.reason is None for s in several):
        engine.step()
    return [[c.token for c in s.choices] for s in several]


def told(prompts, limit=12):
    """What each has to say."""
    return [expected(p, limit, Sampling(temperature=1.0, seed=i)) for i, p in enumerate(prompts)]


def prompt_of(length, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, length).tolist()


SAMPLING = Sampling(temperature=1.0, seed=5)
