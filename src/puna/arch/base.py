"""What an architecture file consists of, and what such files take from here. It opens no file and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from puna.arch.hparams import Config, Hparams
from puna.arch.naming import Names, Target, sources, targets
from puna.arch.transform import (
    Transform,
    apart,
    join_heads,
    last_rows,
    negative_exp,
    pad_rows,
    permute_rope,
    plus_one,
    regroup,
    regroup_after,
    reshape,
    rows,
    scale,
    scale_rows,
    split_heads,
    squeeze,
    tanh,
    transpose,
)
from puna.cache import KV, Batch, Spec
from puna.errors import ConversionError
from puna.graph import Tensor
from puna.nn import Biased, Weight

__all__ = [
    "KV",
    "Architecture",
    "Batch",
    "Biased",
    "Blocks",
    "Config",
    "Decoder",
    "Encoder",
    "Hparams",
    "Names",
    "Spec",
    "Target",
    "Transform",
    "Weight",
    "apart",
    "join_heads",
    "last_rows",
    "negative_exp",
    "pad_rows",
    "permute_rope",
    "plus_one",
    "regroup",
    "regroup_after",
    "reshape",
    "rows",
    "scale",
    "scale_rows",
    "split_heads",
    "squeeze",
    "tanh",
    "transpose",
]


class Blocks(NamedTuple):
    """A list of blocks: what the names of their tensors begin with, and the field that says how many there are."""

    prefix: str
    field: str


@dataclass(frozen=True)
class Decoder:
    """Weights of a whole decoder, but for its blocks; without `output` the embedding serves."""

    token_embd: Weight
    output_norm: Weight
    output: Weight | None


@dataclass(frozen=True)
class Encoder:
    """What an architecture has besides whose decoder answers a text that an encoder has read.

    `forward` gives the encoder's hidden states (O, hidden), and of `caches` of the whole those it has written, by which
    the decoder reads them; `caches` are the encoder's own. `start`: the tokens that an answer begins with.
    """

    caches: Callable[[Any], list[Spec]]
    forward: Callable[[Any, Any, Batch, Sequence[KV], Sequence[KV]], tuple[Tensor, list[KV]]]
    start: Callable[[Any], list[int]]


@dataclass(frozen=True)
class Architecture:
    """An architecture file, its parts by name.

    `hf_prefixes`: other beginnings of HF names, and what they stand for. `hf_ignored`: parts of HF names of tensors
    that are not needed; `hf_lost`: of such as are, but have no place, with the reason; `hf_only`: parts of such
    that one class needs, with its name; `gguf_ignored`: beginnings of GGUF names that are not. `gguf_names`: what
    files of other programs call the architecture. `hf_defaults`: what the HF class means by a key's absence from
    config.json. `hf_requires`: config keys whose value must be among those listed (None: absent), as others would
    change numbers; `hf_class_requires`: more such of one HF class, by its name, which go before those. `blocks`:
    the network's lists of blocks, by attribute. `hf_same`: HF modules that hold the same values, the first that is
    there counts. `encoder`: for answers to a text. `output_by_file`: whether the output is the embedding is what
    the tensors say, whatever config.json does. `extra_tensors`: small float32 tensors that follow from the config
    alone. `known`: published checkpoints. `claims`: whether a config of one of its classes is its own, where others
    have the class too. `renamed`: what a GGUF tensor is called where that depends on hyperparameters, which may be
    None: whatever else it may be called.
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
    blocks: Mapping[str, Blocks]
    hf_same: tuple[str, ...]
    output_by_file: bool
    encoder: Encoder | None
    hf_ignored: tuple[str, ...]
    hf_lost: Mapping[str, str]
    hf_only: Mapping[str, str]
    hf_defaults: Mapping[str, Any]
    hf_requires: Mapping[str, tuple[Any, ...]]
    hf_class_requires: Mapping[str, Mapping[str, tuple[Any, ...]]]
    gguf_ignored: tuple[str, ...]
    gguf_names: tuple[str, ...]
    from_hf: Callable[[str, Any], Transform | tuple[Transform, ...] | None]
    hparams_from_hf: Callable[[Config], Hparams]
    extra_tensors: Callable[[Config, Any], Mapping[str, list[float]]]
    known: tuple[str, ...]
    claims: Callable[[Config], bool]
    renamed: Callable[[str, Any], str]

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
            blocks={k: Blocks(*v) for k, v in getattr(module, "BLOCKS", {"blk": ("blk", "n_blocks")}).items()},
            hf_same=getattr(module, "HF_SAME", ()),
            output_by_file=getattr(module, "OUTPUT_BY_FILE", False),
            encoder=Encoder(module.encoder_caches, module.encode, module.decoder_start)
            if hasattr(module, "encode")
            else None,
            hf_ignored=getattr(module, "HF_IGNORED", ()),
            hf_lost=getattr(module, "HF_LOST", {}),
            hf_only=getattr(module, "HF_ONLY", {}),
            hf_defaults=getattr(module, "HF_DEFAULTS", {}),
            hf_requires={**REQUIRES, **getattr(module, "HF_REQUIRES", {})},
            hf_class_requires=getattr(module, "HF_CLASS_REQUIRES", {}),
            gguf_ignored=getattr(module, "GGUF_IGNORED", ()),
            gguf_names=getattr(module, "GGUF_NAMES", ()),
            from_hf=getattr(module, "from_hf", lambda name, hp: None),
            hparams_from_hf=getattr(module, "hparams_from_hf", lambda config: module.Hparams.from_hf(name, config)),
            extra_tensors=getattr(module, "extra_tensors", lambda config, hp: {}),
            known=getattr(module, "KNOWN", ()),
            claims=getattr(module, "claims", lambda config: True),
            renamed=getattr(module, "renamed", lambda name, hp: name),
        )

    def targets(self, hf_name: str) -> tuple[Target, ...]:
        """What an HF tensor becomes: () for one that is not needed; ConversionError for one nobody claims."""
        if any(f".{part}." in f".{hf_name}." for part in (*self.hf_ignored, *self.hf_lost)):
            return ()
        prefix = next((p for p in self.hf_prefixes if hf_name.startswith(p)), "")
        found = targets(self.hf_names, self.hf_tensors, self.hf_prefixes.get(prefix, "") + hf_name.removeprefix(prefix))
        if not found:
            raise ConversionError(f"{self.name}: nothing in this architecture is called '{hf_name}'")
        return found

    def repeats(self, hf_name: str, others: Collection[str]) -> bool:
        """Whether an HF tensor holds what another one of `others` holds too, which goes before it."""
        for prefix in ("", *self.hf_prefixes):
            alike = [f"{prefix}{module}.weight" for module in self.hf_same]
            if hf_name in alike:
                return any(name in others for name in alike[: alike.index(hf_name)])
        return False

    def needs(self, hf_name: str, hf_class: str) -> bool:
        """Whether a class needs an HF tensor, as far as `hf_only` says."""
        return all(only == hf_class for part, only in self.hf_only.items() if f".{part}." in f".{hf_name}.")

    def gguf_name(self, hf_name: str) -> str | None:
        """The GGUF name of an HF tensor, None for one that is not needed; ConversionError for one that is split."""
        found = self.targets(hf_name)
        if len(found) > 1:
            several = ", ".join(f"'{target.name}'" for target in found)
            raise ConversionError(f"{self.name}: '{hf_name}' is split into {several}")
        return found[0].name if found else None

    def hf_sources(self, gguf_name: str) -> list[str]:
        """The names of HF tensors that it may be made of; `*` stands for the place in a stack."""
        return sources(self.hf_names, self.hf_tensors, gguf_name)

    def transforms(self, gguf_name: str, hp: Any) -> tuple[Transform, ...]:
        """What changes in a tensor on its way from HF; of a stack, in each of its parts."""
        found = self.from_hf(gguf_name, hp)
        return found if isinstance(found, tuple) else (found,) if found else ()

    def understood(self, config: Config) -> Config:
        """The text model's config with what absent keys mean.

        ConversionError names a key whose value would change numbers and is not understood.
        """
        whole = {**self.hf_defaults, **config, **(config.get("text_config") or {})}
        cls = next(iter(config.get("architectures") or ()), "")
        for key, known in {**self.hf_requires, **self.hf_class_requires.get(cls, {})}.items():
            value = whole.get(key)
            if any(v not in known for v in (value if isinstance(value, list) else [value])):
                works = ", ".join("leaving it out" if v is None else repr(v) for v in known)
                raise ConversionError(f"{self.name}: config key '{key}' is {str(value)[:80]!r}; what works: {works}")
        return whole


REQUIRES: Mapping[str, tuple[Any, ...]] = {"quantization_config": (None,), "dense_modules": (None,)}
"""What holds for every architecture: packed weights have to be unpacked, and matrices after pooling be
multiplied by."""
