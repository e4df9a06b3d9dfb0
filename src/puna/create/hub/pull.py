"""From a repository on the hub to a model in the store, or to a directory that can be converted."""

import shutil
from pathlib import Path
from typing import Any

from puna.create.convert import convert as puna_convert
from puna.create.hub.fetch import fetch, fetch_to_cache
from puna.create.hub.files import BESIDE, checkpoint_files, choose_gguf, ggufs_of, listed_weights
from puna.create.hub.repository import Repository, open_repository
from puna.create.making import merge_shards
from puna.create.modelfile import parse_params
from puna.errors import FormatError, StoreError, TemplateError
from puna.formats.gguf import open_gguf
from puna.formats.shard_index import read_index
from puna.store.addition import Addition
from puna.store.blobs import Progress, silent, storing
from puna.store.describe import add_model, describe_gguf
from puna.store.hub_ref import HubRef
from puna.store.locks import locked
from puna.store.manifest import Config, Layer, params_json, parse_json
from puna.store.name import ModelName
from puna.store.sources import pulled_from
from puna.store.store import Convert, Store

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_MAX_SMALL = 16 << 20


def pull_hub(
    ref: HubRef,
    store: Store,
    on_progress: Progress | None = None,
    *,
    name: ModelName | str | None = None,
    refresh: bool = False,
    convert: Convert | None = None,
) -> ModelName:
    """Makes a model of a repository on the hub: of the GGUF file that the reference means, or of its checkpoint.

    A checkpoint goes through `convert`, quantized as the reference says. Nothing is fetched where the model is here
    already at that commit, unless `refresh`. What has come stays if it is interrupted, and is used the next time.
    """
    target = name if isinstance(name, ModelName) else ModelName.parse(name) if name else ref.name
    progress = on_progress or silent
    place = store.root / "downloads" / "hf.co" / ref.user / ref.repo / target.tag
    with storing(str(ref), store.root):
        place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_name(f"{place.name}.lock"), exclusive=True, wait=True):  # two pulls of one name take turns
        progress(f"looking at {ref}", 0, 0)
        repository = open_repository(ref)
        if not refresh and _already_here(store, target, repository):
            progress(f"{target.short} is already here", 0, 0)
            return target
        _pull(repository, store, target, place / repository.commit / ref.repo, convert, progress)
        shutil.rmtree(place, ignore_errors=True)
    progress("success", 0, 0)
    return target


def _pull(
    repository: Repository, store: Store, target: ModelName, folder: Path, convert: Convert | None, progress: Progress
) -> None:
    old = store.digests(target)
    with store.adding() as new:
        if ggufs_of(repository.files):
            layer, config = _add_gguf(new, repository, folder, progress)
        else:
            layer, config = _add_checkpoint(new, repository, folder, convert or puna_convert, progress)
        config.extra["source"] = repository.source
        new.write(target, [layer, *_layers_beside(new, repository, folder)], config)
    store.remove_unused(old)


def checkpoint_of(ref: HubRef, on_progress: Progress | None = None) -> Path | None:
    """The directory of a repository's checkpoint, fetched into the hub's cache; None where it has GGUF files."""
    progress = on_progress or silent
    repository = open_repository(ref)
    if ggufs_of(repository.files):
        return None
    names = checkpoint_files(repository.files, f"opening {ref}")
    if indexes := [name for name in _INDEXES if name in names]:
        snapshot = fetch_to_cache(repository, indexes, progress)
        names = listed_weights(names, read_index(snapshot / indexes[0]))
    return fetch_to_cache(repository, names, progress)


def _already_here(store: Store, target: ModelName, repository: Repository) -> bool:
    def same(source: str) -> bool:
        return source.rpartition("@")[0] == f"hf.co/{repository.ref.id}"

    return pulled_from(store, target, str(repository.ref), same) == repository.source


def _add_gguf(new: Addition, repository: Repository, folder: Path, progress: Progress) -> tuple[Layer, Config]:
    """Fetches a GGUF model and takes it over; shards are merged, which every program reads."""
    names = choose_gguf(repository.files, repository.ref.quant, f"pulling {repository.ref}")
    progress(f"pulling {names[0]}" + (f" and {len(names) - 1} more shards" if len(names) > 1 else ""), 0, 0)
    if ignored := [name for name in repository.files if "mmproj" in name.lower() and name.endswith(".gguf")]:
        progress(f"leaving out {', '.join(ignored[:3])}: images are not supported yet", 0, 0)
    fetch(repository, names, folder, progress, check=len(names) > 1)  # one file is checked when it is taken over
    first = folder / names[0]
    if len(names) > 1:
        with open_gguf(first) as gguf:
            return add_model(new, names[0], lambda out: merge_shards(gguf, out, progress), progress)
    config = _described(first)
    file = repository.files[names[0]]
    layer = new.adopt("model", first, digest=f"sha256:{file.checksum}" if file.large else None, on_progress=progress)
    return layer, config


def _described(path: Path) -> Config:
    try:
        return describe_gguf(path)
    except FormatError:
        path.unlink()  # or the next pull would meet it again
        raise


def _add_checkpoint(
    new: Addition, repository: Repository, folder: Path, convert: Convert, progress: Progress
) -> tuple[Layer, Config]:
    """Fetches a checkpoint's files and converts them."""
    names = checkpoint_files(repository.files, f"pulling {repository.ref}")
    if indexes := [name for name in _INDEXES if name in names]:
        fetch(repository, indexes, folder, progress)
        names = listed_weights(names, read_index(folder / indexes[0]))
    fetch(repository, names, folder, progress)
    quant = repository.ref.quant
    wanted: dict[str, Any] = {"quantize": quant} if quant and quant.lower() != "latest" else {}
    progress("converting model", 0, 0)
    return add_model(new, f"the model of {repository.ref}", lambda out: convert(folder, out, **wanted), progress)


def _layers_beside(new: Addition, repository: Repository, folder: Path) -> list[Layer]:
    """The layers that the repository's files `template`, `system` and `params` are."""
    names = [name for name in BESIDE if name in repository.files]
    if large := [name for name in names if repository.files[name].size > _MAX_SMALL]:
        raise StoreError(f"pulling {repository.ref}: its file {large[0]} is too large; at most {_MAX_SMALL} bytes work")
    fetch(repository, names, folder)
    return [new.add_bytes(name, _small_layer(repository, name, (folder / name).read_bytes())) for name in names]


def _small_layer(repository: Repository, name: str, data: bytes) -> bytes:
    """What is in such a file, checked; params as Ollama writes them."""
    what = f"pulling {repository.ref}: its file {name}"
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"{what} is not UTF-8; its owner may mend it") from error
    if name == "params":
        return params_json(parse_params(parse_json(data, what), what))
    if name == "template":
        from puna.template import compile_template

        try:
            compile_template(text)
        except TemplateError as error:
            raise TemplateError(f"{what}: {error}") from error
    return data
