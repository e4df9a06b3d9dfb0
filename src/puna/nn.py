"""The vocabulary of architectures: short names for the graph's ops on declared weights.

It builds nodes and computes nothing, and knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, log, log2, pi, sqrt
from typing import Any

from puna.cache import BLOCK, KV, Batch, Spec
from puna.dtypes import F32, I32
from puna.errors import ModelError
from puna.graph import Tensor, constant
from puna.graph.ops import apply


@dataclass(frozen=True, slots=True)
class Weight:
    """A declared parameter: the tensor `<name>.weight` and, where the file has it, `<name>.bias`."""

    weight: Tensor
    bias: Tensor | None = None


class Biased(Weight):
    """A declared parameter whose bias must be there too."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: base `theta` over the first `dim` elements of a head, and how they are stretched.

    `scaling`: none, linear or yarn. `factor`: by how much the context was stretched; yarn also has the context the
    model was made for, and its two bounds in turns over that context, which `truncate` rounds to whole pairs.
    `attention_factor` 0: yarn's own default, else 1.
    """

    theta: float
    dim: int
    scaling: str = "none"
    factor: float = 1.0
    original_context: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0
    truncate: bool = True

    @property
    def scale(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.scaling != "yarn":
            return self.attention_factor or 1.0
        return self.attention_factor or (0.1 * log(self.factor) + 1.0 if self.factor > 1 else 1.0)

    def frequencies(self) -> list[float]:
        """Radians a position, one for each pair of elements."""
        plain = [self.theta ** (-2 * i / self.dim) for i in range(self.dim // 2)]
        if self.scaling == "none":
            return plain
        if self.scaling == "linear":
            return [f / self.factor for f in plain]
        if self.scaling == "yarn":
            return [f * kept + f / self.factor * (1 - kept) for f, kept in zip(plain, self._kept(), strict=True)]
        raise ModelError(f"rope scaling '{self.scaling}' is unknown; known: none, linear, yarn")

    def _kept(self) -> list[float]:
        """Yarn's ramp: 1 where a frequency is kept, 0 where it is stretched (https://arxiv.org/abs/2309.00071)."""

        def pair_of(turns: float) -> float:
            return self.dim * log(self.original_context / (turns * 2 * pi)) / (2 * log(self.theta))

        low, high = pair_of(self.beta_fast), pair_of(self.beta_slow)
        if self.truncate:
            low, high = floor(low), ceil(high)
        low, high = max(low, 0), min(high, self.dim - 1)
        return [1 - min(max((i - low) / max(high - low, 0.001), 0), 1) for i in range(self.dim // 2)]


def embedding(ids: Tensor, w: Weight) -> Tensor:
    """Rows of a (V, D) weight: (T,) ids to (T, D)."""
    return apply("embedding", ids, w.weight)


def linear(x: Tensor, w: Weight) -> Tensor:
    """(T, K) times a (N, K) weight, plus its bias: (T, N)."""
    return apply("linear", x, w.weight, w.bias)


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index]: (T, D) and (O,) to (O, D)."""
    return apply("take", x, index)


def concat(axis: int, *parts: Tensor) -> Tensor:
    """The parts one after another along a numbered axis."""
    return apply("concat", *parts, axis=axis)


def heads(x: Tensor, count: int) -> Tensor:
    """(T, count * D) seen as (T, count, D)."""
    tokens, size = x.shape
    if not isinstance(size, int) or size % count:
        raise ModelError(f"heads: {x!r} does not divide into {count} heads")
    return x.reshape(tokens, count, size // count)


def flat(x: Tensor) -> Tensor:
    """(T, H, D) seen as (T, H * D)."""
    tokens, count, size = x.shape
    return x.reshape(tokens, count * size)  # type: ignore[operator]  # both are numbers: only the first axis is symbolic


def rms_norm(x: Tensor, w: Weight | None, eps: float) -> Tensor:
    """Over the last axis."""
    return apply("rms_norm", x, None if w is None else w.weight, eps=float(eps))


def layer_norm(x: Tensor, w: Weight | None, eps: float) -> Tensor:
    """Over the last axis, with the weight's bias where it has one."""
    return apply("layer_norm", x, *((None, None) if w is None else (w.weight, w.bias)), eps=float(eps))


def split(x: Tensor, axis: int, sizes: Sequence[int]) -> list[Tensor]:
    """Parts of `sizes` along a numbered axis, in order."""
    ends = list(accumulate(sizes))
    return [x.slice(axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return apply("silu_mul", gate, up)


def clamped_swiglu(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    """g * sigmoid(alpha * g) * (u + 1), where g is at most `limit` and u between -limit and limit."""
    gate, up = (apply("minimum", x, constant(limit)) for x in (gate, up))
    return gate * sigmoid(gate * alpha) * (apply("maximum", up, constant(-limit)) + 1.0)


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x)."""
    return apply("gelu", x, approximate=False)


def gelu_tanh(x: Tensor) -> Tensor:
    """x * Phi(x), by the tanh approximation."""
    return apply("gelu", x, approximate=True)


def gelu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """gelu(gate) * up, by the tanh approximation."""
    return apply("gelu_mul", gate, up, approximate=True)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return apply("maximum", x, constant(0.0))


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0) squared."""
    positive = apply("maximum", x, constant(0.0))
    return positive * positive


def clamp(x: Tensor, limit: float) -> Tensor:
    """Each element, but no further from 0 than a limit."""
    return apply("maximum", apply("minimum", x, constant(limit)), constant(-limit))


def exp(x: Tensor) -> Tensor:
    """e to the power of each element."""
    return apply("exp", x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply("sigmoid", x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return apply("tanh", x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), as exact below 0 as above."""
    e = apply("exp", -apply("abs", x))
    u = e + 1.0
    rounded = apply("equal", u, constant(1.0))  # what u lost of e comes back as a factor
    small = apply("where", rounded, e, apply("log", u) * e / apply("where", rounded, constant(1.0), u - 1.0))
    return apply("maximum", x, constant(0.0)) + small


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return apply("silu", x)


def softmax(x: Tensor) -> Tensor:
    """Over the last axis."""
    return apply("softmax", x)


def top_k(x: Tensor, count: int) -> Tensor:
    """Places (..., count) of the largest elements of (..., E) rows, falling; of equals the first."""
    return apply("top_k", x, count=count)


def _chosen(ids: Tensor, size: int) -> Tensor:
    """Whether each of (..., k) ids is each number below `size`: (..., k, size)."""
    ones = (1,) * len(ids.shape)
    return apply("equal", ids.reshape(*ids.shape, 1), apply("iota", size=size).reshape(*ones, size))


def pick(x: Tensor, ids: Tensor) -> Tensor:
    """x[..., ids]: (..., E) and (..., k) to (..., k)."""
    *lead, size = x.shape
    values = apply("where", _chosen(ids, int(size)), x.reshape(*lead, 1, size), constant(0.0))  # type: ignore[arg-type]
    return values.sum(len(lead) + 1).reshape(*ids.shape)


def is_among(ids: Tensor, size: int) -> Tensor:
    """1.0 for the numbers below `size` that are among the ids of a row, else 0.0: (T, k) to (T, size)."""
    return _chosen(ids, size).cast(F32).max(1).reshape(ids.shape[0], size)


SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN = 1, 2, 3
"""What makes scores of a router's outputs, as GGUF numbers it: over all experts, each by itself, over those chosen."""


def route(
    outputs: Tensor,
    used: int,
    *,
    gating: int = SOFTMAX,
    bias: Weight | None = None,
    groups: int = 1,
    groups_used: int = 1,
    normed: bool = False,
    scale: float = 1.0,
    eps: float = 1e-20,
) -> tuple[Tensor, Tensor]:
    """The ids and the shares (T, used) of the experts that a router's outputs (T, E) choose; best first.

    `bias` (E,) chooses but does not weigh; only the best `groups_used` of `groups` are chosen from; `normed` shares sum
    to 1 (but for `eps`) before they are multiplied by `scale`. ModelError for another gating.
    """
    if gating not in (SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN):
        raise ModelError(f"experts: the gating is {gating!r}; 1 (softmax), 2 (sigmoid) or 3 (of chosen) would work")
    scores = softmax(outputs) if gating == SOFTMAX else sigmoid(outputs) if gating == SIGMOID else outputs
    ids = top_k(_eligible(scores, bias, groups, groups_used), used)
    shares = pick(scores, ids)
    if gating == SOFTMAX_OF_CHOSEN:
        shares = softmax(shares)
    if normed:
        shares = shares / (shares.sum(1) + eps)
    return ids, shares if scale == 1.0 else shares * scale


def route_sparsely(outputs: Tensor, nearly: float) -> tuple[Tensor, Tensor]:
    """The ids and the shares (T, 2) of the best two experts of a router's outputs (T, E).

    A share is a softmax among the experts that are not better, and worse by at most `nearly` of the larger of their
    output and the best one (https://arxiv.org/abs/2409.12136, at inference).
    """
    ids = top_k(outputs, 2)
    best = pick(outputs, ids)
    first = is_among(ids.slice(1, 0, 1), int(outputs.shape[1]))  # type: ignore[arg-type]  # it is no symbolic one
    shares = []
    for place, taken in ((0, first * 0.0), (1, first)):
        top = best.slice(1, place, place + 1)
        far = apply("less", constant(nearly), (top - outputs) / apply("maximum", apply("abs", outputs), top))
        near = apply("where", far, constant(0.0), apply("exp", apply("minimum", outputs - top, constant(0.0))))
        shares.append(1.0 / (near * (1.0 - taken)).sum(1))
    return ids, concat(1, *shares)


def _eligible(scores: Tensor, bias: Weight | None, groups: int, used: int) -> Tensor:
    """What experts are chosen by (T, E): scores with their bias, 0 outside the best groups.

    A group is as good as its best expert, or with a bias as its best two together.
    """
    scores = scores if bias is None else scores + bias.weight
    if groups == used:
        return scores
    grouped = heads(scores, groups)
    best = pick(grouped, top_k(grouped, 1 if bias is None else 2)).sum(2)
    chosen = is_among(top_k(best.reshape(best.shape[0], groups), used), groups)
    return (grouped * chosen.reshape(chosen.shape[0], groups, 1)).reshape(*scores.shape)


def repeated(x: Tensor, count: int) -> Tensor:
    """(T, D) so many times: (T, count, D)."""
    rows, size = x.shape
    return apply("expand", x.reshape(rows, 1, size), shape=(rows, count, size))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b over the last two axes."""
    return apply("matmul", a, b)


def at_least(x: Tensor, limit: float) -> Tensor:
    """The larger of each element and a number."""
    return apply("maximum", x, constant(limit))


def root(x: Tensor) -> Tensor:
    """Square root."""
    return apply("sqrt", x)


def experts(x: Tensor, w: Weight, ids: Tensor) -> Tensor:
    """(T, K), or (T, k, K), times the matrices (E, N, K) that `ids` (T, k) name, plus their biases: (T, k, N)."""
    return apply("experts", x, w.weight, ids, w.bias)


def each_head(x: Tensor, w: Weight) -> Tensor:
    """(T, H, K), each head times a matrix of its own, (H, N, K): (T, H, N)."""
    rows, count, _ = x.shape
    ids = apply("expand", apply("iota", size=count).reshape(1, count), shape=(rows, count))
    return experts(x, w, ids)


def gated_experts(x: Tensor, ids: Tensor, shares: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
    """The chosen experts' gated SiLU, each (T, hidden) result times its share (T, k), in one sum: (T, hidden)."""
    return weighed(experts(silu_mul(experts(x, gate, ids), experts(x, up, ids)), down, ids), shares)


def weighed(y: Tensor, shares: Tensor) -> Tensor:
    """The sum of (T, k, N) results, each times its share (T, k): (T, N)."""
    rows, count, size = y.shape
    return (y * shares.reshape(rows, count, 1)).sum(1).reshape(rows, size)


def softcap(x: Tensor, limit: float) -> Tensor:
    """tanh(x / limit) * limit."""
    return apply("tanh", x / limit) * limit


def frequencies(rope: Rope, factors: Weight | None = None) -> Tensor:
    """The rotary frequencies (dim / 2,), divided by a stored tensor of factors where the model has one."""
    plain = constant(rope.frequencies())
    return plain if factors is None else plain / factors.weight


def rope(x: Tensor, positions: Tensor, frequencies: Tensor, *, style: str, scale: float = 1.0) -> Tensor:
    """Turn (T, H, D) by position; `style` is "pairs" (2i with 2i + 1) or "halves" (i with i + dim / 2)."""
    return apply("rope", x, positions, frequencies, style=style, scale=float(scale))


def memories(kinds: Sequence[object], owners: int) -> tuple[int, ...]:
    """Whose memory each block reads: the first `owners` their own, others that of the last owner of their kind."""
    out = list(range(owners))
    for i in range(owners, len(kinds)):
        same = [j for j in range(owners) if kinds[j] == kinds[i]]
        if not same:
            raise ModelError(f"block {i} reads what another block of its kind remembers, but none of {owners} does")
        out.append(same[-1])
    return tuple(out)


def per_layer_inputs(net: Any, tokens: Tensor, x: Tensor, blocks: int, eps: float) -> Tensor:
    """What each block is given of the tokens (T,) and their (T, hidden) embeddings: (T, blocks, size)."""
    projected = heads(linear(x, net.per_layer_model_proj) / sqrt(_size(x)), blocks)
    own = heads(embedding(tokens, net.per_layer_token_embd), blocks)
    return (rms_norm(projected, net.per_layer_proj_norm, eps) + own * sqrt(_size(own))) * sqrt(0.5)


def _size(x: Tensor) -> float:
    """Of the last axis, which is not symbolic."""
    return float(x.shape[-1])  # type: ignore[arg-type]


def per_layer(block: Any, x: Tensor, inputs: Tensor, place: int) -> Tensor:
    """(T, hidden) gates what the block at `place` is given (see `per_layer_inputs`), projected to (T, hidden)."""
    own = inputs.slice(1, place, place + 1).reshape(inputs.shape[0], inputs.shape[2])
    return linear(gelu_mul(linear(x, block.inp_gate), own), block.proj)


def growth(positions: Tensor, every: float, by: float, start: float = 0.0) -> Tensor:
    """What queries are multiplied by: 1 + by * log(1 + floor((position + start) / every)), (T,) to (T, 1, 1)."""
    turns = ((positions.cast(F32) + start) / float(every)).cast(I32).cast(F32)
    return (apply("log", turns + 1.0) * by + 1.0).reshape(*positions.shape, 1, 1)


def shared_heads(x: Tensor, groups: int, count: int) -> Tensor:
    """(T, groups * D), each group for as many heads: (T, count, D)."""
    tokens, width = x.shape
    size = int(width) // groups  # type: ignore[arg-type]  # only the first axis is symbolic
    grouped = x.reshape(tokens, groups, 1, size)
    return apply("expand", grouped, shape=(tokens, groups, count // groups, size)).reshape(tokens, count, size)


def causal_conv1d(x: Tensor, w: Weight, batch: Batch, state: Tensor) -> Tensor:
    """Convolve each column of (T, D) with its (D, L) weights over the latest L rows, then add its bias: (T, D).

    `state` (slots, L - 1, D) keeps a sequence's last rows.
    """
    y = apply("causal_conv1d", state, x, w.weight, batch.sequence, batch.state_from, batch.state_to)
    return y if w.bias is None else y + w.bias


def way_back(x: Tensor, batch: Batch, state: Tensor) -> Tensor:
    """The row before each of (T, D) in its own sequence, minus the row: (T, D); zeros are before the first.

    `state` (slots, 1, D) keeps a sequence's last row.
    """
    taps = apply("expand", constant([[1.0, -1.0]]), shape=(x.shape[1], 2))
    return causal_conv1d(x, Weight(taps), batch, state)


def recurrence(
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    batch: Batch,
    state: Tensor,
    *,
    rates: Tensor | None = None,
    added: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Token after token S = diag(w) S + b (a S) + k v and y = r S, for each head's S (K, V): (T, H, V).

    r, k, and a and b if they are `added`, are (T, H, K), v (T, H, V), w (T, H, K) or (T, H, 1), or with `rates` (H, K)
    or (H, 1) exp(w * rates). `state` (slots, H, K, V) keeps S.
    """
    a, b = added or (None, None)
    return apply("recurrence", state, r, w, k, v, a, b, rates, batch.sequence, batch.state_from, batch.state_to)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    batch: Batch,
    kv: KV,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Weight | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Write (T, K, D) keys and values to the cache, then attend from (T, H, D) queries: (T, H * D).

    `softcap` bounds the scores; `sinks` is one more score a head, without a value; `bias` (H, 2R + 1) is added to
    scores by distance, from -R to R and beyond.
    """
    return attend(q, batch, remember(k, v, batch, kv), scale=scale, softcap=softcap, sinks=sinks, bias=bias)


def room(batch: Batch) -> int:
    """The positions that a sequence has at most, which bound all distances; ModelError where they are no number."""
    _, blocks = batch.table.shape
    if not isinstance(blocks, int):
        raise ModelError(f"the table of blocks is {batch.table!r}; a number of columns would work")
    return blocks * BLOCK


def alibi(heads: int, reach: int, most: float = 8.0, *, both: bool = False) -> Tensor:
    """ALiBi's bias by distance (heads, 2 * reach + 1): each head's slope times j - i (https://arxiv.org/abs/2108.12409).

    `both`: times -|j - i|, for attention both ways. Slopes fall from 2 ** -(most / heads) to 2 ** -most; where heads
    are no power of two, as if there were fewer, and between those for the rest.
    """
    whole = 2 ** floor(log2(heads))
    slopes = [2.0 ** (-most * (i + 1) / whole) for i in range(whole)]
    slopes += [2.0 ** (-most * (2 * i + 1) / (2 * whole)) for i in range(heads - whole)]
    distances = [-abs(d) if both else d for d in range(-reach, reach + 1)]
    return constant([[slope * distance for distance in distances] for slope in slopes])


def remember(k: Tensor, v: Tensor, batch: Batch, kv: KV) -> KV:
    """The memory after (T, K, D) keys and values were written to it."""
    slots = batch.read_slots if kv.spec.read else batch.places[kv.spec.reach][0]
    keys, values = (apply("write", s, slots, x) for s, x in ((kv.k, k), (kv.v, v)))
    return KV(kv.spec, (keys, values), kv.recurrent)


def attend(
    q: Tensor,
    batch: Batch,
    kv: KV,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Weight | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attend from (T, H, D) queries to what was remembered, by this block or by another one: (T, H * D)."""
    usual, read = (batch.places[kv.spec.reach][1], batch.lengths), (batch.read_table, batch.read_lengths)
    out = apply(
        "attention",
        *(q, kv.k, kv.v, batch.positions, batch.sequence, *(read if kv.spec.read else usual)),
        None if sinks is None else sinks.weight,
        *(() if bias is None else (bias,)),
        scale=float(scale),
        causal=not (kv.spec.encoder or kv.spec.read),
        window=kv.spec.window,
        chunk=kv.spec.chunk,
        softcap=float(softcap),
        block_size=BLOCK,
    )
    return flat(out)


def mean_cache(width: int) -> Spec:
    """What `sequence_mean` of rows of this width needs."""
    return Spec(1, 1, width, encoder=True)


def sequence_mean(x: Tensor, batch: Batch, kv: KV) -> Tensor:
    """The mean of the rows of each token's whole sequence, which has to be in one step: (T, D) to (T, D)."""
    rows, size = x.shape
    nothing = apply("expand", constant([[[0.0]]]), shape=(rows, 1, 1))
    return attention(nothing, nothing, x.reshape(rows, 1, size), batch, kv, scale=1.0)
