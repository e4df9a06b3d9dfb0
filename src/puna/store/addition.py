"""Blobs on their way into a store, and the manifest that makes them a model. It does not know what is in them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from puna.errors import StoreError
from puna.store import blobs
from puna.store.blobs import Blob, Progress, storing
from puna.store.manifest import CONFIG_TYPE, LAYER_TYPE, Config, Layer, Manifest, read_manifest
from puna.store.name import ModelName
from puna.whole import whole_file

if TYPE_CHECKING:
    from puna.store.store import Store


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
            origin = self.store.origin_path(blob.digest)
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
        name = self.store.existing_name(name)
        manifest = Manifest(config, tuple(layers))
        for layer in manifest.parts:
            if not self.store.present(layer):
                raise StoreError(
                    f"writing {name.short}: blob {layer.digest[:19]} of {layer.size} bytes is not here; add it first"
                )
        with storing(name.short, self.store.root):
            return read_manifest(self.store.write_manifest(name, manifest.to_json()))

    def _layer(self, kind: str, blob: Blob) -> Layer:
        if blob.new:
            self.fresh.add(blob.digest)
        return Layer(LAYER_TYPE + kind, blob.digest, blob.size)
