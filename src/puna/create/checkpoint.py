"""A Hugging Face checkpoint directory seen as a GGUF file: the same metadata and tensors, converted when read.

The architecture's file says names, transforms and hyperparameters; the tokenizer package reads the tokenizer's files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

from puna import arch as archs
from puna.arch.base import Architecture, Hparams
from puna.arch.binding import bind, check_sizes, check_vocabulary, outputs_of
from puna.arch.transform import Transform
from puna.create.config import class_of, read_config
from puna.create.config_values import check_sizes_of, reading_config
from puna.create.digest import digest_of, files_of
from puna.create.general import PHI3_TOKENS, is_misnamed, model_name, size_label
from puna.create.meta import ASSUMED, is_meta, open_meta
from puna.create.names import Parts, named
from puna.create.origins import origins
from puna.create.policy import PACKED, policy
from puna.create.prequantized import plain_config, unpack
from puna.create.rwkv import is_rwkv, open_rwkv
from puna.create.sentences import DENSE, in_network, metadata_of, name_of
from puna.create.source import find_files
from puna.create.tensors import Constant, Converted, passes
from puna.dtypes import BF16, DTYPES, F16, F32, DType, Stored
from puna.errors import ConversionError, GraphError, ModelError, UnknownArchitecture
from puna.formats.file_types import FILE_TYPE_IDS
from puna.formats.safetensors import open_safetensors
from puna.tokenizer import tokenizer_from_hf

PADDING = re.compile(r"\[PAD\d+\]")
"""Tokens that fill up a vocabulary."""

WEIGHTS = (".safetensors", ".bin", ".pth")
"""Endings of files of weights."""

DTYPE_CHOICES = {"auto": None, "f32": F32, "f16": F16, "bf16": BF16}
"""What matrices may become; auto keeps a 16-bit or 32-bit float as it is."""


@dataclass(frozen=True)
class Checkpoint:
    """A directory's metadata and tensors under their GGUF names.

    `left_out` are names of tensors that none needs, `origins` says of each key what it was taken from.
    """

    directory: Path
    arch: Architecture
    hparams: Hparams
    metadata: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    left_out: tuple[str, ...]
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def open_checkpoint(directory: str | PathLike[str], dtype: str = "auto", like: str | None = None) -> Checkpoint:
    """Open a directory with config.json, safetensors or PyTorch weights, and tokenizer files; nothing large is read.

    `dtype`: auto, f32, f16, bf16. `like`: a Hugging Face class that it is read as, whatever it says.
    ConversionError, ModelError or FormatError names the file, key or tensor that does not fit.
    """
    root = Path(directory)
    if dtype not in DTYPE_CHOICES:
        raise ConversionError(f"converting {root}: dtype {dtype!r} is unknown; known: {', '.join(DTYPE_CHOICES)}")
    said, weights, told = read_parts(root)
    said = {**said, "architectures": [like]} if like else said
    arch = _architecture(root, said, weights)
    said, weights, dense = _after_pooling(root, arch, said, weights)
    check_sizes_of(said, weights)
    with reading_config(arch.name):
        config = arch.understood(plain_config(said))
        hp = arch.hparams_from_hf(config)
        sources = unpack(said, weights)
        names = named(arch, config, (name for name in sources if arch.needs(name, class_of(root, said))))
        tensors: dict[str, Stored] = {
            (name := arch.renamed(found, hp)): converted(
                name, made_of, sources, arch.transforms(name, hp), DTYPE_CHOICES[dtype]
            )
            for found, made_of in names.items()
        }
        tensors |= {name: Constant(tuple(values)) for name, values in arch.extra_tensors(config, hp).items()}
        tensors |= {name: converted(name, Parts((name,)), dense, (), DTYPE_CHOICES[dtype]) for name in dense}
        _check(arch, hp, config, tensors)
    vocabulary = tokenizer_from_hf(root, said, rows=tensors["token_embd.weight"].shape[0])
    metadata = _metadata(root, arch, hp, said, tensors, vocabulary.metadata)
    metadata["puna.source.digest"] = digest_of(sources, files_of(root))
    check_vocabulary(metadata, tensors)
    left_out = tuple(sorted(sources.keys() - _used(names)))
    return Checkpoint(
        root,
        arch,
        hp,
        metadata,
        tensors,
        left_out,
        {**origins(arch, hp, said, metadata, told), **vocabulary.origins},
        (
            *vocabulary.warnings,
            *_assumed(arch, hp, told),
            *_lost(arch, left_out),
            *_warnings(config, sources, tensors, metadata),
        ),
    )


def _architecture(root: Path, config: Mapping[str, Any], weights: Mapping[str, Stored]) -> Architecture:
    """The architecture of the class that config.json names; what is said of others tells which are built alike."""
    try:
        return archs.find_hf(class_of(root, config), config)
    except UnknownArchitecture as error:
        from puna.create.structure import like_names, said_of

        closest = said_of(like_names(unpack(config, weights)))
        advice = f"`puna new-arch NAME --from {root}` takes it as one of them, or begins a file for it"
        raise UnknownArchitecture(f"{str(error).split(';')[0]}; {closest}; {advice}") from error


def _warnings(
    config: Mapping[str, Any], sources: Iterable[str], tensors: Mapping[str, Stored], metadata: Mapping[str, Any]
) -> Iterator[str]:
    """What a reader should know, and the key of config.json that decided it."""
    if config.get("tie_word_embeddings") and any(name.endswith("lm_head.weight") for name in sources):
        yield "lm_head.weight is left out: config.json says 'tie_word_embeddings': true"
    tokens = metadata.get("tokenizer.ggml.tokens") or ()
    if padded := sum(1 for _ in takewhile(PADDING.fullmatch, reversed(tokens))):
        rows = tensors["token_embd.weight"].shape[0]
        yield f"the vocabulary is padded by {padded} tokens: config.json's 'vocab_size' and the embedding have {rows}"
    if f"{metadata['general.architecture']}.attention.scale" in metadata:
        yield "config.json's 'query_pre_attn_scalar' is not head_dim: llama.cpp takes it to be, and computes otherwise"
    if is_misnamed(str(metadata["general.name"]), tokens):
        lacking = ", ".join(token for token in PHI3_TOKENS if token not in tokens)
        yield f"llama.cpp takes a '{metadata['general.name']}' for Phi 3, and refuses it without its tokens: {lacking}"


def _assumed(arch: Architecture, hp: Hparams, told: Mapping[str, str]) -> Iterator[str]:
    if told.get("max_position_embeddings") == ASSUMED:
        key, length = f"{arch.name}.context_length", hp.context_length
        yield f"params.json does not say the longest context: {length} is {ASSUMED}; --set {key}=N says another"


def _lost(arch: Architecture, left_out: Sequence[str]) -> Iterator[str]:
    """What is left out though it changes numbers."""
    for part, why in arch.hf_lost.items():
        if names := [name for name in left_out if f".{part}." in f".{name}."]:
            more = f" and {len(names) - 1} more like it are" if len(names) > 1 else " is"
            yield f"'{names[0]}'{more} left out, so that outputs differ a little from the source's: {why}"


def read_parts(root: Path) -> tuple[dict[str, Any], Mapping[str, Stored], dict[str, str]]:
    """What config.json says, or would say, and the tensors, of either layout; and where keys are not config.json's."""
    if is_rwkv(root):
        return open_rwkv(root)
    if not is_meta(root):
        config = read_config(root)
        return config, {**_open_weights(root), **_dense(root, config.get(DENSE) or [])}, {}
    config, weights, told = open_meta(root)
    return (read_config(root), weights, {}) if (root / "config.json").is_file() else (config, weights, told)


