"""What an architecture file consists of, and how its declared weights are bound to a file's tensors.

It builds graph leaves; it opens no file and runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from types import ModuleType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from puna.arch.hparams import FIELDS, Config, Hparams, Row
from puna.arch.naming import Names, Target, targets
from puna.arch.transform import (
    Transform,
    join_heads,
    negative_exp,
    permute_rope,
    plus_one,
    regroup,
    reshape,
    rows,
    split_heads,
    squeeze,
    tanh,
    transpose,
)
from puna.cache import KV, Batch, Spec
from puna.dtypes import Stored
from puna.errors import ConversionError, ModelError
from puna.graph import Tensor, weight
from puna.nn import Biased, Weight

__all__ = [
    "KV",
    "Architecture",
    "Batch",
    "Biased",
    "Config",
    "Hparams",
    "Spec",
    "Target",
    "Transform",
    "Weight",
    "bind",
    "join_heads",
    "negative_exp",
    "permute_rope",
    "plus_one",
    "regroup",
    "reshape",
    "rows",
    "split_heads",
    "squeeze",
    "tanh",
    "transpose",
]


@dataclass(frozen=True)
class Architecture:
    """An architecture file, its parts by name.

    `hf_prefixes`: other beginnings of HF names, and what they stand for. `hf_ignored`: parts of HF names of tensors
    that are not needed; `gguf_ignored`: beginnings of such GGUF names. `hf_defaults`: what the HF class means by a
    key's absence from config.json. `hf_requires`: config keys whose value must be among those listed (None: absent),
    as others would change numbers. `extra_tensors`: small float32 tensors that follow from the config alone.
    """

    name: str
    hf_classes: tuple[str, ...]
    hparams: type[Hparams]
    network: type[Any]
    forward: Callable[[Any, Any, Batch, Sequence[KV]], Tensor]
    caches: Callable[[Any], list[Spec]]
    hf_names: Names
    hf_tensors: Names
    hf_prefixes: Mapping[str, str]
    hf_ignored: tuple[str, ...]
    hf_defaults: Mapping[str, Any]
    hf_requires: Mapping[str, tuple[Any, ...]]
    gguf_ignored: tuple[str, ...]
    from_hf: Callable[[str, Any], Transform | tuple[Transform, ...] | None]
    hparams_from_hf: Callable[[Config], Hparams]
    extra_tensors: Callable[[Config, Any], Mapping[str, list[float]]]

    @classmethod
    def of(cls, module: ModuleType) -> Architecture:
        """Collects a module's parts; optional ones have neutral defaults."""
        name = getattr(module, "NAME", module.__name__.rpartition(".")[2])
        return cls(
            name=name,
            hf_classes=module.HF_CLASSES,
            hparams=module.Hparams,
            network=module.Network,
            forward=module.forward,
            caches=module.caches,
            hf_names=module.HF_NAMES,
            hf_tensors=getattr(module, "HF_TENSORS", {}),
            hf_prefixes=getattr(module, "HF_PREFIXES", {}),
            hf_ignored=getattr(module, "HF_IGNORED", ()),
            hf_defaults=getattr(module, "HF_DEFAULTS", {}),
            hf_requires={**REQUIRES, **getattr(module, "HF_REQUIRES", {})},
            gguf_ignored=getattr(module, "GGUF_IGNORED", ()),
            from_hf=getattr(module, "from_hf", lambda name, hp: None),
            hparams_from_hf=getattr(module, "hparams_from_hf", lambda config: module.Hparams.from_hf(name, config)),
            extra_tensors=getattr(module, "extra_tensors", lambda config, hp: {}),
        )

    def targets(self, hf_name: str) -> tuple[Target, ...]:
        """What an HF tensor becomes: () for one that is not needed; ConversionError for one nobody claims."""
        if any(f".{part}." in f".{hf_name}." for part in self.hf_ignored):
            return ()
        prefix = next((p for p in self.hf_prefixes if hf_name.startswith(p)), "")
        found = targets(self.hf_names, self.hf_tensors, self.hf_prefixes.get(prefix, "") + hf_name.removeprefix(prefix))
        if not found:
            raise ConversionError(f"{self.name}: nothing in this architecture is called '{hf_name}'")
        return found

    def gguf_name(self, hf_name: str) -> str | None:
        """The GGUF name of an HF tensor, None for one that is not needed; ConversionError for one that is split."""
        found = self.targets(hf_name)
        if len(found) > 1:
            several = ", ".join(f"'{target.name}'" for target in found)
            raise ConversionError(f"{self.name}: '{hf_name}' is split into {several}")
        return found[0].name if found else None

    def transforms(self, gguf_name: str, hp: Any) -> tuple[Transform, ...]:
        """What changes in a tensor on its way from HF; of a stack, in each of its parts."""
        found = self.from_hf(gguf_name, hp)
        return found if isinstance(found, tuple) else (found,) if found else ()

    def understood(self, config: Config) -> Config:
        """The text model's config with what absent keys mean.

        ConversionError names a key whose value would change numbers and is not understood.
        """
        whole = {**self.hf_defaults, **config, **(config.get("text_config") or {})}
        for key, known in self.hf_requires.items():
            value = whole.get(key)
            if any(v not in known for v in (value if isinstance(value, list) else [value])):
                works = ", ".join("leaving it out" if v is None else repr(v) for v in known)
                raise ConversionError(f"{self.name}: config key '{key}' is {str(value)[:80]!r}; what works: {works}")
        return whole


