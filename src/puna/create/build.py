"""Builds a model in a store from a Modelfile. It resolves FROM and writes layers; it does not know how to convert."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from puna.create.modelfile import Modelfile, check_range, expand_path, parse_modelfile
from puna.create.source import find_files
from puna.dtypes import F32
from puna.errors import (
    GraphError,
    InvalidName,
    ModelError,
    ModelfileError,
    ModelNotFound,
    StoreError,
    TemplateError,
)
from puna.formats.gguf import open_gguf
from puna.store.blobs import Progress, parse_digest, silent
from puna.store.describe import add_model, describe_gguf
from puna.store.manifest import Config, Layer, Manifest, merge_layers, params_json, to_json
from puna.store.name import ModelName
from puna.store.sources import find_model
from puna.store.store import Addition, Convert, Store


@dataclass(frozen=True, slots=True)
class _Base:
    """What FROM brings: layers that are in the store, what they are, and the options that come with them."""

    layers: tuple[Layer, ...]
    config: Config
    params: dict[str, Any]


def create(
    store: Store,
    name: ModelName | str,
    modelfile: Modelfile | str | bytes,
    *,
    convert: Convert | None = None,
    on_progress: Progress | None = None,
    directory: str | Path = ".",
) -> Manifest:
    """Creates or replaces a model as a Modelfile says; relative paths in it start at `directory`.

    FROM is a GGUF file, a checkpoint directory (made a GGUF file by `convert`), `@sha256:<hex>` of a GGUF blob in the
    store, or a name in this store or Ollama's. An error or Ctrl-C leaves the store as it was. Equal inputs give an
    equal digest.
    """
    name = ModelName.parse(name) if isinstance(name, str) else name
    parsed = modelfile if isinstance(modelfile, Modelfile) else parse_modelfile(modelfile)
    request = parsed.request()
    _refuse(parsed, request)
    progress = on_progress or silent
    add_base = _source(store, request["from"], directory, convert, progress)
    old = store.digests(name)
    with store.adding() as new:
        base = add_base(new)
        progress("writing manifest", 0, 0)
        layers = merge_layers(base.layers, _own_layers(new, request, base.params))
        manifest = new.write(name, layers, _config(base.config, request))
    store.remove_unused(old - {layer.digest for layer in manifest.parts})
    progress("success", 0, 0)
    return manifest


def _refuse(modelfile: Modelfile, request: dict[str, Any]) -> None:
    if "adapters" in request:
        raise ModelfileError(
            f"ADAPTER {request['adapters'][0]}: LoRA adapters are not supported yet; a model with it merged in works"
        )
    if "draft" in request:
        raise ModelfileError(f"DRAFT {request['draft'][0]}: draft models are not supported yet; leave the line out")
    for option, value, line in modelfile.options():
        check_range(option, value, line)
    if "template" in request:
        from puna.template import compile_template

        try:
            compile_template(request["template"])
        except TemplateError as error:
            line = modelfile.line_of("template")
            raise TemplateError(f"Modelfile line {line}: TEMPLATE: {error}" if line else str(error)) from error


def _check_runs(path: Path, what: str) -> None:
    """Builds the model's graph, which takes headers only; what is wrong with the file is said now, not at its use."""
    from puna import arch as archs
    from puna import cache
    from puna.arch.base import bind, check_sizes, check_vocabulary

    with open_gguf(path) as gguf:
        try:
            arch = archs.find(gguf.metadata["general.architecture"])
            hp = arch.hparams.from_gguf(arch.name, gguf.metadata)
            check_sizes(arch.name, hp, gguf.tensors)
            check_vocabulary(gguf.metadata, gguf.tensors)
            states = cache.states(arch.caches(hp), cache.BLOCK, F32)
            arch.forward(bind(arch, hp, gguf.tensors), hp, cache.batch(1), states)
        except (ModelError, GraphError) as error:
            raise type(error)(f"FROM {what}: {error}") from error


