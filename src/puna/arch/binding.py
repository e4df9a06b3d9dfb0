"""How an architecture's declared weights are bound to a file's tensors, and what is checked on the way.

It builds graph leaves from headers; it opens no file and reads no values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import is_dataclass
from math import prod
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from puna import cache
from puna.arch.base import Architecture
from puna.arch.hparams import FIELDS, Hparams, Row
from puna.dtypes import F32, Stored
from puna.errors import ModelError
from puna.graph import Tensor, weight
from puna.nn import Biased, Weight

IGNORED = ("rope_freqs.weight", ".attn.rotary_emb.inv_freq", ".attn_rot_embd.weight")
"""Ends of names of tensors in older files that carry nothing."""


DENSE = re.compile(r"dense_\d+\.(weight|bias)")
"""Matrices that a pooled vector is multiplied by, and what is added to it."""

SIZES = (
    ("token_embd.weight", 1, "hidden_size"),
    ("blk.0.attn_q.weight", 0, "n_heads head_dim"),
    ("blk.0.attn_k.weight", 0, "n_kv_heads head_dim"),
    ("blk.0.ffn_down.weight", 1, "ffn_size"),
    ("position_embd.weight", 0, "context_length"),
    ("blk.0.time_mix_w1.weight", 0, "decay_rank"),
    ("blk.0.time_mix_a1.weight", 0, "rate_rank"),
    ("blk.1.time_mix_v1.weight", 0, "value_mix_rank"),
    ("blk.0.time_mix_g1.weight", 0, "gate_rank"),
    ("blk.0.channel_mix_value.weight", 1, "ffn_size"),
    ("blk.{}.ffn_gate_inp.weight", 0, "n_experts"),
    ("blk.{}.ffn_gate_exps.weight", 0, "n_experts"),
)
"""Tensors ({}: of the first block that may have experts), axes, and the fields whose product is the size there.

