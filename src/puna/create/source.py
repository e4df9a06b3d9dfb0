"""Which files of a directory make up a checkpoint. It reads the first bytes of files at most, never a tensor."""

from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path

from puna.errors import ConversionError

_GIT_LFS = b"version https://git-lfs"
_ARCHIVES = (b"PK", b"\x80")  # a zip file, or a bare pickle of old PyTorch


def find_files(path: str | PathLike[str]) -> list[str]:
    """Finds the files an import takes, as paths relative to the directory, weights first.

    The first kind of weights that is there counts: model*.safetensors (also one folder deeper),
    consolidated*.safetensors, pytorch_model*.bin, consolidated*.pth, *.gguf, *.bin. ConversionError where there are
    none, or they are not what they are named.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConversionError(
            f"importing {root}: it is not a directory; a directory with config.json and weights works"
        )
    for patterns, check in _WEIGHTS:
        weights = _matches(root, patterns)
        if any("/" not in name for name in weights):
            _check(root, weights, check)
            return weights + [name for name in _matches(root, _BESIDE) if name not in weights]
    raise ConversionError(f"importing {root}: no weights; model*.safetensors, pytorch_model*.bin or *.gguf work")


def find_ggufs(root: Path, names: Iterable[str]) -> list[str]:
    """Those of a directory's files that are GGUF by their first bytes."""
    return [name for name in names if name.endswith((".gguf", ".bin")) and _first_bytes(root / name, 4) == b"GGUF"]


def find_component(path: Path) -> Path:
    """The directory itself, or the only one in it that has a checkpoint; of a pipeline of several it names them.

    ConversionError as for `find_files`.
    """
    beside = sorted({file.parent for file in path.glob("*/config.json") if _has_weights(file.parent)})
    if (path / "model_index.json").is_file() and beside:
        names = ", ".join(folder.name for folder in beside)
        raise ConversionError(f"importing {path}: a pipeline of {names}; one of these directories works")
    if len(beside) == 1 and not (path / "config.json").exists() and not _has_weights(path):
        return beside[0]
    return path


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
    (("*.gguf",), _binary),
    (("*.bin",), _binary),
]
_BESIDE = ("*.json", "*/*.json", "chat_template.jinja", "tokenizer.model", "*/tokenizer.model")


def _matches(root: Path, patterns: tuple[str, ...]) -> list[str]:
    found = (file.relative_to(root) for pattern in patterns for file in sorted(root.glob(pattern)) if file.is_file())
    names = [name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts)]
    return list(dict.fromkeys(names))


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
