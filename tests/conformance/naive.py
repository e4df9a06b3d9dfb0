"""Every fused op, and those with memory per sequence, once more, as the loops one would write first.

Python floats, one element at a time. Independent of
numpy's vectorized definition and of every kernel. Arguments are nested lists; None where absent.
"""

import math

import numpy as np


def exp(x):
    return math.exp(x) if x < 709 else math.inf if x == x else math.nan


def linear(x, w, bias, attrs):
    offset = bias or [0.0] * len(w)
    return [
        [sum(a * b for a, b in zip(row, weights, strict=True)) + c for weights, c in zip(w, offset, strict=True)]
        for row in x
    ]


def embedding(ids, w, attrs):
    return [embedding(i, w, attrs) if isinstance(i, list) else list(w[i]) for i in ids]


def each_row(x, function):
    if x and not isinstance(x[0], list):
        return function(x)
    return [each_row(row, function) for row in x]


def rms_norm(x, w, attrs):
    def one(row):
        scale = math.sqrt(sum(v * v for v in row) / len(row) + attrs["eps"])
        return [v / scale * (1.0 if w is None else w[i]) for i, v in enumerate(row)]

    return each_row(x, one)


def layer_norm(x, w, bias, attrs):
    def one(row):
        mean = sum(row) / len(row)
        scale = math.sqrt(sum((v - mean) ** 2 for v in row) / len(row) + attrs["eps"])
        out = [(v - mean) / scale for v in row]
        out = out if w is None else [v * a for v, a in zip(out, w, strict=True)]
        return out if bias is None else [v + a for v, a in zip(out, bias, strict=True)]

    return each_row(x, one)


def softmax_row(row):
    if any(v != v for v in row):
        return [math.nan] * len(row)
    top = max(row)
    powers = [exp(v - top) for v in row]
    total = sum(powers)
    return [p / total for p in powers]


def softmax(x, attrs):
    return each_row(x, softmax_row)


def sigmoid_of(x):
    return 1 / (1 + exp(-x))


def silu_of(x):
    return x * sigmoid_of(x)


def gelu_of(x, approximate):
    if x != x:
        return x
    inner = (
        math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)) if approximate else math.erf(x / math.sqrt(2))
    )
    return 0.5 * x * (1 + inner)


def sigmoid(x, attrs):
    return each_row(x, lambda row: [sigmoid_of(v) for v in row])


def silu(x, attrs):
    return each_row(x, lambda row: [silu_of(v) for v in row])


def gelu(x, attrs):
    return each_row(x, lambda row: [gelu_of(v, attrs["approximate"]) for v in row])


def times(a, b):
    return [times(x, y) if isinstance(x, list) else x * y for x, y in zip(a, b, strict=True)]


def silu_mul(gate, up, attrs):
    return times(silu(gate, attrs), up)


def gelu_mul(gate, up, attrs):
    return times(gelu(gate, attrs), up)


def rope(x, positions, frequencies, attrs):
    out = []
    for token, position in zip(x, positions, strict=True):
        out.append([])
        for head in token:
            turned = list(head)
            for i, frequency in enumerate(frequencies):
                angle = float(np.float32(position) * np.float32(frequency))  # an angle is a float32, by definition
                a, b = (i, i + len(frequencies)) if attrs["style"] == "halves" else (2 * i, 2 * i + 1)
                cos, sin = math.cos(angle) * attrs["scale"], math.sin(angle) * attrs["scale"]
                turned[a], turned[b] = head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin
            out[-1].append(turned)
    return out


