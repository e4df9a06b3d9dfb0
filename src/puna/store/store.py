"""The store: one folder of blobs and manifests in Ollama's layout, shared by any number of processes.

    <root>/blobs/sha256-<hex>      <root>/manifests/<host>/<namespace>/<model>/<tag>
    <root>/origins/sha256-<hex>    the path a hard-linked blob came from (Puna's own, as are the next)
    <root>/downloads/<source>/     what has come of a download that was interrupted
    <root>/prefixes/               beginnings of prompts that a server has saved

It does not know what is inside a model.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import Any

from puna.errors import InvalidName, ModelNotFound, StoreError
from puna.store import blobs
from puna.store.addition import Addition
from puna.store.blobs import digest_of, storing
from puna.store.manifest import Config, Layer, Manifest, parse_json, read_manifest
from puna.store.name import ModelName
from puna.whole import whole_file

Convert = Callable[..., object]
"""Converts a checkpoint directory into a GGUF file at the second path, as `puna.convert` does; handed to the store."""

_MAX_SMALL = 64 << 20
_PRUNE_SECONDS = 3600


def default_root() -> Path:
    """The folder of Puna's own store: $PUNA_MODELS, else ~/.puna/models."""
    return Path(os.environ.get("PUNA_MODELS") or Path.home() / ".puna" / "models").expanduser()


