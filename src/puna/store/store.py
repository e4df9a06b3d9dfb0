"""The store: one folder of blobs and manifests in Ollama's layout, shared by any number of processes.

    <root>/blobs/sha256-<hex>      <root>/manifests/<host>/<namespace>/<model>/<tag>
    <root>/origins/sha256-<hex>    the path a hard-linked blob came from (Puna's own, as is the next)
    <root>/downloads/<source>/     what has come of a download that was interrupted

It does not know what is inside a model.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import Any

from puna.errors import InvalidName, ModelNotFound, StoreError
from puna.store import blobs
from puna.store.blobs import Blob, Progress, digest_of, storing
from puna.store.manifest import (
    CONFIG_TYPE,
    LAYER_TYPE,
    MAX_MANIFEST,
    Config,
    Layer,
    Manifest,
    parse_json,
    parse_manifest,
)
from puna.store.name import ModelName
from puna.whole import whole_file

Convert = Callable[[Path, Path], object]
"""Converts a checkpoint directory into a GGUF file at the second path; the store is only handed one."""

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
            return _read_manifest(self._manifests / self._existing(name).path)
        except ModelNotFound:
            raise self._not_found(name) from None

    def knows(self, name: ModelName | str) -> bool:
        """Whether a model has that name here, whole or not."""
        return (self._manifests / self._existing(name).path).is_file()

    def has(self, name: ModelName | str) -> bool:
        """Whether a model is here whole: its manifest reads and every blob has the size it says."""
        try:
            parts = self.manifest(name).parts
        except StoreError:
            return False
        return all(self._present(layer) for layer in parts)

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
            if not self._present(layer):
                raise StoreError(
                    f"opening {_short(name)}: blob {layer.digest[:19]} is missing or cut short; pull or create it again"
                )
        return [self.blob_path(layer.digest) for layer in layers]

    def origin(self, digest: str) -> str | None:
        """The file that a blob is a hard link to, as it was called then; None where the blob is the store's alone."""
        try:
            return self._origin(digest).read_text("utf-8", "replace")
        except FileNotFoundError:
            return None

    def _origin(self, digest: str) -> Path:
        return self.root / "origins" / self.blob_path(digest).name

    @contextmanager
    def adding(self) -> Iterator["Addition"]:
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
        path = self._manifests / self._existing(name).path
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

    def _existing(self, name: ModelName | str) -> ModelName:
        """The name in the letter case that it is stored under."""
        name = ModelName.parse(name) if isinstance(name, str) else name
        if (self._manifests / name.path).is_file():
            return name
        return next((other for other in self.models() if other.matches(name)), name)

    def _not_found(self, name: ModelName | str) -> ModelNotFound:
        known = [other.short for other in self.models()]
        close = get_close_matches(_short(name), known, n=3, cutoff=0.5)
        hint = f"closest: {', '.join(close)}" if close else "`puna list` shows what is there"
        return ModelNotFound(f"model {_short(name)!r}: not in the store {self.root}; {hint}")

    def _present(self, layer: Layer) -> bool:
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
                    used.update(layer.digest for layer in _read_manifest(path).parts)
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
                self._origin(digest).unlink(missing_ok=True)
                freed += size
        return freed

    def _remove_empty(self, folder: Path) -> None:
        with suppress(OSError):
            while folder != self._manifests:
                folder.rmdir()
                folder = folder.parent

    def _write_manifest(self, name: ModelName, data: bytes) -> Path:
        path = self._manifests / name.path
        for _ in range(3):  # the folder may be removed as empty between mkdir and open
            with suppress(FileNotFoundError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(data)
                return path
        raise StoreError(f"writing {name.short}: {path.parent} vanishes while it is written to; stop what removes it")


class Addition:
    """Blobs on their way into a store; `fresh` are the digests that were not there before."""

    def __init__(self, store: Store, folder: Path, temporary: Path) -> None:
        self.store = store
        self.temporary = temporary
        self.fresh: set[str] = set()
        self._folder = folder

    def add_bytes(self, kind: str, data: bytes) -> Layer:
        """Stores a small layer such as 'template'."""
        return self.add_stream(kind, [data], what=f"the {kind}")

    def add_stream(
        self,
        kind: str,
        chunks: Iterable[bytes],
        *,
        what: str,
        size: int = 0,
        digest: str | None = None,
        on_progress: Progress | None = None,
    ) -> Layer:
        """Stores what `chunks` bring; with `digest` they are held to it. `size` is what to expect, 0 where unknown."""
        return self._layer(
            kind,
            blobs.add_stream(
                self._folder, self.temporary, chunks, what=what, size=size, digest=digest, on_progress=on_progress
            ),
        )

    def add_file(
        self,
        kind: str,
        path: Path,
        *,
        link: bool = False,
        digest: str | None = None,
        on_progress: Progress | None = None,
    ) -> Layer:
        """Stores a local file: as a copy-on-write clone where possible, with `link` as a hard link, else as a copy.

        Of a hard link the store keeps the path it came from, see `Store.origin`.
        """
        blob = blobs.add_file(self._folder, self.temporary, path, link=link, digest=digest, on_progress=on_progress)
        if blob.linked and blob.new:
            origin = self.store._origin(blob.digest)
            origin.parent.mkdir(exist_ok=True)
            with whole_file(origin) as file:
                file.write(str(path.resolve()).encode("utf-8", "replace"))
        return self._layer(kind, blob)

    def adopt(self, kind: str, path: Path, *, digest: str | None = None, on_progress: Progress | None = None) -> Layer:
        """Takes over a finished file on the store's own disk, which leaves its place; nothing is copied."""
        return self._layer(
            kind, blobs.adopt(self._folder, path, what=path.name, digest=digest, on_progress=on_progress)
        )

    def add_written(
        self,
        kind: str,
        write: Callable[[Path], object],
        *,
        what: str,
        check: Callable[[Path], object] | None = None,
        on_progress: Progress | None = None,
    ) -> Layer:
        """Stores the file that `write` makes at the path it is given, once `check` has not raised."""
        path = self.temporary / secrets.token_hex(8) / Path(what).name[-100:]  # a name that errors may show
        path.parent.mkdir()
        with storing(what, self._folder), blobs.removing(path):
            write(path)
            if check:
                check(path)
            return self._layer(kind, blobs.adopt(self._folder, path, what=what, on_progress=on_progress))

    def existing(self, kind: str, digest: str) -> Layer:
        """A layer of a blob that is in the store already; StoreError where it is not."""
        path = self.store.blob_path(digest)
        try:
            return Layer(LAYER_TYPE + kind, blobs.parse_digest(digest), path.stat().st_size)
        except FileNotFoundError as error:
            raise StoreError(f"adding {digest[:19]}: {path} is not there; add the blob first") from error

    def write(self, name: ModelName | str, layers: Sequence[Layer], config: Config | Layer) -> Manifest:
        """Writes the manifest, which makes the model visible to all at once."""
        if isinstance(config, Config):
            stored = self.add_stream("config", [config.to_json()], what="the config")
            config = replace(stored, media_type=CONFIG_TYPE)
        name = self.store._existing(name)
        manifest = Manifest(config, tuple(layers))
        for layer in manifest.parts:
            if not self.store._present(layer):
                raise StoreError(
                    f"writing {name.short}: blob {layer.digest[:19]} of {layer.size} bytes is not here; add it first"
                )
        with storing(name.short, self.store.root):
            return _read_manifest(self.store._write_manifest(name, manifest.to_json()))

    def _layer(self, kind: str, blob: Blob) -> Layer:
        if blob.new:
            self.fresh.add(blob.digest)
        return Layer(LAYER_TYPE + kind, blob.digest, blob.size)


def _read_manifest(path: Path) -> Manifest:
    what = f"manifest {path}"
    try:
        with path.open("rb") as file:
            data, modified = file.read(MAX_MANIFEST + 1), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError as error:
        raise ModelNotFound(f"{what}: not there; `puna list` shows what is") from error
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}; a readable file works") from error
    when = datetime.fromtimestamp(modified, tz=UTC)
    return replace(parse_manifest(data, what), digest=digest_of(data), modified=when)


def _short(name: ModelName | str) -> str:
    return (ModelName.parse(name) if isinstance(name, str) else name).short