def readable(position, length, attrs):
    """Positions that a token reads."""
    window, chunk = attrs["window"] or math.inf, attrs.get("chunk") or math.inf
    later = [p for p in range(length) if not attrs["causal"] or p <= position]
    return [p for p in later if abs(position - p) < window and p // chunk == position // chunk]


def attention(q, k, v, positions, sequence, table, lengths, sinks, *others):
    *bias, attrs = others
    share = len(q[0]) // len(k[0]) if q else 1
    out = []
    for token, position, s in zip(q, positions, sequence, strict=True):
        block = attrs["block_size"]
        slots = [table[s][p // block] * block + p % block for p in readable(position, lengths[s], attrs)]
        out.append([])
        for h, head in enumerate(token):
            scores = [
                sum(a * b for a, b in zip(head, k[slot][h // share], strict=True)) * attrs["scale"] for slot in slots
            ]
            if attrs["softcap"]:
                scores = [math.tanh(x / attrs["softcap"]) * attrs["softcap"] for x in scores]
            for row in (each[h] for each in bias):
                reach = len(row) // 2
                near = [place - position for place in readable(position, lengths[s], attrs)]
                scores = [x + row[max(-reach, min(reach, n)) + reach] for x, n in zip(scores, near, strict=True)]
            weights = softmax_row(scores + ([] if sinks is None else [sinks[h]]))
            out[-1].append(
                [
                    sum(w * v[slot][h // share][e] for w, slot in zip(weights, slots, strict=False))
                    for e in range(len(v[0][0]))
                ]
            )
    return out


def top_k(x, attrs):
    return each_row(x, lambda row: sorted(range(len(row)), key=lambda i: (-row[i], i))[: attrs["count"]])


def experts(x, w, ids, bias, attrs):
    out = []
    for t, chosen in enumerate(ids):
        rows = x[t] if x[t] and isinstance(x[t][0], list) else [x[t]] * len(chosen)
        pairs = zip(rows, chosen, strict=True)
        none = [0.0] * len(w[0])
        out.append([linear([r], w[e], bias and bias[e], attrs)[0] if e >= 0 else none for r, e in pairs])
    return out


def runs(sequence):
    """Numbers of the rows of each sequence."""
    out = {}
    for t, s in enumerate(sequence):
        out.setdefault(s, []).append(t)
    return out.items()


def causal_conv1d(state, x, w, sequence, state_from, state_to, attrs):
    out = [None] * len(x)
    for s, rows in runs(sequence):
        past = state[state_from[s]] if state_from[s] >= 0 else [[0.0] * len(w) for _ in w[0][1:]]
        known = past + [x[t] for t in rows]
        for i, t in enumerate(rows):
            out[t] = [sum(c * known[i + j][d] for j, c in enumerate(column)) for d, column in enumerate(w)]
    return out


def recurrence(state, r, w, k, v, a, b, rates, sequence, state_from, state_to, attrs):
    out = [[None] * len(row) for row in v]
    for s, rows in runs(sequence):
        for h in range(len(state[0])):
            keys, values = range(len(state[0][h])), range(len(state[0][h][0]))
            kept = [[state[state_from[s]][h][i][j] if state_from[s] >= 0 else 0.0 for j in values] for i in keys]
            for t in rows:
                decay = [w[t][h][i if len(w[t][h]) > 1 else 0] for i in keys]
                if rates is not None:
                    decay = [exp(d * rates[h][i if len(rates[h]) > 1 else 0]) for i, d in enumerate(decay)]
                mixed = [0.0 if a is None else sum(a[t][h][i] * kept[i][j] for i in keys) for j in values]
                turned = [0.0] * len(kept) if b is None else b[t][h]
                kept = [
                    [decay[i] * kept[i][j] + turned[i] * mixed[j] + k[t][h][i] * v[t][h][j] for j in values]
                    for i in keys
                ]
                out[t][h] = [sum(r[t][h][i] * kept[i][j] for i in keys) for j in values]
    return out


def all_reduce(x, attrs):
    return [sum([value]) if isinstance(value, float) else all_reduce(value, attrs) for value in x]


LOOPS = {f.__name__: f for f in (
    linear, embedding, rms_norm, layer_norm, softmax, sigmoid, silu, gelu, silu_mul, gelu_mul, rope, attention,
    top_k, experts, causal_conv1d, recurrence, all_reduce,
)}  # fmt: skip
