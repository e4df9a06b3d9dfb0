"""A repository on the Hugging Face hub, and what is in it at one commit. It fetches no files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from puna.create.hub.errors import explained
from puna.errors import InvalidName, StoreError
from puna.store.hub_ref import HubRef


def parse_ref(text: str) -> HubRef:
    """Reads a reference; StoreError where it is none, for those to whom a name may be many things."""
    try:
        return HubRef.parse(text)
    except InvalidName as error:
        raise StoreError(str(error)) from error


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: `checksum` is the SHA-256 of a large one (`large`), git's SHA-1 of others, or ''."""

    name: str
    size: int
    checksum: str = ""
    large: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit, and its files by name."""

    ref: HubRef
    commit: str
    files: Mapping[str, RemoteFile]

    @property
    def source(self) -> str:
        """What a model made of it says it comes from."""
        return f"hf.co/{self.ref.id}@{self.commit}" + (f":{self.ref.quant}" if self.ref.quant else "")


def open_repository(ref: HubRef) -> Repository:
    """Asks the hub what a repository has; StoreError says in one line why it cannot be had."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), library_name="puna")
    with explained(ref):
        info = api.model_info(ref.id, revision=ref.revision, files_metadata=True, timeout=30)
    files = {}
    for sibling in info.siblings or []:
        if not _stays_inside(sibling.rfilename):
            continue
        large = sibling.lfs.get("sha256", "") if sibling.lfs else ""
        checksum = large or sibling.blob_id or ""
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, int(sibling.size or 0), str(checksum), bool(large))
    if not info.sha:
        raise StoreError(f"opening {ref}: the hub does not say at which commit it is; try again later")
    return Repository(ref, info.sha, files)


def endpoint() -> str | None:
    """Another hub than the usual one, if $HF_ENDPOINT says so."""
    return os.environ.get("HF_ENDPOINT") or None  # read now: the library reads it once, when it is imported


def _stays_inside(name: str) -> bool:
    return bool(name) and not name.startswith("/") and not set(name) & set("\\:\0") and ".." not in name.split("/")