def _source(
    store: Store, text: str, directory: str | Path, convert: Convert | None, progress: Progress
) -> Callable[[Addition], _Base]:
    """Finds what FROM means and checks it, before the store is touched; returns what adds it."""
    if text.startswith("@"):
        return _from_digest(store, text)
    path = Path(expand_path(text, directory))
    if path.is_dir():
        return _from_directory(path, convert, progress)
    if path.is_file():
        return _from_file(path, progress)
    try:
        return _from_name(store, ModelName.parse(text), progress)
    except ModelNotFound as error:
        raise ModelNotFound(f"FROM {text}: no such file, and {error}; `puna pull` fetches models") from error
    except InvalidName as error:
        raise ModelfileError(f"FROM {text}: there is no file {path}, and it is no model name ({error})") from error


def _from_digest(store: Store, text: str) -> Callable[[Addition], _Base]:
    digest = parse_digest(text.removeprefix("@"))
    path = store.blob_path(digest)
    if not path.is_file():
        raise StoreError(
            f"FROM {text[:30]}: there is no such blob in {store.root}; a digest of a stored GGUF file works"
        )
    config = describe_gguf(path)
    _check_runs(path, text[:30])
    return lambda new: _Base((new.existing("model", digest),), config, {})


def _from_file(path: Path, progress: Progress) -> Callable[[Addition], _Base]:
    progress("parsing GGUF", 0, 0)
    describe_gguf(path)
    _check_runs(path, path.name)

    def add(new: Addition) -> _Base:
        layer = new.add_file("model", path, on_progress=progress)
        return _Base((layer,), describe_gguf(new.store.blob_path(layer.digest)), {})

    return add


def _from_directory(path: Path, convert: Convert | None, progress: Progress) -> Callable[[Addition], _Base]:
    files = find_files(path)
    ggufs = [name for name in files if name.endswith((".gguf", ".bin")) and _is_gguf(path / name)]
    if len(ggufs) > 1:
        raise ModelfileError(f"FROM {path}: it holds {len(ggufs)} GGUF files, {', '.join(ggufs[:3])}; name one of them")
    if ggufs:
        return _from_file(path / ggufs[0], progress)

    def add(new: Addition) -> _Base:
        progress("converting model", 0, 0)
        function = convert or _default_convert()
        layer, config = add_model(new, f"the model of {path}", lambda out: function(path, out), progress)
        return _Base((layer,), config, {})

    return add


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _default_convert() -> Convert:
    from puna.create.convert import convert

    return convert


def _from_name(store: Store, name: ModelName, progress: Progress) -> Callable[[Addition], _Base]:
    home, manifest = find_model(name, store)
    layers = tuple(replace(layer, source=name.short) for layer in manifest.layers)
    config, params = home.config(manifest), home.params(manifest)

    def add(new: Addition) -> _Base:
        if home.root != new.store.root:
            for layer in layers:  # blobs are never written in place, so a hard link to one is as good as a copy
                path = home.blob_path(layer.digest)
                new.add_file(layer.kind, path, link=True, digest=layer.digest, on_progress=progress)
        return _Base(layers, config, params)

    return add


def _own_layers(new: Addition, request: dict[str, Any], inherited: dict[str, Any]) -> list[Layer]:
    """The layers that the Modelfile itself brings, in Ollama's order."""
    layers = [new.add_bytes(kind, request[kind].encode()) for kind in ("template", "system") if kind in request]
    layers += [new.add_bytes("license", text.encode()) for text in request.get("license", ())]
    if "parameters" in request:
        layers.append(new.add_bytes("params", params_json(inherited | request["parameters"])))
    if "messages" in request:
        layers.append(new.add_bytes("messages", to_json(request["messages"])))
    return layers


def _config(base: Config, request: dict[str, Any]) -> Config:
    return replace(base, **{key: request[key] for key in ("renderer", "parser", "requires") if key in request})