What the graph checks in any case is left to it."""


def read_hparams(arch: Architecture, metadata: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Hparams:
    """The hyperparameters that a GGUF file says; ModelError where they contradict each other, or what is in it."""
    hp = arch.hparams.from_gguf(arch.name, metadata)
    check_sizes(arch.name, hp, tensors)
    check_vocabulary(metadata, tensors)
    return hp


def graph_of(arch: Architecture, hp: Hparams, tensors: Mapping[str, Stored], blocks: int = 1) -> Tensor:
    """The graph of one sequence of at most so many blocks of cached positions, in float32: it takes headers only."""
    return outputs_of(arch, hp, bind(arch, hp, tensors), blocks)[0]


def whole_graph(arch: Architecture, hp: Hparams, tensors: Mapping[str, Stored], blocks: int = 1) -> Tensor:
    """The same; of an encoder-decoder one graph of both, whose encoder reads the tokens that the decoder says."""
    if arch.encoder is None:
        return graph_of(arch, hp, tensors, blocks)
    network, specs = bind(arch, hp, tensors), arch.caches(hp)
    states, batch = cache.states(specs, blocks * cache.BLOCK, 1, F32), cache.batch(blocks, cache.reaches(specs))
    own = cache.states(arch.encoder.caches(hp), blocks * cache.BLOCK, 1, F32, name="encoder")
    _, read = arch.encoder.forward(network, hp, batch, own, states)
    written = iter(read)
    return arch.forward(network, hp, batch, [next(written) if kv.spec.read else kv for kv in states])


def outputs_of(arch: Architecture, hp: Hparams, network: Any, blocks: int = 1) -> list[Tensor]:
    """That graph of a bound network; then, of an encoder beside a decoder, hidden states and what it leaves for it."""
    specs = arch.caches(hp)
    states, batch = cache.states(specs, blocks * cache.BLOCK, 1, F32), cache.batch(blocks, cache.reaches(specs))
    output = arch.forward(network, hp, batch, states)
    if arch.encoder is None:
        return [output]
    own = cache.states(arch.encoder.caches(hp), blocks * cache.BLOCK, 1, F32, name="encoder")
    hidden, read = arch.encoder.forward(network, hp, batch, own, states)
    return [output, hidden, *(state for kv in read for state in kv.kept)]


def check_sizes(name: str, hp: Hparams, tensors: Mapping[str, Stored], key: Callable[[Row], str] | None = None) -> None:
    """ModelError names the hyperparameters, by `key` (GGUF's), that contradict the tensors.

    To be called before anything counts to `n_blocks`, which may be any number until then.
    """
    spelled = key or (lambda row: f"{name}.{row.gguf.split()[0]}")
    for counted in ("n_blocks", "n_decoder_blocks"):
        if (count := getattr(hp, counted, 0)) > len(tensors):
            said = spelled(FIELDS[counted])
            raise ModelError(f"{name}: '{said}' is {count}, but there are only {len(tensors)} tensors")
    for pattern, axis, said in SIZES:
        tensor = pattern.format(getattr(hp, "n_dense_blocks", 0))
        values = [_of_first(getattr(hp, field, None)) for field in said.split()]
        size, shape = prod(values), tensors[tensor].shape if tensor in tensors else ()
        if not size or len(shape) <= axis or shape[axis] == size:  # 0: the architecture or the file does not say
            continue
        keys = " * ".join(f"'{spelled(FIELDS[field])}'" for field in said.split())
        product = " * ".join(map(str, values))
        raise ModelError(f"{name}: {keys} is {product}, but '{tensor}' has the shape {tuple(shape)}")


def _of_first(value: Any) -> int:
    """A number, or that of the first block; 0 where nothing is said."""
    return (value[0] if isinstance(value, tuple) and value else value) or 0


def check_vocabulary(metadata: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    """ModelError where there are more tokens than embeddings, or the id that begins or ends texts is no token's."""
    prefix = "tokenizer.ggml."
    count = len(metadata.get(f"{prefix}tokens") or ())
    rows = tensors["token_embd.weight"].shape[0] if "token_embd.weight" in tensors else count
    if count > rows:
        raise ModelError(f"'{prefix}tokens' has {count} tokens, but 'token_embd.weight' has {rows} rows")
    for key in (f"{prefix}bos_token_id", f"{prefix}eos_token_id"):
        value = metadata.get(key)
        if count and value not in (None, *NO_TOKEN) and not 0 <= value < count:
            raise ModelError(f"'{key}' is {value}; ids run from 0 to {count - 1}")


NO_TOKEN = (-1, 2**32 - 1)
"""What files write as the id of a token that is not there."""


def bind(arch: Architecture, hp: Hparams, tensors: Mapping[str, Stored]) -> Any:
    """The network with a weight leaf for every declared parameter.

    ModelError for a tensor that is missing (by full name), for those that nobody claimed, and where `check_sizes` says.
    """
    check_sizes(arch.name, hp, tensors)
    claimed: set[str] = set()
    values: dict[str, Any] = {}
    for attribute, hint in get_type_hints(arch.network, include_extras=True).items():
        if attribute in arch.blocks:
            (block,), (prefix, field) = get_args(hint), arch.blocks[attribute]
            places = range(getattr(hp, field))
            values[attribute] = [_group(arch, f"{prefix}.{i}.", block, tensors, claimed) for i in places]
        else:
            values[attribute] = _claim(arch, "", attribute, hint, tensors, claimed)
    further = getattr(hp, "n_nextn_blocks", None) or 0
    left_out = (*arch.gguf_ignored, *(f"blk.{hp.n_blocks + i}." for i in range(min(further, len(tensors)))))
    needless = {n for n in tensors if n.endswith(IGNORED) or n.startswith(left_out)} | after_pooling(arch, tensors)
    if left := [n for n in tensors if n not in claimed and n not in needless]:
        shown = ", ".join(f"'{n}'" for n in left[:3]) + (" ..." if len(left) > 3 else "")
        raise ModelError(f"{arch.name}: the file has {len(left)} tensors that nothing claims: {shown}")
    return arch.network(**values)


def after_pooling(arch: Architecture, tensors: Iterable[str]) -> set[str]:
    """The tensors of matrices that follow pooling, but for those that the architecture's network has itself."""
    own = get_type_hints(arch.network, include_extras=True)
    return {name for name in tensors if DENSE.fullmatch(name) and name.partition(".")[0] not in own}


def _group(arch: Architecture, prefix: str, group: Any, tensors: Mapping[str, Stored], claimed: set[str]) -> Any:
    """A dataclass of weights, whose names begin with `prefix`, and of further groups of them under the same prefix.

    Of a union of groups it is the one whose first weight is there; where there is none, None if that may be, else the
    first.
    """
    values: dict[str, Any] = {}
    for attribute, hint in get_type_hints(group, include_extras=True).items():
        kinds = (kind for kind in get_args(hint) or (hint,) if isinstance(kind, type) and is_dataclass(kind))
        groups = [kind for kind in kinds if not issubclass(kind, Weight)]
        if groups:
            otherwise = None if type(None) in get_args(hint) else groups[0]
            chosen = next((each for each in groups if _first(prefix, each, tensors) in tensors), otherwise)
            values[attribute] = _group(arch, prefix, chosen, tensors, claimed) if chosen else None
        else:
            values[attribute] = _claim(arch, prefix, attribute, hint, tensors, claimed)
    return group(**values)


def _first(prefix: str, group: Any, tensors: Mapping[str, Stored]) -> str:
    attribute, hint = next(iter(get_type_hints(group, include_extras=True).items()))
    return tensor_name(prefix, attribute, hint, tensors)


def tensor_name(prefix: str, attribute: str, hint: Any, tensors: Collection[str] = ()) -> str:
    """A parameter's tensor; `Annotated[Weight, "ssm_a"]` names one that is not called `<attribute>.weight`.

    Further names are older ones: the first that is there counts.
    """
    names = hint.__metadata__ if get_origin(hint) is Annotated else (f"{attribute}.weight",)
    return next((prefix + name for name in names if prefix + name in tensors), prefix + names[0])


def _claim(
    arch: Architecture, prefix: str, attribute: str, hint: Any, tensors: Mapping[str, Stored], claimed: set[str]
) -> Weight | None:
    """The leaves of one parameter."""
    name = tensor_name(prefix, attribute, hint, tensors)
    bias = name.removesuffix(".weight") + ".bias"
    plain = hint.__origin__ if get_origin(hint) is Annotated else hint
    kinds = get_args(plain) or (plain,)
    kind = next(k for k in kinds if k is not type(None))
    if type(None) in kinds and name not in tensors:
        return None
    for needed in (name, bias) if kind is Biased else (name,):
        if needed not in tensors:
            raise ModelError(f"{arch.name}: the file has no tensor '{needed}'")
    present = [n for n in dict.fromkeys((name, bias)) if n in tensors]
    claimed.update(present)
    leaves = [weight(n, tensors[n].shape, tensors[n].dtype) for n in present]
    return kind(*leaves)  # type: ignore[no-any-return]