def _dense(root: Path, folders: Iterable[str]) -> dict[str, Stored]:
    """What is multiplied by and added after pooling."""
    found: dict[str, Stored] = {}
    for folder in folders:
        path = root / folder / "model.safetensors"
        tensors = open_safetensors(path).tensors if path.is_file() else _torch([path.with_name("pytorch_model.bin")])
        found |= {f"{folder}.{name}": tensor for name, tensor in tensors.items()}
    return found


def _after_pooling(
    root: Path, arch: Architecture, said: dict[str, Any], weights: Mapping[str, Stored]
) -> tuple[dict[str, Any], Mapping[str, Stored], dict[str, Stored]]:
    """The config and the tensors without what the architecture's network does not have itself; and that."""
    folders = list(said.get(DENSE) or [])
    if not folders or in_network(root, folders, arch.hf_requires.get(DENSE, ())):
        return said, weights, {}
    kept = {name: tensor for name, tensor in weights.items() if name.partition(".")[0] not in folders}
    parts = [(folder, part) for folder in folders for part in ("weight", "bias")]
    dense = {f"{name_of(f)}.{part}": weights[name] for f, part in parts if (name := f"{f}.linear.{part}") in weights}
    return {key: value for key, value in said.items() if key != DENSE}, kept, dense


def _open_weights(root: Path) -> Mapping[str, Stored]:
    """Tensors by name: of safetensors before PyTorch's files, and as an index says where there is one."""
    names = [name for name in find_files(root) if name.endswith(WEIGHTS) and "/" not in name]
    if not names:
        raise ConversionError(f"converting {root}: its weights are GGUF; name that file instead of the directory")
    kind = Path(names[0]).suffix
    of_kind = [root / name for name in names if name.endswith(kind)]
    index = root / ("model.safetensors.index.json" if kind == ".safetensors" else "pytorch_model.bin.index.json")
    paths = [index] if index.is_file() else of_kind
    return open_safetensors(paths[0] if len(paths) == 1 else paths).tensors if kind == ".safetensors" else _torch(paths)


