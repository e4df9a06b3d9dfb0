"""Which files of a directory make up a checkpoint. It reads the first bytes of files at most, never a tensor."""

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path

from puna.errors import ConversionError, FormatError
from puna.formats.gguf import open_gguf
from puna.formats.gguf_kinds import kind_of, misused
from puna.formats.gguf_shards import sets_of
from puna.store.hub_ref import check_snapshot, find_snapshot

RWKV = re.compile(r"rwkv.*\.pth", re.IGNORECASE)
"""RWKV's own layout: a model in one file, which says all."""

_GIT_LFS = b"version https://git-lfs"
_ARCHIVES = (b"PK", b"\x80")  # a zip file, or a bare pickle of old PyTorch


def find_files(path: str | PathLike[str]) -> list[str]:
    """Finds the files an import takes, as paths relative to the directory, weights first.

    The first kind of weights that is there counts: model*.safetensors (also one folder deeper),
    consolidated*.safetensors, pytorch_model*.bin, consolidated*.pth, rwkv*.pth, *.gguf, *.bin. ConversionError where
    there are none, or they are not what they are named.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConversionError(
            f"importing {root}: it is not a directory; a directory with config.json and weights works"
        )
    try:
        names = select_files(_listed(root))
    except ConversionError as error:
        raise ConversionError(f"importing {root}: {error}") from error
    patterns, check = next((p, check) for p, check in _WEIGHTS if any(_fits(names[0], pattern) for pattern in p))
    _check(root, [name for name in names if any(_fits(name, pattern) for pattern in patterns)], check)
    return names


def select_files(names: Iterable[str]) -> list[str]:
    """Those of a directory's files, by their relative paths, that an import takes, weights first.

    ConversionError where there are no weights among them.
    """
    names = sorted(names)
    for patterns, _ in _WEIGHTS:
        weights = _matches(names, patterns)
        if any("/" not in name for name in weights):
            return weights + [name for name in _matches(names, _BESIDE) if name not in weights]
    raise ConversionError("no weights; model*.safetensors, pytorch_model*.bin or *.gguf work")


def find_ggufs(root: Path, names: Iterable[str]) -> list[str]:
    """Those of a directory's files that are GGUF by their first bytes."""
    return [name for name in names if name.endswith((".gguf", ".bin")) and _first_bytes(root / name, 4) == b"GGUF"]


def gguf_kind(path: Path) -> str:
    """What a GGUF file holds, as `puna.formats.gguf_kinds` tells it; a model where it cannot be read."""
    try:
        with open_gguf(path) as gguf:
            return kind_of(gguf.metadata)
    except FormatError:
        return "model"


def find_weights(path: Path) -> Path:
    """What a directory means as one model: its GGUF file or the first shard of it, else the checkpoint's directory.

    ConversionError where there are several, or none.
    """
    root = find_component(path)
    if (root / "config.json").exists() and any(root.glob("*.safetensors")):
        return root
    models = sets_of(
        name for name in find_ggufs(root, _listed(root)) if "/" not in name and "mmproj" not in name.lower()
    )
    if len(models) > 1:
        models = {name: files for name, files in models.items() if gguf_kind(root / files[0]) == "model"}
        if not models:
            raise ConversionError(f"importing {root}: it holds GGUF files, but no model; the file of one works")
    if len(models) > 1:
        shown = ", ".join(sorted(models)[:4])
        raise ConversionError(f"importing {root}: it holds {len(models)} GGUF models, {shown}; name one of them")
    return root / next(iter(models.values()))[0] if models else root


def find_component(path: Path) -> Path:
    """The directory itself; of an entry of the hub's cache its snapshot; or the only folder in it with a checkpoint.

    ConversionError where it is a pipeline of several, or an adapter; StoreError for a snapshot with links out of the
    cache.
    """
    path = find_snapshot(path) or path
    check_snapshot(path)
    if (path / "adapter_config.json").is_file() and not ((path / "config.json").is_file() or any(path.glob("*.gguf"))):
        raise ConversionError(f"importing {misused(str(path), 'adapter')}")
    beside = sorted({file.parent for file in path.glob("*/config.json") if _has_weights(file.parent)})
    if (path / "model_index.json").is_file() and beside:
        names = ", ".join(folder.name for folder in beside)
        raise ConversionError(f"importing {path}: it is a pipeline of {names}; one of these directories works")
    if len(beside) == 1 and not (path / "config.json").exists() and not _has_weights(path):
        return beside[0]
    return path


def has_no_weights(path: Path) -> bool:
    """Whether a file is no GGUF, or a directory is no checkpoint, by a glance."""
    if path.is_dir():
        return not _has_weights(path) and not any(_has_weights(file.parent) for file in path.glob("*/config.json"))
    return _first_bytes(path, 4) != b"GGUF"


def _has_weights(folder: Path) -> bool:
    names = (pattern for patterns, _ in _WEIGHTS for pattern in patterns if "/" not in pattern)
    return any(any(folder.glob(name)) for name in names)


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _anything(head: bytes) -> bool:
    return True


def _archive(head: bytes) -> bool:
    return head.startswith(_ARCHIVES)


def _binary(head: bytes) -> bool:
    return any(byte < 9 for byte in head)


_WEIGHTS: list[tuple[tuple[str, ...], Callable[[bytes], bool]]] = [
    (("model*.safetensors", "*/model*.safetensors"), _anything),
    (("consolidated*.safetensors",), _anything),
    (("pytorch_model*.bin",), _archive),
    (("consolidated*.pth",), _archive),
    (("rwkv*.pth", "RWKV*.pth"), _archive),
    (("*.gguf",), _binary),
    (("*.bin",), _binary),
]
_BESIDE = ("*.json", "*/*.json", "chat_template.jinja", "tokenizer.model", "*/tokenizer.model", "rwkv_vocab_*.txt")


def _listed(root: Path) -> list[str]:
    """The files of a directory and of the folders in it."""
    files = (file for pattern in ("*", "*/*") for file in root.glob(pattern) if file.is_file())
    return [file.relative_to(root).as_posix() for file in files]


def _matches(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    """The names that fit a pattern, in the order of the patterns; hidden files and folders are none."""
    seen = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    return list(dict.fromkeys(name for pattern in patterns for name in seen if _fits(name, pattern)))


def _fits(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _check(root: Path, names: list[str], fits: Callable[[bytes], bool]) -> None:
    for name in names:
        head = _first_bytes(root / name, 512)
        if head.startswith(_GIT_LFS):
            raise ConversionError(
                f"importing {root}: {name} is a Git LFS pointer, not the file; `git lfs pull` fetches it"
            )
        if not fits(head):
            raise ConversionError(
                f"importing {root}: {name} is not a binary file of weights ({head[:12]!r}...); fetch it again"
            )
