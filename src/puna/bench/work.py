"""What is measured of a model, and what each piece of work costs: operations, and bytes that must be read.

It knows no contender: how the work is done is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from puna.cache import Spec
from puna.dtypes import Stored

STEPS = 16
"""Steps of decoding many sequences, or behind a long context."""
PROMPT = 16
"""Positions before a plain decode."""
CROWD_PROMPT = 64
"""Positions of each of many sequences."""
KINDS = {"F32": "f32", "F16": "bf16", "BF16": "bf16"}
"""Which peak bounds products with weights of a type; int8 for all others, whose inputs are quantized."""


@dataclass(frozen=True, slots=True)
class Work:
    """`steps` runs, each of `tokens` new tokens in each of `sequences`, behind `start` positions."""

    name: str
    tokens: int
    start: int = 0
    sequences: int = 1
    steps: int = 1
    kv_type: str = "f16"

    @property
    def positions(self) -> int:
        """Positions that each sequence needs."""
        return self.start + self.tokens * self.steps

    @property
    def counted(self) -> int:
        """Tokens whose rate is told."""
        return self.tokens * self.sequences * self.steps

    @property
    def decodes(self) -> bool:
        """Whether steps are of single tokens, so that reading bounds them."""
        return self.tokens == 1


def works(
    prefill: Iterable[int],
    decode: Iterable[int],
    batched: Iterable[int],
    context: Iterable[int],
    kv_types: Iterable[str],
) -> list[Work]:
    """A piece of work for each number, each with every type of K/V."""
    found = []
    for kv in kv_types:
        found += [Work(f"prefill {n}", n, kv_type=kv) for n in prefill]
        found += [Work(f"decode {n}", 1, PROMPT, steps=n, kv_type=kv) for n in decode]
        found += [Work(f"decode {n} at once", 1, CROWD_PROMPT, n, STEPS, kv) for n in batched]
        found += [Work(f"decode at {n}", 1, max(0, n - STEPS), steps=STEPS, kv_type=kv) for n in context]
    return found


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model takes: of matrices read for each token, of the last one read where logits are wanted, of K/V.

    `body` and `head`: weights as (numbers multiplied with, stored bytes); `kind`: the peak that bounds most.
    `caches`: of each block its window (0: none) and numbers of keys and values a position.
    """

    body: tuple[int, int]
    head: tuple[int, int]
    kind: str
    caches: Sequence[tuple[int, int]]
    query: int  # numbers of one token's queries in one block

    def read(self, work: Work, kv_bytes: float) -> float:
        """Bytes that one step of a decode must read: all weights once, and every sequence's K/V.

        `kv_bytes`: what one number of K/V takes. A position is counted as in the middle of the steps.
        """
        at = work.start + work.steps // 2
        kept = sum(numbers * (min(at, window) if window else at) for window, numbers in self.caches)
        return self.body[1] + self.head[1] + work.sequences * kept * kv_bytes

    def attention(self, work: Work, kv_bytes: float) -> tuple[float, float]:
        """Operations, and bytes of K/V, of all attention in one step."""
        if not work.decodes:
            operations = 4 * self._seen(work.tokens) * self.query
            return operations, sum(numbers for _, numbers in self.caches) * work.tokens * kv_bytes
        at = work.start + work.steps // 2
        seen = sum(min(at, window) if window else at for window, _ in self.caches)
        nbytes = self.read(work, kv_bytes) - self.body[1] - self.head[1]
        return 4.0 * work.sequences * seen * self.query, nbytes

    def _seen(self, n: int) -> float:
        """Positions that `n` tokens of one prompt read, in all blocks together."""
        return sum(n * min(n, window) - min(n, window) ** 2 / 2 if window else n * n / 2 for window, _ in self.caches)

    def operations(self, work: Work) -> float:
        """Multiplications and additions of one prefill: matrices, and attention to what comes before each token."""
        n = work.tokens
        return 2 * (n * self.body[0] + self.head[0]) + 4 * self._seen(n) * self.query


def cost(tensors: Mapping[str, Stored], specs: Sequence[Spec], heads: int, experts: float = 1) -> Cost:
    """The cost of a model by its tensors; `experts` is the part of stacked experts that one token uses."""
    body, by_kind = [0.0, 0.0], dict.fromkeys(("int8", "bf16", "f32"), 0.0)
    last = "output.weight" if "output.weight" in tensors else "token_embd.weight"
    for name, tensor in tensors.items():
        if len(tensor.shape) < 2 or name in (last, "token_embd.weight") or not name.endswith(".weight"):
            continue
        part = experts if len(tensor.shape) == 3 else 1
        numbers = prod(tensor.shape) * part
        body[0] += numbers
        body[1] += tensor.dtype.nbytes(tuple(tensor.shape)) * part
        by_kind[KINDS.get(tensor.dtype.name, "int8")] += numbers
    head = (
        (prod(tensors[last].shape), tensors[last].dtype.nbytes(tuple(tensors[last].shape)))
        if last in tensors
        else (0, 0)
    )
    kept = [s for s in specs if s.heads]
    return Cost(
        body=(int(body[0]), int(body[1])),
        head=head,
        kind=max(by_kind, key=lambda kind: by_kind[kind]),
        caches=[(s.window, s.heads * (s.key_size + s.value_size)) for s in kept],
        query=heads * max((s.key_size for s in kept), default=0),
    )


KV_BYTES = {"f32": 4.0, "f16": 2.0, "q8_0": 34 / 32}
"""What one number of K/V takes."""