class Store:
    """The models under one root folder, which need not exist yet. A `read_only` store refuses every change."""

    def __init__(self, root: str | Path | None = None, *, read_only: bool = False) -> None:
        self.root = Path(root) if root is not None else default_root()
        self.read_only = read_only
        self._blobs = self.root / "blobs"
        self._manifests = self.root / "manifests"

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def models(self) -> list[ModelName]:
        """The names of all models, sorted; files that are no manifests by their place are left out."""
        names = []
        for path in self._manifest_files():
            with suppress(InvalidName):
                names.append(ModelName.from_path(path.relative_to(self._manifests)))
        return sorted(names, key=lambda name: str(name).lower())

    def manifest(self, name: ModelName | str) -> Manifest:
        """The manifest of a model; ModelNotFound, or StoreError where it cannot be understood."""
        try:
            return read_manifest(self._manifests / self.existing_name(name).path)
        except ModelNotFound:
            raise self._not_found(name) from None

    def knows(self, name: ModelName | str) -> bool:
        """Whether a model has that name here, whole or not."""
        return (self._manifests / self.existing_name(name).path).is_file()

    def has(self, name: ModelName | str) -> bool:
        """Whether a model is here whole: its manifest reads and every blob has the size it says."""
        try:
            parts = self.manifest(name).parts
        except StoreError:
            return False
        return all(self.present(layer) for layer in parts)

    def config(self, manifest: Manifest) -> Config:
        """The config blob of a model."""
        return Config.from_json(self.read(manifest.config))

    def read(self, layer: Layer) -> bytes:
        """The bytes of a small layer (template, params, ...); StoreError where they do not hash to its digest."""
        path, what = self.blob_path(layer.digest), f"reading {layer.kind or 'config'} {layer.digest[:19]}"
        if layer.size > _MAX_SMALL:
            raise StoreError(f"{what}: {layer.size} bytes; at most {_MAX_SMALL} are read at once")
        try:
            with path.open("rb") as file:
                data = file.read(layer.size + 1)
        except OSError as error:
            raise StoreError(f"{what}: {path}: {error.strerror}; pull or create the model again") from error
        if digest_of(data) != layer.digest:
            raise StoreError(f"{what}: {path} is damaged; remove it, then pull or create the model again")
        return data

    def params(self, manifest: Manifest) -> dict[str, Any]:
        """The options stored with a model; {} where there are none."""
        layer = manifest.layer("params")
        return parse_json(self.read(layer), "params of a model") if layer else {}

    def blob_path(self, digest: str) -> Path:
        """Where a blob is, or would be; StoreError where the digest is not one."""
        return blobs.blob_path(self._blobs, digest)

    def model_path(self, name: ModelName | str) -> Path:
        """The GGUF file of a model, or its first shard; StoreError where it has none or it is not there."""
        return self.model_paths(name)[0]

    def model_paths(self, name: ModelName | str) -> list[Path]:
        """The GGUF file of a model, or all its shards in order, where a manifest has several model layers."""
        layers = self.manifest(name).all("model")
        if not layers:
            raise StoreError(
                f"opening {_short(name)}: it has no model layer (is it remote, or of tensor blobs?); GGUF models work"
            )
        for layer in layers:
            if not self.present(layer):
                raise StoreError(
                    f"opening {_short(name)}: blob {layer.digest[:19]} is missing or cut short; pull or create it again"
                )
        return [self.blob_path(layer.digest) for layer in layers]

    def origin(self, digest: str) -> str | None:
        """The file that a blob is a hard link to, as it was called then; None where the blob is the store's alone."""
        try:
            return self.origin_path(digest).read_text("utf-8", "replace")
        except FileNotFoundError:
            return None

    def origin_path(self, digest: str) -> Path:
        """Where `origin` is kept."""
        return self.root / "origins" / self.blob_path(digest).name

    @contextmanager
    def adding(self) -> Iterator[Addition]:
        """Holds off deletion while blobs are added; an error or Ctrl-C inside takes the new blobs away again."""
        self._writable("adding a model")
        with ExitStack() as stack:
            with storing("a model", self.root):
                self._blobs.mkdir(parents=True, exist_ok=True)
                stack.enter_context(blobs.deletion_lock(self._blobs, exclusive=False, wait=True))
                folder = stack.enter_context(blobs.temporary_folder(self._blobs))
            addition = Addition(self, self._blobs, folder)
            try:
                yield addition
            except BaseException:
                stack.close()
                with suppress(StoreError):
                    self.remove_unused(addition.fresh)
                raise

    def write(self, name: ModelName | str, layers: Sequence[Layer], config: Config | Layer) -> Manifest:
        """Makes or replaces a model of blobs that are already here; blobs that this leaves unused are removed."""
        old = self.digests(name)
        with self.adding() as new:
            manifest = new.write(name, layers, config)
        self.remove_unused(old)
        return manifest

    def copy(self, source: ModelName | str, target: ModelName | str) -> Manifest:
        """Gives a model a second name; no blob is copied."""
        manifest, old = self.manifest(source), self.digests(target)
        with self.adding() as new:
            copied = new.write(target, manifest.layers, manifest.config)
        self.remove_unused(old)
        return copied

    def remove(self, name: ModelName | str) -> int:
        """Removes a model and the blobs that nothing else names; returns the bytes freed.

        StoreError, and nothing is removed, where another manifest cannot be read. While another process adds a model
        the blobs stay; `prune` removes them later.
        """
        self._writable("removing a model")
        if not self.knows(name):
            raise self._not_found(name)
        path = self._manifests / self.existing_name(name).path
        with blobs.deletion_lock(self._blobs, exclusive=True, wait=False) as alone:
            used = self._references(without=path)
            digests = self.digests(name)
            path.unlink()
            self._remove_empty(path.parent)
            return self._unlink(digests - used) if alone else 0

    def remove_unused(self, digests: Iterable[str]) -> int:
        """Removes those of the blobs that no manifest names, unless a process is adding; returns the bytes freed."""
        wanted = set(digests)
        if not wanted:
            return 0
        with blobs.deletion_lock(self._blobs, exclusive=True, wait=False) as alone:
            return self._unlink(wanted - self._references()) if alone else 0

    def prune(self, older_than: float = _PRUNE_SECONDS) -> int:
        """Removes blobs that no manifest names and that are older than so many seconds; returns the bytes freed."""
        self._writable("pruning")
        limit, old = time.time() - older_than, set()
        for path in self._blobs.glob("sha256-*"):
            with suppress(StoreError, OSError):
                if path.stat().st_mtime <= limit:
                    old.add(blobs.parse_digest(path.name))
        return self.remove_unused(old)

    def _writable(self, action: str) -> None:
        if self.read_only:
            raise StoreError(f"{action}: the store {self.root} is open for reading only; Puna's own store works")

    def _manifest_files(self) -> list[Path]:
        if self.root.is_file():
            raise StoreError(f"reading the store {self.root}: it is a file; set PUNA_MODELS to a folder")
        # Path.glob of Python 3.11 and 3.12 fails where another process removes a folder meanwhile; this one does not.
        names = glob("*/*/*/*", root_dir=self._manifests)
        return [path for name in names if (path := self._manifests / name).is_file()]

    def existing_name(self, name: ModelName | str) -> ModelName:
        """The name in the letter case that it is stored under."""
        name = ModelName.parse(name) if isinstance(name, str) else name
        if (self._manifests / name.path).is_file():
            return name
        return next((other for other in self.models() if other.matches(name)), name)

    def _not_found(self, name: ModelName | str) -> ModelNotFound:
        known = {other.short.removesuffix(":latest"): other.short for other in self.models()}  # which all names share
        close = get_close_matches(_short(name).removesuffix(":latest"), known, n=3, cutoff=0.6)
        hint = f"closest: {', '.join(known[each] for each in close)}" if close else "`puna list` shows what is there"
        return ModelNotFound(f"model {_short(name)!r}: not in the store {self.root}; {hint}")

    def present(self, layer: Layer) -> bool:
        """Whether a layer's blob is here with the size it says."""
        try:
            return self.blob_path(layer.digest).stat().st_size == layer.size
        except OSError:
            return False

    def digests(self, name: ModelName | str) -> set[str]:
        """The digests that a model names; none where it does not exist or cannot be read."""
        try:
            return {layer.digest for layer in self.manifest(name).parts}
        except StoreError:
            return set()

    def _references(self, without: Path | None = None) -> set[str]:
        used: set[str] = set()
        for path in self._manifest_files():
            if path != without:
                try:
                    used.update(layer.digest for layer in read_manifest(path).parts)
                except ModelNotFound:
                    continue  # removed by another process just now
                except StoreError as error:
                    raise StoreError(
                        f"removing blobs: what {path} needs is unknown ({error}); repair or remove that file"
                    ) from error
        return used

    def _unlink(self, digests: Iterable[str]) -> int:
        freed = 0
        for digest in digests:
            path = self.blob_path(digest)
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                self.origin_path(digest).unlink(missing_ok=True)
                freed += size
        return freed

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):
            while folder != self._manifests:
                folder.rmdir()
                folder = folder.parent

    def write_manifest(self, name: ModelName, data: bytes) -> Path:
        """Writes a manifest file under the name; returns where."""
        path = self._manifests / name.path
        for _ in range(3):  # the folder may be removed as empty between mkdir and open
            with suppress(FileNotFoundError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(data)
                return path
        raise StoreError(f"writing {name.short}: {path.parent} vanishes while it is written to; stop what removes it")


def _short(name: ModelName | str) -> str:
    return (ModelName.parse(name) if isinstance(name, str) else name).short