def _torch(paths: list[Path]) -> Mapping[str, Stored]:
    from puna.formats.torch_pickle import open_torch

    return open_torch(paths).tensors


def _used(names: Mapping[str, Parts]) -> set[str]:
    return {source for made_of in names.values() for source in made_of.names}


def converted(
    name: str, made_of: Parts, sources: Mapping[str, Stored], transforms: tuple[Transform, ...], wanted: DType | None
) -> Converted:
    """A tensor of the output."""
    parts = tuple(sources[each] for each in made_of.names)
    tensor = Converted(name, parts, made_of.names, F32, transforms, made_of.stacked)
    dtype, why = policy(name, tensor.shape, parts[0].dtype, wanted)
    packed = {passes(part, transforms) for part in parts}
    if wanted is None and dtype is parts[0].dtype and len(packed) == 1 and (kind := packed.pop()):
        dtype, why = DTYPES[kind], PACKED
    return replace(tensor, dtype=dtype, why=why)


def _check(arch: Architecture, hp: Hparams, config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> None:
    """Names what is missing, superfluous or misshapen before anything is converted: all that a graph would find."""
    for name in ("token_embd.weight", "output.weight"):
        rows = tensors[name].shape[0] if name in tensors else hp.vocab_size
        spare = name == "token_embd.weight" and "output.weight" in tensors and rows > hp.vocab_size  # without logits
        if rows != hp.vocab_size and not spare:
            raise ConversionError(f"{arch.name}: '{name}' has {rows} rows; vocab_size is {hp.vocab_size}")
    try:
        check_sizes(arch.name, hp, tensors, key=lambda row: row.hf.split()[0])
    except ModelError as error:
        raise ConversionError(f"{arch.name}: the tensors' shapes do not fit config.json: {error}") from error
    try:
        net = bind(arch, hp, tensors)
    except ModelError as error:
        raise ModelError(f"{error}{_in_checkpoint(arch, str(error))}") from error
    tied = config.get("tie_word_embeddings") or "pooling_type" in config  # what embeds does not predict tokens
    if "lm_head" in arch.hf_names and not tied and "output.weight" not in tensors:
        raise ConversionError(f"{arch.name}: there is no tensor 'lm_head.weight' and no 'tie_word_embeddings': true")
    try:
        outputs_of(arch, hp, net)
    except (GraphError, ModelError) as error:
        found = f"{error}{_unlike(tensors)}"
        raise ConversionError(
            f"{arch.name}: the tensors' shapes do not fit config.json: {found}{_in_checkpoint(arch, found)}"
        ) from error


def _in_checkpoint(arch: Architecture, text: str) -> str:
    """What tensors that a message names by their GGUF names are called in the checkpoint."""
    names = dict.fromkeys(re.findall(r"[a-z][\w.]*\.(?:weight|bias)\b", text))
    pairs = [(name, " or ".join(arch.hf_sources(name))) for name in names]
    said = ", ".join(f"'{name}' is {found}" for name, found in pairs if found)
    return f"; in the checkpoint {said}" if said else ""


def _unlike(tensors: Mapping[str, Stored]) -> str:
    """The tensors whose shape is another one than that of most blocks' tensors of the kind."""
    kinds: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in tensors.items():
        if name.startswith("blk."):
            kinds.setdefault(name.split(".", 2)[2], {})[name] = tensor.shape
    odd: list[str] = []
    for shapes in kinds.values():
        most, count = Counter(shapes.values()).most_common(1)[0]
        if count > len(shapes) / 2:
            odd += [f"{name} is {shape}, in most blocks {most}" for name, shape in shapes.items() if shape != most]
    return f"; {', '.join(odd[:3])}" if odd else ""


def _metadata(
    root: Path,
    arch: Architecture,
    hp: Hparams,
    config: Mapping[str, Any],
    tensors: Mapping[str, Stored],
    vocabulary: Mapping[str, Any],
) -> dict[str, Any]:
    general = {
        "general.architecture": arch.name,
        "general.type": "model",
        "general.name": model_name(root, arch.name, config, vocabulary.get("tokenizer.ggml.tokens", ())),
        "general.size_label": size_label(tensors),
        "general.parameter_count": sum(prod(t.shape) for t in tensors.values()),
        "general.quantization_version": 2,
        "general.file_type": FILE_TYPE_IDS[_main_type(tensors).name],
    }
    pooling = {f"{arch.name}.pooling_type": config["pooling_type"]} if config.get("pooling_type") else {}
    return {
        **general,
        **pooling,
        **hp.to_gguf(arch.name),
        **vocabulary,
        **metadata_of(root, hp.context_length, arch.hf_requires.get(DENSE, ())),
    }


def _main_type(tensors: Mapping[str, Stored]) -> DType:
    """The type most of the model's elements have."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype.name] = sizes.get(tensor.dtype.name, 0) + prod(tensor.shape)
    return DTYPES[max(sizes, key=lambda name: sizes[name])]