REQUIRES: Mapping[str, tuple[Any, ...]] = {"quantization_config": (None,)}
"""What holds for every architecture: packed weights would need to be unpacked."""

IGNORED = ("rope_freqs.weight", ".attn.rotary_emb.inv_freq", ".attn_rot_embd.weight")
"""Ends of names of tensors in older files that carry nothing."""


SIZES = (
    ("token_embd.weight", 1, "hidden_size"),
    ("blk.0.attn_q.weight", 0, "n_heads head_dim"),
    ("blk.0.attn_k.weight", 0, "n_kv_heads head_dim"),
    ("blk.0.ffn_down.weight", 1, "ffn_size"),
    ("position_embd.weight", 0, "context_length"),
)
"""Tensors, axes, and the fields whose product is the size there. What the graph checks in any case is left to it."""


def check_sizes(name: str, hp: Hparams, tensors: Mapping[str, Stored], key: Callable[[Row], str] | None = None) -> None:
    """ModelError names the hyperparameters, by `key` (GGUF's), that contradict the tensors.

    To be called before anything counts to `n_blocks`, which may be any number until then.
    """
    spelled = key or (lambda row: f"{name}.{row.gguf.split()[0]}")
    if hp.n_blocks > len(tensors):
        count = spelled(FIELDS["n_blocks"])
        raise ModelError(f"{name}: '{count}' is {hp.n_blocks}, but there are only {len(tensors)} tensors")
    for tensor, axis, said in SIZES:
        values = [getattr(hp, field, 0) for field in said.split()]
        size, shape = prod(values), tensors[tensor].shape if tensor in tensors else ()
        if not size or len(shape) <= axis or shape[axis] == size:  # 0: the architecture or the file does not say
            continue
        keys = " * ".join(f"'{spelled(FIELDS[field])}'" for field in said.split())
        product = " * ".join(map(str, values))
        raise ModelError(f"{name}: {keys} is {product}, but '{tensor}' has the shape {tuple(shape)}")


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
        if attribute == "blk":
            (block,) = get_args(hint)
            values["blk"] = [_group(arch, f"blk.{i}.", block, tensors, claimed) for i in range(hp.n_blocks)]
        else:
            values[attribute] = _claim(arch, attribute, hint, tensors, claimed)
    needless = {n for n in tensors if n.endswith(IGNORED) or n.startswith(arch.gguf_ignored)}
    if left := [n for n in tensors if n not in claimed and n not in needless]:
        shown = ", ".join(f"'{n}'" for n in left[:3]) + (" ..." if len(left) > 3 else "")
        raise ModelError(f"{arch.name}: the file has {len(left)} tensors that nothing claims: {shown}")
    return arch.network(**values)


def _group(arch: Architecture, prefix: str, group: Any, tensors: Mapping[str, Stored], claimed: set[str]) -> Any:
    """A dataclass of weights, whose names begin with `prefix`, and of further groups of them under the same prefix.

    Of a union of groups it is the one whose first weight is there; where there is none, the first.
    """
    values: dict[str, Any] = {}
    for attribute, hint in get_type_hints(group, include_extras=True).items():
        kinds = (kind for kind in get_args(hint) or (hint,) if isinstance(kind, type) and is_dataclass(kind))
        groups = [kind for kind in kinds if not issubclass(kind, Weight)]
        if groups:
            fitting = (group for group in groups if f"{prefix}{fields(group)[0].name}.weight" in tensors)
            values[attribute] = _group(arch, prefix, next(fitting, groups[0]), tensors, claimed)
        else:
            values[attribute] = _claim(arch, prefix + attribute, hint, tensors, claimed)
    return group(**values)


def _claim(arch: Architecture, name: str, hint: Any, tensors: Mapping[str, Stored], claimed: set[str]) -> Weight | None:
    """The leaves of one parameter; `Annotated[Weight, "ssm_a"]` names one that is not called `<attribute>.weight`."""
    needed = [f"{name}.weight"]
    if get_origin(hint) is Annotated:
        needed = [name.rpartition(".")[0] + "." * ("." in name) + hint.__metadata__[0]]
        hint = hint.__origin__
    kinds = get_args(hint) or (hint,)
    kind = next(k for k in kinds if k is not type(None))
    if type(None) in kinds and needed[0] not in tensors:
        return None
    needed += [f"{name}.bias"] if kind is Biased else []
    if missing := [n for n in needed if n not in tensors]:
        raise ModelError(f"{arch.name}: the file has no tensor '{missing[0]}'")
    present = [n for n in dict.fromkeys((*needed, f"{name}.bias")) if n in tensors]
    claimed.update(present)
    leaves = [weight(n, tensors[n].shape, tensors[n].dtype) for n in present]
    return kind(*leaves)  # type: ignore[no-any-return]
